//! What `nft list set` prints, or a ruleset with one set of addresses.
//!
//! Unlike the other formats this one spans lines: an entry is one only between the braces of
//! `elements`. So it is known by its first words, and a list is either all of it or nothing.

use super::address::Refusal;
use super::common;
use super::fault::{Fault, Oddity};
use super::line::{self, Line};
use super::text::{Text, is_blank};
use super::{ParseOptions, ParsedList};

/// Blocks inside each other: nftables has three.
const DEPTH: usize = 8;

/// Words of a statement that matter.
const WORDS: usize = 8;

/// Whether `text` begins as a dump does.
pub(super) fn begins(text: &[u8]) -> bool {
    let lines = text.split(|&byte| byte == b'\n').map(|line| Text::line(line).trim_start());
    let Some(first) = lines.into_iter().find(|line| !matches!(line.bytes.first(), None | Some(b'#'))) else {
        return false;
    };
    let (verb, rest) = first.split_where(is_blank);
    let (object, _) = rest.trim_start().split_where(is_blank);
    match verb.bytes {
        b"table" | b"set" | b"map" | b"elements" => true,
        b"flush" | b"delete" | b"destroy" => matches!(object.bytes, b"ruleset" | b"table" | b"set"),
        // `ipset save` has lines of this verb, too, but no braces.
        b"add" | b"create" => {
            matches!(object.bytes, b"table" | b"set" | b"element") && first.bytes.contains(&b'{')
        }
        _ => false,
    }
}

/// A dump that is being read.
#[derive(Debug, Default)]
pub(super) struct Dump {
    /// The blocks that are open.
    open: Vec<Block>,
    /// Sets of addresses so far.
    sets: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// A table, a chain, a map, or anything else that holds no entry.
    Other,
    /// A set, and whether it is one of addresses.
    Set { addresses: bool },
    /// The elements of a set of addresses, and whether one of them has just been read.
    Elements { behind: bool },
}

impl Dump {
    /// Reads one line.
    pub(super) fn line<'a>(
        &mut self,
        number: u32,
        line: &'a [u8],
        list: &mut ParsedList,
        options: &ParseOptions,
    ) -> Result<(), Refusal<'a>> {
        let mut statement = Statement::default();
        let mut rest = Text::line(line);
        loop {
            let token;
            (token, rest) = next(rest)?;
            if let Some(Block::Elements { behind }) = self.open.last_mut() {
                let inside = match token.bytes {
                    b"" => return Ok(()),
                    b"}" => false,
                    b"," => {
                        *behind = false;
                        true
                    }
                    _ if *behind => {
                        option(number, line, token, list)?;
                        true
                    }
                    _ => {
                        *behind = true;
                        list.add(number, line, entry(token)?, options)?;
                        true
                    }
                };
                if inside {
                    continue;
                }
            }
            match token.bytes {
                b"" => return self.end(number, line, &statement, list),
                b";" => {
                    self.end(number, line, &statement, list)?;
                    statement = Statement::default();
                }
                b"{" => {
                    self.begin(token, &statement)?;
                    statement = Statement::default();
                }
                b"}" => {
                    self.end(number, line, &statement, list)?;
                    statement = Statement::default();
                    self.open.pop().ok_or((token.offset, Fault::NotADump(token)))?;
                }
                _ => statement.push(token),
            }
        }
    }

    /// What is wrong with the dump as a whole, once all of it was read.
    pub(super) fn finish<'a>(&self) -> Result<(), Fault<'a>> {
        if !self.open.is_empty() {
            return Err(Fault::CutDump);
        }
        if self.sets == 0 { Err(Fault::NoSet) } else { Ok(()) }
    }

    /// A block begins behind `statement`.
    fn begin<'a>(&mut self, brace: Text<'a>, statement: &Statement<'a>) -> Result<(), Refusal<'a>> {
        if self.open.len() == DEPTH {
            return Err((brace.offset, Fault::NotADump(brace)));
        }
        let words = statement.words();
        let verb = words.iter().position(|word| !matches!(word.bytes, b"add" | b"create")).unwrap_or(0);
        let block = match (words.get(verb).map(|word| word.bytes), self.open.last()) {
            (Some(b"set"), _) => Block::Set { addresses: true },
            (Some(b"elements"), Some(Block::Set { addresses: false })) => Block::Other,
            // A map says what to do with each address; its elements are skipped with it.
            (Some(b"elements"), Some(Block::Other)) => Block::Other,
            (Some(b"elements" | b"element"), _) => {
                self.sets += 1;
                if self.sets > 1 {
                    let word = words.first().copied().unwrap_or(brace);
                    return Err((word.offset, Fault::SecondSet));
                }
                Block::Elements { behind: false }
            }
            _ => Block::Other,
        };
        self.open.push(block);
        Ok(())
    }

    /// A statement ends.
    fn end<'a>(
        &mut self,
        number: u32,
        line: &'a [u8],
        statement: &Statement<'a>,
        list: &mut ParsedList,
    ) -> Result<(), Refusal<'a>> {
        let Some(Block::Set { addresses }) = self.open.last_mut() else {
            return Ok(());
        };
        let [verb, kind @ ..] = statement.words() else {
            return Ok(());
        };
        let kind: Vec<&[u8]> = kind.iter().map(|word| word.bytes).collect();
        let known = match verb.bytes {
            b"type" => matches!(kind[..], [b"ipv4_addr" | b"ipv6_addr"]),
            b"typeof" => matches!(kind[..], [b"ip" | b"ip6", b"saddr" | b"daddr"]),
            _ => return Ok(()),
        };
        if !known {
            list.warn(number, line, *verb, Oddity::OtherSet);
            *addresses = false;
        }
        Ok(())
    }
}

