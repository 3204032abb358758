//! What is wrong with a file, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One fault or oddity in a file, printed as `file:line:col: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// Column in characters, counted from 1; 0 when the file or line as a whole is meant.
    pub column: u32,
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// What is wrong, and the remedy: in one line, without anything that a terminal obeys.
    pub message: String,
}

/// Whether a file can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

impl Diagnostic {
    /// An error about a whole file.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let message = plain(message.into());
        Self { file: file.to_owned(), line: 0, column: 0, severity: Severity::Error, message }
    }

    /// An error about the bytes `span` of `text`, which is the content of `file`.
    pub fn at(file: &Path, text: &str, span: &Range<usize>, message: impl Into<String>) -> Self {
        let (line, column) = position(text, span.start);
        Self { line, column, ..Self::of_file(file, message) }
    }

    /// The same, as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
            if self.column > 0 {
                write!(f, "{}:", self.column)?;
            }
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// `message`, which can repeat what stands in the file, with its control characters escaped.
fn plain(message: String) -> String {
    if !message.contains(char::is_control) {
        return message;
    }
    let mut plain = String::with_capacity(message.len() + 8);
    for character in message.chars() {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Line and column, both counted from 1, of the byte `offset` of `text`.
pub(super) fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[start..].chars().count() + 1;
    let cap = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (cap(line), cap(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let diagnostic = Diagnostic::of_file(Path::new("a"), "`na\x1b[2Jt\u{9b}ive\n` is no mode \"ä\"");
        assert_eq!(diagnostic.to_string(), r#"a: `na\u{1b}[2Jt\u{9b}ive\n` is no mode "ä""#);
    }

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("ä=1\nb=2", 3), (1, 3));
        assert_eq!(position("ä=1\nb=2", 5), (2, 1));
        assert_eq!(position("short", 99), (1, 6));
    }
}
