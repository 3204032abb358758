//! Bans as they are kept for the next daemon: JSON. Pure.

use serde::{Deserialize, Serialize};

use super::{Ban, BanError, Bans};

const VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
struct Form {
    version: u32,
    bans: Vec<Ban>,
}

/// Why bans cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It is not what was written.
    #[error(transparent)]
    Form(#[from] serde_json::Error),
    /// Another version of the daemon wrote it.
    #[error("it is of version {0}, and this daemon reads version {VERSION}")]
    Version(u32),
    /// One of them cannot be.
    #[error(transparent)]
    Ban(#[from] BanError),
}

impl From<KeptError> for std::io::Error {
    fn from(error: KeptError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The text that keeps `bans`.
///
/// # Errors
///
/// Never, but the encoder says so.
pub fn text(bans: &Bans) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Form { version: VERSION, bans: bans.all().cloned().collect() })
}

/// The bans in `text` that are not over at `now`; `most` at most.
///
/// # Errors
///
/// See [`KeptError`].
pub fn parse(text: &str, most: usize, now: u64) -> Result<Bans, KeptError> {
    let Form { version, bans } = serde_json::from_str(text)?;
    if version != VERSION {
        return Err(KeptError::Version(version));
    }
    let mut all = Bans::default();
    for ban in bans.into_iter().filter(|ban| ban.until > now) {
        // They were within the limits when they began, which may have been wider.
        all.ban(ban, most, u64::MAX)?;
    }
    Ok(all)
}
