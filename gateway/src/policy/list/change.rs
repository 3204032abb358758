//! Reads only those lines of a list that have changed.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::{Diagnostics, ListEntry, ParseOptions, ParsedList, foreign_encoding, nft, parse_list};
use crate::policy::List;

/// A text of which more than one in so many bytes has changed is read as a whole.
const SHARE: usize = 8;

/// Bytes that may always have changed.
const ALWAYS: usize = 64 * 1024;

/// Bytes of a text that are kept for each entry, so that the limit on entries limits them, too.
const KEPT_PER_ENTRY: usize = 128;

/// The text that a list was read from, kept so that a changed one has to be read only where it
/// differs.
#[derive(Clone, Default)]
pub struct ListText(pub(in crate::policy) Vec<u8>);

impl ListText {
    /// Keeps `text`, of which every line says the same wherever it stands.
    pub const fn new(text: Vec<u8>) -> Self {
        Self(text)
    }
}

impl ListText {
    /// Keeps `text`, of which every line says the same wherever it stands and from which `list` was read; `None`
    /// when it has more than 128 bytes for each entry: mostly comments.
    pub fn worth_keeping(text: Vec<u8>, list: &List) -> Option<Self> {
        let worth = list.entries.len().saturating_mul(KEPT_PER_ENTRY).max(ALWAYS);
        (text.len() <= worth).then_some(Self(text))
    }
}

impl fmt::Debug for ListText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListText").field(&self.0.len()).finish()
    }
}

/// What became of a list when its text was read again.
#[derive(Debug, Default)]
pub struct Reread {
    /// What is odd about the lines that were read; those that are as before say nothing again.
    pub warnings: Diagnostics,
    /// How the list changed; `None` when all of it was read.
    pub change: Option<ListChange>,
}

/// A text as it was read: all of it, or only what differs from the one before.
#[derive(Clone, Debug)]
pub enum ListReading {
    /// Only what differs.
    Edit(ListEdit),
    /// All of it.
    Whole(ParsedList),
}

impl ListReading {
    /// Reads `text`, which is to become the content of `list`. Only those lines are read in which it differs from
    /// `kept`, the text that `list` was read from, when that is enough.
    ///
    /// # Errors
    ///
    /// As [`parse_list`].
    pub fn of(
        text: &[u8],
        list: &List,
        kept: Option<&ListText>,
        options: &ParseOptions,
    ) -> Result<Self, Diagnostics> {
        let edit = kept.and_then(|kept| ListEdit::between(kept, &list.entries, text, options));
        edit.map_or_else(|| parse_list(text, options).map(Self::Whole), |edit| Ok(Self::Edit(edit)))
    }

    /// What is odd about the lines that were read.
    pub const fn warnings(&self) -> &Diagnostics {
        match self {
            Self::Edit(edit) => &edit.warnings,
            Self::Whole(list) => &list.warnings,
        }
    }

    /// How many entries a list that now has `before` of them will have.
    pub const fn entries(&self, before: usize) -> usize {
        match self {
            Self::Edit(edit) => edit.entries(before),
            Self::Whole(list) => list.entries.len(),
        }
    }

    /// Whether every line of the text says the same wherever it stands, so that it may be kept as a
    /// [`ListText`].
    pub const fn is_line_wise(&self) -> bool {
        match self {
            Self::Edit(_) => true,
            Self::Whole(list) => list.line_wise,
        }
    }

    /// Makes the entries of `list` those of the text; how it changed, unless all was read.
    pub fn apply(self, list: &mut Arc<List>) -> Option<ListChange> {
        match self {
            Self::Edit(edit) => Some(edit.apply(list)),
            Self::Whole(ParsedList { entries, .. }) => {
                *list = Arc::new(List { tier: list.tier, name: Arc::clone(&list.name), entries });
                None
            }
        }
    }
}

/// Makes `list` what `text` says. `kept` is the text that it was read from, and then the new one;
/// only those lines are read in which the two differ, when that is enough. A text of more than
/// 128 bytes for each entry, mostly comments, is not kept.
///
/// # Errors
///
/// As [`parse_list`]; the list stays as it is.
pub fn reread_list(
    list: &mut Arc<List>,
    kept: &mut Option<ListText>,
    text: Vec<u8>,
    options: &ParseOptions,
) -> Result<Reread, Diagnostics> {
    let reading = ListReading::of(&text, list, kept.as_ref(), options)?;
    let (warnings, line_wise) = (reading.warnings().clone(), reading.is_line_wise());
    let change = reading.apply(list);
    *kept = line_wise.then(|| ListText::worth_keeping(text, list)).flatten();
    Ok(Reread { warnings, change })
}

/// What makes the entries of one text those of another.
#[derive(Clone, Debug)]
pub struct ListEdit {
    /// The entries that give way.
    removed: Range<usize>,
    added: Vec<ListEntry>,
    moved: Moved,
    /// What is odd about the lines that were read. Nothing is said again about the others.
    pub warnings: Diagnostics,
}

/// Where lines have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Moved {
    /// The first line that was read anew, or would have been.
    pub(in crate::policy) first: u32,
    /// The first line behind, in the old text.
    pub(in crate::policy) behind: u32,
    /// How far it and all that follow have gone down; wraps around when they have gone up.
    pub(in crate::policy) by: u32,
}

impl Moved {
    /// The new number of a line that was not read anew.
    pub(in crate::policy) const fn line(self, line: u32) -> u32 {
        if line >= self.behind { line.wrapping_add(self.by) } else { line }
    }
}

