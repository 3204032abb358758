//! What decides about clients: the compiled policy, the keys and the routes, read from the files
//! of a configuration and kept at their last good state.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use gateway_ebpf::generation::BLOCK_SIZE;

use super::keys::{self, Keys, Missing};
use super::lists::Lists;
use super::protected::Protected;
use crate::admin::status::{ListStatus, PolicyStatus};
use crate::config::{Config, Diagnostic, Severity};
use crate::edge::Snapshot;
use crate::policy::{self, CompileLimits, Generation, ListSummary, Source, SourceTable};

/// Everything that is wrong with the files of a configuration.
#[derive(Debug)]
pub struct StateError(pub Vec<Diagnostic>);

/// The state in force.
#[derive(Debug)]
pub(super) struct State {
    lists: Lists,
    protected: Protected,
    sources: SourceTable,
    generation: Arc<Generation>,
    /// Why the newest lists make no policy.
    fault: Option<String>,
    keys: Keys,
}

/// What a refresh changed.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// A new generation is there to be published.
    pub policy: bool,
    /// Keys differ from before.
    pub keys: bool,
    /// A file seems to be half written: it has to be looked at again soon.
    pub unfinished: bool,
    /// What is wrong with files that have changed.
    pub diagnostics: Vec<Diagnostic>,
}

impl State {
    /// The state of `config` with warnings, or everything that is wrong. Here, unlike in
    /// [`Self::refresh`], every fault counts: there is no last good state to keep.
    pub(super) fn load(config: &Config, missing: Missing) -> Result<(Self, Vec<Diagnostic>), StateError> {
        Self::load_after(config, missing, Vec::new())
    }

    /// The same, after a daemon that had counted for `known` sources under these indices: they
    /// keep them.
    pub(super) fn load_after(
        config: &Config,
        missing: Missing,
        known: Vec<(u16, Option<Source>)>,
    ) -> Result<(Self, Vec<Diagnostic>), StateError> {
        let mut lists = Lists::default();
        let mut diagnostics = lists.refresh(config).diagnostics;
        let (keys, faults) = Keys::load(config, missing);
        diagnostics.extend(faults);
        if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            return Err(StateError(diagnostics));
        }
        // The card has as many counters.
        let highest = u16::try_from(gateway_ebpf::counters::SOURCES - 1).unwrap_or(u16::MAX);
        let mut sources = SourceTable::restored(highest, known);
        let mut protected = Protected::default();
        if let Some(firewall) = &config.firewall {
            protected.refresh(firewall);
        }
        let generation =
            compile(config, &lists, &protected, &mut sources, 1).map_err(|fault| StateError(vec![fault]))?;
        diagnostics.extend(protected.trimmed(&generation));
        Ok((
            Self { lists, protected, sources, generation: Arc::new(generation), fault: None, keys },
            diagnostics,
        ))
    }

    /// Reads what has changed. Faulty files leave their last good content in force.
    pub(super) fn refresh(&mut self, config: &Config) -> Refreshed {
        let lists = self.lists.refresh(config);
        let keys = self.keys.refresh(config);
        let mut refreshed = Refreshed {
            policy: false,
            keys: keys.changed,
            unfinished: lists.unfinished,
            diagnostics: lists.diagnostics,
        };
        refreshed.diagnostics.extend(keys.diagnostics);
        // The host gets and loses addresses, gateways and resolvers, too.
        let protected = config.firewall.as_ref().is_some_and(|firewall| self.protected.refresh(firewall));
        if lists.changed || protected {
            let number = self.generation.number() + 1;
            match compile(config, &self.lists, &self.protected, &mut self.sources, number) {
                Ok(generation) => {
                    refreshed.diagnostics.extend(self.protected.trimmed(&generation));
                    self.generation = Arc::new(generation);
                    self.fault = None;
                    refreshed.policy = true;
                }
                Err(fault) => {
                    self.fault = Some(fault.to_string());
                    refreshed.diagnostics.push(fault);
                }
            }
        }
        refreshed
    }

    /// The newest generation.
    pub(super) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation)
    }

    /// The policy of `generation`, which is in force, and the counter of each of its lists.
    pub(super) fn policy_status(
        &self,
        config: &Config,
        generation: &Generation,
    ) -> Option<(PolicyStatus, Vec<u16>)> {
        config.firewall.as_ref()?;
        let error = |summary: &ListSummary| {
            let mut files = self.lists.iter();
            files
                .find(|file| file.list.name == summary.name && file.list.tier == summary.tier())?
                .error
                .clone()
        };
        let lists = generation.lists().iter().map(|summary| ListStatus {
            tier: summary.tier().name().to_owned(),
            list: summary.name.to_string(),
            prefixes: summary.entries,
            packets: 0,
            error: error(summary),
        });
        let status = PolicyStatus {
            generation: generation.number(),
            prefixes: generation.entries(),
            memory: generation.blocks().len() * BLOCK_SIZE,
            lists: lists.collect(),
            error: self.fault.clone(),
        };
        Some((status, generation.lists().iter().map(ListSummary::source).collect()))
    }

    /// The folders of the files that `config` depends on.
    pub(super) fn folders(config: &Config) -> BTreeSet<PathBuf> {
        let mut folders = Lists::folders(config);
        folders.extend(keys::folders(config));
        folders
    }

    /// The keys.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The snapshot by which handshakes are judged, with the policy of `generation`.
    pub(super) fn snapshot(&self, config: &Config, generation: Arc<Generation>) -> Snapshot {
        let policy = config.firewall.is_some().then_some(generation);
        Snapshot::new(&config.routes, &self.keys.authenticator(config), policy)
    }
}

fn compile(
    config: &Config,
    lists: &Lists,
    protected: &Protected,
    sources: &mut SourceTable,
    number: u64,
) -> Result<Generation, Diagnostic> {
    let limits = CompileLimits {
        prefixes: config.limits.prefixes,
        blocks: u32::try_from(config.limits.policy_memory / BLOCK_SIZE).unwrap_or(u32::MAX),
    };
    policy::compile(number, &lists.policy(config, protected.lists()), &limits, sources).map_err(|error| {
        Diagnostic::of_file(&config.file, format!("the address policy is not put in force: {error}"))
    })
}
