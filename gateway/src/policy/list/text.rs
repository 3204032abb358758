//! A piece of a line that knows where it stands.

use std::fmt;

/// A piece of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// The piece.
    pub(super) bytes: &'a [u8],
    /// Bytes of the line before it.
    pub(super) offset: usize,
}

impl<'a> Text<'a> {
    /// A whole line.
    pub(super) const fn line(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// What begins at `at`, at most the length of the piece, and what stands before it.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        let (before, after) = self.bytes.split_at(at.min(self.bytes.len()));
        (
            Self { bytes: before, offset: self.offset },
            Self { bytes: after, offset: self.offset + before.len() },
        )
    }

    /// The pieces before and after the first `separator`.
    pub(super) fn split_once(self, separator: u8) -> Option<(Self, Self)> {
        let at = self.bytes.iter().position(|&byte| byte == separator)?;
        let (before, after) = self.split_at(at);
        Some((before, after.split_at(1).1))
    }

    /// The piece up to the first byte that `stop` accepts, and the rest from there.
    pub(super) fn split_where(self, stop: impl Fn(u8) -> bool) -> (Self, Self) {
        let end = self.bytes.iter().position(|&byte| stop(byte));
        self.split_at(end.unwrap_or(self.bytes.len()))
    }

    /// Without the blanks at the start.
    pub(super) fn trim_start(self) -> Self {
        self.split_where(|byte| !is_blank(byte)).1
    }

    /// Without the blanks at the end.
    pub(super) fn trim_end(self) -> Self {
        let end = self.bytes.iter().rposition(|&byte| !is_blank(byte));
        self.split_at(end.map_or(0, |last| last + 1)).0
    }

    /// Whether the piece has only decimal digits, and at least one.
    pub(super) fn is_number(self) -> bool {
        !self.bytes.is_empty() && self.bytes.iter().all(u8::is_ascii_digit)
    }

    /// A decimal number without a sign, at most `u32::MAX`.
    pub(super) fn number(self) -> Option<u32> {
        std::str::from_utf8(self.bytes).ok().filter(|_| self.is_number())?.parse().ok()
    }
}

/// Whether `byte` separates words. A carriage return does, so that lines may end as on Windows.
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// Longest excerpt of a line in a message.
const EXCERPT: usize = 60;

/// As it may stand in a message: short, and without anything that a terminal obeys.
impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let excerpt = self.bytes.get(..EXCERPT).unwrap_or(self.bytes);
        f.write_str("`")?;
        for &byte in excerpt {
            match byte {
                b' '..=b'~' => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "{}", byte.escape_ascii())?,
            }
        }
        if excerpt.len() < self.bytes.len() {
            f.write_str("…")?;
        }
        f.write_str("`")
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
