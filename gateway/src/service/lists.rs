//! Reads the list files and keeps the last good content of each.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::stamp::Stamp;
use crate::config::{Config, Diagnostic, Firewall, Limits, ListFiles, ListPattern, RemoteList, Severity};
use crate::policy::{
    self, Diagnostics, List, ListChange, ListEntry, ListText, ParseOptions, PolicyInput, Reread, Tier,
    Verdict,
};

/// For how long a list without a final line feed must not have changed. Half of the second in
/// which an edit has to be in force.
const SETTLED: Duration = Duration::from_millis(500);

/// All lists of the configuration, in the order in which it names them.
#[derive(Debug, Default)]
pub(super) struct Lists {
    files: Vec<ListFile>,
    /// What is wrong with globs, so that it is said once.
    faults: Vec<Diagnostic>,
    /// The protected prefixes of the configuration itself.
    own: Option<Arc<List>>,
}

/// One list file.
#[derive(Clone, Debug)]
pub(super) struct ListFile {
    /// The last good content.
    pub list: Arc<List>,
    /// Why the present content is not in force.
    pub error: Option<String>,
    path: PathBuf,
    /// Whether the file is a copy of what was fetched.
    remote: bool,
    stamp: Option<Stamp>,
    /// What the list was read from.
    text: Option<ListText>,
    /// How the list came from the one that it was at the last look.
    change: Option<ListChange>,
}

/// What a refresh found.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// Whether the content in force differs from before.
    pub changed: bool,
    /// Errors and warnings about files that are new or have changed.
    pub diagnostics: Vec<Diagnostic>,
    /// A list seems to be half written: it has to be looked at again soon.
    pub unfinished: bool,
}

impl Lists {
    /// The lists, in the order of the configuration.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ListFile> {
        self.files.iter()
    }

    /// Reads what has changed. A file that cannot be read or parsed keeps its last good content.
    pub(super) fn refresh(&mut self, config: &Config) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let Some(firewall) = &config.firewall else {
            return refreshed;
        };
        // A list that is as it was remains the same one, so that no generation takes it for another.
        let own = own_list(config, firewall);
        let same = |(own, known): (&List, &Arc<List>)| own.name == known.name && own.entries == known.entries;
        if !own.as_ref().zip(self.own.as_ref()).is_some_and(same) {
            self.own = own.map(Arc::new);
        }
        let mut before = std::mem::take(&mut self.files);
        let mut faults = Vec::new();
        for (tier, pattern) in patterns(firewall) {
            let Expanded { paths, faults: found } = expand(&pattern.files);
            let remote = match &pattern.files {
                ListFiles::Remote(list) => Some(list),
                ListFiles::One(_) | ListFiles::Matching { .. } => None,
            };
            // With an error the files that are not found may be there all the same.
            let broken = found.iter().any(|fault| fault.severity == Severity::Error);
            let unseen = before.iter().filter(|file| broken && file.belongs(tier, &pattern.files));
            let unseen: Vec<PathBuf> = unseen.map(|file| file.path.clone()).collect();
            faults.extend(found);
            for path in paths.into_iter().chain(unseen) {
                if self.files.iter().any(|file| file.is(tier, &path)) {
                    continue;
                }
                let known = before.iter().position(|file| file.is(tier, &path));
                let known = known.map(|position| before.swap_remove(position));
                let known = known.unwrap_or_else(|| ListFile::new(tier, &path, remote));
                self.files.push(read(known, &config.limits, &mut refreshed));
            }
        }
        let news = faults.iter().filter(|fault| !self.faults.contains(fault));
        refreshed.diagnostics.extend(news.cloned());
        self.faults = faults;
        // What is left has gone from the configuration's globs.
        refreshed.changed |= before.iter().any(|file| !file.list.entries.is_empty());
        refreshed
    }

    /// The policy that the lists, `protected` ones before them, and `config` make.
    pub(super) fn policy(&self, config: &Config, protected: impl Iterator<Item = Arc<List>>) -> PolicyInput {
        let own = self.own.iter().map(Arc::clone);
        PolicyInput {
            default: config.firewall.as_ref().map_or(Verdict::Pass, |firewall| firewall.default),
            lists: own.chain(protected).chain(self.files.iter().map(|file| Arc::clone(&file.list))).collect(),
        }
    }

    /// How lists came from those of the look before.
    pub(super) fn changes(&self) -> impl Iterator<Item = &ListChange> {
        self.files.iter().filter_map(|file| file.change.as_ref())
    }

    /// The folders in which lists are, or may appear.
    pub(super) fn folders(config: &Config) -> BTreeSet<PathBuf> {
        let patterns = config.firewall.iter().flat_map(patterns);
        patterns.map(|(_, pattern)| folder(&pattern.files)).collect()
    }
}

