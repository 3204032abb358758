//! What the head of a server's answer means.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, LAST_MODIFIED, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, StatusCode};

use super::FetchError;
use super::store::Validators;

/// What follows from the head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The list follows.
    Body {
        /// What to ask with next time.
        validators: Validators,
        /// Whether the end of the body can be told from a broken connection.
        delimited: bool,
    },
    /// The copy at hand is still the newest.
    Unchanged,
}

/// The longest validator that is kept; a longer one makes the next request unconditional.
const VALIDATOR: usize = 1024;

/// What an answer with `status` and `headers` means. `conditional`: the request had validators;
/// `max`: bytes of a list.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    conditional: bool,
    max: u64,
) -> Result<Answer, FetchError> {
    if status == StatusCode::NOT_MODIFIED && conditional {
        return Ok(Answer::Unchanged);
    }
    // A partial answer was not asked for, and one without content is no list.
    if status != StatusCode::OK {
        return Err(FetchError::Status(status.as_u16()));
    }
    if let Some(encoding) = text(headers, &CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(FetchError::Encoding(encoding.chars().take(32).collect()));
    }
    let length = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > max) {
        return Err(FetchError::TooLarge(max));
    }
    let kept = |name| text(headers, name).filter(|value| value.len() <= VALIDATOR).map(str::to_owned);
    Ok(Answer::Body {
        validators: Validators { etag: kept(&ETAG), last_modified: kept(&LAST_MODIFIED) },
        delimited: length.is_some() || headers.contains_key(TRANSFER_ENCODING),
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn judged(status: u16, pairs: &[(HeaderName, &'static str)]) -> Result<Answer, FetchError> {
        judge(StatusCode::from_u16(status).expect("a status"), &headers(pairs), true, 1000)
    }

    #[test]
    fn a_body_comes_with_what_to_ask_with_next_time() {
        let answer = judged(200, &[(ETAG, "W/\"1\""), (CONTENT_LENGTH, "1000")]);
        let validators = Validators { etag: Some("W/\"1\"".to_owned()), last_modified: None };
        assert_eq!(answer, Ok(Answer::Body { validators, delimited: true }));
    }

    #[test]
    fn not_modified_is_an_answer_to_a_condition_alone() {
        assert_eq!(judged(304, &[]), Ok(Answer::Unchanged));
        let unasked = judge(StatusCode::NOT_MODIFIED, &HeaderMap::new(), false, 1000);
        assert_eq!(unasked, Err(FetchError::Status(304)));
    }

    #[test]
    fn no_status_but_200_has_a_list() {
        for status in [204, 206, 301, 404, 410, 500, 503] {
            assert_eq!(judged(status, &[]), Err(FetchError::Status(status)));
        }
    }

    #[test]
    fn what_is_too_large_or_compressed_unasked_is_refused_before_it_is_read() {
        assert_eq!(judged(200, &[(CONTENT_LENGTH, "1001")]), Err(FetchError::TooLarge(1000)));
        assert_eq!(judged(200, &[(CONTENT_ENCODING, "gzip")]), Err(FetchError::Encoding("gzip".to_owned())));
    }
}
