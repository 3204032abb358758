//! What stays in force without a daemon: links and tables, pinned in a BPF file system.
//!
//! ```text
//! FOLDER/              locked by the daemon that uses it
//!   link-INDEX         the program on the interface with that index
//!   maps/              the tables that the next daemon goes on with
//!     ABI              by which version of the contract, and in which network namespace
//!     LISTS            whose counters are whose
//!     GENERATION  OUTCOMES  SOURCES  INTERFACES
//!   next/              tables of a daemon that has not taken over every interface yet
//! ```
//!
//! The links keep the program and every table that it uses, whatever happens to the other files.
//! Reports of drops, the guarded ports and the constants belong to one program and are not pinned:
//! a new daemon loads a program of its own and puts it in the place of the old one, link by link.

mod folder;
mod lists;
mod marker;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gateway_ebpf::{ABI_VERSION, names};

use folder::Lock;
pub use folder::detach;
pub(super) use folder::{interface_name, remove};
use lists::Lists;

use super::NicError;
use super::bpf;
use crate::policy::Source;

const MAPS: &str = "maps";
const NEXT: &str = "next";
const LINK: &str = "link-";
const ABI: &str = "ABI";
const LISTS: &str = "LISTS";

/// The tables of the program that outlive it.
pub(super) const TABLES: [&str; 4] = [names::GENERATION, names::OUTCOMES, names::SOURCES, names::INTERFACES];

/// What a daemon found in the folder of its pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No tables.
    Nothing,
    /// Tables of this version: they are used on, with their counters.
    Tables,
    /// Tables of another version, or incomplete ones: they are replaced, and counters start anew.
    Foreign {
        /// The other version, where it can be read.
        abi: Option<u64>,
    },
}

/// A link that a former daemon has left.
#[derive(Debug)]
pub(super) struct PinnedLink {
    pub(super) link: OwnedFd,
    pub(super) path: PathBuf,
    /// Number of the program.
    pub(super) program: u32,
    /// Index of the interface.
    pub(super) interface: u32,
}

impl PinnedLink {
    /// Detaches the program from the interface, and removes the pin.
    pub(super) fn detach(&self) -> io::Result<()> {
        bpf::detach_link(self.link.as_fd())?;
        remove(&self.path)
    }
}

/// The folder of the pins, which nobody else uses at the same time.
#[derive(Debug)]
pub struct Pins {
    lock: Lock,
    found: Found,
    lists: Lists,
    links: Vec<PinnedLink>,
}

impl Pins {
    /// Opens `folder`, or makes it, and looks what is there. Nothing that is in force changes.
    ///
    /// # Errors
    ///
    /// When it is not in a BPF file system, another daemon uses it, or it belongs to another
    /// network namespace.
    pub fn open(folder: &Path) -> Result<Self, NicError> {
        let lock = Lock::take_or_make(folder)?;
        let failed = |error| unusable(folder, error);
        let links = links(folder).map_err(failed)?;
        let maps = folder.join(MAPS);
        let marker = marker::read(&maps.join(ABI));
        let here = marker::network_namespace().map_err(failed)?;
        if let Some(marker) = marker
            && marker.namespace != here
            && !links.is_empty()
        {
            return Err(NicError::OtherNamespace { folder: folder.to_owned() });
        }
        let kept = match marker {
            Some(marker) if marker.abi == u64::from(ABI_VERSION) && marker::fits(&maps) => {
                Lists::open(&maps.join(LISTS))
            }
            _ => None,
        };
        let (found, lists) = match kept {
            Some(lists) => (Found::Tables, lists),
            None => {
                let found = if maps.exists() {
                    Found::Foreign { abi: marker.map(|marker| marker.abi) }
                } else {
                    Found::Nothing
                };
                let next = folder.join(NEXT);
                folder::remove_set(&next).map_err(failed)?;
                fs::create_dir(&next).map_err(failed)?;
                (found, Lists::create(&next.join(LISTS)).map_err(failed)?)
            }
        };
        let pins = Self { lock, found, lists, links };
        marker::write(&pins.set().join(ABI), here).map_err(failed)?;
        Ok(pins)
    }

    /// What was there.
    pub fn found(&self) -> Found {
        self.found
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.lock.folder()
    }

    /// Every index that the pinned counters know, with the source that it belongs to; `None` when
    /// it is not known any more.
    pub fn sources(&self) -> Vec<(u16, Option<Source>)> {
        self.lists.sources()
    }

    /// Notes whose counters are whose, before a generation uses them.
    pub(super) fn remember<'a>(
        &mut self,
        sources: impl Iterator<Item = (u16, &'a Source)>,
    ) -> io::Result<()> {
        self.lists.remember(sources)
    }

    /// Where the tables of this daemon are pinned.
    pub(super) fn set(&self) -> PathBuf {
        self.folder().join(if self.found == Found::Tables { MAPS } else { NEXT })
    }

    /// The link that a former daemon has left at the interface with this index.
    pub(super) fn take_link(&mut self, interface: u32) -> Option<PinnedLink> {
        let at = self.links.iter().position(|link| link.interface == interface)?;
        Some(self.links.swap_remove(at))
    }

    /// Pins `link`, to the interface with this index; the path.
    pub(super) fn pin_link(&self, link: impl AsFd, interface: u32) -> io::Result<PathBuf> {
        let path = self.folder().join(format!("{LINK}{interface}"));
        // What is there is cut: of an interface that had the index before.
        remove(&path)?;
        bpf::pin(link.as_fd(), &path)?;
        Ok(path)
    }

    /// To be called when the program is on every interface that it should be on: detaches the
    /// links that are left, and makes the tables those that the next daemon goes on with. The
    /// indices of the interfaces that are not guarded any more.
    pub(super) fn settle(&mut self) -> io::Result<Vec<u32>> {
        let mut detached = Vec::new();
        for link in self.links.drain(..) {
            link.detach()?;
            detached.push(link.interface);
        }
        let next = self.folder().join(NEXT);
        if self.found == Found::Tables {
            // Of a daemon that was stopped before it came here.
            folder::remove_set(&next)?;
        } else if next.exists() {
            let maps = self.folder().join(MAPS);
            folder::remove_set(&maps)?;
            fs::rename(&next, &maps)?;
        }
        Ok(detached)
    }
}

fn unusable(folder: &Path, source: io::Error) -> NicError {
    NicError::PinsUnusable { folder: folder.to_owned(), source }
}

/// The links to interfaces that exist; those that are cut are removed.
fn links(folder: &Path) -> io::Result<Vec<PinnedLink>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LINK)) {
            continue;
        }
        let link = bpf::open_pinned(&path)?;
        let info = bpf::link_info(link.as_fd())?;
        if info.interface == 0 {
            remove(&path)?;
        } else {
            links.push(PinnedLink { link, path, program: info.program, interface: info.interface });
        }
    }
    Ok(links)
}
