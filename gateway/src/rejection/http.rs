//! A rejection as the answer to an HTTP request.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Layer, Reason, Rejection};
use crate::audit::HandshakeId;

/// The name of the header that says which layer rejected.
pub const HEADER: &str = "Gatehouse-Rejection";

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
pub fn response(rejection: &Rejection, id: HandshakeId, now: SystemTime) -> Vec<u8> {
    let problem = Problem::new(rejection, id);
    // A document of plain strings and numbers can always be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {}\r\n", problem.status, phrase(problem.status));
    let mut header = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        // Nothing that came from outside can start another header.
        head.extend(value.chars().filter(|character| !character.is_control()));
        head.push_str("\r\n");
    };
    header("Date", &httpdate::fmt_http_date(now));
    header(HEADER, &format!("layer={}, reason={}, id=\"{id}\"", problem.layer, problem.reason));
    if let Some(challenge) = challenge(rejection) {
        header("WWW-Authenticate", &challenge);
    }
    match rejection.reason {
        Reason::HandshakeMethod => header("Allow", "GET"),
        // RFC 6455 §4.4, RFC 9110 §15.5.22
        Reason::HandshakeBadVersion => {
            header("Sec-WebSocket-Version", "13");
            header("Upgrade", "websocket");
        }
        Reason::HandshakeNotWebsocket => header("Upgrade", "websocket"),
        _ => {}
    }
    if let Some(after) = rejection.retry_after {
        header("Retry-After", &after.as_secs().max(1).to_string());
    }
    header("Content-Type", "application/problem+json");
    header("Content-Length", &body.len().to_string());
    header("Cache-Control", "no-store");
    header("Connection", if problem.status == 426 { "Upgrade, close" } else { "close" });
    head.push_str("\r\n");
    let mut answer = head.into_bytes();
    answer.extend(body);
    answer
}

/// The challenge that goes with a status (RFC 6750 §3): no error code when no credentials came,
/// and no parameter that tells more than the client already knows.
fn challenge(rejection: &Rejection) -> Option<String> {
    let reason = rejection.reason;
    let error = match reason.layer() {
        _ if reason == Reason::CredentialsMissing => None,
        Layer::Credentials if reason == Reason::CredentialsMultiple => Some("invalid_request"),
        Layer::Credentials | Layer::Expiry => Some("invalid_token"),
        Layer::Scope => Some("insufficient_scope"),
        _ => return None,
    };
    let mut challenge = "Bearer realm=\"gatehouse\"".to_owned();
    if let Some(error) = error {
        challenge
            .push_str(&format!(", error=\"{error}\", error_description=\"{}\"", quotable(reason.title())));
    }
    if let Some(scope) = &rejection.scope {
        challenge.push_str(&format!(", scope=\"{}\"", quotable(scope)));
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
    use std::time::Duration;

    fn answer(rejection: &Rejection) -> (String, Problem) {
        let bytes = response(rejection, HandshakeId::new([1; 10]), SystemTime::UNIX_EPOCH);
        let text = String::from_utf8(bytes).expect("text");
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
                    || *reason == Reason::ScopeInsufficient
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
        let bytes = response(&rejection, HandshakeId::new([1; 10]), SystemTime::UNIX_EPOCH);
        assert!(!String::from_utf8(bytes).expect("text").contains("secret.example"));
    }

    #[test]
    fn an_outage_says_when_to_come_back() {
        let mut rejection = Rejection::new(Reason::AuthSystemKeysUnavailable);
        rejection.retry_after = Some(Duration::from_secs(10));
        assert!(answer(&rejection).0.contains("\r\nRetry-After: 10\r\n"));
    }

    #[test]
    fn no_header_can_be_injected() {
        let mut rejection = Rejection::new(Reason::ScopeInsufficient).detail("x\r\nSet-Cookie: a=b");
        rejection.scope = Some("a\"\r\nSet-Cookie: a=b".to_owned());
        assert!(!answer(&rejection).0.contains("\r\nSet-Cookie"));
    }
}
