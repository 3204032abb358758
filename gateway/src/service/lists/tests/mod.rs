//! Lists that change, break and come back.

mod held;
mod restart;

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
    assert!(refreshed.diagnostics.iter().any(|fault| fault.to_string().contains("deny.d/: cannot be read")));
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