/// The protected prefixes that `config` itself names, if it does.
fn own_list(config: &Config, firewall: &Firewall) -> Option<List> {
    let entries = firewall.never_block.iter().map(|&(prefix, line)| ListEntry { prefix, line });
    let own = List {
        tier: Tier::NeverBlock,
        name: config.file.to_string_lossy().into(),
        entries: entries.collect(),
    };
    (!own.entries.is_empty()).then_some(own)
}

impl ListFile {
    fn new(tier: Tier, path: &Path, remote: Option<&RemoteList>) -> Self {
        let name = remote.map_or_else(|| path.to_string_lossy().into(), |list| (*list.name).into());
        let list = Arc::new(List { tier, name, entries: Vec::new() });
        let remote = remote.is_some();
        Self { list, error: None, path: path.to_owned(), remote, stamp: None, text: None, change: None }
    }

    /// A fault of the whole list, named as it is called. No copy of a remote list keeps the daemon
    /// from starting.
    fn fault(&self, message: String) -> Diagnostic {
        let fault = Diagnostic::of_file(Path::new(&*self.list.name), message);
        if self.remote { fault.warning() } else { fault }
    }

    fn belongs(&self, tier: Tier, files: &ListFiles) -> bool {
        self.list.tier == tier
            && match files {
                ListFiles::One(path) => self.path == *path,
                ListFiles::Remote(list) => self.path == list.file,
                ListFiles::Matching { glob, .. } => {
                    glob::Pattern::new(glob).is_ok_and(|glob| glob.matches_path(&self.path))
                }
            }
    }

    fn is(&self, tier: Tier, path: &Path) -> bool {
        self.list.tier == tier && self.path == path
    }
}

fn patterns(firewall: &Firewall) -> impl Iterator<Item = (Tier, &ListPattern)> {
    let allow = firewall.allow.iter().map(|pattern| (Tier::Allow, pattern));
    allow.chain(firewall.deny.iter().map(|pattern| (Tier::Deny, pattern)))
}

/// The folder in which `files` are, or may appear.
fn folder(files: &ListFiles) -> PathBuf {
    match files {
        ListFiles::One(path) | ListFiles::Remote(RemoteList { file: path, .. }) => {
            path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
        }
        ListFiles::Matching { folder, .. } => folder.clone(),
    }
}

/// The files of one entry of the configuration, and why there may be more.
struct Expanded {
    paths: Vec<PathBuf>,
    faults: Vec<Diagnostic>,
}