/// How one list came from another: what is different.
#[derive(Clone, Debug)]
pub struct ListChange {
    before: Weak<List>,
    after: Weak<List>,
    /// Entries of the old list.
    pub(in crate::policy) removed: Vec<ListEntry>,
    /// Entries of the new list.
    pub(in crate::policy) added: Vec<ListEntry>,
    pub(in crate::policy) moved: Moved,
}

impl ListChange {
    /// Whether this leads from `before` to `after`.
    pub(in crate::policy) fn leads(&self, before: &Weak<List>, after: &Arc<List>) -> bool {
        self.before.ptr_eq(before) && std::ptr::eq(self.after.as_ptr(), Arc::as_ptr(after))
    }
}

impl ListEdit {
    /// The edit that leads from `entries`, which were read from `before`, to those of `text`.
    ///
    /// `None` when all of `text` must be read by [`parse_list`]: it is refused, or the
    /// entries are not those of `before`.
    pub fn between(
        before: &ListText,
        entries: &[ListEntry],
        text: &[u8],
        options: &ParseOptions,
    ) -> Option<Self> {
        let (old, new) = (without_mark(&before.0), without_mark(text));
        if foreign_encoding(new).is_some() || nft::begins(new) {
            return None;
        }
        // So that the number of a line has no more than 32 bits.
        u32::try_from(old.len().max(new.len())).ok()?;
        let Middle { start, old: old_end, new: new_end } = Middle::between(old, new);
        let old_middle = &old[start..old_end.unwrap_or(old.len())];
        let new_middle = &new[start..new_end.unwrap_or(new.len())];
        if old_middle.len().max(new_middle.len()) > ALWAYS.max(new.len() / SHARE) {
            return None;
        }
        let first = 1 + u32::try_from(count(&new[..start])).ok()?;
        // What follows the last line feed is a line, too, unless it begins what is the same.
        let lines =
            |middle, end: Option<usize>| u32::try_from(count(middle) + usize::from(end.is_none())).ok();
        let (gone, come) = (lines(old_middle, old_end)?, lines(new_middle, new_end)?);
        let mut list = ParsedList::default();
        for (number, line) in (first..first + come).zip(new_middle.split(|&byte| byte == b'\n')) {
            list.add_line(number, line, options).ok()?;
        }
        let moved = Moved { first, behind: first + gone, by: come.wrapping_sub(gone) };
        let from = entries.partition_point(|entry| entry.line < first);
        let to = entries.partition_point(|entry| entry.line < moved.behind);
        let edit = Self { removed: from..to, added: list.entries, moved, warnings: list.warnings };
        (edit.entries(entries.len()) <= options.prefixes).then_some(edit)
    }

    /// How many entries a list of `before` has after this.
    pub const fn entries(&self, before: usize) -> usize {
        before + self.added.len() - (self.removed.end - self.removed.start)
    }

    /// Makes the entries of `list` those of the new text.
    pub fn apply(self, list: &mut Arc<List>) -> ListChange {
        let before = Arc::downgrade(list);
        // A generation knows its lists by weak references, which never lead to the edited one.
        let edited = Arc::make_mut(list);
        let behind = self.removed.start + self.added.len();
        let removed = edited.entries.splice(self.removed, self.added.iter().copied()).collect();
        if self.moved.by != 0 {
            for entry in edited.entries.iter_mut().skip(behind) {
                entry.line = entry.line.wrapping_add(self.moved.by);
            }
        }
        ListChange { before, after: Arc::downgrade(list), removed, added: self.added, moved: self.moved }
    }
}

fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(super::BYTE_ORDER_MARK).unwrap_or(text)
}

/// The whole lines in which two texts differ.
struct Middle {
    /// Where they begin in both.
    start: usize,
    /// Where they end, behind a line feed; `None` when no line behind them is the same.
    old: Option<usize>,
    new: Option<usize>,
}

impl Middle {
    fn between(old: &[u8], new: &[u8]) -> Self {
        let same = common_start(old, new);
        let start = old[..same].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let (old_rest, new_rest) = (&old[start..], &new[start..]);
        let same = common_end(old_rest, new_rest);
        let begins_line = |rest: &[u8]| {
            rest.len() == same || rest.get(rest.len() - same - 1).is_some_and(|&byte| byte == b'\n')
        };
        let behind = if same > 0 && begins_line(old_rest) && begins_line(new_rest) {
            Some(same)
        } else {
            let partial = old_rest[old_rest.len() - same..].iter().position(|&byte| byte == b'\n');
            partial.map(|end| same - end - 1)
        };
        let end = |text: &[u8]| behind.map(|behind| text.len() - behind);
        Self { start, old: end(old), new: end(new) }
    }
}

/// Bytes that are compared at once.
const STEP: usize = 4096;

fn common_start(one: &[u8], other: &[u8]) -> usize {
    let whole =
        one.chunks_exact(STEP).zip(other.chunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    whole + one[whole..].iter().zip(&other[whole..]).take_while(|(a, b)| a == b).count()
}

fn common_end(one: &[u8], other: &[u8]) -> usize {
    let whole =
        one.rchunks_exact(STEP).zip(other.rchunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    let (one, other) = (&one[..one.len() - whole], &other[..other.len() - whole]);
    whole + one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Line feeds in `text`.
fn count(text: &[u8]) -> usize {
    // As many as one byte can count, so that the compiler adds many bytes at once.
    let chunks = text.chunks(usize::from(u8::MAX));
    chunks.map(|chunk| usize::from(chunk.iter().fold(0, |sum, &byte| sum + u8::from(byte == b'\n')))).sum()
}
