//! Edited policies against those that are compiled as a whole.

use gateway_ebpf::generation::FIRST_FREE;
use proptest::prelude::*;
use proptest::sample::Index;

use super::edits::{File, OPTIONS, text};
use super::model::{boundaries, crowded_v4, crowded_v6, model};
use super::*;

fn input(default: Verdict, files: &[File]) -> PolicyInput {
    PolicyInput { default, lists: files.iter().map(|file| Arc::clone(&file.list)).collect() }
}

/// A file to edit, which of its lines, and what to put there.
type Edit = (Index, [Index; 2], Vec<String>);

fn edits(line: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Edit>> {
    let one = (any::<Index>(), any::<[Index; 2]>(), prop::collection::vec(line, 0..3));
    prop::collection::vec(one, 1..8)
}

/// `text` with some of its lines, few as a rule, replaced by others.
fn with_lines(text: &[u8], [from, count]: [Index; 2], new: Vec<String>) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let from = from.index(lines.len() + 1);
    let to = lines.len().min(from + count.index(4));
    let new: Vec<Vec<u8>> = new.into_iter().map(|line| (line + "\n").into_bytes()).collect();
    lines.splice(from..to, new.iter().map(Vec::as_slice));
    lines.concat()
}

fn crowded_line() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![crowded_v4(), crowded_v6()];
    prefix.prop_map(|prefix| prefix.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_edited_policy_decides_and_explains_as_if_it_were_compiled_as_a_whole(
        texts in prop::collection::vec(text(crowded_line(), 16), 1..6),
        edits in edits(crowded_line()),
        drop in any::<bool>(),
    ) {
        let default = if drop { Verdict::Drop } else { Verdict::Pass };
        let tiers = [Tier::Deny, Tier::Allow, Tier::Ban, Tier::NeverBlock, Tier::Observe];
        let named = texts.iter().zip(tiers).filter(|(text, _)| parse_list(text, &OPTIONS).is_ok());
        let mut files: Vec<File> =
            named.map(|(text, tier)| File::new(tier, &format!("{tier:?}"), text)).collect();
        prop_assume!(!files.is_empty());
        let (limits, mut sources) = (CompileLimits::default(), SourceTable::default());
        let mut generation = compile(7, &input(default, &files), &limits, &mut sources).unwrap();
        for (which, cut, new) in edits {
            let file = which.get_mut(&mut files);
            let whole = with_lines(&file.text.0, cut, new);
            let mut addresses = boundaries(&input(default, std::slice::from_ref(file)));
            let Some((change, _)) = file.edit(&whole) else { continue };
            let edited = input(default, &files);
            addresses.extend(boundaries(&edited));
            generation = recompile(
                &generation, 7, &edited, [&change].into_iter(), &limits, &mut sources,
            ).unwrap();
            let fresh = compile(7, &edited, &limits, &mut SourceTable::default()).unwrap();
            for address in addresses {
                let expected = model(&edited, address);
                prop_assert_eq!(&generation.explain(address), &expected, "{}", address);
                prop_assert_eq!(&fresh.explain(address), &expected, "{}", address);
                prop_assert_eq!(generation.decide(address).is_drop(), expected.verdict == Verdict::Drop);
            }
        }
    }
}

/// A list of `count` networks of both families, in no order.
fn long(count: u32) -> Vec<String> {
    (0..count)
        .map(|n| n.wrapping_mul(0x9e37_79b9))
        .map(|n| match n % 3 {
            0 => format!("2a02:{:x}:{:x}::/48", n >> 20, n >> 4 & 0xffff),
            _ => format!("{}.{}.{}.0/24", 11 + (n >> 26), n >> 18 & 0xff, n >> 8 & 0xff),
        })
        .collect()
}

/// A long list, its generation, and what it takes to edit it.
struct Long {
    lines: Vec<String>,
    file: File,
    generation: Generation,
    sources: SourceTable,
}

impl Long {
    const OPTIONS: ParseOptions = ParseOptions { tier: Tier::Deny, prefixes: 100_000 };

    fn new(count: u32) -> Self {
        let lines = long(count);
        let text = lines.join("\n").into_bytes();
        let entries = parse_list(&text, &Self::OPTIONS).expect("good").entries;
        let list = Arc::new(List { tier: Tier::Deny, name: "long".into(), entries });
        let file = File { text: ListText::new(text), list };
        let mut sources = SourceTable::default();
        let input = input(Verdict::Pass, std::slice::from_ref(&file));
        let generation = compile(1, &input, &CompileLimits::default(), &mut sources).expect("compiled");
        Self { lines, file, generation, sources }
    }

