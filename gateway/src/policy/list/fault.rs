//! The mistakes that a list can have, each with its remedy.

use thiserror::Error;

use super::text::Text;

/// Why a line cannot be accepted.
#[derive(Clone, Copy, Debug, Error)]
pub(super) enum Fault<'a> {
    #[error(
        "{0} is not an address: \
         write an IPv4 or IPv6 address, or a prefix such as 192.0.2.0/24; comments start with #"
    )]
    NotAnAddress(Text<'a>),
    #[error("{text} is not an address: octet {number} is {octet}, above 255")]
    OctetTooLarge { text: Text<'a>, number: usize, octet: Digits<'a> },
    #[error(
        "{text} is ambiguous: octet {number} has a leading zero, which some programs read as \
         octal; write it without"
    )]
    OctalOctet { text: Text<'a>, number: usize },
    #[error("{text} is not an address: it has {count} octets instead of 4; were two lines joined?")]
    TooManyOctets { text: Text<'a>, count: usize },
    #[error(
        "{text} is not an address: it has {count} of 4 octets; write all of them, \
         such as 10.0.0.0/8"
    )]
    TooFewOctets { text: Text<'a>, count: usize },
    #[error("{0} is not an IPv6 address: write one such as 2001:db8::1 or 2001:db8::/32")]
    NotAnIpv6Address(Text<'a>),
    #[error("{0} has a zone: remove the % and what follows, a list applies to every interface")]
    Zone(Text<'a>),
    #[error("{0} is not an address: remove the brackets and the port")]
    Brackets(Text<'a>),
    #[error("{0} has a port: remove the : and what follows, a list holds addresses only")]
    Port(Text<'a>),
    #[error("{text} is not a prefix: its length is {length}, above {highest}")]
    LengthTooLarge { text: Text<'a>, length: Digits<'a>, highest: u8 },
    #[error("{0} is not a prefix: write the number of its leading bits after the /, such as 192.0.2.0/24")]
    NotALength(Text<'a>),
    #[error("{text} has a netmask: write its length instead, /{length}")]
    Netmask { text: Text<'a>, length: u8 },
    #[error("{0} is not a range: it ends before it begins; swap the two addresses")]
    BackwardRange(Text<'a>),
    #[error("{0} is not a range: one end is IPv4, the other IPv6")]
    MixedRange(Text<'a>),
    #[error(
        "{0} is a range with IPv4-mapped addresses (::ffff:0:0/96) and others: \
         write the IPv4 addresses as a range of their own"
    )]
    PartlyMappedRange(Text<'a>),
    #[error("{0} after the address is neither a score nor a comment: put # before a comment")]
    Trailing(Text<'a>),
    #[error(
        "{0} is an exception of its set (nomatch), which a list cannot hold: \
         remove the line and put the prefix in an allow list"
    )]
    NoMatch(Text<'a>),
    #[error(
        "the set has a {0}, so its entries stand for more than they say: \
         write them as prefixes"
    )]
    SetMask(Text<'a>),
    #[error("{0} is not a line of JSON: write one whole object on the line")]
    NotJson(Text<'a>),
    #[error("{0} has no \"cidr\" with a prefix as a string: add it, or remove the line")]
    NoCidr(Text<'a>),
    #[error(
        "{0} would block everybody: remove the line; to let in only what is in the allow lists, \
         set default = \"drop\" in [firewall]"
    )]
    Everybody(Text<'a>),
    #[error("more prefixes than the limit of {0}: shorten the list or raise [limits] prefixes")]
    TooManyPrefixes(usize),
    #[error("{0} has no place in a dump of nftables: write it anew with `nft list set FAMILY TABLE SET`")]
    NotADump(Text<'a>),
    #[error(
        "this is the second set of addresses of the dump, and sets can mean opposite things: \
         dump each into a file of its own with `nft list set FAMILY TABLE SET`"
    )]
    SecondSet,
    #[error("the dump of nftables ends before its last brace: write it anew")]
    CutDump,
    #[error(
        "the dump of nftables has no set of addresses with elements: \
         dump one with `nft list set FAMILY TABLE SET`"
    )]
    NoSet,
    #[error("this is JSON of nftables: dump the set without --json")]
    NftJson,
    #[error("the file is UTF-16: save it as UTF-8")]
    Utf16,
    #[error("the file is compressed: unpack it first")]
    Compressed,
}

/// What is odd about a line that is accepted.
#[derive(Clone, Copy, Debug, Error)]
pub(super) enum Oddity<'a> {
    #[error("{text} has bits set behind the prefix: taken as {taken}")]
    HostBits { text: Text<'a>, taken: ipnet::IpNet },
    #[error("{text} is IPv4 written as IPv6: taken as {taken}")]
    Mapped { text: Text<'a>, taken: ipnet::IpNet },
    #[error("{text} is IPv4 written as IPv6: taken as the IPv4 range")]
    MappedRange { text: Text<'a> },
    #[error("this set is not one of addresses alone: its elements are left out")]
    OtherSet,
    #[error("in nftables this element ends by itself; in a list it stays until its line is removed")]
    Timeout,
    #[error("{0} lets everybody of its family pass: the deny lists have no effect on them")]
    Everybody(Text<'a>),
}

/// Digits as they were written, however many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits<'a>(pub(super) Text<'a>);

impl std::fmt::Display for Digits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let excerpt = self.0.bytes.get(..12).unwrap_or(self.0.bytes);
        write!(f, "{}", excerpt.escape_ascii())?;
        if excerpt.len() < self.0.bytes.len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}
