//! The bearer token of a request.

use std::fmt;
use std::sync::Arc;

use super::certificate::Certificate;
use crate::rejection::{Reason, Rejection};

/// Bytes of the longest token that is looked at. Access tokens have one or two thousand; more
/// only costs memory and time.
pub const MAX_TOKEN: usize = 16 * 1024;

/// Which bytes are characters of a `b64token` (RFC 6750 §2.1), but for the padding at its end.
const IS_B64TOKEN: [bool; 256] = {
    let all = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/";
    let mut is = [false; 256];
    let mut at = 0;
    while at < all.len() {
        is[all[at] as usize] = true;
        at += 1;
    }
    is
};

/// A bearer token as the client sent it: of the right characters and size, and not judged yet.
///
/// Whoever reads it can use it, so neither `Debug` nor anything else prints it.
pub struct Token {
    text: String,
    /// What its client showed besides it.
    certificate: Option<Arc<Certificate>>,
}

impl Token {
    /// A token from its characters (`b64token`, RFC 6750 §2.1).
    ///
    /// # Errors
    ///
    /// `credentials/malformed` when it is empty, longer than [`MAX_TOKEN`] or has other characters.
    pub fn parse(text: &[u8]) -> Result<Self, Box<Rejection>> {
        let body = text.len() - text.iter().rev().take_while(|byte| **byte == b'=').count();
        let detail = if text.len() > MAX_TOKEN {
            "The token is longer than 16 KiB."
        } else if body == 0 {
            "The token is empty."
        } else if let Ok(text) = std::str::from_utf8(text)
            && text.as_bytes()[..body].iter().all(|byte| IS_B64TOKEN[usize::from(*byte)])
        {
            return Ok(Self { text: text.to_owned(), certificate: None });
        } else if text[..body].iter().any(u8::is_ascii_whitespace) {
            "There is white space inside the token."
        } else {
            "The token has characters that no bearer token has."
        };
        Err(rejection(Reason::CredentialsMalformed, detail))
    }

    /// The token itself, which belongs into no log and no answer.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same token, over a connection whose client showed this certificate.
    #[must_use]
    pub fn shown_with(self, certificate: Option<Arc<Certificate>>) -> Self {
        Self { certificate, ..self }
    }

    /// The certificate of the client's connection.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The token in the values of all `Authorization` headers of a request (RFC 6750 §2.1).
///
/// # Errors
///
/// - `credentials/missing`: there is no such header, or it is for another scheme than `Bearer`;
/// - `credentials/multiple`: there are several headers, or several tokens in one;
/// - `credentials/malformed`: what follows `Bearer` is not a bearer token.
pub fn bearer<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Token, Box<Rejection>> {
    let mut values = values.into_iter();
    let Some(value) = values.next() else {
        return Err(Box::new(Rejection::new(Reason::CredentialsMissing)));
    };
    if values.next().is_some() {
        return Err(rejection(Reason::CredentialsMultiple, "There is more than one Authorization header."));
    }
    let value = value.trim_ascii();
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        // The scheme is not repeated: where a client forgets it, the token stands in its place.
        let detail = "The Authorization header is not of the form: Bearer <token>.";
        return Err(rejection(Reason::CredentialsMissing, detail));
    }
    // A proxy that merges headers leaves a comma, which no token has (RFC 9110 §5.3).
    if rest.contains(&b',') {
        let detail = "There is more than one token in the Authorization header.";
        return Err(rejection(Reason::CredentialsMultiple, detail));
    }
    Token::parse(rest.trim_ascii())
}

fn rejection(reason: Reason, detail: &str) -> Box<Rejection> {
    Box::new(Rejection::new(reason).detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(values: &[&str]) -> Reason {
        let rejection = bearer(values.iter().map(|value| value.as_bytes())).unwrap_err();
        if let Some(detail) = &rejection.detail {
            assert!(!detail.contains("SECRET"), "{detail}");
        }
        rejection.reason
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_with_any_number_of_spaces() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " bEaReR a.b.c\t"] {
            assert_eq!(bearer([value.as_bytes()]).unwrap().as_str(), "a.b.c", "{value}");
        }
    }

    #[test]
    fn every_character_of_a_bearer_token_is_accepted_and_padding_only_at_its_end() {
        assert_eq!(bearer([b"Bearer aZ09-._~+/==".as_slice()]).unwrap().as_str(), "aZ09-._~+/==");
        assert_eq!(reason(&["Bearer a=b"]), Reason::CredentialsMalformed);
        assert_eq!(reason(&["Bearer =="]), Reason::CredentialsMalformed);
    }

    #[test]
    fn no_header_or_another_scheme_is_a_missing_token() {
        for values in [&[][..], &[""], &["Basic SECRET"], &["SECRET.SECRET.SECRET"], &["Bearertoken"]] {
            assert_eq!(reason(values), Reason::CredentialsMissing, "{values:?}");
        }
    }

    #[test]
    fn two_tokens_are_refused_wherever_they_stand() {
        for values in [
            &["Bearer SECRET", "Bearer SECRET"][..],
            &["Bearer SECRET", "Basic SECRET"],
            &["Bearer SECRET, Bearer SECRET"],
            &["Bearer SECRET,SECRET"],
        ] {
            assert_eq!(reason(values), Reason::CredentialsMultiple, "{values:?}");
        }
    }

    #[test]
    fn an_empty_or_broken_token_is_malformed() {
        for value in ["Bearer", "Bearer ", "Bearer SECRET SECRET", "Bearer SECRET\u{e4}", "Bearer \"SECRET\""]
        {
            assert_eq!(reason(&[value]), Reason::CredentialsMalformed, "{value}");
        }
    }

    #[test]
    fn a_token_of_a_megabyte_is_refused_by_its_size() {
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN));
        assert!(bearer([longest.as_bytes()]).is_ok());
        assert_eq!(reason(&[&format!("{longest}a")]), Reason::CredentialsMalformed);
        assert_eq!(reason(&[&format!("Bearer {}", "a".repeat(1 << 20))]), Reason::CredentialsMalformed);
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::parse(b"SECRET").unwrap();
        assert!(!format!("{token:?}").contains("SECRET"));
    }
}
