//! A rejection as the end of a session.

use super::Rejection;
use crate::audit::HandshakeId;

/// Bytes of the reason in a Close frame (RFC 6455 §5.5: 125 of payload, less the code).
pub const MAX_REASON: usize = 123;

/// What a Close frame says of `rejection`: the code of its layer, and the same members as the
/// header [`super::http::HEADER`] (RFC 9651); and `retry_after`, in seconds, where there is one.
pub fn close(rejection: &Rejection, id: HandshakeId) -> (u16, String) {
    let reason = rejection.reason;
    let mut text = format!("layer={}, reason={}, id=\"{id}\"", reason.layer(), reason.name());
    if let Some(wait) = rejection.retry_after {
        // As in Retry-After: whole seconds, and never too early. Three years are as good as any longer.
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).min(99_999_999);
        text.push_str(&format!(", retry_after={seconds}"));
    }
    (reason.layer().close_code(), text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rejection::Reason;
    use crate::session::client::Header;

    #[test]
    fn every_reason_fits_into_a_close_frame_and_reads_like_the_header() {
        for reason in Reason::ALL {
            let rejection = Rejection::new(*reason).retry_after(Duration::MAX);
            let (code, text) = close(&rejection, HandshakeId::new([255; 10]));
            assert_eq!(code, reason.layer().close_code());
            assert!(text.len() <= MAX_REASON, "{text}");
            let header = Header::parse(text.as_bytes()).expect("a dictionary");
            assert_eq!(format!("{}/{}", header.layer, header.reason), reason.to_string());
        }
    }
}
