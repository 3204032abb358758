//! What is wrong with a list, and where.

use std::fmt;

/// Diagnostics kept of one list; the others are counted.
const KEPT: usize = 20;

/// Something to tell about one place of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// What is wrong there and what to do about it, in one line of ASCII and `…`.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// The first diagnostics of a list, and how many more there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// The first 20.
    pub first: Vec<Diagnostic>,
    /// How many more there were.
    pub more: usize,
}

impl Diagnostics {
    /// Whether there is nothing to tell.
    pub const fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// How many there were in all.
    pub const fn total(&self) -> usize {
        self.first.len() + self.more
    }

    /// Adds one about the byte at `offset` of `line`, which has number `number`.
    pub(super) fn add(&mut self, number: u32, line: &[u8], offset: usize, what: &dyn fmt::Display) {
        if self.first.len() >= KEPT {
            self.more += 1;
            return;
        }
        let before = line.get(..offset).unwrap_or(line);
        // Continuation bytes of UTF-8 begin no character.
        let characters = before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        self.first.push(Diagnostic {
            line: number,
            column: u32::try_from(characters).unwrap_or(u32::MAX).saturating_add(1),
            message: what.to_string(),
        });
    }
}
