//! What decides about clients: the compiled policy, the keys and the routes, read from the files
//! of a configuration and kept at their last good state.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gateway_ebpf::generation::BLOCK_SIZE;

use super::bans;
use super::certificates::{self, Certificates};
use super::keys::{self, Keys, Missing};
use super::lists::{self, Copies, Keep, Lists};
use super::protected::Protected;
use super::revocations::{Book, Turned};
use crate::admin::lists::Accepted;
use crate::admin::status::PolicyStatus;
use crate::bans::Bans;
use crate::config::{Config, Diagnostic, Severity};
use crate::edge::Snapshot;
use crate::policy::{self, CompileLimits, Generation, Source, SourceTable};
use crate::session::tls::{self, TlsError};

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
    /// The making of the newest generation.
    compiled: Compilation,
    /// Why the newest lists make no policy.
    fault: Option<String>,
    keys: Keys,
    certificates: Certificates,
    revocations: Arc<Book>,
    bans: Arc<Bans>,
}

/// When a generation was made, and how long that took.
#[derive(Clone, Copy, Debug)]
struct Compilation {
    number: u64,
    at: SystemTime,
    took: Duration,
}

/// What a configuration makes of the files of its gateway, ready to be put in force.
#[derive(Debug)]
pub(super) struct Gateway {
    keys: Keys,
    certificates: Certificates,
    revocations: Turned,
}

/// What a refresh changed.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// A new generation is there to be published.
    pub policy: bool,
    /// Keys differ from before.
    pub keys: bool,
    /// Certificates of listeners differ from before.
    pub certificates: bool,
    /// Other tokens are revoked than before.
    pub revocations: bool,
    /// A file seems to be half written: it has to be looked at again soon.
    pub unfinished: bool,
    /// What is wrong with files that have changed.
    pub diagnostics: Vec<Diagnostic>,
}

impl Compilation {
    fn of(generation: &Generation, began: Instant) -> Self {
        Self { number: generation.number(), at: SystemTime::now(), took: began.elapsed() }
    }
}

impl State {
    /// The state of `config` with what is wrong with it, or everything that is wrong when it cannot be used. Here,
    /// unlike in [`Self::refresh`], every fault counts, but those of lists that have a last good copy in `copies`.
    pub(super) fn load(
        config: &Config,
        missing: Missing,
        copies: Option<&Copies>,
    ) -> Result<(Self, Vec<Diagnostic>), StateError> {
        Self::load_after(config, missing, copies, Vec::new())
    }

    /// The same, after a daemon that had counted for `known` sources under these indices: they
    /// keep them.
    pub(super) fn load_after(
        config: &Config,
        missing: Missing,
        copies: Option<&Copies>,
        known: Vec<(u16, Option<Source>)>,
    ) -> Result<(Self, Vec<Diagnostic>), StateError> {
        let (lists, refreshed) = Lists::load(config, copies);
        let mut diagnostics = refreshed.diagnostics;
        let (keys, faults) = Keys::load(config, missing);
        let authorities: Vec<_> = authorities(config).collect();
        let (certificates, faulty) = Certificates::load(config);
        let (revocations, broken) = Book::load(config);
        let unusable = refreshed.unusable
            || !authorities.is_empty()
            || !broken.is_empty()
            || faults.iter().chain(&faulty).any(|fault| fault.severity == Severity::Error);
        diagnostics.extend(authorities);
        diagnostics.extend(broken);
        diagnostics.extend(faults);
        diagnostics.extend(faulty);
        if unusable {
            return Err(StateError(diagnostics));
        }
        // The card has as many counters.
        let highest = u16::try_from(gateway_ebpf::counters::SOURCES - 1).unwrap_or(u16::MAX);
        let mut sources = SourceTable::restored(highest, known);
        let mut protected = Protected::default();
        if let Some(firewall) = &config.firewall {
            protected.refresh(firewall);
        }
        let (bans, damaged) = bans::load(config, matches!(missing, Missing::Create));
        diagnostics.extend(damaged);
        let began = Instant::now();
        let generation = compile(config, &lists, &protected, &bans, &mut sources, None)
            .map_err(|fault| StateError(vec![fault]))?;
        let compiled = Compilation::of(&generation, began);
        diagnostics.extend(protected.trimmed(&generation));
        Ok((
            Self {
                lists,
                protected,
                sources,
                generation: Arc::new(generation),
                compiled,
                fault: None,
                keys,
                certificates,
                revocations: Arc::new(revocations),
                bans: Arc::new(bans),
            },
            diagnostics,
        ))
    }

    /// Reads what has changed. Faulty files leave their last good content in force.
    pub(super) fn refresh(&mut self, config: &Config) -> Refreshed {
        let lists = self.lists.refresh(config);
        self.follow(config, lists)
    }

