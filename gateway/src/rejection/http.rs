//! A rejection as the answer to an HTTP request.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Layer, Reason, Rejection};
use crate::audit::HandshakeId;

/// The name of the header that says which layer rejected.
pub const HEADER: &str = "Gatehouse-Rejection";

/// When to come back after an overload or an outage whose end is not known.
pub const RETRY: Duration = Duration::from_secs(5);

/// The problem document (RFC 9457) of a rejection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Problem {
    /// A URI that names the reason; it leads nowhere.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, in one line.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened in this case.
    pub detail: String,
    /// The layer.
    pub layer: String,
    /// The reason within the layer.
    pub reason: String,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// What the client can do.
    pub fix: String,
    /// Finds the same rejection in the journal.
    pub id: String,
}

impl Problem {
    fn new(rejection: &Rejection, id: HandshakeId) -> Self {
        let reason = rejection.reason;
        Self {
            kind: format!("urn:gatehouse:rejection:{}:{}", reason.layer(), reason.name()),
            title: reason.title().to_owned(),
            status: rejection.status(),
            detail: rejection.detail.clone().unwrap_or_else(|| format!("{}.", reason.title())),
            layer: reason.layer().name().to_owned(),
            reason: reason.name().to_owned(),
            retryable: reason.retryable(),
            fix: reason.fix().to_owned(),
            id: id.to_string(),
        }
    }
}

/// The whole answer, after which the connection is closed.
#[derive(Clone, Debug)]
pub struct Response {
    bytes: Vec<u8>,
    head: usize,
}

impl Response {
    /// Head and body.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The head alone, which is the answer to a HEAD request (RFC 9110 §9.3.2).
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.head]
    }
}

/// The answer to the handshake `id`, rejected at the time `now`.
pub fn response(rejection: &Rejection, id: HandshakeId, now: SystemTime) -> Response {
    let problem = Problem::new(rejection, id);
    let status = problem.status;
    // A document of plain strings and numbers can always be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
    let mut header = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        // Nothing that came from outside can start another header.
        head.extend(value.chars().filter(|character| matches!(character, ' '..='~')));
        head.push_str("\r\n");
    };
    header("Date", &httpdate::fmt_http_date(now));
    header(HEADER, &format!("layer={}, reason={}, id=\"{id}\"", problem.layer, problem.reason));
    if let Some(challenge) = challenge(rejection) {
        header("WWW-Authenticate", &challenge);
    }
    match status {
        // RFC 9110 §15.5.6
        405 => header("Allow", "GET"),
        // RFC 9110 §15.5.22
        426 => header("Upgrade", "websocket"),
        _ => {}
    }
    if rejection.reason == Reason::HandshakeBadVersion {
        // RFC 6455 §4.4
        header("Sec-WebSocket-Version", "13");
    }
    let overload = matches!(status, 429 | 503).then_some(RETRY);
    if let Some(after) = rejection.retry_after.or(overload) {
        header("Retry-After", &whole_seconds(after).to_string());
    }
    if let Some(page) = &rejection.page {
        header("Access-Control-Allow-Origin", page);
        header("Access-Control-Expose-Headers", "Gatehouse-Rejection, WWW-Authenticate, Retry-After");
        header("Vary", "Origin");
    }
    header("Content-Type", "application/problem+json");
    header("Content-Length", &body.len().to_string());
    header("Cache-Control", "no-store");
    header("Connection", if status == 426 { "Upgrade, close" } else { "close" });
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    let head = bytes.len();
    bytes.extend(body);
    Response { bytes, head }
}

/// Not earlier than it makes sense, and never at once.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0)).max(1)
}

/// The challenge that goes with a status (RFC 6750 §3): no error code when no credentials came,
/// and no parameter that tells more than the client already knows.
fn challenge(rejection: &Rejection) -> Option<String> {
    let reason = rejection.reason;
    let error = match reason.layer() {
        _ if reason == Reason::CredentialsMissing => None,
        Layer::Credentials if reason == Reason::CredentialsMultiple => Some("invalid_request"),
        // RFC 9470 §3
        Layer::Expiry if reason == Reason::ExpirySignIn => Some("insufficient_user_authentication"),
        Layer::Credentials | Layer::Expiry => Some("invalid_token"),
        Layer::Scope => Some("insufficient_scope"),
        // The service's own 401: it needs a challenge (RFC 9110 §15.5.2), and the gate's token was
        // not at fault.
        _ if rejection.status() == 401 => None,
        _ => return None,
    };
    let mut challenge = "Bearer realm=\"gatehouse\"".to_owned();
    if let Some(error) = error {
        challenge.push_str(&format!(
            ", error=\"{error}\", error_description=\"{}\"",
            quotable(rejection.detail.as_deref().unwrap_or(reason.title()))
        ));
    }
    if let Some(scope) = &rejection.scope {
        challenge.push_str(&format!(", scope=\"{}\"", quotable(scope)));
    }
    if let Some(url) = &rejection.resource_metadata {
        challenge.push_str(&format!(", resource_metadata=\"{}\"", quotable(url)));
    }
    if let Some(max_age) = rejection.max_age {
        challenge.push_str(&format!(", max_age=\"{}\"", max_age.as_secs()));
    }
    Some(challenge)
}

