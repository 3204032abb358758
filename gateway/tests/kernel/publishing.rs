//! Generations that change under load.

use std::error::Error;
use std::fs;
use std::sync::Arc;

use gateway::config::{Mode, Ports};
use gateway::nic::{Card, Settings};
use gateway::policy::{
    CompileLimits, Generation, List, ListEntry, PolicyInput, SourceTable, Tier, Verdict, compile,
};

use crate::load::Load;
use crate::world::{Outcome, in_namespace};

const PUBLICATIONS: u64 = 10_000;

/// Lets the kernel wait for its packets by interrupting the CPUs, as long as this lives: a
/// publication is over when no packet uses the last generation any more, which otherwise takes some
/// 14 ms, most of them idle. Where that cannot be set, the test takes longer.
struct Expedited(Option<String>);

impl Expedited {
    const SETTING: &str = "/sys/kernel/rcu_expedited";

    fn begin() -> Self {
        let before = fs::read_to_string(Self::SETTING).ok();
        Self(before.filter(|_| fs::write(Self::SETTING, "1").is_ok()))
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            // It makes other waits faster, too: no harm if it stays.
            let _ = fs::write(Self::SETTING, before);
        }
    }
}

/// Generation `number` with an allow list and a deny list.
fn policy(
    sources: &mut SourceTable,
    number: u64,
    allow: &[&str],
    deny: &[&str],
) -> Result<Generation, Box<dyn Error>> {
    let list = |tier, name: &str, prefixes: &[&str]| -> Result<_, Box<dyn Error>> {
        let entry = |(line, prefix): (u32, &&str)| prefix.parse().map(|prefix| ListEntry { prefix, line });
        let entries = (1..).zip(prefixes).map(entry).collect::<Result<_, _>>()?;
        Ok(Arc::new(List { tier, name: name.into(), entries }))
    };
    let lists = vec![list(Tier::Allow, "allow.list", allow)?, list(Tier::Deny, "deny.list", deny)?];
    let input = PolicyInput { default: Verdict::Pass, lists };
    Ok(compile(number, &input, &CompileLimits::default(), sources)?)
}

/// The two policies say the same about both clients, by other prefixes in other tables.
pub(crate) fn ten_thousand_publications_under_load_mistake_no_packet() -> Outcome {
    in_namespace(|| {
        let load = Load::through_a_veth()?;
        let mut sources = SourceTable::new(8);
        let policies = [
            policy(&mut sources, 1, &["10.1.0.0/16"], &["10.66.0.0/16", "198.51.100.0/24"])?,
            policy(&mut sources, 2, &["10.1.0.2/32", "10.66.7.0/24"], &["10.0.0.0/8", "10.66.0.2/32"])?,
        ];
        let mut card = Card::load(&Settings { ports: Ports::All, reports_per_second: 100 })?;
        card.publish(policies[0].blocks(), 1)?;
        card.attach("gate", Mode::Native)?;
        let expedited = Expedited::begin();
        let ((), sent) = load.during(|_| {
            for policy in policies.iter().rev().cycle().take(usize::try_from(PUBLICATIONS)?) {
                card.publish(policy.blocks(), policy.number())?;
            }
            Ok(())
        })?;
        drop(expedited);
        let counters = card.counters()?;
        assert!(sent > PUBLICATIONS / 10, "no load: {sent} packets of each client");
        assert_eq!(counters.dropped, sent, "the client that both deny, and nobody else");
        // The lists have the first indices, in their order.
        let allowed = counters.sources[1];
        assert_eq!((allowed.passed.packets, allowed.dropped.packets), (sent, 0));
        load.nothing_denied_came_through()
    })
}
