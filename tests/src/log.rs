//! What the daemon writes to standard error, read back.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// One line of the log: `TIME LEVEL message NAME=value NAME="value with spaces"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole line.
    pub line: String,
    /// The fields by their full name. Messages that are not part of the audit trail have none.
    pub fields: BTreeMap<String, String>,
}

impl Entry {
    /// The entry on `line`.
    pub fn parse(line: &str) -> Self {
        let mut fields = BTreeMap::new();
        let mut rest = line;
        while let Some(gap) = rest.find(' ') {
            rest = &rest[gap + 1..];
            let name = rest.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).next().unwrap_or_default();
            let Some(value) = rest[name.len()..].strip_prefix('=') else {
                continue;
            };
            if name.is_empty() {
                continue;
            }
            let (value, after) = value_of(value);
            // Of several values, that of the last one that the entry stands for comes first.
            fields.entry(name.to_owned()).or_insert(value);
            rest = after;
        }
        Self { line: line.to_owned(), fields }
    }

    /// The value of the field `GATEHOUSE_<name>`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(&format!("GATEHOUSE_{name}")).map(String::as_str)
    }

    /// The field as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// The address of the client.
    pub fn client(&self) -> Option<IpAddr> {
        self.field("CLIENT")?.parse().ok()
    }

    /// Whether `word` stands in the line, not only as a part of another word.
    pub fn says(&self, word: &str) -> bool {
        self.line.split(|c: char| !c.is_alphanumeric()).any(|found| found == word)
    }

    /// Whether this is the entry of a client dropped at the network card.
    pub fn is_drop_of(&self, client: IpAddr) -> bool {
        self.field("POINT") == Some("nic") && self.client() == Some(client) && !self.is_observation()
    }

    /// Whether this is about a client that passed and would be turned away by an observed list.
    pub fn is_observation(&self) -> bool {
        self.field("OBSERVED") == Some("1")
    }
}

/// The value at the start of `text`, and what comes after it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, character) in quoted.char_indices() {
        match (escaped, character) {
            (false, '"') => return (value, &quoted[at + 1..]),
            (false, '\\') => escaped = true,
            (false, other) => value.push(other),
            (true, other) => {
                escaped = false;
                value.push(match other {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                });
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_quoted_or_not() {
        let entry = Entry::parse(
            r#"2026-01-01T00:00:00.000Z WARN  rejected it: a=b GATEHOUSE_LAYER=scope GATEHOUSE_NOTE="needs \"x\" GATEHOUSE_ID=no" GATEHOUSE_LINE=3"#,
        );
        assert_eq!(entry.field("LAYER"), Some("scope"));
        assert_eq!(entry.field("NOTE"), Some("needs \"x\" GATEHOUSE_ID=no"));
        assert_eq!(entry.field("ID"), None);
        assert_eq!(entry.number("LINE"), Some(3));
        assert_eq!(entry.fields.len(), 3, "{entry:?}");
    }

    #[test]
    fn a_word_is_not_found_inside_another() {
        assert!(Entry::parse("INFO gatehouse is ready").says("ready"));
        assert!(!Entry::parse("INFO already there").says("ready"));
    }
}
