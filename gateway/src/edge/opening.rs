//! The opening handshake, parsed and judged (RFC 6455 §4.2.1). Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::head::Head;
use crate::auth::sources::Carriers;
use crate::rejection::{Reason, Rejection};
use crate::session::headers::{Headers, lists_token};

/// A valid opening handshake. For which route, and whether with a good token, is not said yet.
pub struct Opening {
    path: String,
    query: Option<String>,
    host: String,
    key: String,
    protocols: Vec<String>,
    extensions: Vec<String>,
    origin: Option<String>,
    headers: Headers,
    early: Vec<u8>,
    settled: bool,
    secure: bool,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query and the headers hold tokens and cookies.
        f.debug_struct("Opening").field("path", &self.path).field("host", &self.host).finish_non_exhaustive()
    }
}

type Judged<T> = Result<T, Box<Rejection>>;

fn reject<T>(reason: Reason, detail: impl Into<String>) -> Judged<T> {
    Err(Box::new(Rejection::new(reason).detail(detail)))
}

impl Opening {
    /// Judges `head`, which may have `max_headers` headers.
    ///
    /// The target is an absolute path (`origin-form`), or an `http` or `ws` URL, with or without TLS, whose authority is
    /// that of `Host` (`absolute-form`, RFC 9112 §3.2.2). The path is compared as it was sent:
    /// one with percent-encoding, or with empty or dot segments, is another path than the route's,
    /// and has no route.
    ///
    /// # Errors
    ///
    /// A rejection of the layer `handshake`; of several faults the first in the registry, except
    /// that too many headers are counted before they are read.
    pub fn judge(head: Head, max_headers: usize) -> Judged<Self> {
        let mut headers = vec![httparse::EMPTY_HEADER; max_headers];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head.bytes()) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return reject(Reason::HandshakeMalformed, "The request is incomplete.");
            }
            Err(httparse::Error::TooManyHeaders) => {
                let detail = format!("The request has more than {max_headers} headers.");
                return reject(Reason::HandshakeTooLarge, detail);
            }
            Err(error) => {
                return reject(Reason::HandshakeMalformed, format!("The request cannot be parsed: {error}."));
            }
        }
        // httparse knows the versions 1.0 and 1.1 only.
        if request.version != Some(1) {
            return reject(Reason::HandshakeMalformed, "A WebSocket needs HTTP/1.1 (RFC 6455 §4.2.1).");
        }
        let fields = Fields(request.headers);
        let host = fields.single("host")?;
        let Some(host) = host.filter(|host| is_authority(host)) else {
            return reject(Reason::HandshakeMalformed, "The request needs exactly one valid Host header.");
        };
        let (path, query) = target(request.path.unwrap_or(""), host)?;
        let origin = fields.single("origin")?;
        fields.single("upgrade")?;
        let Some(protocols) = fields.subprotocols("sec-websocket-protocol") else {
            return reject(Reason::HandshakeMalformed, "Sec-WebSocket-Protocol is not a list of tokens.");
        };

        if !fields.has_token("connection", "upgrade") || !fields.has_token("upgrade", "websocket") {
            return reject(
                Reason::HandshakeNotWebsocket,
                "Connection: Upgrade and Upgrade: websocket are not both there.",
            );
        }
        if fields.values("sec-websocket-version").collect::<Vec<_>>() != [b"13"] {
            return reject(Reason::HandshakeBadVersion, "Sec-WebSocket-Version has to be 13, once.");
        }
        let key = fields.key()?;
        if request.method != Some("GET") {
            return reject(Reason::HandshakeMethod, "The method has to be GET.");
        }
        let length = fields.values("content-length").any(|value| value != b"0");
        if length || fields.values("transfer-encoding").next().is_some() {
            return reject(Reason::HandshakeBody, "Content-Length or Transfer-Encoding announce a body.");
        }
        let opening = Self {
            path,
            query,
            host: host.to_owned(),
            key,
            protocols,
            extensions: fields.extension_names(),
            origin: origin.map(str::to_owned),
            headers: fields
                .0
                .iter()
                .map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()))
                .collect(),
            early: Vec::new(),
            settled: false,
            secure: false,
        };
        Ok(Self { early: head.into_rest(), ..opening })
    }

    /// The path of the request, as it was sent.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query, without its question mark. It can hold secrets: it goes to the upstream, and
    /// nowhere else.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The `Host` header.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The `Sec-WebSocket-Key` header.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The subprotocols offered, most wanted first.
    pub fn protocols(&self) -> &[String] {
        &self.protocols
    }

    /// The names of the extensions offered, in lower case.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The `Origin` header.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// All headers in their order, with names in lower case.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Where a token can stand, so that it can be taken out.
    pub fn carriers(&mut self) -> Carriers<'_> {
        Carriers {
            headers: &mut self.headers,
            protocols: &mut self.protocols,
            query: &mut self.query,
            has_origin: self.origin.is_some(),
        }
    }

    /// Narrows the offer down to what the client has been told already: this subprotocol, or none,
    /// and no extension.
    pub fn settle(&mut self, protocol: Option<String>) {
        self.offer_no_extension();
        self.headers.retain(|(name, _)| name != "sec-websocket-protocol");
        self.headers.extend(
            protocol
                .iter()
                .map(|protocol| ("sec-websocket-protocol".to_owned(), protocol.clone().into_bytes())),
        );
        self.protocols = protocol.into_iter().collect();
        self.settled = true;
    }

    /// Offers the upstream no extension.
    pub fn offer_no_extension(&mut self) {
        self.headers.retain(|(name, _)| name != "sec-websocket-extensions");
        self.extensions.clear();
    }

    /// Whether the client has been told the subprotocol already.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Says whether the client came over TLS.
    pub fn set_secure(&mut self, secure: bool) {
        self.secure = secure;
    }

    /// Whether the client came over TLS, as far as the gate knows.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// What the client sent before it was admitted.
    pub fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        fields.map(|header| header.value.trim_ascii())
    }

    /// The value of a header that may stand only once.
    fn single(&self, name: &str) -> Judged<Option<&'a str>> {
        let mut values = self.values(name);
        let first = values.next();
        if values.next().is_some() {
            return reject(Reason::HandshakeMalformed, format!("There is more than one {name} header."));
        }
        match first.map(std::str::from_utf8).transpose() {
            Ok(value) => Ok(value),
            Err(_) => reject(Reason::HandshakeMalformed, format!("The {name} header is not text.")),
        }
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        lists_token(self.values(name), token)
    }

    /// All subprotocols (RFC 9110 §5.6.1), each a token, or one with padding behind it, as a token
    /// in base64url can have; `None` when something else stands there.
    fn subprotocols(&self, name: &str) -> Option<Vec<String>> {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|one| !one.is_empty())
            .map(|one| std::str::from_utf8(one).ok().filter(|text| is_subprotocol(text)).map(str::to_owned))
            .collect()
    }

    fn extension_names(&self) -> Vec<String> {
        self.values("sec-websocket-extensions").flat_map(extension_names).collect()
    }

    /// Exactly one key of 16 bytes in base64 (RFC 6455 §4.2.1, item 5).
    fn key(&self) -> Judged<String> {
        let mut keys = self.values("sec-websocket-key");
        if let (Some(key), None) = (keys.next(), keys.next())
            && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
            && let Ok(key) = std::str::from_utf8(key)
        {
            return Ok(key.to_owned());
        }
        reject(Reason::HandshakeBadKey, "There is not exactly one Sec-WebSocket-Key of 16 bytes in base64.")
    }
}

