//! Who a client is: bearer tokens, issuers and their keys, claims and scopes.
//!
//! Judging is pure: it reads no file, no clock and no random number. Files are read where a
//! [`KeySet`] is loaded, and nowhere else. Signatures are verified by jsonwebtoken, over aws-lc,
//! with keys that were checked and bound to their algorithms when they were loaded; the claims of
//! a token are looked at only after its signature, except for `iss`, which selects the issuer and
//! proves nothing.
//!
//! The claims are judged here and not by jsonwebtoken's `decode`: it lets a member
//! that it does not know stand twice and claims be absent unless told otherwise, and does not say
//! by how much a token is late.

mod authenticate;
mod cache;
pub(crate) mod certificate;
mod claims;
mod confirmation;
pub mod introspection;
mod issuer;
mod judge;
mod jws;
mod keys;
pub mod metadata;
mod provider;
pub mod revocation;
mod rules;
mod scopes;
pub mod sign;
pub mod sources;
mod standing;
mod token;
mod trace;

#[cfg(test)]
mod tests;

pub use certificate::{Certificate, CertificateError};
pub use issuer::{Authenticator, Issuer, Requirement};
pub use judge::Identity;
pub(crate) use keys::read_as;
pub use keys::{KeySet, LiveKeys, Loaded, Refresh, Refreshed};
pub use token::{MAX_TOKEN, Token, bearer};
pub use trace::{Check, Contents, Explanation, Step};

/// Text that a stranger wrote, for a note or a message: quoted, escaped and short.
fn excerpt(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
