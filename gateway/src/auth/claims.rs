//! The registered claims (RFC 7519 §4.1), each of its own type or the token is malformed.

use serde_json::Value;

use super::jws::{Members, malformed};
use crate::rejection::{Reason, Rejection};

/// The last second of the year 9999. A later `exp` counts milliseconds, or is a mistake.
const LAST_DATE: u64 = 253_402_300_799;

/// Bytes of the longest subject: it goes into headers and the journal. OpenID Connect allows 255.
const MAX_SUBJECT: usize = 1024;

/// Which whole second stands for a fraction of one.
#[derive(Clone, Copy)]
pub(super) enum Round {
    /// The one before.
    Down,
    /// The one after.
    Up,
}

/// The claim `name`, a string.
pub(super) fn text<'a>(claims: &'a Members, name: &str) -> Result<Option<&'a str>, Box<Rejection>> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed(format!("The claim {name} is not a string."))),
    }
}

/// The claim `name`, a `NumericDate` (RFC 7519 §2), in whole seconds since 1970.
pub(super) fn date(claims: &Members, name: &str, round: Round) -> Result<Option<u64>, Box<Rejection>> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let Value::Number(number) = value else {
        return Err(malformed(format!("The claim {name} is not a number.")));
    };
    let seconds = number.as_u64().or_else(|| whole(number.as_f64()?, round));
    match seconds.filter(|seconds| *seconds <= LAST_DATE) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(malformed(format!("The claim {name} is not a date in seconds since 1970."))),
    }
}

/// The subject, which must be there.
pub(super) fn subject(claims: &Members) -> Result<&str, Box<Rejection>> {
    let subject = required(text(claims, "sub")?, "sub")?;
    if subject.is_empty() {
        return Err(missing("The claim sub is empty."));
    }
    if subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
        return Err(malformed("The claim sub is too long or has control characters."));
    }
    Ok(subject)
}

/// Whether one of `accepted` is in `aud`, a string or a list of strings (RFC 7519 §4.1.3).
pub(super) fn is_for(claims: &Members, accepted: &[String]) -> Result<bool, Box<Rejection>> {
    let is_accepted = |audience: &str| accepted.iter().any(|own| own == audience);
    match required(claims.get("aud"), "aud")? {
        Value::String(audience) => Ok(is_accepted(audience)),
        Value::Array(audiences) if audiences.iter().all(Value::is_string) => {
            Ok(audiences.iter().filter_map(Value::as_str).any(is_accepted))
        }
        _ => Err(malformed("The claim aud is neither a string nor a list of strings.")),
    }
}

/// `value`, or `credentials/missing_claim`.
pub(super) fn required<T>(value: Option<T>, name: &str) -> Result<T, Box<Rejection>> {
    value.ok_or_else(|| missing(&format!("The token has no claim {name}.")))
}

fn missing(detail: &str) -> Box<Rejection> {
    Box::new(Rejection::new(Reason::CredentialsMissingClaim).detail(detail))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
fn whole(seconds: f64, round: Round) -> Option<u64> {
    let whole = match round {
        Round::Down => seconds.floor(),
        Round::Up => seconds.ceil(),
    };
    // Not true of NaN either. 2^53 is beyond any date, and every whole number below it is exact.
    (0.0..=9_007_199_254_740_992.0).contains(&whole).then_some(whole as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Members {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_fraction_of_a_second_shortens_the_validity_and_never_extends_it() {
        let claims = claims(r#"{"exp": 100.9, "nbf": 100.1, "iat": 1e2}"#);
        assert_eq!(date(&claims, "exp", Round::Down).unwrap(), Some(100));
        assert_eq!(date(&claims, "nbf", Round::Up).unwrap(), Some(101));
        assert_eq!(date(&claims, "iat", Round::Down).unwrap(), Some(100));
        assert_eq!(date(&claims, "none", Round::Down).unwrap(), None);
    }

    #[test]
    fn what_is_no_date_is_malformed() {
        let numbers =
            ["-1", "-0.5", "253402300800", "1700000000000", "18446744073709551615", "1e300", "-1e300"];
        for value in numbers.iter().chain(&["\"1700000000\"", "null", "true", "[1]", "{}"]) {
            let claims = claims(&format!("{{\"exp\": {value}}}"));
            let rejection = date(&claims, "exp", Round::Down).unwrap_err();
            assert_eq!(rejection.reason, Reason::CredentialsMalformed, "{value}");
        }
        assert!(serde_json::from_str::<Members>(r#"{"exp": 1e999}"#).is_err());
    }
}
