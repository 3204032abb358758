//! `check` and `explain` without a daemon: the files of a configuration are read exactly as the
//! daemon reads them, and nothing is bound, attached or written.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::keys::{Fetched, Missing};
use super::state::{State, StateError};
use crate::admin::explain::{self, Query, Report};
use crate::admin::lists::ListsReport;
use crate::config::{Config, Diagnostic, Ports};
use crate::policy::{Generation, Tier};

/// What a valid configuration holds.
#[derive(Debug)]
pub struct Summary {
    /// What somebody should look at.
    pub warnings: Vec<Diagnostic>,
    lists: usize,
    prefixes: usize,
    memory: usize,
    issuers: usize,
    keys: usize,
    routes: usize,
    /// Lists that the daemon would fetch, and how often.
    remote: Vec<(String, Duration)>,
    /// What the daemon would ask for keys, and how often at least.
    issuer_keys: Vec<(String, Duration)>,
    took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "valid: {} routes, {} issuers with {} keys, {} lists with {} prefixes compiled to {} KiB; read in {} ms",
            self.routes,
            self.issuers,
            self.keys,
            self.lists,
            self.prefixes,
            self.memory / 1024,
            self.took.as_millis()
        )?;
        for (list, interval) in &self.remote {
            write!(f, "\nthe daemon fetches {list} every {}", humantime::format_duration(*interval))?;
        }
        for (place, interval) in &self.issuer_keys {
            let interval = humantime::format_duration(*interval);
            write!(f, "\nthe daemon fetches the keys of {place} every {interval} or sooner")?;
        }
        Ok(())
    }
}

/// Reads everything that `config` names.
pub fn check(config: &Config) -> Result<Summary, Vec<Diagnostic>> {
    let start = Instant::now();
    let (state, warnings) = load(config)?;
    let policy = state.policy_status(config, &state.generation());
    // Those of files; what the configuration and the host protect is no list.
    let files =
        policy.iter().flat_map(|policy| &policy.lists).filter(|list| list.tier != Tier::NeverBlock.name());
    Ok(Summary {
        warnings,
        lists: files.clone().count(),
        prefixes: files.map(|list| list.prefixes).sum(),
        memory: policy.as_ref().map_or(0, |policy| policy.memory),
        issuers: config.issuers.len(),
        keys: state.keys().status(config).iter().map(|issuer| issuer.keys).sum(),
        routes: config.routes.len(),
        remote: config.remote_lists().map(|(_, list)| (list.name.clone(), list.interval)).collect(),
        issuer_keys: (state.keys().fetched(config).into_iter())
            .map(|Fetched { issuer, keys, .. }| {
                (format!("issuer {} from {}", issuer.name, keys.place.shown()), keys.max_interval)
            })
            .collect(),
        took: start.elapsed(),
    })
}

/// The lists as the files of `config` alone have them; `None` without `[firewall]`. No last good copy is looked at,
/// and nothing is held back.
pub fn lists(config: &Config) -> Result<Option<ListsReport>, Vec<Diagnostic>> {
    let (state, _) = load(config)?;
    let generation = state.generation();
    let policy = state.policy_status(config, &generation);
    Ok(policy.map(|policy| ListsReport::new(false, policy, &generation.overlaps(), SystemTime::now())))
}

/// Answers `query` from the files of `config` alone.
pub fn explain(config: &Config, query: &Query) -> Result<Report, Vec<Diagnostic>> {
    let (state, _) = load(config)?;
    let mut report = explain::report(&state.snapshot(config, state.generation()), query, SystemTime::now());
    explain::unknown(&mut report);
    Ok(report)
}

/// The policy that the files of `config` make, and which traffic it applies to; `None` when there
/// is none.
pub fn policy(config: &Config) -> Result<Option<(Arc<Generation>, Ports)>, Vec<Diagnostic>> {
    let Some(firewall) = &config.firewall else {
        return Ok(None);
    };
    let (state, _) = load(config)?;
    Ok(Some((state.generation(), firewall.ports.clone())))
}

fn load(config: &Config) -> Result<(State, Vec<Diagnostic>), Vec<Diagnostic>> {
    State::load(config, Missing::Leave, None).map_err(|StateError(faults)| faults)
}
