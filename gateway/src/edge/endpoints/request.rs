//! A request to an endpoint. Pure.

use std::fmt;

use super::super::head::Head;

/// What endpoints look at. Whoever asks for a WebSocket asks for none of them.
pub struct Request {
    /// The method.
    pub method: String,
    /// The path of the target, without a query.
    pub path: String,
    /// The one `Origin`.
    pub origin: Option<String>,
    /// Bytes of the body, which must be announced.
    pub length: Option<usize>,
    authorization: Vec<Vec<u8>>,
}

/// Tokens are not shown, and a path is what a stranger wrote.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Request {
    /// The request in `head`, with at most `max_headers` headers; `None` when it is no valid request
    /// to anything but an opening handshake: the checks of those say what is wrong with it.
    pub fn parse(head: &Head, max_headers: usize) -> Option<Self> {
        let mut headers = vec![httparse::EMPTY_HEADER; max_headers];
        let mut request = httparse::Request::new(&mut headers);
        if !request.parse(head.bytes()).ok()?.is_complete() || request.version != Some(1) {
            return None;
        }
        let target = request.path.filter(|target| target.starts_with('/'))?;
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let values = |name: &'static str| {
            let all = request.headers.iter();
            all.filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
        };
        let single = |name: &'static str| -> Option<Option<&str>> {
            let mut all = values(name);
            let first = all.next();
            if all.next().is_some() {
                return None;
            }
            first.map(std::str::from_utf8).transpose().ok()
        };
        // RFC 9112 §3.2: exactly one; and §6.3: a body has one length, or it is not understood.
        single("host")?.filter(|host| !host.is_empty())?;
        if values("transfer-encoding").next().is_some() || values("upgrade").next().is_some() {
            return None;
        }
        let length = single("content-length")?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let length = match length {
            Some(text) if digits(text) => Some(text.parse().ok()?),
            Some(_) => return None,
            None => None,
        };
        Some(Self {
            method: request.method?.to_owned(),
            path: path.to_owned(),
            origin: single("origin")?.map(str::to_owned),
            length,
            authorization: values("authorization").map(<[u8]>::to_vec).collect(),
        })
    }

    /// The values of all `Authorization` headers.
    pub fn authorization(&self) -> impl Iterator<Item = &[u8]> {
        self.authorization.iter().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Request> {
        Request::parse(&Head::parse(text.as_bytes().to_vec()).expect("a head"), 16)
    }

    #[test]
    fn a_request_is_read_without_its_query() {
        let request =
            parse("POST /tickets?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nOrigin: o\r\n\r\n");
        let request = request.expect("a request");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/tickets"));
        assert_eq!((request.length, request.origin.as_deref()), (Some(7), Some("o")));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_request_to_an_endpoint() {
        for headers in [
            "",
            "Host: a\r\nHost: b\r\n",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "Host: a\r\nContent-Length: 1, 1\r\n",
            "Host: a\r\nContent-Length: +1\r\n",
            "Host: a\r\nContent-Length: 99999999999999999999999\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nUpgrade: websocket\r\n",
            "Host: a\r\nOrigin: a\r\nOrigin: b\r\n",
        ] {
            assert!(parse(&format!("POST /tickets HTTP/1.1\r\n{headers}\r\n")).is_none(), "{headers:?}");
        }
        assert!(parse("GET http://a/tickets HTTP/1.1\r\nHost: a\r\n\r\n").is_none());
        assert!(parse("GET /tickets HTTP/1.0\r\nHost: a\r\n\r\n").is_none());
    }
}