/// The characters that a parameter of the challenge may have (RFC 6750 §3).
fn quotable(text: &str) -> String {
    text.chars()
        .filter(|character| matches!(character, ' '..='~') && !matches!(character, '"' | '\\'))
        .collect()
}

fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Rejected")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rejection: &Rejection) -> (String, Problem) {
        let answer = response(rejection, HandshakeId::new([1; 10]), SystemTime::UNIX_EPOCH);
        let text = String::from_utf8(answer.bytes().to_vec()).expect("text");
        assert!(text.as_bytes().starts_with(answer.head()) && answer.head().ends_with(b"\r\n\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        (format!("{head}\r\n"), serde_json::from_str(body).expect("a problem document"))
    }

    #[test]
    fn every_reason_is_told_by_status_header_and_document_alike() {
        for reason in Reason::ALL {
            let (head, problem) = answer(&Rejection::new(*reason));
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", reason.status())), "{head}");
            let header = format!(
                "\r\nGatehouse-Rejection: layer={}, reason={}, id=\"01010101010101010101\"\r\n",
                reason.layer(),
                reason.name()
            );
            assert!(head.contains(&header), "{head}");
            assert_eq!(
                (problem.layer.as_str(), problem.reason.as_str()),
                (reason.layer().name(), reason.name())
            );
            assert_eq!(problem.status, reason.status());
            assert_eq!(
                head.contains("\r\nWWW-Authenticate: Bearer "),
                reason.status() == 401
                    || reason.layer() == Layer::Scope
                    || *reason == Reason::CredentialsMultiple,
                "{head}"
            );
        }
    }

    #[test]
    fn the_challenge_names_no_error_when_no_credentials_came() {
        let (head, _) = answer(&Rejection::new(Reason::CredentialsMissing));
        assert!(head.contains("WWW-Authenticate: Bearer realm=\"gatehouse\"\r\n"), "{head}");
    }

    #[test]
    fn the_challenge_names_the_scope_that_is_needed() {
        let mut rejection = Rejection::new(Reason::ScopeInsufficient);
        rejection.scope = Some("chat:read chat:write".to_owned());
        let (head, _) = answer(&rejection);
        assert!(head.contains("error=\"insufficient_scope\""), "{head}");
        assert!(head.contains("scope=\"chat:read chat:write\""), "{head}");
    }

    #[test]
    fn what_only_the_operator_may_know_is_not_in_the_answer() {
        let rejection =
            Rejection::new(Reason::CredentialsWrongAudience).note("expected https://secret.example");
        let answer = response(&rejection, HandshakeId::new([1; 10]), SystemTime::UNIX_EPOCH);
        assert!(!String::from_utf8_lossy(answer.bytes()).contains("secret.example"));
    }

    #[test]
    fn an_outage_says_when_to_come_back() {
        let mut rejection = Rejection::new(Reason::AuthSystemKeysUnavailable);
        rejection.retry_after = Some(Duration::from_millis(9001));
        assert!(answer(&rejection).0.contains("\r\nRetry-After: 10\r\n"));
        for reason in Reason::ALL.iter().filter(|reason| matches!(reason.status(), 429 | 503)) {
            assert!(answer(&Rejection::new(*reason)).0.contains("\r\nRetry-After: "), "{reason}");
        }
    }

    #[test]
    fn a_status_of_the_service_comes_with_the_headers_that_it_demands() {
        for (status, header) in [
            (401, "WWW-Authenticate: Bearer realm=\"gatehouse\"\r\n"),
            (405, "Allow: GET\r\n"),
            (426, "Upgrade: websocket\r\n"),
            (503, "Retry-After: 5\r\n"),
        ] {
            let mut rejection = Rejection::new(Reason::UpstreamRefused);
            rejection.upstream_status = Some(status);
            let (head, problem) = answer(&rejection);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains(header), "{head}");
            assert_eq!(problem.status, status);
        }
    }

    #[test]
    fn no_header_can_be_injected() {
        let mut rejection = Rejection::new(Reason::ScopeInsufficient).detail("x\r\nSet-Cookie: a=b");
        rejection.scope = Some("a\"\r\nSet-Cookie: a=b".to_owned());
        assert!(!answer(&rejection).0.contains("\r\nSet-Cookie"));
    }
}
