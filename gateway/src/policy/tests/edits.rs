//! Edited lists against those that are read as a whole.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

pub(super) const OPTIONS: ParseOptions = ParseOptions { tier: Tier::Deny, prefixes: 70 };

/// A list file and what was read from it.
#[derive(Clone)]
pub(super) struct File {
    pub(super) text: ListText,
    pub(super) list: Arc<List>,
}

impl File {
    pub(super) fn new(tier: Tier, name: &str, text: &[u8]) -> Self {
        let entries = parse_list(text, &OPTIONS).expect("good").entries;
        let list = Arc::new(List { tier, name: name.into(), entries });
        Self { text: ListText::new(text.to_vec()), list }
    }

    /// Edits the list as the daemon does.
    pub(super) fn edit(&mut self, text: &[u8]) -> Option<(ListChange, Diagnostics)> {
        let edit = ListEdit::between(&self.text, &self.list.entries, text, &OPTIONS)?;
        let warnings = edit.warnings.clone();
        let expected = edit.entries(self.list.entries.len());
        let change = edit.apply(&mut self.list);
        assert_eq!(self.list.entries.len(), expected);
        self.text = ListText::new(text.to_vec());
        Some((change, warnings))
    }
}

/// A line without its end, as good lists have them.
fn good_line() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => (0u8..4, any::<bool>()).prop_map(|(last, short)| format!("192.0.2.{last}{}", if short { "" } else { "/32" })),
        3 => Just("192.0.2.0/24".to_owned()),
        2 => Just("2001:db8::/32".to_owned()),
        // Several entries, none, and those that are warned about.
        2 => Just("192.0.2.1-192.0.2.6".to_owned()),
        2 => Just("# a comment".to_owned()),
        2 => Just(String::new()),
        2 => Just("192.0.2.9/24".to_owned()),
        1 => Just("::ffff:192.0.2.1".to_owned()),
    ]
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![24 => good_line(), 1 => Just("192.0.2.300".to_owned())]
}

pub(super) fn text(line: impl Strategy<Value = String>, lines: usize) -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec((line, prop::bool::weighted(0.2)), 0..lines);
    (lines, any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(lines, ends, mark)| {
        let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
        for (line, windows) in lines {
            text += &line;
            text += if windows { "\r\n" } else { "\n" };
        }
        if !ends {
            text.pop();
        }
        text.into_bytes()
    })
}

/// `text` with some bytes replaced by others.
fn spliced(text: &[u8], [from, to]: [Index; 2], new: &[u8]) -> Vec<u8> {
    let (from, to) = (from.index(text.len() + 1), to.index(text.len() + 1));
    let mut text = text.to_vec();
    text.splice(from.min(to)..from.max(to), new.iter().copied());
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_edited_list_is_read_as_if_it_were_read_as_a_whole(
        old in text(good_line(), 16),
        new in text(line(), 24),
        piece in text(line(), 3),
        cut in any::<[Index; 2]>(),
        small in prop::bool::weighted(0.8),
    ) {
        let new = if small { spliced(&old, cut, &piece) } else { new };
        let mut file = File::new(Tier::Deny, "a", &old);
        let edited = file.edit(&new);
        match parse_list(&new, &OPTIONS) {
            Ok(whole) => {
                let (_, warnings) = edited.expect("a good text needs no second reading");
                prop_assert_eq!(&file.list.entries, &whole.entries);
                // Of the lines that were read anew, and no others.
                prop_assert!(warnings.first.iter().all(|warning| whole.warnings.first.contains(warning)));
            }
            Err(_) => prop_assert!(edited.is_none(), "the faults are those of the whole text"),
        }
    }
}

#[test]
fn only_what_changed_is_warned_about_again() {
    let mut file = File::new(Tier::Deny, "a", b"10.0.0.1/8\n192.0.2.0/24\n");
    let (_, warnings) = file.edit(b"10.0.0.1/8\n\n198.51.100.1/24\n192.0.2.0/24\n").expect("an edit");
    let lines: Vec<u32> = warnings.first.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [3]);
    let lines: Vec<u32> = file.list.entries.iter().map(|entry| entry.line).collect();
    assert_eq!(lines, [1, 3, 4]);
}

#[test]
fn a_text_that_is_mostly_new_is_read_as_a_whole() {
    let text = |third: u8| -> String {
        (0..20_000).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "10.{third}.{}.{}", n / 256, n % 256);
            text
        })
    };
    let options = ParseOptions { prefixes: 50_000, ..OPTIONS };
    let entries = parse_list(text(0).as_bytes(), &options).expect("good").entries;
    let before = ListText::new(text(0).into_bytes());
    assert!(ListEdit::between(&before, &entries, text(1).as_bytes(), &options).is_none());
    let longer = text(0) + "192.0.2.1\n";
    assert!(ListEdit::between(&before, &entries, longer.as_bytes(), &options).is_some());
}

#[test]
fn the_text_of_a_list_is_kept_while_it_is_not_much_longer_than_its_entries() {
    let mut list = list(Tier::Deny, "a", []);
    let mut kept = None;
    let comments = "# a comment that says nothing\n".repeat(5_000);
    for (text, is_kept, is_edit) in [
        ("192.0.2.1\n".to_owned(), true, false),
        ("192.0.2.1\n192.0.2.2\n".to_owned(), true, true),
        (format!("{comments}192.0.2.1\n"), false, false),
        (format!("{comments}192.0.2.2\n"), false, false),
        ("192.0.2.3\n".to_owned(), true, false),
    ] {
        let reread = reread_list(&mut list, &mut kept, text.clone().into_bytes(), &OPTIONS).expect("good");
        assert_eq!((kept.is_some(), reread.change.is_some()), (is_kept, is_edit), "{:.30}", text);
        assert_eq!(list.entries, parse_list(text.as_bytes(), &OPTIONS).expect("good").entries);
    }
    // What is refused changes neither.
    let before = Arc::clone(&list);
    assert!(reread_list(&mut list, &mut kept, b"192.0.2.3\n192.0.2.300\n".to_vec(), &OPTIONS).is_err());
    assert!(Arc::ptr_eq(&before, &list) && kept.is_some());
}

#[test]
fn a_list_that_becomes_another_format_when_its_first_line_goes_is_read_as_a_whole() {
    // Behind an entry the second line is one of `ipset save`, at the start one of an nftables dump.
    let (old, new) = ("192.0.2.1\ncreate set a { }\n192.0.2.2\n", "create set a { }\n192.0.2.2\n");
    let mut list = list(Tier::Deny, "a", []);
    let mut kept = None;
    reread_list(&mut list, &mut kept, old.into(), &OPTIONS).expect("good");
    assert!(kept.is_some());
    let whole = parse_list(new.as_bytes(), &OPTIONS).map(|parsed| parsed.entries);
    let edited = reread_list(&mut list, &mut kept, new.into(), &OPTIONS);
    match whole {
        Ok(entries) => assert!(edited.is_ok_and(|edited| edited.change.is_none()) && list.entries == entries),
        Err(faults) => assert_eq!(edited.expect_err("refused"), faults),
    }
}
