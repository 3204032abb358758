//! What lists may hold, and what is said about the others.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::*;

const DENY: ParseOptions = ParseOptions { tier: Tier::Deny, prefixes: 1_000 };

/// The entries of a list that must be accepted without a warning, as `line prefix`.
fn entries(text: &str) -> Vec<String> {
    let list = parse_list(text.as_bytes(), &DENY).unwrap();
    assert_eq!(list.warnings, Diagnostics::default());
    shown(&list)
}

fn shown(list: &ParsedList) -> Vec<String> {
    let shown = |entry: &ListEntry| format!("{} {}", entry.line, entry.prefix);
    list.entries.iter().map(shown).collect()
}

/// The entry and the warning of a line that is odd.
fn oddity(line: &str) -> (String, String) {
    let list = parse_list(line.as_bytes(), &DENY).unwrap();
    let prefixes = list.entries.iter().map(|entry| entry.prefix.to_string());
    let warnings = list.warnings.first.iter().map(ToString::to_string);
    (prefixes.collect::<Vec<_>>().join(" "), warnings.collect::<Vec<_>>().join("\n"))
}

/// The one error of a list.
fn error(text: impl AsRef<[u8]>) -> String {
    let errors = parse_list(text.as_ref(), &DENY).unwrap_err();
    assert_eq!(errors.total(), 1, "{errors:?}");
    errors.first[0].to_string()
}

#[test]
fn addresses_and_prefixes_of_both_families_are_entries_with_their_lines() {
    let text = "192.0.2.1\n\n10.0.0.0/8\n2001:db8::/32\n  2001:db8::1\t\n";
    let expected = ["1 192.0.2.1/32", "3 10.0.0.0/8", "4 2001:db8::/32", "5 2001:db8::1/128"];
    assert_eq!(entries(text), expected);
}

#[test]
fn comments_of_both_kinds_may_stand_alone_or_behind_an_entry() {
    let text = "# all\n; all\n192.0.2.1#why\n10.0.0.0/8 ; SBL1\n  # none\n2001:db8::/32;SBL2";
    let expected = ["3 192.0.2.1/32", "4 10.0.0.0/8", "6 2001:db8::/32"];
    assert_eq!(entries(text), expected);
}

#[test]
fn a_score_behind_the_address_is_not_part_of_it() {
    let text = "192.0.2.1\t9\n192.0.2.2 10 # why\n2001:db8::1\t3\n192.0.2.4\t\r\n";
    let expected = ["1 192.0.2.1/32", "2 192.0.2.2/32", "3 2001:db8::1/128", "4 192.0.2.4/32"];
    assert_eq!(entries(text), expected);
}

#[test]
fn the_add_lines_of_an_ipset_dump_are_entries() {
    let text = "create bad hash:net family inet hashsize 1024 maxelem 65536 timeout 0 comment\n\
        add bad 10.0.0.0/8\nadd bad 192.0.2.1 timeout 30 packets 1 bytes 60 comment \"a nomatch\"\n\
        create bad6 hash:net family inet6\r\nadd bad6 2001:db8::/32\r\n";
    assert_eq!(entries(text), ["2 10.0.0.0/8", "3 192.0.2.1/32", "5 2001:db8::/32"]);
}

#[test]
fn an_ipset_dump_that_means_something_else_than_its_prefixes_is_refused() {
    assert!(error("add bad 10.0.0.0/8 nomatch").contains("exception"));
    assert!(error("add bad 10.0.0.0/8 comment \"x\" nomatch").contains("exception"));
    assert!(error("create bad hash:ip netmask 24\nadd bad 10.0.0.0").contains("netmask"));
    assert!(error("add bad 192.0.2.1 add bad 192.0.2.2").contains("add bad 192.0.2.2"));
    assert!(error("add bad 192.0.2.1 comment \"x").contains("comment"));
    assert!(error("add bad 192.0.2.0/24,eth0").contains("is not a prefix"));
    assert!(error("add bad 0.0.0.0/0").contains("block everybody"));
    assert!(error("add bad").contains("is not an address"));
}

