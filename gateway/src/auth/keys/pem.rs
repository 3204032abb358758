//! Public keys in PEM (RFC 7468).

use std::path::Path;

use super::verifier::Key;
use super::{Fault, KeySet, Loaded};
use crate::config::Diagnostic;

/// The public keys in `text`, the content of `file`: `PUBLIC KEY` (RFC 7468 §13) and
/// `RSA PUBLIC KEY` (PKCS #1). None of them has a `kid`.
pub(super) fn parse(file: &Path, text: &str) -> Result<Loaded, Diagnostic> {
    let fault = |fault: Fault| Diagnostic::of_file(file, fault.to_string());
    let blocks = pem::parse_many(text).map_err(|_| fault(Fault::NotPem))?;
    if blocks.is_empty() {
        return Err(fault(Fault::NotPem));
    }
    let mut keys = Vec::with_capacity(blocks.len());
    for block in &blocks {
        let der = block.contents();
        let key = match block.tag() {
            "PUBLIC KEY" => any(der),
            "RSA PUBLIC KEY" => Key::rsa(der),
            "CERTIFICATE" => Err(Fault::Certificate),
            tag if tag.ends_with("PRIVATE KEY") => Err(Fault::PrivatePem),
            _ => Err(Fault::NotPem),
        };
        keys.push(key.map_err(fault)?);
    }
    Ok(Loaded { keys: KeySet::new(keys), warnings: Vec::new() })
}

/// A `SubjectPublicKeyInfo` of whatever kind. The kinds exclude each other, by the algorithm that
/// the structure itself names.
fn any(der: &[u8]) -> Result<Key, Fault> {
    match Key::rsa(der) {
        Err(Fault::Broken(_)) => {}
        rsa => return rsa,
    }
    let curves = [Key::p256, Key::p384, Key::ed25519];
    curves.iter().find_map(|read| read(der).ok()).ok_or(Fault::UnknownPublicKey)
}
