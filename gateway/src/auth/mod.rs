//! Who a client is: bearer tokens, issuers and their keys, claims and scopes.
//!
//! Judging is pure: it reads no file, no clock and no random number. Files are read where a
//! [`KeySet`] is loaded, and nowhere else. Signatures are checked by aws-lc with keys that were
//! parsed and checked when they were loaded; the claims of a token are looked at only after its
//! signature, except for `iss`, which selects the issuer and proves nothing.

mod claims;
mod issuer;
mod judge;
mod jws;
mod keys;
mod scopes;
pub mod sign;
mod token;
mod trace;

#[cfg(test)]
mod tests;

pub use issuer::{Authenticator, Issuer, Requirement};
pub use judge::Identity;
pub use keys::{KeySet, Loaded};
pub use token::{MAX_TOKEN, Token, bearer};
pub use trace::{Check, Explanation};

/// Text that a stranger wrote, for a note or a message: quoted, escaped and short.
fn excerpt(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
