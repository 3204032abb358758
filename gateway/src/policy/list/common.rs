//! The common line, fast. Lists have millions of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The entry of a line that holds an address, perhaps a length, perhaps a blank and a score, and
/// nothing else, and about which nothing needs to be said. `None` means no more than that the
/// line must be read with care.
pub(super) fn entry(line: &[u8]) -> Option<IpNet> {
    let (address, rest) = ipv4(line).or_else(|| ipv6(line))?;
    let (length, rest) = length(rest)?;
    let rest_is_score = match rest {
        [] | [b'\r'] => true,
        [b'\t' | b' ', score @ ..] => score.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !rest_is_score {
        return None;
    }
    let prefix = match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new(address, length.unwrap_or(32)).ok()?),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new(address, length.unwrap_or(128)).ok()?),
    };
    let is_plain = prefix.prefix_len() > 0 && prefix.addr() == prefix.network();
    is_plain.then_some(prefix)
}

/// An IPv4 address at the start of `text`, and what follows it.
fn ipv4(text: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (mut bits, mut rest) = octet(text)?;
    for _ in 0..3 {
        let (octet, after) = octet(rest.strip_prefix(b".")?)?;
        bits = bits << 8 | octet;
        rest = after;
    }
    Some((Ipv4Addr::from_bits(bits).into(), rest))
}

/// A number up to 255 without leading zeros.
fn octet(text: &[u8]) -> Option<(u32, &[u8])> {
    let (first, mut rest) = text.split_first()?;
    let mut value = digit(*first)?;
    while let Some((&next, after)) = rest.split_first()
        && let Some(digit) = digit(next)
    {
        if value == 0 {
            return None;
        }
        value = value * 10 + digit;
        if value > 255 {
            return None;
        }
        rest = after;
    }
    Some((value, rest))
}

/// An IPv6 address without an IPv4 part at the start of `text`, and what follows it. None of the
/// IPv4-mapped ones.
fn ipv6(text: &[u8]) -> Option<(IpAddr, &[u8])> {
    let mut bits = 0u128;
    let mut groups = 0u32;
    // Groups before the `::`.
    let mut gap = None;
    let mut rest = text;
    if let Some(after) = rest.strip_prefix(b"::") {
        gap = Some(0);
        rest = after;
    }
    while let Some((value, after)) = group(rest) {
        if groups == 8 {
            return None;
        }
        bits = bits << 16 | u128::from(value);
        groups += 1;
        rest = after;
        let Some(after) = rest.strip_prefix(b":") else {
            break;
        };
        rest = after;
        if let Some(after) = rest.strip_prefix(b":") {
            if gap.replace(groups).is_some() {
                return None;
            }
            rest = after;
        } else if group(rest).is_none() {
            return None;
        }
    }
    if let Some(before) = gap {
        // The gap stands for one group at least, so no shift but the last reaches 128 bits.
        let behind = groups.checked_sub(before).filter(|_| groups < 8)? * 16;
        let tail = bits & !(u128::MAX << behind);
        let head = bits >> behind;
        bits = head.checked_shl(128 - before * 16).unwrap_or(0) | tail;
    } else if groups != 8 {
        return None;
    }
    let is_mapped = bits >> 32 == 0xffff;
    (!is_mapped).then(|| (Ipv6Addr::from_bits(bits).into(), rest))
}

/// One to four hexadecimal digits.
fn group(text: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    let mut digits = 0;
    while let Some(digit) = text.get(digits).and_then(|&byte| char::from(byte).to_digit(16)) {
        if digits == 4 {
            return None;
        }
        value = value << 4 | digit;
        digits += 1;
    }
    (digits > 0).then(|| (value, &text[digits..]))
}

/// The length behind a `/`, if there is one, and what follows it.
fn length(text: &[u8]) -> Option<(Option<u8>, &[u8])> {
    let Some(text) = text.strip_prefix(b"/") else {
        return Some((None, text));
    };
    let (length, rest) = octet(text)?;
    Some((Some(u8::try_from(length).ok()?), rest))
}

fn digit(byte: u8) -> Option<u32> {
    byte.is_ascii_digit().then(|| u32::from(byte - b'0'))
}
