//! Where records go: the journal, natively, or standard error, readable.

use std::io::{self, Write};
use std::time::SystemTime;

use log::kv::{Source, Value};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::query::printable;
use super::record::{Fields, Record};

/// Takes records, one at a time.
pub trait Sink: Send {
    /// Writes one record, blocking until it is taken, or keeps it for [`Self::flush`].
    fn write(&mut self, record: &Record) -> io::Result<()>;

    /// Writes what was kept. After an error none of that counts as written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the daemon's records and messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Destination {
    /// To the journal where there is one, and to standard error where somebody watches it or
    /// there is no journal.
    Auto,
    /// To the journal.
    Journal,
    /// To standard error.
    Stderr,
}

impl Destination {
    /// Opens the sink, and installs the logger for messages that are not part of the trail.
    pub fn open(self) -> io::Result<Box<dyn Sink>> {
        let journal = match self {
            Self::Stderr => None,
            Self::Journal => Some(journal()?),
            Self::Auto => journal().ok(),
        };
        let stderr = match self {
            Self::Stderr => true,
            Self::Journal => false,
            Self::Auto => {
                journal.is_none() || (!connected_to_journal() && io::IsTerminal::is_terminal(&io::stderr()))
            }
        };
        if stderr {
            // Two sinks, one logger: with both, messages go where somebody watches.
            env_logger::Builder::new()
                .filter_level(log::LevelFilter::Info)
                .parse_default_env()
                .format(|out, record| writeln!(out, "{} {:5} {}", now(), record.level(), record.args()))
                .try_init()
                .map_err(io::Error::other)?;
        } else {
            self::journal()?.install().map_err(io::Error::other)?;
            log::set_max_level(log::LevelFilter::Info);
        }
        Ok(match (journal, stderr) {
            (Some(journal), true) => Box::new(Both(Journal(journal), Stderr::default())),
            (Some(journal), false) => Box::new(Journal(journal)),
            (None, _) => Box::new(Stderr::default()),
        })
    }
}

fn journal() -> io::Result<JournalLog> {
    Ok(JournalLog::empty()?.with_syslog_identifier("gatehouse".to_owned()))
}

struct Journal(JournalLog);

impl Sink for Journal {
    /// Unlike the `log` facade, this returns the journal's errors, so that losses can be counted.
    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.0.journal_send(
            &log::Record::builder()
                .level(record.level)
                .target("gatehouse")
                .args(format_args!("{}", record.message))
                .key_values(&Pairs(&record.fields))
                .build(),
        )
    }
}

struct Pairs<'a>(&'a Fields);

impl Source for Pairs<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn log::kv::VisitSource<'kvs>) -> Result<(), log::kv::Error> {
        self.0.iter().try_for_each(|(name, value)| visitor.visit_pair(name.into(), Value::from(value)))
    }
}

/// Bytes of lines that are kept for one write, about.
const KEPT: usize = 64 * 1024;

/// With lines that are not written yet.
#[derive(Default)]
struct Stderr(String);

impl Sink for Stderr {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        line(record, &mut self.0);
        if self.0.len() < KEPT { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Whole lines in one write, so that those of several threads do not mix.
        let written = io::stderr().lock().write_all(self.0.as_bytes());
        self.0.clear();
        written
    }
}

struct Both(Journal, Stderr);

impl Sink for Both {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let journal = self.0.write(record);
        self.1.write(record)?;
        journal
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

fn now() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(SystemTime::now())
}

/// `TIME LEVEL message NAME=value NAME="value with spaces"`
fn line(record: &Record, lines: &mut String) {
    use std::fmt::Write as _;
    // Writing to a string does not fail.
    let _ = write!(lines, "{} {:5} {}", now(), record.level, printable(&record.message));
    for (name, value) in record.fields.iter().filter(|(name, _)| *name != "MESSAGE_ID") {
        let plain = !value.is_empty()
            && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if plain {
            [" ", name, "=", value].into_iter().for_each(|part| lines.push_str(part));
        } else {
            let _ = write!(lines, " {name}={value:?}");
        }
    }
    lines.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_be_forged_by_a_field_or_a_message() {
        let mut fields = Fields::default();
        fields.push("GATEHOUSE_SUBJECT", "eve\nWARN x=\"");
        fields.push("GATEHOUSE_LAYER", "scope");
        let message = "a\nb \u{1b}[31m".to_owned();
        let record = Record { level: log::Level::Warn, message, fields };
        let mut line = String::new();
        super::line(&record, &mut line);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
        assert!(line.contains(r#"GATEHOUSE_SUBJECT="eve\nWARN x=\"" GATEHOUSE_LAYER=scope"#), "{line}");
    }
}