    /// The same while edits of lists wait: they are left as they are.
    pub(super) fn refresh_around_lists(&mut self, config: &Config) -> Refreshed {
        self.follow(config, lists::Refreshed::default())
    }

    /// Reads everything but the lists, of which this is known.
    fn follow(&mut self, config: &Config, lists: lists::Refreshed) -> Refreshed {
        let keys = self.keys.refresh(config);
        let certificates = self.certificates.refresh(config);
        let revocations = self.revocations.refresh();
        let mut refreshed = Refreshed {
            policy: false,
            keys: keys.changed,
            certificates: certificates.changed,
            revocations: revocations.changed,
            unfinished: lists.unfinished || revocations.unfinished,
            diagnostics: lists.diagnostics,
        };
        refreshed.diagnostics.extend(keys.diagnostics);
        refreshed.diagnostics.extend(certificates.diagnostics);
        refreshed.diagnostics.extend(revocations.faults);
        // The host gets and loses addresses, gateways and resolvers, too.
        let protected = config.firewall.as_ref().is_some_and(|firewall| self.protected.refresh(firewall));
        if lists.changed || protected {
            self.recompile(config, &mut refreshed);
        }
        refreshed
    }

    fn recompile(&mut self, config: &Config, refreshed: &mut Refreshed) {
        match self.compile(config) {
            Ok(diagnostics) => {
                refreshed.diagnostics.extend(diagnostics);
                refreshed.policy = true;
            }
            Err(fault) => {
                self.fault = Some(fault.to_string());
                refreshed.diagnostics.push(fault);
            }
        }
    }

    fn compile(&mut self, config: &Config) -> Result<Vec<Diagnostic>, Diagnostic> {
        let (before, began) = (Some(&*self.generation), Instant::now());
        let generation =
            compile(config, &self.lists, &self.protected, &self.bans, &mut self.sources, before)?;
        self.compiled = Compilation::of(&generation, began);
        let diagnostics = self.protected.trimmed(&generation);
        self.generation = Arc::new(generation);
        self.fault = None;
        Ok(diagnostics)
    }

    /// The bans.
    pub(super) fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// Makes a generation with these bans in the place of the present ones; when they make no policy,
    /// nothing is changed.
    pub(super) fn ban(&mut self, config: &Config, bans: Arc<Bans>) -> Result<(), Diagnostic> {
        let before = std::mem::replace(&mut self.bans, bans);
        match self.compile(config) {
            Ok(_) => Ok(()),
            Err(fault) => {
                self.bans = before;
                Err(fault)
            }
        }
    }

    /// The lists.
    pub(super) fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The generation that [`Self::adopt`] would make of `lists`; nothing is changed.
    pub(super) fn propose(
        &self,
        config: &Config,
        lists: &Lists,
    ) -> Result<(Generation, Vec<Diagnostic>), Diagnostic> {
        let (mut sources, mut protected) = (self.sources.clone(), self.protected.clone());
        if let Some(firewall) = &config.firewall {
            protected.refresh(firewall);
        }
        let generation =
            compile(config, lists, &protected, &self.bans, &mut sources, Some(&self.generation))?;
        let diagnostics = protected.trimmed(&generation);
        Ok((generation, diagnostics))
    }

    /// Makes a generation of `lists`, which are those of `config`, in place of the present ones;
    /// the latter are returned. When they make no policy, nothing is changed.
    pub(super) fn adopt(
        &mut self,
        config: &Config,
        lists: Lists,
    ) -> Result<(Lists, Vec<Diagnostic>), Diagnostic> {
        if let Some(firewall) = &config.firewall {
            self.protected.refresh(firewall);
        }
        let before = std::mem::replace(&mut self.lists, lists);
        match self.compile(config) {
            Ok(diagnostics) => Ok((before, diagnostics)),
            Err(fault) => {
                self.lists = before;
                Err(fault)
            }
        }
    }

    /// Takes [`Self::adopt`] back, before anybody has seen its generation: `lists` made
    /// `generation`.
    pub(super) fn restore(&mut self, lists: Lists, generation: Arc<Generation>) {
        self.lists = lists;
        self.generation = generation;
    }

    /// Puts content of the list `list` in force that was held back.
    pub(super) fn accept(&mut self, config: &Config, list: &str) -> Result<(Accepted, Refreshed), String> {
        let (accepted, lists) = self.lists.accept(list, config)?;
        let mut refreshed = Refreshed { diagnostics: lists.diagnostics, ..Refreshed::default() };
        self.recompile(config, &mut refreshed);
        Ok((accepted, refreshed))
    }

