//! Lists of prefixes, in the formats that people publish.
//!
//! One entry per line: an IPv4 or IPv6 address, a prefix (`192.0.2.0/24`), or a range
//! (`192.0.2.7-192.0.2.19`). A comment starts with `#` or `;`, on a line of its own or behind an
//! entry. A number may follow the entry, as the scores of the ipsum list do. Lines of JSON with a
//! `cidr`, as Spamhaus publishes them, are entries too, and so are the `add` lines of `ipset save` and the elements that
//! `nft list set` prints. Lines may end as on Windows, and the file may start with the byte order mark
//! of UTF-8.
//!
//! What two programs could read in two ways is refused, so a damaged list is noticed before it
//! takes effect.

mod address;
mod change;
mod common;
mod diagnostic;
mod fault;
mod ipset;
mod line;
mod nft;
#[cfg(test)]
mod tests;
mod text;
mod unpack;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

pub(super) use change::Moved;
pub use change::{ListChange, ListEdit, ListReading, ListText, Reread, reread_list};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use unpack::{UnpackError, unpack_list};

use super::Tier;
use fault::{Fault, Oddity};
use line::Line;
use text::Text;

/// How UTF-8 is marked at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The prefix; an address is a prefix of 32 or 128 bits.
    pub prefix: IpNet,
    /// Line in the list, counted from 1; 0 when the list has no lines.
    pub line: u32,
}

/// A list that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedList {
    /// The entries, in the order of their lines; a range can be several.
    pub entries: Vec<ListEntry>,
    /// What is odd, but has a clear meaning.
    pub warnings: Diagnostics,
    /// Whether every line says the same wherever it stands.
    pub line_wise: bool,
}

/// How to read a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseOptions {
    /// What the list is for: a list of [`Tier::Deny`] or [`Tier::Ban`] must not block everybody.
    pub tier: Tier,
    /// Highest number of entries.
    pub prefixes: usize,
}

/// Reads a list.
///
/// # Errors
///
/// When any line is not understood, or there are too many entries; all of the list is refused
/// then, so that a damaged file never takes effect in part.
pub fn parse_list(text: &[u8], options: &ParseOptions) -> Result<ParsedList, Diagnostics> {
    let mut errors = Diagnostics::default();
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if let Some(fault) = foreign_encoding(text) {
        errors.add(1, text, 0, &fault);
        return Err(errors);
    }
    let mut dump = nft::begins(text).then(nft::Dump::default);
    let mut list = ParsedList { line_wise: dump.is_none(), ..ParsedList::default() };
    let mut number = 0u32;
    for line in text.split(|&byte| byte == b'\n') {
        number = number.saturating_add(1);
        let added = match &mut dump {
            Some(dump) => dump.line(number, line, &mut list, options),
            None => list.add_line(number, line, options),
        };
        if let Err((offset, fault)) = added {
            errors.add(number, line, offset, &fault);
            // What follows in a dump means something else without what was not understood.
            if dump.is_some() || matches!(fault, Fault::TooManyPrefixes(_)) {
                break;
            }
        }
    }
    if let Some(Err(fault)) = dump.filter(|_| errors.is_empty()).map(|dump| dump.finish()) {
        errors.add(number, &[], 0, &fault);
    }
    if errors.is_empty() {
        list.entries.shrink_to_fit();
        Ok(list)
    } else {
        Err(errors)
    }
}

/// `prefix` as the policy has it: without host bits, and IPv4 when it lies in the range of the
/// IPv4-mapped addresses, `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
pub fn canonical(prefix: IpNet) -> IpNet {
    let prefix = prefix.trunc();
    let IpNet::V6(v6) = prefix else {
        return prefix;
    };
    let mapped = v6.addr().to_ipv4_mapped();
    let length = v6.prefix_len().checked_sub(96);
    match (mapped, length) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(prefix, IpNet::V4),
        _ => prefix,
    }
}

/// The start of a file that is no list at all.
fn foreign_encoding(text: &[u8]) -> Option<Fault<'_>> {
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Fault::Utf16),
        [b'{', ..] if text.starts_with(b"{\"nftables\"") => Some(Fault::NftJson),
        // gzip (RFC 1952 §2.3.1) and Zstandard (RFC 8878 §3.1.1), which are unpacked before; xz.
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', ..] => Some(Fault::Compressed),
        _ => None,
    }
}

