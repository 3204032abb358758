//! Reads key files.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::config::Diagnostic;

/// Anybody may read, or the group may write, or worse.
const TOO_OPEN: u32 = 0o027;

/// The content of a key file.
pub(crate) struct KeyFile {
    /// The content.
    pub(crate) bytes: Vec<u8>,
    mode: u32,
}

impl KeyFile {
    /// The content, and a warning when others than its owner and group can read it.
    pub(in crate::auth) fn private(self, path: &Path) -> (Vec<u8>, Vec<Diagnostic>) {
        let mut warnings = Vec::new();
        if let Some(mode) = self.open_to_others() {
            let message = format!(
                "is a secret with the permissions {mode:o}: whoever can read it can make tokens; chmod it to 600 or 640"
            );
            warnings.push(Diagnostic::of_file(path, message).warning());
        }
        (self.bytes, warnings)
    }

    /// Its permissions, when others than its owner and group can read it.
    pub(crate) fn open_to_others(&self) -> Option<u32> {
        (self.mode & TOO_OPEN != 0).then_some(self.mode & 0o777)
    }
}

/// Reads a regular file of at most `limit` bytes, which `[limits]` calls `name`.
pub(crate) fn read_as(path: &Path, limit: usize, name: &str) -> Result<KeyFile, Diagnostic> {
    let fault = |message: String| Diagnostic::of_file(path, message);
    let unreadable = |error| {
        fault(format!("cannot be read ({error}): check its name in the configuration and its permissions"))
    };
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(fault("is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(fault(format!(
            "is larger than {limit} bytes: raise [limits] {name} if it really is that large"
        )));
    }
    Ok(KeyFile { bytes, mode: metadata.mode() })
}

/// The same for a file with keys of issuers.
pub(in crate::auth) fn read(path: &Path, limit: usize) -> Result<KeyFile, Diagnostic> {
    read_as(path, limit, "key_file")
}