/// As `nft list set` of nftables 1.0.6 prints it, with a comment in a comment's clothes.
const DUMP: &str = "table inet t {\n\tset deny {\n\t\ttype ipv4_addr\n\t\tflags interval,timeout\n\t\tcounter\n\
    \t\telements = { 192.0.2.0/24 counter packets 0 bytes 0, 198.51.100.0-198.51.100.2,\n\
    \t\t\t     203.0.113.7 counter packets 0 bytes 0 comment \"x, } # y\" }\n\t}\n}\n";

#[test]
fn the_elements_of_an_nftables_set_are_entries_with_their_lines() {
    let expected = ["6 192.0.2.0/24", "6 198.51.100.0/31", "6 198.51.100.2/32", "7 203.0.113.7/32"];
    assert_eq!(entries(DUMP), expected);
    assert!(!parse_list(DUMP.as_bytes(), &DENY).unwrap().line_wise);
    let v6 = DUMP.replace("ipv4_addr", "ipv6_addr").replace("198.51.100.0-198.51.100.2", "2001:db8::/32");
    assert_eq!(entries(&v6)[1], "6 2001:db8::/32");
    let script = "#!/usr/sbin/nft -f\nadd element inet t deny { 192.0.2.1, 192.0.2.2 }\n";
    assert_eq!(entries(script), ["2 192.0.2.1/32", "2 192.0.2.2/32"]);
    let one_line = "set deny { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }";
    assert_eq!(entries(one_line), ["1 10.0.0.0/8"]);
    assert_eq!(entries(&DUMP.replace("type ipv4_addr", "typeof ip saddr")), expected);
}

#[test]
fn sets_of_a_ruleset_that_are_not_of_addresses_are_left_out_and_reported() {
    let more = "\tset ports {\n\t\ttype inet_service\n\t\telements = { 22, 80-90 }\n\t}\n\
        \tset pairs {\n\t\ttype ipv4_addr . inet_service\n\t\telements = { 10.0.0.1 . 22 }\n\t}\n\
        \tmap m {\n\t\ttype ipv4_addr : verdict\n\t\telements = { 10.0.0.1 : drop }\n\t}\n\
        \tchain c {\n\t\ttcp dport { 22, 80 } accept\n\t}\n";
    let ruleset = DUMP.replacen("\tset", &format!("{more}\tset"), 1);
    let list = parse_list(ruleset.as_bytes(), &DENY).unwrap();
    assert_eq!(list.entries.len(), 4);
    let warnings: Vec<u32> = list.warnings.first.iter().map(|warning| warning.line).collect();
    assert_eq!(warnings, [3, 7]);
    let timeout = DUMP.replace("192.0.2.0/24 counter", "192.0.2.0/24 timeout 1h expires 59m counter");
    assert!(oddity(&timeout).1.contains("6:29: in nftables this element ends by itself"));
}

#[test]
fn an_nftables_dump_that_is_damaged_or_could_mean_the_opposite_is_refused() {
    let twice = format!("{DUMP}{DUMP}");
    assert!(error(twice).starts_with("15:3: this is the second set of addresses"));
    // Wherever it was cut off, there is no half of a list.
    for end in 1..DUMP.trim_end().len() {
        let cut = DUMP.get(..end).expect("all is ASCII");
        assert!(parse_list(cut.as_bytes(), &DENY).is_err(), "{cut:?}");
    }
    assert!(error("table inet t {\n}\n").contains("has no set of addresses"));
    assert!(
        error(DUMP.replace("192.0.2.0/24", "192.0.2.0/33"))
            .starts_with("6:26: `192.0.2.0/33` is not a prefix")
    );
    assert!(error(DUMP.replace("192.0.2.0/24", "0.0.0.0/0")).contains("would block everybody"));
    assert!(
        error(DUMP.replace("192.0.2.0/24 counter", "192.0.2.0/24 . 22")).contains("has no place in a dump")
    );
    assert!(error("table t {".repeat(9)).contains("has no place in a dump"));
    assert!(error("{\"nftables\": []}").contains("without --json"));
}

/// The blocks of the page about lists that are marked as `kind`.
fn documented(kind: &str) -> Vec<&'static str> {
    let page = include_str!("../../../../docs/lists.md");
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n')).collect()
}

#[test]
fn every_list_in_the_documentation_is_read() {
    let lists = documented("list");
    assert_eq!(lists.len(), 5);
    for text in lists {
        let list = parse_list(text.as_bytes(), &DENY).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        assert!(!list.entries.is_empty(), "{text}");
    }
}