    /// Puts the lines in force.
    fn publish(&mut self) -> Generation {
        let text = self.lines.join("\n").into_bytes();
        let edit = ListEdit::between(&self.file.text, &self.file.list.entries, &text, &Self::OPTIONS);
        let change = edit.expect("an edit").apply(&mut self.file.list);
        self.file.text = ListText::new(text);
        let input = input(Verdict::Pass, std::slice::from_ref(&self.file));
        let (number, limits) = (self.generation.number() + 1, CompileLimits::default());
        let changes = [&change].into_iter();
        let next = recompile(&self.generation, number, &input, changes, &limits, &mut self.sources);
        std::mem::replace(&mut self.generation, next.expect("compiled"))
    }

    fn line_of(&self, address: &str) -> u32 {
        self.generation.explain(address.parse().expect("an address")).line
    }
}

#[test]
fn one_line_more_leaves_every_table_that_it_does_not_touch_where_it_was() {
    let mut long = Long::new(30_000);
    for (line, address) in [("198.51.100.7", "198.51.100.7"), ("2001:db8::/64", "2001:db8::1")] {
        assert_eq!(long.line_of(address), 0);
        long.lines.insert(0, line.to_owned());
        let before = long.publish();
        assert_eq!(long.line_of(address), 1);
        let (old, new) = (before.blocks(), long.generation.blocks());
        let below = FIRST_FREE as usize;
        assert_eq!(old[below..], new[below..old.len()]);
        let roots = old[1..below].iter().zip(&new[1..below]);
        assert_eq!(roots.filter(|(old, new)| old != new).count(), 1);
        assert!(new.len() <= old.len() + 1);
    }
}

#[test]
fn what_many_edits_leave_behind_is_thrown_away_before_it_is_much() {
    let mut long = Long::new(3_000);
    let (mut thrown_away, mut largest) = (0, 0);
    for round in 0..400 {
        // In one slot with many networks, so that each edit leaves much behind.
        let at = round * 7 % long.lines.len();
        long.lines.insert(at, format!("2a02:{round:x}:aaaa::/48"));
        let before = long.publish();
        thrown_away += u32::from(long.generation.garbage < before.garbage);
        largest = largest.max(long.generation.blocks().len());
        assert_eq!(long.line_of(&format!("2a02:{round:x}:aaaa::1")) as usize, at + 1);
    }
    let fresh = compiled(Verdict::Pass, vec![Arc::clone(&long.file.list)]).blocks().len();
    assert!(thrown_away > 0);
    assert!(largest <= fresh * 4 / 3 + 1_000, "{largest} blocks where {fresh} are enough");
}

#[test]
fn a_prefix_that_covers_much_or_little_is_in_force_with_all_that_it_covers() {
    let mut long = Long::new(3_000);
    let blocks = |long: &Long| compiled(Verdict::Pass, vec![Arc::clone(&long.file.list)]);
    for wide in ["32.0.0.0/3", "48.0.0.0/8", "2a00::/11", "::/1", "50.0.0.0/15"] {
        long.lines.insert(1_500, wide.to_owned());
        long.publish();
        let fresh = blocks(&long);
        for address in boundaries(&input(Verdict::Pass, std::slice::from_ref(&long.file))) {
            assert_eq!(long.generation.decide(address), fresh.decide(address), "{wide}: {address}");
        }
        long.lines.remove(1_500);
        long.publish();
    }
    let fresh = blocks(&long);
    for address in boundaries(&input(Verdict::Pass, std::slice::from_ref(&long.file))) {
        assert_eq!(long.generation.decide(address), fresh.decide(address), "{address}");
    }
}

#[test]
fn a_prefix_stays_denied_by_the_next_line_when_the_first_of_two_goes() {
    let mut long = Long::new(100);
    long.lines.insert(10, "192.0.2.0/24".to_owned());
    long.publish();
    long.lines.insert(50, "192.0.2.0/24".to_owned());
    long.publish();
    assert_eq!(long.line_of("192.0.2.1"), 11);
    long.lines.remove(10);
    long.publish();
    assert_eq!(long.line_of("192.0.2.1"), 50);
    long.lines.remove(49);
    long.publish();
    assert_eq!(long.line_of("192.0.2.1"), 0);
}

#[test]
fn a_list_that_changed_in_an_unknown_way_is_compiled_as_a_whole() {
    let mut long = Long::new(100);
    let known = long.generation.blocks().len();
    // Another list of the same name, about which no change tells.
    long.file.list = list(Tier::Deny, "long", [net("192.0.2.0/24")]);
    let input = input(Verdict::Pass, std::slice::from_ref(&long.file));
    let limits = CompileLimits::default();
    let next = recompile(&long.generation, 2, &input, std::iter::empty(), &limits, &mut long.sources);
    let next = next.expect("compiled");
    assert!(next.decide([192, 0, 2, 1].into()).is_drop());
    assert_eq!((next.entries(), next.garbage), (1, 0));
    assert!(next.blocks().len() < known);
}
