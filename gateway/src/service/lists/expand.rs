//! From the items of `deny` and `allow` to the lists that they stand for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Diagnostic, Firewall, ListFiles, ListPattern, RemoteList};
use crate::policy::Tier;

/// A list, and where its content is read. What it is called and where it is read need not be the
/// same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What the list is called everywhere.
    pub name: Arc<str>,
    /// The file with its content.
    pub path: PathBuf,
    /// Whether that is a copy of what was fetched.
    pub remote: bool,
}

impl Place {
    /// A list that is called like its file.
    pub(super) fn file(path: PathBuf) -> Self {
        Self { name: path.to_string_lossy().into(), path, remote: false }
    }

    /// A fault of the whole list, named as it is called. No copy of what was fetched keeps the daemon
    /// from starting.
    pub(super) fn fault(&self, message: impl Into<String>) -> Diagnostic {
        let fault = Diagnostic::of_file(Path::new(&*self.name), message);
        if self.remote { fault.warning() } else { fault }
    }

    fn remote(list: &RemoteList) -> Self {
        Self { name: (*list.name).into(), path: list.file.clone(), remote: true }
    }
}

/// The lists of one item of the configuration, and why there may be more.
pub(super) struct Expanded {
    pub places: Vec<Place>,
    pub faults: Vec<Diagnostic>,
}

/// The items, in the order of precedence.
pub(super) fn patterns(firewall: &Firewall) -> impl Iterator<Item = (Tier, &ListPattern)> {
    let allow = firewall.allow.iter().map(|pattern| (Tier::Allow, pattern));
    let deny = |observe| firewall.deny.iter().filter(move |pattern| pattern.observe == observe);
    let enforced = deny(false).map(|pattern| (Tier::Deny, pattern));
    allow.chain(enforced).chain(deny(true).map(|pattern| (Tier::Observe, pattern)))
}

/// The folder in which `files` are, or may appear.
pub(super) fn folder(files: &ListFiles) -> PathBuf {
    match files {
        ListFiles::One(path) | ListFiles::Remote(RemoteList { file: path, .. }) => {
            path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
        }
        ListFiles::Matching { folder, .. } => folder.clone(),
    }
}

/// Whether a list at `place` can be one of `files`.
pub(super) fn covers(files: &ListFiles, place: &Place) -> bool {
    match files {
        ListFiles::One(path) => place.path == *path,
        ListFiles::Remote(list) => place.path == list.file,
        ListFiles::Matching { glob, .. } => {
            glob::Pattern::new(glob).is_ok_and(|glob| glob.matches_path(&place.path))
        }
    }
}

/// The lists that `files` stands for, sorted. A plain path stands for itself, there or not.
pub(super) fn expand(files: &ListFiles) -> Expanded {
    let (glob, folder) = match files {
        ListFiles::One(path) => {
            return Expanded { places: vec![Place::file(path.clone())], faults: Vec::new() };
        }
        ListFiles::Remote(list) => return Expanded { places: vec![Place::remote(list)], faults: Vec::new() },
        ListFiles::Matching { glob, folder } => (glob, folder),
    };
    let mut places = Vec::new();
    let mut faults = Vec::new();
    if let Err(error) = std::fs::read_dir(folder) {
        let message = format!("cannot be read ({error}): check the path and its permissions");
        faults.push(Diagnostic::of_file(folder, message));
    }
    match glob::glob(glob) {
        Ok(matches) => {
            for entry in matches {
                match entry {
                    Ok(path) => places.push(Place::file(path)),
                    Err(error) if error.path() == folder => {}
                    Err(error) => {
                        let message = format!("cannot be read ({}): check its permissions", error.error());
                        faults.push(Diagnostic::of_file(error.path(), message));
                    }
                }
            }
        }
        // The configuration was checked; say it all the same.
        Err(error) => faults.push(Diagnostic::of_file(folder, format!("not a valid glob: {error}"))),
    }
    if places.is_empty() && faults.is_empty() {
        faults.push(Diagnostic::of_file(folder, format!("no file matches {glob}")).warning());
    }
    Expanded { places, faults }
}
