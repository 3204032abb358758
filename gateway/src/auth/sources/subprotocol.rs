//! A token among the subprotocols, where pages can put one: the JavaScript interface lets them set
//! nothing else.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::malformed;
use crate::auth::token::Token;
use crate::rejection::Rejection;
use crate::session::headers::{Headers, keep_items};

/// `=` may not stand in a subprotocol (RFC 6455 §4.1, RFC 9110 §5.6.2) and some clients send it all
/// the same, so padding is tolerated here and nowhere else.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes all subprotocols that begin with `prefix` out of the offer and the header; what stands
/// behind the prefix.
pub(super) fn take(headers: &mut Headers, protocols: &mut Vec<String>, prefix: &str) -> Vec<String> {
    let taken: Vec<String> = protocols.extract_if(.., |protocol| protocol.starts_with(prefix)).collect();
    if !taken.is_empty() {
        keep_items(headers, "sec-websocket-protocol", b',', |item| {
            !item.trim_ascii().starts_with(prefix.as_bytes())
        });
    }
    taken.iter().map(|protocol| protocol[prefix.len()..].to_owned()).collect()
}

/// The token in `text`, which is base64url (RFC 4648 §5).
pub(super) fn decode(text: &str) -> Result<Token, Box<Rejection>> {
    let bytes = BASE64URL
        .decode(text)
        .map_err(|_| malformed("The token in Sec-WebSocket-Protocol is not base64url (RFC 4648 §5)."))?;
    Token::parse(&bytes)
}
