//! Lines of `ipset save`.

use super::address::{Refusal, prefix};
use super::fault::Fault;
use super::line::Line;
use super::text::{Text, is_blank};

/// Reads a `create` or an `add` line; `None` when `text` is neither.
pub(super) fn parse(text: Text<'_>) -> Option<Result<Line<'_>, Refusal<'_>>> {
    let (verb, rest) = word(text);
    let (_name, rest) = word(rest);
    match verb.bytes {
        b"create" => Some(create(rest)),
        b"add" => Some(add(rest)),
        _ => None,
    }
}

/// What describes the set holds no entry, but can change what its entries mean.
fn create(mut rest: Text<'_>) -> Result<Line<'_>, Refusal<'_>> {
    loop {
        let (option, after) = word(rest);
        match option.bytes {
            b"" => return Ok(Line::Nothing),
            b"netmask" | b"bitmask" => return Err((option.offset, Fault::SetMask(option))),
            _ => rest = after,
        }
    }
}

fn add(rest: Text<'_>) -> Result<Line<'_>, Refusal<'_>> {
    let (entry, mut rest) = word(rest);
    let prefix = prefix(entry)?;
    loop {
        let (option, after) = word(rest);
        rest = match option.bytes {
            b"" => return Ok(Line::Prefix(entry, prefix)),
            b"timeout" | b"packets" | b"bytes" | b"skbmark" | b"skbprio" | b"skbqueue" => word(after).1,
            b"comment" => quoted(after).ok_or((option.offset, Fault::Trailing(option)))?,
            b"nomatch" => return Err((option.offset, Fault::NoMatch(entry))),
            _ => return Err((option.offset, Fault::Trailing(rest.trim_start().trim_end()))),
        };
    }
}

/// The next word and what follows it; an empty one at the end of the line.
fn word(text: Text<'_>) -> (Text<'_>, Text<'_>) {
    text.trim_start().split_where(is_blank)
}

/// What follows a quoted string, in which ipset allows no quotes.
fn quoted(text: Text<'_>) -> Option<Text<'_>> {
    let (before, inside) = text.split_once(b'"')?;
    before.trim_start().bytes.is_empty().then(|| inside.split_once(b'"'))?.map(|(_, after)| after)
}