impl ParsedList {
    fn add_line<'a>(
        &mut self,
        number: u32,
        line: &'a [u8],
        options: &ParseOptions,
    ) -> Result<(), address::Refusal<'a>> {
        if let Some(prefix) = common::entry(line) {
            return self.push(number, prefix, options);
        }
        self.add(number, line, line::parse(line)?, options)
    }

    fn add<'a>(
        &mut self,
        number: u32,
        line: &[u8],
        entry: Line<'a>,
        options: &ParseOptions,
    ) -> Result<(), address::Refusal<'a>> {
        match entry {
            Line::Nothing => Ok(()),
            Line::Prefix(text, written) => {
                let prefix = canonical(written);
                if prefix.addr().is_ipv4() != written.addr().is_ipv4() {
                    let taken = prefix;
                    self.warn(number, line, text, Oddity::Mapped { text, taken });
                } else if prefix.addr() != written.addr() {
                    let taken = prefix;
                    self.warn(number, line, text, Oddity::HostBits { text, taken });
                }
                self.add_prefix(number, line, text, prefix, options)
            }
            Line::Range(text, first, last) => {
                let (first, last) = self.canonical_range(number, line, text, first, last)?;
                for prefix in prefixes(first, last) {
                    self.add_prefix(number, line, text, prefix, options)?;
                }
                Ok(())
            }
        }
    }

    /// The ends of a range, as IPv4 when both are IPv4-mapped.
    fn canonical_range<'a>(
        &mut self,
        number: u32,
        line: &[u8],
        text: Text<'a>,
        first: IpAddr,
        last: IpAddr,
    ) -> Result<(IpAddr, IpAddr), address::Refusal<'a>> {
        let (IpAddr::V6(low), IpAddr::V6(high)) = (first, last) else {
            return Ok((first, last));
        };
        if let (Some(first), Some(last)) = (low.to_ipv4_mapped(), high.to_ipv4_mapped()) {
            self.warn(number, line, text, Oddity::MappedRange { text });
            return Ok((first.into(), last.into()));
        }
        let mapped = 0xffff_0000_0000..=0xffff_ffff_ffff;
        if high.to_bits() >= *mapped.start() && low.to_bits() <= *mapped.end() {
            return Err((text.offset, Fault::PartlyMappedRange(text)));
        }
        Ok((first, last))
    }

    fn add_prefix<'a>(
        &mut self,
        number: u32,
        line: &[u8],
        text: Text<'a>,
        prefix: IpNet,
        options: &ParseOptions,
    ) -> Result<(), address::Refusal<'a>> {
        if prefix.prefix_len() == 0 {
            match options.tier {
                Tier::Deny | Tier::Ban | Tier::Observe => return Err((text.offset, Fault::Everybody(text))),
                Tier::Allow | Tier::NeverBlock | Tier::Default => {
                    self.warn(number, line, text, Oddity::Everybody(text));
                }
            }
        }
        self.push(number, prefix, options)
    }

    fn push<'a>(
        &mut self,
        line: u32,
        prefix: IpNet,
        options: &ParseOptions,
    ) -> Result<(), address::Refusal<'a>> {
        if self.entries.len() >= options.prefixes {
            return Err((0, Fault::TooManyPrefixes(options.prefixes)));
        }
        self.entries.push(ListEntry { prefix, line });
        Ok(())
    }

    fn warn(&mut self, number: u32, line: &[u8], text: Text<'_>, oddity: Oddity<'_>) {
        self.warnings.add(number, line, text.offset, &oddity);
    }
}

/// The fewest prefixes that make up the addresses from `first` to `last`, at most 254.
fn prefixes(first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpNet> {
    let (v4, v6) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (Some(Ipv4Subnets::new(first, last, 0)), None),
        (IpAddr::V6(first), IpAddr::V6(last)) => (None, Some(Ipv6Subnets::new(first, last, 0))),
        _ => (None, None),
    };
    let v4 = v4.into_iter().flatten().map(IpNet::V4);
    v4.chain(v6.into_iter().flatten().map(IpNet::V6))
}