#[test]
fn every_line_that_the_documentation_calls_refused_is_refused() {
    let [lines] = documented("refused")[..] else { panic!("one block") };
    assert!(lines.lines().count() >= 20);
    for line in lines.lines() {
        parse_list(line.as_bytes(), &DENY).expect_err(line);
    }
}

#[test]
fn a_list_saved_on_windows_reads_like_any_other() {
    assert_eq!(
        entries("\u{feff}192.0.2.1\r\n\r\n# why\r\n10.0.0.0/8\r\n"),
        ["1 192.0.2.1/32", "4 10.0.0.0/8"]
    );
}

#[test]
fn a_range_becomes_the_prefixes_that_make_it_up() {
    assert_eq!(
        entries("192.0.2.7-192.0.2.19 # lab"),
        ["1 192.0.2.7/32", "1 192.0.2.8/29", "1 192.0.2.16/30"]
    );
    assert_eq!(entries("10.0.0.0 - 10.255.255.255\r"), ["1 10.0.0.0/8"]);
    assert_eq!(entries("2001:db8::-2001:db8:1:ffff:ffff:ffff:ffff:ffff"), ["1 2001:db8::/47"]);
}

#[test]
fn lines_of_json_are_read_for_their_prefix() {
    let text = concat!(
        r#"{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"arin"}"#,
        "\n",
        r#"{"sblid":"SBL2","cidr":"2001:db8::/32"}"#,
        "\n",
        r#"{"type":"metadata","timestamp":1747000000,"size":2}"#,
        "\r\n",
    );
    assert_eq!(entries(text), ["1 192.0.2.0/24", "2 2001:db8::/32"]);
}

#[test]
fn host_bits_are_dropped_and_reported() {
    assert_eq!(
        oddity("10.0.0.1/8"),
        ("10.0.0.0/8".into(), "1:1: `10.0.0.1/8` has bits set behind the prefix: taken as 10.0.0.0/8".into())
    );
    assert_eq!(oddity("2001:db8::1/32").0, "2001:db8::/32");
}

#[test]
fn ipv4_written_as_ipv6_is_taken_as_ipv4_and_reported() {
    assert_eq!(
        oddity("::ffff:192.0.2.0/120"),
        (
            "192.0.2.0/24".into(),
            "1:1: `::ffff:192.0.2.0/120` is IPv4 written as IPv6: taken as 192.0.2.0/24".into()
        )
    );
    assert_eq!(oddity("::ffff:c000:201").0, "192.0.2.1/32");
    let (prefixes, warning) = oddity("::ffff:192.0.2.0-::ffff:192.0.2.3");
    assert_eq!(prefixes, "192.0.2.0/30");
    assert!(warning.contains("taken as the IPv4 range"), "{warning}");
}

#[test]
fn a_prefix_around_the_mapped_range_stays_ipv6() {
    assert_eq!(entries("::/64\n::fffe:0:0/95\n"), ["1 ::/64", "2 ::fffe:0:0/95"]);
    let error = error("::-::ffff:0:5");
    assert!(error.contains("write the IPv4 addresses as a range of their own"), "{error}");
}

