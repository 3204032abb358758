//! A rejection as the end of a session that is open already.

use super::Rejection;
use crate::audit::HandshakeId;

/// The close code, which is the layer's, and the reason: the same dictionary (RFC 9651) as in the
/// header of a refused handshake, in at most 123 bytes of ASCII (RFC 6455 §5.5.1).
pub fn close(rejection: &Rejection, id: HandshakeId) -> (u16, String) {
    let reason = rejection.reason;
    let layer = reason.layer();
    (layer.close_code(), format!("layer={layer}, reason={}, id=\"{id}\"", reason.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejection::Reason;
    use crate::session::client::Header;

    #[test]
    fn every_reason_fits_into_a_close_frame_and_reads_as_the_header_does() {
        for reason in Reason::ALL {
            let (code, text) = close(&Rejection::new(*reason), HandshakeId::new([0xab; 10]));
            assert_eq!(code, reason.layer().close_code());
            assert!(text.len() <= 123 && text.is_ascii(), "{text}");
            let header = Header::parse(text.as_bytes()).expect("a dictionary");
            assert_eq!((&*header.layer, &*header.reason), (reason.layer().name(), reason.name()));
            assert_eq!(header.id, "ab".repeat(10));
        }
    }
}
