//! Tables for people: columns as wide as what stands in them, and nothing that moves the cursor.

use std::fmt;

use super::colour::{Tone, paint};
use crate::audit::query::printable;

/// Between columns.
const GAP: &str = "  ";

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    headings: Vec<String>,
    lines: Vec<Line>,
    coloured: bool,
}

#[derive(Debug)]
enum Line {
    /// A cell for each heading.
    Row(Vec<String>),
    /// What is amiss with the row above: in a few words, and then as it is.
    Note(&'static str, String),
    /// What else there is to the row above.
    Remark(String),
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str], coloured: bool) -> Self {
        let headings = headings.iter().map(|&heading| heading.to_owned()).collect();
        Self { headings, lines: Vec::new(), coloured }
    }

    /// Adds a row, with a cell for each heading. What clients wrote may stand in it.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.lines.push(Line::Row(cells.iter().map(|cell| printable(cell)).collect()));
    }

    /// Says below the last row what is amiss with it: `alarm`, and what it is about.
    pub(super) fn note(&mut self, alarm: &'static str, text: impl fmt::Display) {
        self.lines.push(Line::Note(alarm, printable(&text.to_string())));
    }

    /// Says below the last row what else there is to it.
    pub(super) fn remark(&mut self, text: impl fmt::Display) {
        self.lines.push(Line::Remark(printable(&text.to_string())));
    }

    fn rows(&self) -> impl Iterator<Item = &Vec<String>> {
        self.lines.iter().filter_map(|line| match line {
            Line::Row(cells) => Some(cells),
            Line::Note(..) | Line::Remark(_) => None,
        })
    }

    /// The width of a column, and whether it holds numbers, which end in line.
    fn column(&self, at: usize) -> (usize, bool) {
        let cells = || self.rows().filter_map(|row| row.get(at));
        let width = |cell: &String| cell.chars().count();
        let heading = self.headings.get(at).map_or(0, width);
        let numbers = cells().all(|cell| cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
        (cells().map(width).max().unwrap_or(0).max(heading), numbers)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows().map(Vec::len).max().unwrap_or(0).max(self.headings.len());
        let columns: Vec<(usize, bool)> = (0..columns).map(|at| self.column(at)).collect();
        let aligned = |cells: &[String]| {
            let cells = cells.iter().zip(&columns).map(|(cell, &(width, number))| {
                if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
        };
        f.write_str(&paint(&aligned(&self.headings), Tone::Quiet, self.coloured))?;
        for line in &self.lines {
            match line {
                Line::Row(cells) => write!(f, "\n{}", aligned(cells))?,
                Line::Remark(text) => write!(f, "\n{GAP}{text}")?,
                Line::Note(alarm, text) => {
                    let colon = if text.is_empty() { "" } else { ": " };
                    write!(f, "\n{GAP}{}{colon}{text}", paint(alarm, Tone::Bad, self.coloured))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_cell_moves_the_cursor() {
        let mut table = Table::new(&["ID", "SUBJECT", "TIMES"], false);
        table.row(vec!["1234".to_owned(), "eve\u{1b}[2J".to_owned(), "7".to_owned()]);
        table.note("NOT FETCHED", "no\nanswer");
        table.row(vec!["5a".to_owned(), "bob".to_owned(), "120".to_owned()]);
        assert_eq!(
            table.to_string(),
            "ID    SUBJECT       TIMES\n1234  eve\\u{1b}[2J      7\n  NOT FETCHED: no\\nanswer\n5a    bob             120"
        );
    }

    #[test]
    fn only_headings_and_alarms_are_coloured() {
        let mut table = Table::new(&["ID"], true);
        table.row(vec!["a".to_owned()]);
        table.note("HELD BACK", "");
        assert_eq!(table.to_string(), "\u{1b}[2mID\u{1b}[0m\na\n  \u{1b}[1m\u{1b}[31mHELD BACK\u{1b}[0m");
    }
}
