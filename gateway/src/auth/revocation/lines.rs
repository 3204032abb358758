//! Revocations as text: one a line, `jti=… iss=… until=… note="…"`, with `#` comments.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::excerpt;
use super::{Revocation, Revoked, seconds};

/// Bytes of a value; a subject is not longer (RFC 7519 sets no limit, the judgement does).
const MAX_VALUE: usize = 1024;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted from 1 in characters.
    pub column: u32,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The revocations in `text`, of which there may be `most`.
///
/// # Errors
///
/// What is wrong with the first line that is not right: a list of which a part is not understood is
/// not put in force.
pub fn parse(text: &str, most: usize) -> Result<Vec<Revocation>, Fault> {
    let mut all = Vec::new();
    for (number, line) in (1_u32..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
        let fault = |column: usize, message: String| Fault {
            line: number,
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            message,
        };
        let Some(revocation) = self::line(line).map_err(|(column, message)| fault(column, message))? else {
            continue;
        };
        if all.len() >= most {
            let message = format!("these are more than {most} revocations: raise [limits] revocations");
            return Err(fault(0, message));
        }
        all.push(revocation);
    }
    Ok(all)
}

type Wrong = (usize, String);

fn line(line: &str) -> Result<Option<Revocation>, Wrong> {
    let mut revoked = None;
    let (mut issuer, mut until, mut note) = (None, None, None);
    let mut words = Words { line, at: 0 };
    while let Some(Word { column, name, value }) = words.next()? {
        let once = |there: bool| {
            if there { Err((column, format!("{name} stands here twice"))) } else { Ok(()) }
        };
        let what: Option<fn(String) -> Revoked> = match name {
            "jti" => Some(Revoked::Token),
            "sub" => Some(Revoked::Subject),
            "sid" => Some(Revoked::Session),
            "kid" => Some(Revoked::Key),
            _ => None,
        };
        match (what, name) {
            (Some(what), _) => {
                one_mark(column, revoked.is_some())?;
                revoked = Some(what(value));
            }
            (None, "issued-before") => {
                one_mark(column, revoked.is_some())?;
                revoked = Some(Revoked::IssuedBefore(time(column, &value)?));
            }
            (None, "iss") => once(issuer.replace(value).is_some())?,
            (None, "until") => once(until.replace(time(column, &value)?).is_some())?,
            (None, "note") => once(note.replace(value).is_some())?,
            (None, _) => {
                let message = "write one of jti=, sub=, sid=, kid= and issued-before=, and besides iss=, until= \
                               and note=\"…\"";
                return Err((column, message.to_owned()));
            }
        }
    }
    match revoked {
        Some(Revoked::Subject(_)) if issuer.is_none() => {
            Err((0, "sub= needs the iss= whose subject it is: others may have the same name".to_owned()))
        }
        Some(revoked) => Ok(Some(Revocation { revoked, issuer, until, note })),
        None if words.at == 0 || line.trim_start().starts_with('#') || line.trim().is_empty() => Ok(None),
        None => Err((0, "what is revoked is not said: jti=, sub=, sid=, kid= or issued-before=".to_owned())),
    }
}

fn one_mark(column: usize, there: bool) -> Result<(), Wrong> {
    if there {
        return Err((column, "one line revokes by one mark: use a line for each".to_owned()));
    }
    Ok(())
}

fn time(column: usize, text: &str) -> Result<u64, Wrong> {
    match humantime::parse_rfc3339_weak(text) {
        Ok(time) => Ok(seconds(time)),
        Err(_) => Err((column, "a time is written as 2026-12-31T23:59:59Z".to_owned())),
    }
}

struct Word<'a> {
    column: usize,
    name: &'a str,
    value: String,
}

struct Words<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<Option<Word<'a>>, Wrong> {
        let rest = &self.line[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = &self.line[start..];
        let column = self.line[..start].chars().count();
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(None);
        }
        let Some((name, value)) = rest.split_once('=') else {
            return Err((column, "a name and a value are expected, such as jti=8f14e45f".to_owned()));
        };
        if name.contains(char::is_whitespace) {
            return Err((column, "a name and a value are expected, such as jti=8f14e45f".to_owned()));
        }
        let begin = start + name.len() + 1;
        let (value, length) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (value, length) =
                    unquote(quoted).ok_or((column, "the quotation has no end".to_owned()))?;
                (value, length + 1)
            }
            None => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                (value[..end].to_owned(), end)
            }
        };
        if value.is_empty() || value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            let message = format!(
                "the value of {} is empty, has control characters or more than {MAX_VALUE} bytes",
                excerpt(name)
            );
            return Err((column, message));
        }
        self.at = begin + length;
        if !self.line[self.at..].starts_with(|next: char| next.is_whitespace()) && self.at < self.line.len() {
            return Err((column, "a blank is missing after the quotation".to_owned()));
        }
        Ok(Some(Word { column, name, value }))
    }
}

