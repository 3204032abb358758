//! One line of a list.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::address::{Refusal, address, prefix};
use super::fault::Fault;
use super::ipset;
use super::text::{Text, is_blank};

/// What a line holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    /// Nothing: a blank line, a comment, metadata.
    Nothing,
    /// A prefix or an address, with its host bits as they were written.
    Prefix(Text<'a>, IpNet),
    /// All addresses from the first to the last, which is not below the first.
    Range(Text<'a>, IpAddr, IpAddr),
}

/// Reads a line without its line feed.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, Refusal<'_>> {
    let text = Text::line(line).trim_start();
    match text.bytes.first() {
        None | Some(b'#' | b';') => return Ok(Line::Nothing),
        Some(b'{') => return json(text),
        Some(_) => {}
    }
    if let Some(line) = ipset::parse(text) {
        return line;
    }
    let (word, rest) = text.split_where(|byte| is_blank(byte) || matches!(byte, b'#' | b';'));
    if word.bytes.contains(&b'-') {
        end(rest)?;
        return entry(word);
    }
    let after = rest.trim_start();
    if after.bytes.starts_with(b"-") {
        let last = after.split_at(1).1.trim_start();
        let (last, rest) = last.split_where(|byte| is_blank(byte) || matches!(byte, b'#' | b';'));
        end(rest)?;
        let (whole, _) = text.split_at(last.offset + last.bytes.len() - text.offset);
        return range(whole, word, last);
    }
    let prefix = prefix(word)?;
    end(rest)?;
    Ok(Line::Prefix(word, prefix))
}

/// A word that is an address, a prefix, or a range.
pub(super) fn entry(word: Text<'_>) -> Result<Line<'_>, Refusal<'_>> {
    match word.split_once(b'-') {
        Some((first, last)) => range(word, first, last),
        None => Ok(Line::Prefix(word, prefix(word)?)),
    }
}

/// What may follow the address: nothing, a score, a comment.
fn end(rest: Text<'_>) -> Result<(), Refusal<'_>> {
    let is_end = |text: Text<'_>| matches!(text.bytes.first(), None | Some(b'#' | b';'));
    let rest = rest.trim_start();
    if is_end(rest) {
        return Ok(());
    }
    let (score, after) = rest.split_where(|byte| is_blank(byte) || matches!(byte, b'#' | b';'));
    if score.is_number() && is_end(after.trim_start()) {
        return Ok(());
    }
    Err((rest.offset, Fault::Trailing(rest.trim_end())))
}

fn range<'a>(whole: Text<'a>, first: Text<'a>, last: Text<'a>) -> Result<Line<'a>, Refusal<'a>> {
    let address = |end| {
        address(end).map_err(|(offset, fault)| match fault {
            // The dash may not be meant as one of a range.
            Fault::NotAnAddress(_) => (offset, Fault::NotAnAddress(whole)),
            fault => (offset, fault),
        })
    };
    let (first, last) = (address(first)?, address(last)?);
    let refuse = |fault| Err((whole.offset, fault));
    if first.is_ipv4() != last.is_ipv4() {
        return refuse(Fault::MixedRange(whole));
    }
    if last < first {
        return refuse(Fault::BackwardRange(whole));
    }
    Ok(Line::Range(whole, first, last))
}

/// A line of Spamhaus' JSON lists: an object with a `cidr`, or with a `type` and no entry.
fn json(text: Text<'_>) -> Result<Line<'_>, Refusal<'_>> {
    // An escape, which an address never needs, cannot be borrowed and is refused.
    #[derive(Deserialize)]
    struct Object<'a> {
        cidr: Option<&'a str>,
        #[serde(rename = "type")]
        kind: Option<IgnoredAny>,
    }
    let object: Object<'_> = serde_json::from_slice(text.bytes).map_err(|error| {
        let fault = if error.is_data() { Fault::NoCidr(text) } else { Fault::NotJson(text) };
        (text.offset, fault)
    })?;
    match (object.cidr, object.kind) {
        (Some(cidr), _) => {
            let at = find(text.bytes, cidr.as_bytes());
            let word = text.split_at(at).1.split_at(cidr.len()).0;
            Ok(Line::Prefix(word, prefix(word)?))
        }
        (None, Some(_)) => Ok(Line::Nothing),
        (None, None) => Err((text.offset, Fault::NoCidr(text))),
    }
}

/// Where `needle`, which is there, begins behind the first quote in `hay` that it follows.
fn find(hay: &[u8], needle: &[u8]) -> usize {
    hay.windows(needle.len() + 1)
        .position(|window| window.split_first() == Some((&b'"', needle)))
        .map_or(0, |at| at + 1)
}
