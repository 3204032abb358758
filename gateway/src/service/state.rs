//! What decides about clients: the compiled policy, the keys and the routes, read from the files
//! of a configuration and kept at their last good state.

use std::sync::Arc;

use super::keys::Keys;
use super::lists::{List, Lists};
use crate::config::{Config, Diagnostic, Severity};
use crate::edge::Snapshot;
use crate::policy::{self, Generation, SourceTable};

/// Everything that is wrong with the files of a configuration.
#[derive(Debug)]
pub struct StateError(pub Vec<Diagnostic>);

/// The state in force.
#[derive(Debug)]
pub struct State {
    lists: Lists,
    sources: SourceTable,
    generation: Arc<Generation>,
    keys: Keys,
}

/// What a refresh changed.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// A new generation is there to be published.
    pub policy: bool,
    /// Keys differ from before.
    pub keys: bool,
    /// What is wrong with files that have changed.
    pub diagnostics: Vec<Diagnostic>,
}

impl State {
    /// The state of `config` with warnings, or everything that is wrong. Here, unlike in
    /// [`Self::refresh`], every fault counts: there is no last good state to keep.
    pub fn load(config: &Config) -> Result<(Self, Vec<Diagnostic>), StateError> {
        let mut lists = Lists::default();
        let mut diagnostics = lists.refresh(config).diagnostics;
        let (keys, faults) = Keys::load(config);
        diagnostics.extend(faults);
        if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            return Err(StateError(diagnostics));
        }
        let mut sources = SourceTable::default();
        let generation = compile(config, &lists, &mut sources, 1).map_err(|fault| StateError(vec![fault]))?;
        Ok((Self { lists, sources, generation: Arc::new(generation), keys }, diagnostics))
    }

    /// Reads what has changed. Faulty files leave their last good content in force.
    pub fn refresh(&mut self, config: &Config) -> Refreshed {
        let lists = self.lists.refresh(config);
        let keys = self.keys.refresh(config);
        let mut refreshed =
            Refreshed { policy: false, keys: keys.changed, diagnostics: lists.diagnostics };
        refreshed.diagnostics.extend(keys.diagnostics);
        if lists.changed {
            match compile(config, &self.lists, &mut self.sources, self.generation.number() + 1) {
                Ok(generation) => {
                    self.generation = Arc::new(generation);
                    refreshed.policy = true;
                }
                Err(fault) => refreshed.diagnostics.push(fault),
            }
        }
        refreshed
    }

    /// The generation in force.
    pub fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation)
    }

    /// The lists.
    pub fn lists(&self) -> impl Iterator<Item = &List> {
        self.lists.iter()
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The snapshot by which handshakes are judged.
    pub fn snapshot(&self, config: &Config) -> Snapshot {
        let policy = config.firewall.is_some().then(|| self.generation());
        Snapshot::new(&config.routes, self.keys.issuers(), policy)
    }
}

fn compile(config: &Config, lists: &Lists, sources: &mut SourceTable, number: u64) -> Result<Generation, Diagnostic> {
    let input = super::lists::input(config, lists);
    policy::compile(number, &input, sources, config.limits.policy_memory)
        .map_err(|error| Diagnostic::of_file(&config.file, format!("the address policy is not put in force: {error}")))
}