/// The words of a statement so far.
#[derive(Debug, Default)]
struct Statement<'a>(Vec<Text<'a>>);

impl<'a> Statement<'a> {
    fn push(&mut self, word: Text<'a>) {
        if self.0.len() < WORDS {
            self.0.push(word);
        }
    }

    fn words(&self) -> &[Text<'a>] {
        &self.0
    }
}

/// The next token and what follows it; an empty one at the end of the line or before a comment.
fn next(text: Text<'_>) -> Result<(Text<'_>, Text<'_>), Refusal<'_>> {
    let text = text.trim_start();
    match text.bytes.first() {
        None | Some(b'#') => {
            Ok((Text { bytes: &[], offset: text.offset }, Text { bytes: &[], offset: text.offset }))
        }
        Some(b'{' | b'}' | b',' | b';' | b'=') => Ok(text.split_at(1)),
        Some(b'"') => {
            // nftables allows no quotes inside.
            let inside = text.split_at(1).1;
            let end = inside.bytes.iter().position(|&byte| byte == b'"');
            let end = end.ok_or((text.offset, Fault::NotADump(text)))?;
            Ok(text.split_at(end + 2))
        }
        Some(_) => Ok(text.split_where(|byte| is_blank(byte) || b"{},;=\"".contains(&byte))),
    }
}

/// The entry that a word is.
fn entry(word: Text<'_>) -> Result<Line<'_>, Refusal<'_>> {
    match common::entry(word.bytes) {
        Some(prefix) => Ok(Line::Prefix(word, prefix)),
        None => line::entry(word),
    }
}

/// What stands behind an element: counters, a comment, when it ends.
fn option<'a>(
    number: u32,
    line: &'a [u8],
    token: Text<'a>,
    list: &mut ParsedList,
) -> Result<(), Refusal<'a>> {
    match token.bytes {
        // A verdict follows in a map, and another field in a concatenation.
        b":" | b"." | b"{" | b"=" | b";" => Err((token.offset, Fault::NotADump(token))),
        b"timeout" => {
            list.warn(number, line, token, Oddity::Timeout);
            Ok(())
        }
        _ => Ok(()),
    }
}
