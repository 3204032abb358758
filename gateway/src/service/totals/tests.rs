use proptest::prelude::*;

use super::*;

fn list(name: &str) -> Source {
    Source::list(Tier::Deny, name.into())
}

fn epoch(table: u32) -> Epoch {
    Epoch { boot: "boot".to_owned(), table }
}

fn drops(counts: &[u64]) -> Counters {
    let verdicts = |packets: &u64| Verdicts {
        dropped: Counter { packets: *packets, bytes: packets * 60 },
        ..Verdicts::default()
    };
    Counters {
        sources: counts.iter().map(verdicts).collect(),
        interfaces: vec![verdicts(&counts.iter().sum())],
        dropped: counts.iter().sum(),
        ..Counters::default()
    }
}

fn observe(totals: &mut Totals, table: u32, counters: &Counters, owners: &[(u16, &Source)]) {
    totals.observe(&epoch(table), counters, owners.iter().copied(), [(1024, "eth0")].into_iter());
}

#[test]
fn counts_go_on_when_the_tables_begin_anew_and_when_a_list_moves() {
    let (a, b) = (list("a"), list("b"));
    let mut totals = Totals::default();
    observe(&mut totals, 1, &drops(&[0, 10]), &[(1, &a)]);
    // The index belongs to another list now: what it had counted stays the first one's.
    observe(&mut totals, 1, &drops(&[0, 12, 0]), &[(1, &a)]);
    observe(&mut totals, 1, &drops(&[0, 15, 7]), &[(1, &b), (2, &a)]);
    assert_eq!((totals.source(&a).dropped.packets, totals.source(&b).dropped.packets), (19, 3));
    observe(&mut totals, 2, &drops(&[0, 1, 1]), &[(1, &b), (2, &a)]);
    assert_eq!((totals.source(&a).dropped.packets, totals.source(&b).dropped.packets), (20, 4));
    assert_eq!((totals.dropped(), totals.dropped_by(Tier::Deny)), (24, 24));
    assert_eq!(totals.interfaces["eth0"].dropped.packets, 24);
}

#[test]
fn what_cannot_be_read_is_stale_and_not_zero() {
    let mut totals = Totals::default();
    observe(&mut totals, 1, &drops(&[0, 10]), &[(1, &list("a"))]);
    totals.fail();
    assert!(totals.stale && totals.dropped() == 10);
    observe(&mut totals, 1, &drops(&[0, 11]), &[(1, &list("a"))]);
    assert!(!totals.stale && totals.dropped() == 11);
}

proptest! {
    /// Whatever the card does, no total ever goes backwards.
    #[test]
    fn no_total_goes_backwards(steps in prop::collection::vec((0u32..3, 0u64..100, 0u64..100, any::<bool>()), 0..60)) {
        let (a, b) = (list("a"), list("b"));
        let mut totals = Totals::default();
        for (table, one, two, swapped) in steps {
            let before = totals.clone();
            let owners = if swapped { [(1, &b), (2, &a)] } else { [(1, &a), (2, &b)] };
            observe(&mut totals, table, &drops(&[0, one, two]), &owners);
            for source in [&a, &b] {
                prop_assert!(totals.source(source).dropped.packets >= before.source(source).dropped.packets);
            }
            prop_assert!(totals.dropped() >= before.dropped());
        }
    }
}
