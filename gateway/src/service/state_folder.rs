//! The folder for what has to outlive the daemon. Without it, the daemon runs all the same.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::lists::{Copies, Keeper};
use crate::config::Config;

/// The folder that the service manager made for state, systemd.exec(5): `StateDirectory=`.
pub(super) fn given() -> Option<PathBuf> {
    first(&std::env::var_os("STATE_DIRECTORY")?)
}

/// The first of several folders.
fn first(folders: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(folders).next().filter(|folder| folder.is_absolute())
}

/// Where last good copies of lists are.
pub(super) fn copies(config: &Config) -> Option<Copies> {
    let folder = config.state.as_deref().filter(|_| config.firewall.is_some())?;
    Copies::open(folder)
        .inspect_err(|error| {
            log::error!(
                "{}: no last good copies of lists can be kept ({error}): check [state] folder and its permissions",
                folder.display()
            );
        })
        .ok()
}

/// Who writes to `copies`.
pub(super) fn keeper(copies: Copies) -> Option<Keeper> {
    Keeper::start(copies)
        .inspect_err(|error| log::error!("no last good copies of lists can be kept: {error}"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_folders_the_first_is_taken_and_a_relative_one_never() {
        assert_eq!(first(OsStr::new("/var/lib/a:/var/lib/b")), Some("/var/lib/a".into()));
        assert_eq!(first(OsStr::new("state")), None);
        assert_eq!(first(OsStr::new("")), None);
    }
}
