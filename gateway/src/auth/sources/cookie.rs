//! A token in a cookie, which browsers add by themselves.

use crate::session::headers::{Headers, keep_items};

/// Takes all cookies called `name` (RFC 6265 §4.2.1) out of the request; their values, without
/// quotes.
pub(super) fn take(headers: &mut Headers, name: &str) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    keep_items(headers, "cookie", b';', |cookie| {
        let end = cookie.iter().position(|byte| *byte == b'=');
        let (own, value) = end.map_or((cookie, &[][..]), |end| (&cookie[..end], &cookie[end + 1..]));
        let ours = own.trim_ascii() == name.as_bytes();
        if ours {
            let value = value.trim_ascii();
            let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            taken.push(quoted.unwrap_or(value).to_vec());
        }
        !ours
    });
    taken
}
