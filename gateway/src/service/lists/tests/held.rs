//! Content that would change a list too far.

use super::*;

/// `count` addresses, one a line.
pub(super) fn addresses(count: u32) -> String {
    (0..count).map(|host| format!("{}\n", std::net::Ipv4Addr::from_bits(0x0a00_0000 + host))).collect()
}

fn own(lists: &Lists) -> &ListFile {
    lists.iter().find(|file| file.list.name.ends_with("own.list")).expect("there")
}

#[test]
fn a_list_that_shrinks_or_grows_beyond_its_bounds_is_held_back_with_figures_and_the_remedy() {
    let folder = Folder::new();
    folder.write("own.list", &addresses(1000));
    let mut lists = Lists::default();
    lists.refresh(&folder.config);
    for (entries, words) in [(3, "would lose 997 entries"), (5001, "would gain 4001 entries")] {
        folder.write("own.list", &addresses(entries));
        let refreshed = lists.refresh(&folder.config);
        assert!(!refreshed.changed);
        let said = refreshed.diagnostics[0].to_string();
        let path = folder.folder.path().join("own.list").display().to_string();
        assert!(said.contains(words) && said.contains(&format!("lists --accept {path}")), "{said}");
        let held = own(&lists).held.expect("held back");
        assert_eq!((held.in_force, held.entries), (1000, entries as usize));
        assert_eq!(own(&lists).error.as_deref(), Some(&*said));
        assert_eq!(own(&lists).list.entries.len(), 1000);
        assert_eq!(lists.refresh(&folder.config).diagnostics, [], "it is said once");
    }
    folder.write("own.list", &addresses(500));
    assert!(lists.refresh(&folder.config).changed, "it is judged anew when it changes again");
    assert_eq!((own(&lists).held, &own(&lists).error), (None, &None));
}

#[test]
fn what_was_held_back_is_in_force_once_accepted() {
    let folder = Folder::new();
    folder.write("own.list", &addresses(1000));
    let mut lists = Lists::default();
    lists.refresh(&folder.config);
    assert!(lists.accept("own.list", &folder.config).expect_err("refused").contains("nothing of"));
    folder.write("own.list", &addresses(3));
    lists.refresh(&folder.config);
    assert!(lists.accept("n.list", &folder.config).expect_err("refused").contains("no list is called"));
    let (accepted, refreshed) = lists.accept("own.list", &folder.config).expect("accepted");
    assert!(refreshed.changed && accepted.entries == 3);
    assert_eq!((own(&lists).list.entries.len(), own(&lists).held), (3, None));
    assert!(!lists.refresh(&folder.config).changed);
}

#[test]
fn only_the_content_that_was_held_back_can_be_accepted() {
    let folder = Folder::new();
    folder.write("own.list", &addresses(1000));
    let mut lists = Lists::default();
    lists.refresh(&folder.config);
    folder.write("own.list", &addresses(3));
    lists.refresh(&folder.config);
    folder.write("own.list", &addresses(2));
    let refused = lists.accept("own.list", &folder.config).expect_err("refused");
    assert!(refused.contains("has changed since"), "{refused}");
    assert_eq!(own(&lists).list.entries.len(), 1000);
    // Now it is known what is there.
    lists.refresh(&folder.config);
    assert_eq!(lists.accept("own.list", &folder.config).expect("accepted").0.entries, 2);
}

#[test]
fn an_empty_list_can_be_accepted() {
    let folder = Folder::new();
    let mut lists = Lists::default();
    lists.refresh(&folder.config);
    folder.write("own.list", "");
    lists.refresh(&folder.config);
    assert_eq!(lists.accept("own.list", &folder.config).expect("accepted").0.entries, 0);
    assert_eq!(prefixes(&lists), ["192.0.2.7/32"]);
}