#[test]
fn each_mistake_is_named_with_its_place_and_remedy() {
    for (text, expected) in [
        ("1.2.3.456", "1:7: `1.2.3.456` is not an address: octet 4 is 456, above 255"),
        (
            "# a\n  1.2.3.99999999999999999999",
            "2:9: `1.2.3.99999999999999999999` is not an \
            address: octet 4 is 999999999999…, above 255",
        ),
        (
            "1.2.3.45.6.7.8",
            "1:1: `1.2.3.45.6.7.8` is not an address: it has 7 octets instead of \
            4; were two lines joined?",
        ),
        ("10/8", "1:1: `10` is not an address: "),
        ("10.0/8", "1:1: `10.0` is not an address: it has 2 of 4 octets; write all of them"),
        ("10.0.010.1", "1:6: `10.0.010.1` is ambiguous: octet 3 has a leading zero"),
        ("example.com", "1:1: `example.com` is not an address: write an IPv4 or IPv6 address"),
        ("1.2.3.", "1:1: `1.2.3.` is not an address"),
        ("+1.2.3.4", "1:1: `+1.2.3.4` is not an address"),
        ("0x1.2.3.4", "1:1: `0x1.2.3.4` is not an address"),
        ("10.0.0.0/33", "1:10: `10.0.0.0/33` is not a prefix: its length is 33, above 32"),
        ("2001:db8::/129", "1:12: `2001:db8::/129` is not a prefix: its length is 129, above 128"),
        ("10.0.0.0/", "1:10: `10.0.0.0/` is not a prefix: write the number of its leading bits"),
        ("10.0.0.0/08", "1:10: `10.0.0.0/08` is not a prefix"),
        ("10.0.0.0/-8", "1:1: `10.0.0.0/-8` is not an address"),
        ("10.0.0.0/8/8", "1:10: `10.0.0.0/8/8` is not a prefix"),
        (
            "10.0.0.0/255.240.0.0",
            "1:10: `10.0.0.0/255.240.0.0` has a netmask: write its length \
            instead, /12",
        ),
        ("10.0.0.0/255.0.255.0", "1:10: `10.0.0.0/255.0.255.0` is not a prefix"),
        ("2001:db8::g", "1:1: `2001:db8::g` is not an IPv6 address"),
        ("fe80::1%eth0", "1:8: `fe80::1%eth0` has a zone: remove the % and what follows"),
        ("[2001:db8::1]", "1:1: `[2001:db8::1]` is not an address: remove the brackets"),
        ("192.0.2.1:443", "1:1: `192.0.2.1:443` has a port"),
        ("192.0.2.1 evil", "1:11: `evil` after the address is neither a score nor a comment"),
        ("192.0.2.1 192.0.2.2\r", "1:11: `192.0.2.2` after the address is neither a score"),
        ("192.0.2.9-192.0.2.1", "1:1: `192.0.2.9-192.0.2.1` is not a range: it ends before"),
        ("192.0.2.9 - 2001:db8::1", "1:1: `192.0.2.9 - 2001:db8::1` is not a range: one end is"),
        ("192.0.2.9-", "1:11: `192.0.2.9-` is not an address"),
        ("192.0.2.9-192.0.2.256", "1:19: `192.0.2.256` is not an address: octet 4 is 256"),
        ("{\"cidr\":\"192.0.2.0/99\"}", "1:20: `192.0.2.0/99` is not a prefix: its length is 99"),
        ("{\"cidr\":7}", "1:1: `{\"cidr\":7}` has no \"cidr\" with a prefix as a string"),
        ("{\"ip\":\"192.0.2.1\"}", "1:1: `{\"ip\":\"192.0.2.1\"}` has no \"cidr\""),
        ("{\"cidr\":", "1:1: `{\"cidr\":` is not a line of JSON"),
        ("é 192.0.2.1", "1:1: `\\xc3\\xa9` is not an address"),
        ("192.0.2.1 # é\n192.0.2.2 é é", "2:11: `\\xc3\\xa9 \\xc3\\xa9` after the address"),
    ] {
        let error = error(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn a_list_that_would_block_everybody_is_refused_in_every_spelling() {
    for text in [
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/0",
        "::ffff:0:0/96",
        "0.0.0.0-255.255.255.255",
        "{\"cidr\":\"0.0.0.0/0\"}",
    ] {
        let error = error(text);
        assert!(error.contains("set default = \"drop\" in [firewall]"), "{text}: {error}");
    }
    let allow = ParseOptions { tier: Tier::Allow, ..DENY };
    let list = parse_list(b"0.0.0.0/0", &allow).unwrap();
    assert_eq!(shown(&list), ["1 0.0.0.0/0"]);
    assert!(list.warnings.first[0].message.contains("deny lists have no effect"));
}

#[test]
fn files_that_are_no_text_are_named_as_what_they_are() {
    assert_eq!(error(b"\xff\xfe1\x00."), "1:1: the file is UTF-16: save it as UTF-8");
    assert_eq!(error(b"\x1f\x8b\x08\x00"), "1:1: the file is compressed: unpack it first");
}

#[test]
fn a_message_is_short_and_holds_nothing_that_a_terminal_obeys() {
    let error = error([b"\x1b[2J".as_slice(), &[b'x'; 100_000]].concat());
    assert!(error.starts_with("1:1: `\\x1b[2Jxxx"), "{error}");
    assert!(error.len() < 250, "{error}");
}

#[test]
fn twenty_errors_are_shown_and_the_others_counted() {
    let errors = parse_list("x\n".repeat(50).as_bytes(), &DENY).unwrap_err();
    let lines: Vec<u32> = errors.first.iter().map(|error| error.line).collect();
    assert_eq!(lines, (1..=20).collect::<Vec<_>>());
    assert_eq!(errors.more, 30);
}

#[test]
fn one_entry_too_many_is_refused_where_it_stands() {
    let few = ParseOptions { prefixes: 2, ..DENY };
    assert!(parse_list(b"192.0.2.1\n192.0.2.2\n", &few).is_ok());
    for text in ["192.0.2.1\n192.0.2.2\n192.0.2.3\nx\n", "#\n\n192.0.2.7-192.0.2.19"] {
        let errors = parse_list(text.as_bytes(), &few).unwrap_err();
        assert_eq!((errors.total(), errors.first[0].line), (1, 3));
        assert!(errors.first[0].message.contains("limit of 2"), "{errors:?}");
    }
}

/// Lines that are nearly right.
fn lines() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9.:/a-f \t#;-]{0,24}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,2})?[ \t\r]?[0-9]{0,2}",
        "(:|::|0|[0-9a-fA-F]{1,5}|:ffff:){1,17}(/[0-9]{1,3})?[ \t\r]?[0-9]{0,2}",
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_list(&bytes, &DENY);
    }

    #[test]
    fn the_fast_path_reads_a_line_as_the_strict_one_does(line in lines()) {
        if let Some(fast) = common::entry(line.as_bytes()) {
            let Ok(Line::Prefix(_, strict)) = line::parse(line.as_bytes()) else {
                return Err(TestCaseError::fail("the strict parser refuses the line"));
            };
            // Nothing to warn about: neither host bits nor an IPv4-mapped address.
            prop_assert_eq!(fast, strict);
            prop_assert_eq!(fast, canonical(strict));
        }
    }

    #[test]
    fn the_fast_path_takes_what_people_write(bits in any::<[u16; 8]>(), v4 in any::<u32>()) {
        // Zeros make the `::`.
        let v6 = bits.map(|group| if group % 3 == 0 { 0 } else { group });
        let v6 = IpNet::from(IpAddr::from(v6));
        let v4 = IpNet::from(IpAddr::from(v4.to_be_bytes()));
        prop_assert_eq!(common::entry(v4.to_string().as_bytes()), Some(v4));
        prop_assert_eq!(common::entry(v6.addr().to_string().as_bytes()), Some(v6));
    }

    #[test]
    fn what_is_written_is_read_back(
        v4 in prop::collection::vec((any::<u32>(), 1u8..=32), 0..20),
        v6 in prop::collection::vec((any::<u128>(), 1u8..=128), 0..20),
    ) {
        let v4 = v4.into_iter().map(|(bits, length)| {
            IpNet::V4(Ipv4Net::new(bits.into(), length).unwrap().trunc())
        });
        let v6 = v6.into_iter().map(|(bits, length)| {
            IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap().trunc())
        });
        let written: Vec<IpNet> = v4.chain(v6).collect();
        let text: String = written.iter().map(|prefix| format!("{prefix}\n")).collect();
        let read = parse_list(text.as_bytes(), &DENY).unwrap();
        let read: Vec<IpNet> = read.entries.iter().map(|entry| entry.prefix).collect();
        prop_assert_eq!(read, written.into_iter().map(canonical).collect::<Vec<_>>());
    }

    #[test]
    fn the_prefixes_of_a_range_cover_it_exactly(first in any::<u16>(), last in any::<u16>()) {
        let (first, last) = (first.min(last), first.max(last));
        let base = u128::from_str_radix("20010db8", 16).unwrap() << 96;
        let (first, last) = (base + u128::from(first), base + u128::from(last));
        let text = format!("{}-{}", Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last));
        let mut next = first;
        for entry in parse_list(text.as_bytes(), &DENY).unwrap().entries {
            let IpNet::V6(prefix) = entry.prefix else {
                return Err(TestCaseError::fail("an IPv4 prefix"));
            };
            prop_assert_eq!(prefix.network().to_bits(), next);
            next = prefix.broadcast().to_bits() + 1;
        }
        prop_assert_eq!(next, last + 1);
    }
}
