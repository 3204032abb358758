//! Lists whose files cannot be used when the daemon starts.

use super::held::addresses;
use super::*;

struct Restart {
    folder: Folder,
    copies: Copies,
}

impl Restart {
    /// A daemon that had `own` as the content of a list, and stopped.
    fn after(own: &str) -> Self {
        let folder = Folder::new();
        folder.write("own.list", own);
        folder.write("deny.d/a.list", "203.0.113.1\n");
        let copies = Copies::open(&folder.folder.path().join("state")).expect("made");
        let this = Self { folder, copies };
        this.run();
        this
    }

    /// Runs a daemon for a moment.
    fn run(&self) {
        let (mut lists, refreshed) = self.start();
        assert!(!refreshed.unusable, "{refreshed:?}");
        let keeper = Keeper::start(self.copies.clone()).expect("started");
        keeper.keep(lists.keep());
    }

    fn start(&self) -> (Lists, Refreshed) {
        Lists::load(&self.folder.config, Some(&self.copies))
    }

    /// The path of the copy of a list.
    fn copy(&self, start: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.folder.folder.path().join("state/lists")).expect("readable");
        let mut paths = entries.map(|entry| entry.expect("there").path());
        paths.find(|path| path.to_string_lossy().contains(start)).expect("a copy")
    }
}

fn own(lists: &Lists) -> &ListFile {
    lists.iter().find(|file| file.list.name.ends_with("own.list")).expect("there")
}

#[test]
fn a_list_that_cannot_be_used_at_the_start_is_its_last_good_copy() {
    let restart = Restart::after(&addresses(200));
    for (broken, words) in [
        (Some(String::new()), "is empty"),
        (Some(addresses(99)), "would lose 101 entries"),
        (Some("192.0.2.300\n".to_owned()), "own.list:1:"),
        (None, "cannot be read"),
    ] {
        match broken {
            Some(text) => restart.folder.write("own.list", &text),
            None => std::fs::remove_file(restart.folder.folder.path().join("own.list")).expect("removed"),
        }
        let (mut lists, refreshed) = restart.start();
        assert!(!refreshed.unusable && refreshed.changed);
        let said: Vec<String> = refreshed.diagnostics.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|fault| fault.contains(words)), "{said:?}");
        assert!(said.iter().any(|fault| fault.contains("LAST GOOD COPY")), "{said:?}");
        assert_eq!(own(&lists).list.entries.len(), 200);
        assert!(matches!(own(&lists).origin, Some(Origin::Copy(_))));
        assert!(own(&lists).error.as_ref().is_some_and(|error| error.contains(words)));
        assert_eq!(lists.refresh(&restart.folder.config).diagnostics, [], "it is said once");
    }
    // Another restart finds the copy, too.
    restart.run();
    let (mut lists, _) = restart.start();
    restart.folder.write("own.list", &addresses(201));
    assert!(lists.refresh(&restart.folder.config).changed, "a mended file takes over");
    assert!(matches!(own(&lists).origin, Some(Origin::File(_))));
}

#[test]
fn without_a_good_copy_a_broken_list_is_a_fault_at_the_start() {
    let restart = Restart::after("192.0.2.0/24\n");
    restart.folder.write("own.list", "broken\n");
    assert!(Lists::load(&restart.folder.config, None).1.unusable, "nothing is kept");
    let path = restart.copy("deny-own.list-");
    let copy = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, copy.replace("192.0.2.0/24", "192.0.2.0/25")).expect("written");
    let refreshed = restart.start().1;
    assert!(refreshed.unusable);
    let said: Vec<String> = refreshed.diagnostics.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|fault| fault.contains("copy is ignored") && fault.contains("is damaged")),
        "{said:?}"
    );

    restart.folder.write("own.list", "192.0.2.0/26\n");
    let refreshed = restart.start().1;
    assert!(!refreshed.unusable, "a damaged copy is no obstacle to a good file");
}

#[test]
fn lists_in_a_folder_that_cannot_be_read_at_the_start_are_their_last_good_copies() {
    let restart = Restart::after("192.0.2.0/24\n");
    let folder = restart.folder.folder.path().join("deny.d");
    std::fs::remove_dir_all(&folder).expect("removed");
    assert!(Lists::load(&restart.folder.config, None).1.unusable);
    let (lists, refreshed) = restart.start();
    assert!(!refreshed.unusable, "{refreshed:?}");
    assert!(prefixes(&lists).contains(&"203.0.113.1/32".to_owned()));
}

#[test]
fn the_copy_of_a_list_that_left_the_configuration_is_removed() {
    let restart = Restart::after("192.0.2.0/24\n");
    let gone = restart.copy("deny-a.list-");
    std::fs::remove_file(restart.folder.folder.path().join("deny.d/a.list")).expect("removed");
    restart.run();
    assert!(!gone.exists() && restart.copy("deny-own.list-").exists());
}

#[test]
fn content_that_is_held_back_never_becomes_the_copy() {
    let restart = Restart::after(&addresses(200));
    let before = std::fs::read(restart.copy("deny-own.list-")).expect("readable");
    restart.folder.write("own.list", &addresses(3));
    restart.run();
    assert_eq!(std::fs::read(restart.copy("deny-own.list-")).expect("readable"), before);

    let (mut lists, _) = restart.start();
    lists.accept("own.list", &restart.folder.config).expect("accepted");
    Keeper::start(restart.copies.clone()).expect("started").keep(lists.keep());
    assert!(!restart.start().1.diagnostics.iter().any(|fault| fault.message.contains("HELD")));
}
