//! What decides about clients: the compiled policy, the keys and the routes, read from the files
//! of a configuration and kept at their last good state.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use gateway_ebpf::generation::BLOCK_SIZE;

use super::keys::{self, Keys, Missing};
use super::lists::{Copies, Keep, Lists};
use super::protected::Protected;
use crate::admin::lists::Accepted;
use crate::admin::status::PolicyStatus;
use crate::config::{Config, Diagnostic, Severity};
use crate::edge::Snapshot;
use crate::policy::{self, CompileLimits, Generation, ListSummary, SourceTable};

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
    /// The state of `config` with what is wrong with it, or everything that is wrong when it cannot be used. Here,
    /// unlike in [`Self::refresh`], every fault counts, but those of lists that have a last good copy in `copies`.
    pub(super) fn load(
        config: &Config,
        missing: Missing,
        copies: Option<&Copies>,
    ) -> Result<(Self, Vec<Diagnostic>), StateError> {
        let (lists, refreshed) = Lists::load(config, copies);
        let mut diagnostics = refreshed.diagnostics;
        let (keys, faults) = Keys::load(config, missing);
        let unusable = refreshed.unusable || faults.iter().any(|fault| fault.severity == Severity::Error);
        diagnostics.extend(faults);
        if unusable {
            return Err(StateError(diagnostics));
        }
        // The card has as many counters.
        let highest = u16::try_from(gateway_ebpf::counters::SOURCES - 1).unwrap_or(u16::MAX);
        let mut sources = SourceTable::new(highest);
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
            self.recompile(config, &mut refreshed);
        }
        refreshed
    }

    /// Puts content of the list `list` in force that was held back.
    pub(super) fn accept(&mut self, config: &Config, list: &str) -> Result<(Accepted, Refreshed), String> {
        let (accepted, lists) = self.lists.accept(list, config)?;
        let mut refreshed = Refreshed { diagnostics: lists.diagnostics, ..Refreshed::default() };
        self.recompile(config, &mut refreshed);
        Ok((accepted, refreshed))
    }

    /// What is in force, for the keeper.
    pub(super) fn keep(&mut self) -> Keep {
        self.lists.keep()
    }

    /// Whether the newest lists make no policy.
    pub(super) fn is_faulty(&self) -> bool {
        self.fault.is_some()
    }

    fn recompile(&mut self, config: &Config, refreshed: &mut Refreshed) {
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
        let lists = generation.lists().iter().map(|summary| self.lists.status(summary));
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