/// The files that `files` stands for, sorted. A plain path stands for itself, there or not.
fn expand(files: &ListFiles) -> Expanded {
    let (glob, folder) = match files {
        ListFiles::One(path) | ListFiles::Remote(RemoteList { file: path, .. }) => {
            return Expanded { paths: vec![path.clone()], faults: Vec::new() };
        }
        ListFiles::Matching { glob, folder } => (glob, folder),
    };
    let mut paths = Vec::new();
    let mut faults = Vec::new();
    if let Err(error) = std::fs::read_dir(folder) {
        let message = format!("cannot be read ({error}): check the path and its permissions");
        faults.push(Diagnostic::of_file(folder, message));
    }
    match glob::glob(glob) {
        Ok(matches) => {
            for entry in matches {
                match entry {
                    Ok(path) => paths.push(path),
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
    if paths.is_empty() && faults.is_empty() {
        faults.push(Diagnostic::of_file(folder, format!("no file matches {glob}")).warning());
    }
    Expanded { paths, faults }
}

fn read(mut file: ListFile, limits: &Limits, refreshed: &mut Refreshed) -> ListFile {
    file.change = None;
    let (stamp, text) = match open(&file.path, file.stamp, limits.list_size) {
        // Known files only: at the start there is nothing better than what is there.
        Ok(Some((stamp, text))) if file.stamp.is_some() && unfinished(&stamp, &text) => {
            refreshed.unfinished = true;
            return file;
        }
        Ok(Some((stamp, text))) if text.is_empty() && !file.list.entries.is_empty() => {
            let message = "is empty, as a failed download leaves it: the last good content stays in force. \
                           To empty the list, leave a comment line in it";
            let fault = file.fault(message.to_owned());
            file.error = Some(fault.to_string());
            file.stamp = Some(stamp);
            refreshed.diagnostics.push(fault);
            return file;
        }
        Ok(Some(content)) => content,
        Ok(None) => return file,
        Err(error) => {
            let message = if file.remote && error.kind() == io::ErrorKind::NotFound {
                "has not been fetched yet: nothing of it is in force".to_owned()
            } else {
                format!("cannot be read ({error}): check the path and its permissions")
            };
            // Said once, not at every look.
            if file.error.as_deref() != Some(message.as_str()) {
                refreshed.diagnostics.push(file.fault(message.clone()));
            }
            file.error = Some(message);
            file.stamp = None;
            return file;
        }
    };
    file.stamp = Some(stamp);
    let options = ParseOptions { tier: file.list.tier, prefixes: limits.prefixes };
    match policy::reread_list(&mut file.list, &mut file.text, text, &options) {
        Ok(Reread { warnings, change }) => {
            file.change = change;
            let warnings = located(&file, warnings, "warnings");
            refreshed.diagnostics.extend(warnings.into_iter().map(Diagnostic::warning));
            file.error = None;
            refreshed.changed = true;
        }
        Err(faults) => {
            let faults = located(&file, faults, "faults");
            file.error = faults.first().map(ToString::to_string);
            refreshed.diagnostics.extend(faults);
        }
    }
    file
}

/// Whether `text` ends within a line and was written just now: then the rest of the line is
/// probably on its way, and `10.0.0.0/1` is about to become `10.0.0.0/16`.
fn unfinished(stamp: &Stamp, text: &[u8]) -> bool {
    text.last().is_some_and(|byte| *byte != b'\n') && stamp.age(SystemTime::now()) < SETTLED
}

fn located(file: &ListFile, found: Diagnostics, what: &str) -> Vec<Diagnostic> {
    let more = (found.more > 0).then(|| file.fault(format!("and {} more {what}", found.more)));
    let first = found.first.into_iter().map(|fault| Diagnostic {
        line: fault.line,
        column: fault.column,
        ..file.fault(fault.message)
    });
    first.chain(more).collect()
}

/// The content of `path` unless it is still the one of `stamp`.
fn open(path: &Path, stamp: Option<Stamp>, max: u64) -> io::Result<Option<(Stamp, Vec<u8>)>> {
    // Without O_NONBLOCK, opening a FIFO would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let now = Stamp::from(&metadata);
    if stamp == Some(now) {
        return Ok(None);
    }
    let too_large = || io::Error::other(format!("it is larger than [limits] list_size, {max} bytes"));
    if now.size() > max {
        return Err(too_large());
    }
    let mut text = Vec::with_capacity(usize::try_from(now.size()).unwrap_or(0));
    file.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(too_large());
    }
    Ok(Some((now, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::create_dir(folder.path().join("deny.d")).expect("made");
            let text = "[firewall]\nmode = \"off\"\ndeny = [\"own.list\", \"deny.d/*.list\"]\nallow = [\"allow.list\"]\n";
            let config = crate::config::parse(&folder.path().join("g.toml"), text).expect("valid").0;
            let this = Self { folder, config };
            this.write("own.list", "192.0.2.0/24\n");
            this.write("allow.list", "192.0.2.7\n");
            this
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).expect("written");
        }
    }

    fn prefixes(lists: &Lists) -> Vec<String> {
        lists.iter().flat_map(|file| &file.list.entries).map(|entry| entry.prefix.to_string()).collect()
    }

    #[test]
    fn lists_are_read_once_and_again_when_they_change() {
        let folder = Folder::new();
        let mut lists = Lists::default();
        assert!(lists.refresh(&folder.config).changed);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "192.0.2.0/24"]);
        assert!(!lists.refresh(&folder.config).changed);

        folder.write("deny.d/b.list", "198.51.100.0/24\n");
        folder.write("deny.d/a.list", "203.0.113.1\n");
        assert!(lists.refresh(&folder.config).changed);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "192.0.2.0/24", "203.0.113.1/32", "198.51.100.0/24"]);

        std::fs::remove_file(folder.folder.path().join("deny.d/a.list")).expect("removed");
        assert!(lists.refresh(&folder.config).changed);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "192.0.2.0/24", "198.51.100.0/24"]);
    }

    #[test]
    fn a_broken_line_keeps_the_last_good_content_and_says_where() {
        let folder = Folder::new();
        let mut lists = Lists::default();
        lists.refresh(&folder.config);
        folder.write("own.list", "192.0.2.0/24\n192.0.2.300\n");
        let refreshed = lists.refresh(&folder.config);
        assert!(!refreshed.changed);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "192.0.2.0/24"]);
        let text = refreshed.diagnostics[0].to_string();
        assert!(text.contains("own.list:2:"), "{text}");
        assert!(lists.iter().any(|file| file.error.as_deref() == Some(text.as_str())));

        folder.write("own.list", "192.0.2.0/25\n");
        assert!(lists.refresh(&folder.config).changed);
        assert!(lists.iter().all(|file| file.error.is_none()));
    }

    #[test]
    fn a_list_that_vanishes_stays_in_force_and_is_reported_once() {
        let folder = Folder::new();
        let mut lists = Lists::default();
        lists.refresh(&folder.config);
        std::fs::remove_file(folder.folder.path().join("own.list")).expect("removed");
        assert_eq!(lists.refresh(&folder.config).diagnostics.len(), 1);
        assert_eq!(lists.refresh(&folder.config).diagnostics.len(), 0);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "192.0.2.0/24"]);
    }

    #[test]
    fn a_list_that_is_too_large_or_no_file_is_refused() {
        let mut folder = Folder::new();
        folder.config.limits.list_size = 16;
        folder.write("own.list", "192.0.2.0/24\n192.0.3.0/24\n");
        std::fs::create_dir(folder.folder.path().join("deny.d/x.list")).expect("made");
        let mut lists = Lists::default();
        let faults = lists.refresh(&folder.config).diagnostics;
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].message.contains("list_size"), "{}", faults[0]);
        assert!(faults[1].message.contains("not a regular file"), "{}", faults[1]);
    }

    #[test]
    fn a_folder_that_cannot_be_read_takes_no_list_out_of_force_and_is_said_once() {
        let folder = Folder::new();
        folder.write("deny.d/a.list", "203.0.113.1\n");
        let mut lists = Lists::default();
        lists.refresh(&folder.config);
        let (there, gone) = (folder.folder.path().join("deny.d"), folder.folder.path().join("elsewhere"));
        std::fs::rename(&there, &gone).expect("renamed");
        let refreshed = lists.refresh(&folder.config);
        assert!(!refreshed.changed);
        assert!(
            refreshed.diagnostics.iter().any(|fault| fault.to_string().contains("deny.d/: cannot be read"))
        );
        assert_eq!(lists.refresh(&folder.config).diagnostics, []);
        assert!(prefixes(&lists).contains(&"203.0.113.1/32".to_owned()));

        std::fs::rename(&gone, &there).expect("renamed");
        std::fs::remove_file(there.join("a.list")).expect("removed");
        assert!(lists.refresh(&folder.config).changed, "a file that is really gone is let go");
    }

    #[test]
    fn a_line_that_is_still_being_written_is_awaited() {
        let folder = Folder::new();
        let mut lists = Lists::default();
        lists.refresh(&folder.config);
        folder.write("own.list", "10.0.0.0/1");
        let refreshed = lists.refresh(&folder.config);
        assert!(refreshed.unfinished && !refreshed.changed);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "192.0.2.0/24"]);
        folder.write("own.list", "10.0.0.0/16\n");
        let refreshed = lists.refresh(&folder.config);
        assert!(!refreshed.unfinished && refreshed.changed);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "10.0.0.0/16"]);
    }

    #[test]
    fn an_emptied_list_stays_in_force_and_a_comment_empties_it() {
        let folder = Folder::new();
        let mut lists = Lists::default();
        lists.refresh(&folder.config);
        folder.write("own.list", "");
        let refreshed = lists.refresh(&folder.config);
        assert!(!refreshed.changed);
        assert_eq!(refreshed.diagnostics.len(), 1);
        assert_eq!(lists.refresh(&folder.config).diagnostics, []);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32", "192.0.2.0/24"]);
        folder.write("own.list", "# nobody\n");
        assert!(lists.refresh(&folder.config).changed);
        assert_eq!(prefixes(&lists), ["192.0.2.7/32"]);
    }

    #[test]
    fn the_folders_to_watch_are_those_before_the_first_wildcard() {
        let folder = Folder::new();
        let folders = Lists::folders(&folder.config);
        assert_eq!(folders, [folder.folder.path().to_owned(), folder.folder.path().join("deny.d")].into());
    }
}
