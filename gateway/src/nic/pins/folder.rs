//! The folder of the pins: made, locked, emptied.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{ABI, LISTS, MAPS, NEXT, PinnedLink, TABLES, unusable};
use crate::nic::NicError;

/// How often a folder that vanishes while it is being locked is made again.
const ATTEMPTS: usize = 3;

/// A folder that nobody else uses as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    folder: PathBuf,
    held: File,
}

impl Lock {
    /// Locks `folder`, which is made when it does not exist.
    pub(super) fn take_or_make(folder: &Path) -> Result<Self, NicError> {
        must_be_pinnable(folder)?;
        for _ in 0..ATTEMPTS {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| unusable(folder, error))?;
            if let Some(lock) = Self::take(folder)? {
                return Ok(lock);
            }
        }
        Err(NicError::PinsInUse { folder: folder.to_owned() })
    }

    /// Locks `folder`; `None` when there is none.
    pub(super) fn take(folder: &Path) -> Result<Option<Self>, NicError> {
        let failed = |error| unusable(folder, error);
        let held = match File::open(folder) {
            Ok(held) => held,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(NicError::PinsInUse { folder: folder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Whoever held it before may have removed it.
        let inode = held.metadata().map_err(failed)?.ino();
        match fs::metadata(folder) {
            Ok(there) if there.ino() == inode => Ok(Some(Self { folder: folder.to_owned(), held })),
            _ => Ok(None),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Lock {
    /// Closing the file is not enough at once: a process that is just being started has it, too,
    /// until it runs its own program. The end of the daemon unlocks whatever fails here.
    fn drop(&mut self) {
        let _ = self.held.unlock();
    }
}

/// Detaches every link that is pinned in `folder`, and removes all pins and the folder. The names
/// of the interfaces that were guarded; `None` when there is no such folder.
///
/// # Errors
///
/// When a daemon uses the pins, or without the privilege.
pub fn detach(folder: &Path) -> Result<Option<Vec<String>>, NicError> {
    let Some(lock) = Lock::take(folder)? else {
        return Ok(None);
    };
    must_be_pinnable(folder)?;
    let links = super::links(folder).map_err(|error| unusable(folder, error))?;
    let interfaces = links.iter().map(|link| interface_name(link.interface)).collect();
    let emptied = links
        .iter()
        .try_for_each(PinnedLink::detach)
        .and_then(|()| remove_set(&folder.join(NEXT)))
        .and_then(|()| remove_set(&folder.join(MAPS)))
        .and_then(|()| fs::remove_dir(folder));
    drop(lock);
    emptied.map_err(|error| unusable(folder, error))?;
    Ok(Some(interfaces))
}

/// Whether objects of BPF can be pinned in `folder`, or will be able to once it is made.
fn must_be_pinnable(folder: &Path) -> Result<(), NicError> {
    let nearest = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let kind = statfs(nearest).map_err(|error| unusable(folder, error.into()))?;
    if kind.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    Err(NicError::NotPinnable { folder: folder.to_owned() })
}

/// The name of the interface with this index, or what is known of it.
pub(in crate::nic) fn interface_name(index: u32) -> String {
    nix::net::if_::if_indextoname(index)
        .map_or_else(|_| format!("interface {index}"), |name| name.to_string_lossy().into_owned())
}

/// Removes the tables in `folder` and the folder. Files of others stay, and are an error.
pub(super) fn remove_set(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for name in TABLES.iter().chain(&[ABI, LISTS]) {
        remove(&folder.join(name))?;
    }
    fs::remove_dir(folder)
}

/// Removes a file, if there is one.
pub(in crate::nic) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