    /// The keys, certificates and revocations of `config`, which is to follow `before`, with what is odd about them;
    /// or everything that is wrong with them. Nothing is changed.
    pub(super) fn prepare(
        &self,
        before: &Config,
        config: &Config,
    ) -> Result<(Gateway, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (keys, mut diagnostics) = Keys::load_after(config, Missing::Create, Some((before, &self.keys)));
        let (certificates, found) = Certificates::load(config);
        diagnostics.extend(found);
        diagnostics.extend(authorities(config));
        let revocations = self.revocations.prepare(config).map_err(|fault| diagnostics.push(fault)).ok();
        let faulty = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        match revocations.filter(|_| !faulty) {
            Some(revocations) => Ok((Gateway { keys, certificates, revocations }, diagnostics)),
            None => Err(diagnostics),
        }
    }

    /// Puts what was prepared in the place of the present one.
    pub(super) fn take(&mut self, gateway: Gateway) {
        let Gateway { keys, certificates, revocations } = gateway;
        (self.keys, self.certificates) = (keys, certificates);
        self.revocations.take(revocations);
    }

    /// What is in force, for the keeper.
    pub(super) fn keep(&mut self) -> Keep {
        self.lists.keep()
    }

    /// Whether the newest lists make no policy.
    pub(super) fn is_faulty(&self) -> bool {
        self.fault.is_some()
    }

    /// The newest generation.
    pub(super) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation)
    }

    /// The policy of `generation`, which is in force, and the counter of each of its lists.
    pub(super) fn policy_status(&self, config: &Config, generation: &Generation) -> Option<PolicyStatus> {
        config.firewall.as_ref()?;
        let lists = generation.lists().iter().map(|summary| self.lists.status(summary));
        let compiled = Some(self.compiled).filter(|compiled| compiled.number == generation.number());
        Some(PolicyStatus {
            generation: generation.number(),
            compiled: compiled.map(|compiled| crate::auth::revocation::seconds(compiled.at)),
            compile_s: compiled.map(|compiled| compiled.took.as_secs_f64()),
            prefixes: generation.entries(),
            memory: generation.blocks().len() * BLOCK_SIZE,
            lists: lists.collect(),
            error: self.fault.clone(),
            edits_wait: false,
            trial_s: None,
            reverted: None,
        })
    }

    /// The folders of the files that `config` depends on.
    pub(super) fn folders(config: &Config) -> BTreeSet<PathBuf> {
        let mut folders = Lists::folders(config);
        folders.extend(keys::folders(config));
        folders.extend(certificates::folders(config));
        folders.extend(config.revocation.file.as_deref().and_then(Path::parent).map(Path::to_owned));
        folders.extend(config.state.clone().filter(|folder| folder.is_dir()));
        folders
    }

    /// The revocations.
    pub(super) fn revocations(&self) -> Arc<Book> {
        Arc::clone(&self.revocations)
    }

    /// The keys.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The certificates of listeners.
    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The snapshot by which handshakes are judged, with the policy of `generation`.
    pub(super) fn snapshot(&self, config: &Config, generation: Arc<Generation>) -> Snapshot {
        let policy = config.firewall.is_some().then_some(generation);
        let authenticator = self.keys.authenticator(config).revoking(self.revocations.in_force().clone());
        Snapshot::new(&config.routes, &authenticator, policy, config.public_url.as_deref())
            .listening(self.certificates.listeners(config))
            .banning(Arc::clone(&self.bans))
    }
}

/// What is wrong with the certificates by which upstreams are known.
fn authorities(config: &Config) -> impl Iterator<Item = Diagnostic> {
    let tls = config.routes.iter().flat_map(|route| &route.upstreams).filter_map(|one| one.tls.as_ref());
    let files: BTreeSet<_> = tls.map(|tls| tls.ca.clone()).collect();
    files.into_iter().filter_map(|ca| match (tls::client(ca.as_deref()), ca) {
        (Ok(_), _) => None,
        (Err(TlsError::Ca { file, reason }), _) => Some(Diagnostic::of_file(&file, reason)),
        (Err(error), _) => Some(Diagnostic::of_file(&config.file, error.to_string())),
    })
}

fn compile(
    config: &Config,
    lists: &Lists,
    protected: &Protected,
    bans: &Bans,
    sources: &mut SourceTable,
    previous: Option<&Generation>,
) -> Result<Generation, Diagnostic> {
    let limits = CompileLimits {
        prefixes: config.limits.prefixes,
        blocks: u32::try_from(config.limits.policy_memory / BLOCK_SIZE).unwrap_or(u32::MAX),
    };
    let input = lists.policy(config, protected.lists().chain(bans.lists()));
    match previous {
        None => policy::compile(1, &input, &limits, sources),
        Some(previous) => {
            let number = previous.number() + 1;
            policy::recompile(previous, number, &input, lists.changes(), &limits, sources)
        }
    }
    .map_err(|error| {
        Diagnostic::of_file(&config.file, format!("the address policy is not put in force: {error}"))
    })
}