/// The names in one value of `Sec-WebSocket-Extensions`, in lower case. Parameters may hold quoted
/// commas, but what such a comma splits off is no name that anyone offers.
pub fn extension_names(value: &[u8]) -> Vec<String> {
    let names = value.split(|byte| *byte == b',').filter_map(|extension| {
        let name = extension.split(|byte| *byte == b';').next()?.trim_ascii();
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
    });
    names.collect()
}

/// Path and query of a request target.
fn target(target: &str, host: &str) -> Judged<(String, Option<String>)> {
    let local = if target.starts_with('/') {
        target
    } else {
        match target.split_once("://") {
            Some((scheme, rest))
                if ["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) =>
            {
                let path = rest.find(['/', '?']).unwrap_or(rest.len());
                if !rest[..path].eq_ignore_ascii_case(host) {
                    return reject(
                        Reason::HandshakeMalformed,
                        "The target and the Host header name different hosts.",
                    );
                }
                &rest[path..]
            }
            _ => return reject(Reason::HandshakeMalformed, "The target is not a path."),
        }
    };
    if local.contains('#') || !local.bytes().all(|byte| byte.is_ascii_graphic()) {
        return reject(Reason::HandshakeMalformed, "The target has characters that no URL has.");
    }
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (local, None),
    };
    Ok((if path.is_empty() { "/" } else { path }.to_owned(), query))
}

/// Whether `text` can be a host with or without a port. It is sent on, so nothing else may stand
/// in it.
fn is_authority(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~[]:%".contains(&byte))
}

/// A token, and up to two `=` behind it: whether they may stand there is for the route to say.
fn is_subprotocol(text: &str) -> bool {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    padding <= 2 && is_token(&text[..text.len() - padding])
}

/// `token` of RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
