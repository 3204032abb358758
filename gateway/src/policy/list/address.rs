//! Addresses and prefixes, strictly: nothing that two programs could read in two ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::fault::{Digits, Fault};
use super::text::Text;

/// Why a text is refused, and where in the line.
pub(super) type Refusal<'a> = (usize, Fault<'a>);

/// An address, or a prefix with its host bits as they were written.
pub(super) fn prefix(text: Text<'_>) -> Result<IpNet, Refusal<'_>> {
    let Some((address_text, length_text)) = text.split_once(b'/') else {
        return address(text).map(IpNet::from);
    };
    let address = address(address_text)?;
    let highest = if address.is_ipv4() { 32 } else { 128 };
    let length = length(text, length_text, highest)?;
    let not_a_length = (length_text.offset, Fault::NotALength(text));
    match address {
        IpAddr::V4(address) => Ipv4Net::new(address, length).map(IpNet::V4),
        IpAddr::V6(address) => Ipv6Net::new(address, length).map(IpNet::V6),
    }
    .map_err(|_| not_a_length)
}

/// The length of a prefix, at most `highest`; `whole` is the prefix for the message.
fn length<'a>(whole: Text<'a>, text: Text<'a>, highest: u8) -> Result<u8, Refusal<'a>> {
    let refuse = |fault| Err((text.offset, fault));
    if !text.is_number() {
        return refuse(match netmask(text) {
            Some(length) if highest == 32 => Fault::Netmask { text: whole, length },
            _ => Fault::NotALength(whole),
        });
    }
    if text.bytes.len() > 1 && text.bytes.starts_with(b"0") {
        return refuse(Fault::NotALength(whole));
    }
    match text.number().and_then(|length| u8::try_from(length).ok()) {
        Some(length) if length <= highest => Ok(length),
        _ => refuse(Fault::LengthTooLarge { text: whole, length: Digits(text), highest }),
    }
}

/// The length that a netmask such as 255.255.255.0 stands for.
fn netmask(text: Text<'_>) -> Option<u8> {
    let mask = ipv4(text).ok()?.to_bits();
    let length = mask.leading_ones();
    (length + mask.trailing_zeros() >= 32).then(|| u8::try_from(length).ok()).flatten()
}

/// An address of either family.
pub(super) fn address(text: Text<'_>) -> Result<IpAddr, Refusal<'_>> {
    if text.bytes.contains(&b':') { ipv6(text).map(IpAddr::V6) } else { ipv4(text).map(IpAddr::V4) }
}

/// Four decimal octets without leading zeros.
fn ipv4(text: Text<'_>) -> Result<Ipv4Addr, Refusal<'_>> {
    let octets = || {
        let mut left = Some(text);
        std::iter::from_fn(move || {
            let whole = left?;
            let (octet, rest) = match whole.split_once(b'.') {
                Some((octet, rest)) => (octet, Some(rest)),
                None => (whole, None),
            };
            left = rest;
            Some(octet)
        })
    };
    let start = text.offset;
    if text.bytes.starts_with(b"[") {
        return Err((start, Fault::Brackets(text)));
    }
    if octets().any(|octet| !octet.is_number()) {
        return Err((start, Fault::NotAnAddress(text)));
    }
    match octets().count() {
        1 => return Err((start, Fault::NotAnAddress(text))),
        count @ 2..4 => return Err((start, Fault::TooFewOctets { text, count })),
        4 => {}
        count => return Err((start, Fault::TooManyOctets { text, count })),
    }
    let mut bits = 0;
    for (octet, number) in octets().zip(1..) {
        if octet.bytes.len() > 1 && octet.bytes.starts_with(b"0") {
            return Err((octet.offset, Fault::OctalOctet { text, number }));
        }
        let value = octet
            .number()
            .filter(|&value| value <= 255)
            .ok_or((octet.offset, Fault::OctetTooLarge { text, number, octet: Digits(octet) }))?;
        bits = bits << 8 | value;
    }
    Ok(Ipv4Addr::from_bits(bits))
}

/// An IPv6 address in any form of RFC 4291 §2.2, without a zone.
fn ipv6(text: Text<'_>) -> Result<Ipv6Addr, Refusal<'_>> {
    if let Some(address) = std::str::from_utf8(text.bytes).ok().and_then(|text| text.parse().ok()) {
        return Ok(address);
    }
    let fault = match text.bytes.iter().position(|byte| matches!(byte, b'%' | b'[')) {
        Some(at) if text.bytes[at] == b'%' => return Err((text.offset + at, Fault::Zone(text))),
        Some(_) => Fault::Brackets(text),
        None => match text.split_once(b':') {
            Some((address, port)) if ipv4(address).is_ok() && port.is_number() => Fault::Port(text),
            _ => Fault::NotAnIpv6Address(text),
        },
    };
    Err((text.offset, fault))
}