/// The text up to the closing quotation mark, in which `\"` and `\\` stand for themselves, and the bytes
/// that it took with the mark.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, at + 1)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// `revocation` as a line, without its end.
pub fn print(revocation: &Revocation) -> String {
    let mut line = match &revocation.revoked {
        Revoked::Token(id) => format!("jti={}", quote(id)),
        Revoked::Subject(subject) => format!("sub={}", quote(subject)),
        Revoked::Session(id) => format!("sid={}", quote(id)),
        Revoked::Key(id) => format!("kid={}", quote(id)),
        Revoked::IssuedBefore(time) => format!("issued-before={}", date(*time)),
    };
    // Writing to a string does not fail.
    if let Some(issuer) = &revocation.issuer {
        let _ = write!(line, " iss={}", quote(issuer));
    }
    if let Some(until) = revocation.until {
        let _ = write!(line, " until={}", date(until));
    }
    if let Some(note) = &revocation.note {
        let _ = write!(line, " note={}", quote(note));
    }
    line
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The last second that four digits of a year can name.
const LAST: u64 = 253_402_300_799;

fn date(second: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(second.min(LAST));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_they_are_documented() {
        let text = "\u{feff}# left the company\nsub=alice iss=https://idp.example note=\"ticket 7: \\\"left\\\"\"\r\n\n  \
                    jti=8f14e45f   until=2026-12-31T23:59:59Z  # stolen laptop\nissued-before=2026-11-01T00:00:00Z\n\
                    kid=\"old key\" iss=https://idp.example\nsid=s-1\n";
        let all = parse(text, 9).expect("valid");
        assert_eq!(all.len(), 5);
        assert_eq!(all[0].revoked, Revoked::Subject("alice".to_owned()));
        assert_eq!(all[0].note.as_deref(), Some("ticket 7: \"left\""));
        assert_eq!(all[1].until, Some(1_798_761_599));
        assert_eq!(all[2].revoked, Revoked::IssuedBefore(1_793_491_200));
        assert_eq!(all[3].revoked, Revoked::Key("old key".to_owned()));
    }

    #[test]
    fn a_fault_has_its_place_and_a_remedy_and_nothing_of_the_list_is_taken() {
        for (text, line, column, words) in [
            ("jti=a\nrevoke everything", 2, 1, "a name and a value"),
            ("jti=a sub=b iss=c", 1, 7, "a line for each"),
            ("iss=a", 1, 1, "not said"),
            ("sub=alice", 1, 1, "iss="),
            ("jti=", 1, 1, "empty"),
            ("jti=a until=tomorrow", 1, 7, "2026-12-31T"),
            ("jti=a user=b", 1, 7, "note="),
            ("jti=a iss=b iss=c", 1, 13, "twice"),
            ("jti=\"a", 1, 1, "no end"),
            ("jti=\"a\"b", 1, 1, "blank"),
            ("\u{e4}\u{e4} jti=a", 1, 1, "a name and a value"),
            ("jti=a\njti=b\njti=c", 3, 1, "more than 2"),
        ] {
            let fault = parse(text, 2).expect_err(text);
            assert_eq!((fault.line, fault.column), (line, column), "{text}: {fault:?}");
            assert!(fault.message.contains(words), "{text}: {fault:?}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9 =\"\\\\#\u{e4}\u{20ac}:/.-]{1,20}".prop_filter("not blank", |text| !text.is_empty())
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(
            kind in 0..5, name in text(), issuer in text(), with in any::<[bool; 3]>(), time in 0..LAST, note in text(),
        ) {
            let revoked = match kind {
                0 => Revoked::Token(name),
                1 => Revoked::Subject(name),
                2 => Revoked::Session(name),
                3 => Revoked::Key(name),
                _ => Revoked::IssuedBefore(time),
            };
            let revocation = Revocation {
                issuer: (with[0] || kind == 1).then_some(issuer),
                until: with[1].then_some(time),
                note: with[2].then_some(note),
                revoked,
            };
            prop_assert_eq!(parse(&print(&revocation), 1), Ok(vec![revocation]));
        }

        #[test]
        fn nothing_makes_the_reader_panic(text in "(jti|sub|iss|until|note|kid|#|=|\"|\\\\|[ \n\u{e4}a]){0,40}") {
            let _ = parse(&text, 3);
        }
    }
}
