//! Who may ask. A page on some other site can make a browser on this host send requests here: such a
//! request has another `Host` (a name that was pointed at the loopback), or another `Origin`, or cannot
//! have the header that every change needs.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use http::{Method, StatusCode};

/// The header that every change needs: only a page of this listener can set it.
pub(super) const CHANGE: &str = "gatehouse-admin";

/// Bytes of a token at least: less can be guessed.
const SHORTEST: usize = 16;
/// Bytes of the file at most.
const LONGEST: u64 = 4096;

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Access {
    /// The address that is listened on; `None`: a Unix socket, whose peers are known.
    pub address: Option<SocketAddr>,
    /// The token that is asked for.
    pub token: Option<TokenFile>,
}

/// The file with the token. It is read for each question, so it can be changed at any time.
#[derive(Clone, Debug)]
pub struct TokenFile(pub PathBuf);

/// Why a question is not answered: status, and what to do.
pub(super) type Refusal = (StatusCode, &'static str);

impl Access {
    /// Whether a request with these headers may be answered; `open`: one that tells nothing, such as the
    /// page itself.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap, open: bool) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next().map(|host| host.to_str()), hosts.next()) {
            (Some(Ok(host)), None) => host,
            _ => return Err((StatusCode::BAD_REQUEST, "send exactly one Host header")),
        };
        if let Some(address) = self.address
            && self.token.is_none()
            && !is_local(host, address)
        {
            return Err((StatusCode::MISDIRECTED_REQUEST, "ask by the address, or by localhost"));
        }
        if *method == Method::POST {
            change(headers, host)?;
        }
        match &self.token {
            Some(token) if !open => token.check(headers),
            _ => Ok(()),
        }
    }
}

/// What only a page of this listener, or no browser, can send.
fn change(headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !json || !headers.contains_key(CHANGE) {
        return Err((StatusCode::FORBIDDEN, "send Content-Type: application/json and Gatehouse-Admin: 1"));
    }
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    let foreign = headers.get_all(ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(own));
    let site = headers.get_all("sec-fetch-site").iter();
    if foreign || site.into_iter().any(|site| site != "same-origin" && site != "none") {
        return Err((StatusCode::FORBIDDEN, "another site asked for this"));
    }
    Ok(())
}

/// Whether `host` is a name of this host that nobody else can point here.
fn is_local(host: &str, address: SocketAddr) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || literal.is_ok_and(|ip| ip.is_loopback() || ip == address.ip())
}

impl TokenFile {
    /// The token.
    ///
    /// # Errors
    ///
    /// When there is none that nobody can guess.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.0.display());
        let mut token = Vec::new();
        let file = std::fs::File::open(&self.0).map_err(failed)?;
        file.take(LONGEST).read_to_end(&mut token).map_err(failed)?;
        let token = token.trim_ascii().to_vec();
        if token.len() < SHORTEST {
            return Err(format!("{}: the token needs {SHORTEST} bytes or more", self.0.display()));
        }
        Ok(token)
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = self.read().map_err(|error| {
            log::error!("nobody can ask at the admin listener: {error}");
            (StatusCode::SERVICE_UNAVAILABLE, "the token of this listener cannot be read")
        })?;
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let bearer = match (given.next().map(|value| value.as_bytes().split_at_checked(7)), given.next()) {
            (Some(Some((scheme, token))), None) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
            _ => {
                return Err((
                    StatusCode::UNAUTHORIZED,
                    "send the token of this listener: Authorization: Bearer",
                ));
            }
        };
        verify_slices_are_equal(bearer.trim_ascii(), &token)
            .map_err(|_| (StatusCode::UNAUTHORIZED, "this is not the token of this listener"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value")))
            .collect()
    }

    fn access(token: Option<TokenFile>) -> Access {
        Access { address: "127.0.0.1:9464".parse().ok(), token }
    }

    fn status(access: &Access, method: &Method, pairs: &[(&'static str, &str)]) -> u16 {
        access.check(method, &headers(pairs), false).err().map_or(200, |(status, _)| status.as_u16())
    }

    #[test]
    fn a_name_that_somebody_pointed_at_the_loopback_is_refused() {
        let access = access(None);
        for host in ["127.0.0.1:9464", "localhost:9464", "LOCALHOST", "[::1]:9464", "127.0.0.1"] {
            assert_eq!(status(&access, &Method::GET, &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "", "192.0.2.1"] {
            assert_eq!(status(&access, &Method::GET, &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status(&access, &Method::GET, &[]), 400);
    }

    #[test]
    fn a_page_of_another_site_can_change_nothing() {
        let access = access(None);
        let good = [("host", "localhost:9464"), ("content-type", "application/json"), (CHANGE, "1")];
        assert_eq!(status(&access, &Method::POST, &good), 200);
        let own: Vec<_> = good
            .into_iter()
            .chain([("origin", "http://localhost:9464"), ("sec-fetch-site", "same-origin")])
            .collect();
        assert_eq!(status(&access, &Method::POST, &own), 200);
        assert_eq!(status(&access, &Method::POST, &good[..2]), 403);
        assert_eq!(status(&access, &Method::POST, &[good[0], good[2]]), 403);
        for foreign in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let pairs: Vec<_> = good.into_iter().chain([foreign]).collect();
            assert_eq!(status(&access, &Method::POST, &pairs), 403, "{foreign:?}");
        }
    }

    #[test]
    fn with_a_token_nobody_is_answered_without_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").expect("written");
        let access = access(Some(TokenFile(file.clone())));
        let ask = |value: &str| {
            status(&access, &Method::GET, &[("host", "gate.example"), ("authorization", value)])
        };
        assert_eq!(status(&access, &Method::GET, &[("host", "gate.example")]), 401);
        assert_eq!((ask("Bearer 0123456789abcdef"), ask("bearer 0123456789abcdef")), (200, 200));
        assert_eq!((ask("Bearer 0123456789abcdeg"), ask("Bearer "), ask("Basic x")), (401, 401, 401));
        assert!(access.check(&Method::GET, &headers(&[("host", "gate.example")]), true).is_ok());
        std::fs::write(&file, "short").expect("written");
        assert_eq!(ask("Bearer short"), 503);
    }
}
