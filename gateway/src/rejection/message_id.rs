//! Journal message identifiers, derived from the registry's names.

use aws_lc_rs::digest::{SHA256, digest};

/// The `MESSAGE_ID` of entries of the kind `name` (`layer/reason`, `admitted`, …): 128 bits as 32
/// lower-case hexadecimal digits (systemd.journal-fields(7)).
///
/// A hash of the name, so it stays the same as long as the name does and no table has to be kept.
/// The version and variant bits are those of a UUIDv8 (RFC 9562 §5.8).
pub fn message_id(name: &str) -> String {
    let hash = digest(&SHA256, format!("gatehouse:{name}").as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    format!("{:032x}", u128::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejection::Reason;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_its_own_stable_message_id() {
        let ids: HashSet<String> = Reason::ALL.iter().map(|reason| message_id(&reason.to_string())).collect();
        assert_eq!(ids.len(), Reason::ALL.len());
        assert_eq!(message_id("expiry/expired").len(), 32);
    }
}
