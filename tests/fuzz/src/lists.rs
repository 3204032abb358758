//! Lists of prefixes: what is accepted has one meaning, and what is not is explained in place.

use gateway::policy::list::canonical;
use gateway::policy::{Diagnostics, ListEntry, ParseOptions, Tier, parse_list};

/// Entries of a list; more only take time.
pub(crate) const PREFIXES: usize = 300;

pub(crate) fn run(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').count();
    let deny = parse(input, Tier::Deny, lines);
    let allow = parse(input, Tier::Allow, lines);
    let Some(entries) = allow else {
        assert!(deny.is_none(), "a deny list is accepted that is no list");
        return;
    };
    match deny {
        Some(deny) => assert_eq!(deny, entries, "the tier changes what is read"),
        None => assert!(
            entries.iter().any(|entry| entry.prefix.prefix_len() == 0),
            "only what blocks everybody is no deny list"
        ),
    }
    is_read_again_as_it_is_written(&entries);
}

fn parse(input: &[u8], tier: Tier, lines: usize) -> Option<Vec<ListEntry>> {
    match parse_list(input, &ParseOptions { tier, prefixes: PREFIXES }) {
        Ok(list) => {
            are_plain(&list.warnings, lines);
            assert!(list.entries.len() <= PREFIXES);
            assert!(list.entries.iter().all(|entry| canonical(entry.prefix) == entry.prefix));
            assert!(list.entries.is_sorted_by_key(|entry| entry.line));
            assert!(list.entries.iter().all(|entry| (1..=lines).contains(&(entry.line as usize))));
            let everybody = list.entries.iter().any(|entry| entry.prefix.prefix_len() == 0);
            assert!(!(everybody && tier == Tier::Deny), "a deny list blocks everybody");
            Some(list.entries)
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a list is refused for no reason");
            are_plain(&errors, lines);
            None
        }
    }
}

fn are_plain(diagnostics: &Diagnostics, lines: usize) {
    for diagnostic in &diagnostics.first {
        assert!(crate::is_one_plain_line(&diagnostic.message), "{diagnostic}");
        assert!((1..=lines).contains(&(diagnostic.line as usize)), "{diagnostic}");
        assert!(diagnostic.column >= 1, "{diagnostic}");
    }
}

/// What was understood, written one prefix a line, is the same list without anything odd.
fn is_read_again_as_it_is_written(entries: &[ListEntry]) {
    let written: String = entries.iter().map(|entry| format!("{}\n", entry.prefix)).collect();
    let options = ParseOptions { tier: Tier::Allow, prefixes: PREFIXES };
    let read = parse_list(written.as_bytes(), &options).unwrap_or_default().entries;
    let prefixes = |entries: &[ListEntry]| entries.iter().map(|entry| entry.prefix).collect::<Vec<_>>();
    assert_eq!(prefixes(&read), prefixes(entries), "{written}");
}
