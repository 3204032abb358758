//! The life of one issuer's keys: wait, ask, look at the answer, put it in force or say why not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::adoption::Adoption;
use super::copy::{Copy, Kept};
use super::fault::{Failure, Fault};
use super::fetch::{Fetcher, Set};
use super::line::Line;
use super::{Health, freshness, seconds};
use crate::auth::{Issuer, KeySet, LiveKeys};
use crate::config::{self, Diagnostic, FetchedKeys, Limits};
use crate::service::introspection::Place;

/// Keeps the keys of one issuer at what it has.
#[derive(Debug)]
pub(super) struct Task {
    rules: config::Issuer,
    keys: FetchedKeys,
    live: Arc<LiveKeys>,
    line: Line,
    health: Health,
    copy: Option<Copy>,
    random: fn() -> u64,
    fetcher: Fetcher,
    adoption: Adoption,
    /// The last set that was taken, for the copy.
    taken: Option<String>,
    /// When the issuer had said what is on disk.
    kept: Option<u64>,
    warnings: Vec<Diagnostic>,
    fault: Option<Fault>,
    failures: u32,
    /// Whether it was said that the keys are too old.
    said_stale: bool,
}

impl Task {
    /// For `rules`, whose `keys` go into `live`. What was kept in `copy` is in force when this returns,
    /// unless it is too old.
    pub(super) fn new(
        rules: &config::Issuer,
        keys: &FetchedKeys,
        limits: &Limits,
        live: Arc<LiveKeys>,
        line: Line,
        health: Health,
        copy: Option<Copy>,
    ) -> Self {
        let (rules, keys) = (rules.clone(), keys.clone());
        if let Some(copy) = &copy {
            restore(copy, &rules, &keys, limits, &live, seconds(SystemTime::now()));
        }
        Self {
            fetcher: Fetcher::new(&rules.issuer, &keys, limits),
            adoption: Adoption::new(live.last(), keys.cooldown, keys.min_interval, limits.verified_tokens),
            rules,
            keys,
            live,
            line,
            health,
            copy,
            random: || 0,
            taken: None,
            kept: None,
            warnings: Vec::new(),
            fault: None,
            failures: 0,
            said_stale: false,
        }
    }

    /// The same, with `random` for the time of the next request.
    pub(super) fn with_randomness(self, random: fn() -> u64) -> Self {
        Self { random, ..self }
    }

    /// The same, where the metadata says where the issuer is asked about tokens, which goes into
    /// `introspection`.
    pub(super) fn telling(self, introspection: Option<Place>) -> Self {
        let fetcher = self.fetcher.telling(introspection.map(|place| (self.rules.name.clone(), place)));
        Self { fetcher, ..self }
    }

    /// Runs for ever.
    pub(super) async fn run(mut self) {
        let mut due = Instant::now();
        loop {
            self.line.idle(due).await;
            self.line.start();
            self.health.change(|health| health.last_attempt = Some(seconds(SystemTime::now())));
            let attempted = self.attempt().await;
            let answered = attempted.is_ok();
            self.health.change(|health| {
                let attempts = if answered { &mut health.successes } else { &mut health.failures };
                *attempts += 1;
            });
            let wait = match attempted {
                Ok(fresh) => self.succeeded(fresh),
                Err(failure) => self.failed(failure),
            };
            due = Instant::now() + wait;
            let next = seconds(SystemTime::now()).saturating_add(wait.as_secs());
            self.live.expect_next(next);
            self.health.change(|health| health.next_attempt = Some(next));
            self.line.land(answered);
            // Nobody waits for the disk.
            self.keep().await;
        }
    }

    /// Asks once, and puts what came in force if it can be believed. For how long it is fresh.
    async fn attempt(&mut self) -> Result<Option<Duration>, Failure> {
        // The answer is as old as the moment at which it was asked for, at most.
        let confirmed = seconds(SystemTime::now());
        let fetched = self.fetcher.fetch().await?;
        let (before, now) = (self.adoption.in_force(), Instant::now());
        match fetched.set {
            Some(set) => {
                let (validators, loaded, text) = read(&self.rules, set).await?;
                self.warn(loaded.warnings);
                self.adoption.offer(&loaded.keys, now);
                self.fetcher.taken(validators);
                self.taken = Some(text);
            }
            None => self.adoption.repeat(now),
        }
        self.live.put(self.adoption.in_force(), confirmed);
        self.tell(&before);
        Ok(fetched.fresh)
    }

    /// What follows from a good answer: when to ask next.
    fn succeeded(&mut self, fresh: Option<Duration>) -> Duration {
        (self.failures, self.said_stale) = (0, false);
        self.health.change(|health| health.error = None);
        if self.fault.take().is_some() {
            log::info!("the keys of issuer {} are fetched again", self.rules.name);
        }
        let wait = freshness::after_success(&self.keys, fresh, (self.random)());
        if self.adoption.going() > 0 { wait.min(self.keys.cooldown) } else { wait }
    }

    /// The same from a failure.
    fn failed(&mut self, Failure { fault, retry_after }: Failure) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let before = self.adoption.in_force();
        self.adoption.miss(Instant::now());
        if let Some(confirmed) = self.live.confirmed() {
            self.live.put(self.adoption.in_force(), confirmed);
        }
        self.tell(&before);
        self.health.change(|health| health.error = Some(fault.to_string()));
        let now = seconds(SystemTime::now());
        let stale = self.live.is_stale(now);
        // Said once, not at every attempt.
        if self.fault.as_ref() != Some(&fault) || (stale && !self.said_stale) {
            log::error!(
                "the keys of issuer {} could not be fetched, {}: {fault}",
                self.rules.name,
                self.left(now)
            );
        }
        self.said_stale = stale;
        self.fault = Some(fault);
        let wait = freshness::after_failure(&self.keys, self.failures, retry_after, (self.random)());
        // What the issuer took away goes in time, whatever it asks for.
        let left = self.adoption.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        left.map_or(wait, |left| wait.min(left))
    }

    /// What is in force meanwhile.
    fn left(&self, now: u64) -> String {
        match self.live.confirmed().filter(|_| !self.live.last().is_empty()) {
            None => "and there are none: its tokens get 503".to_owned(),
            Some(_) if self.live.is_stale(now) => {
                "and the last good ones are older than max_stale: its tokens get 503".to_owned()
            }
            Some(confirmed) => {
                let left = self.keys.max_stale.as_secs().saturating_sub(now.saturating_sub(confirmed));
                let left = humantime::format_duration(Duration::from_secs(left));
                format!("the last good ones serve for another {left}")
            }
        }
    }

    /// Tells what has changed since `before`.
    fn tell(&self, before: &Arc<KeySet>) {
        let (name, now, going) = (&self.rules.name, self.adoption.in_force(), self.adoption.going());
        let told = self.health.read().going;
        self.health.change(|health| health.going = going);
        let (new, gone) = (now.minus(before).len(), before.minus(&now).len());
        if new + gone > 0 {
            log::info!("issuer {name} has {} keys now: {new} new, {gone} gone", now.len());
        }
        if going > told {
            log::warn!(
                "issuer {name} no longer has {going} of its keys: they go when it says so again, in {} at the \
                 earliest, or when it cannot be asked for {}",
                humantime::format_duration(self.keys.cooldown),
                humantime::format_duration(self.keys.min_interval.max(self.keys.cooldown))
            );
        }
    }

    /// Says what is odd about the keys, once.
    fn warn(&mut self, warnings: Vec<Diagnostic>) {
        if self.warnings != warnings {
            crate::service::say(&warnings);
            self.warnings = warnings;
        }
    }

    /// Keeps the keys on disk, if the issuer has said something new about them.
    async fn keep(&mut self) {
        let (Some(copy), Some(set), confirmed) = (&self.copy, &self.taken, self.live.confirmed()) else {
            return;
        };
        let Some(confirmed) = confirmed.filter(|_| self.kept != confirmed) else { return };
        self.kept = Some(confirmed);
        let (copy, set) = (copy.clone(), set.clone());
        let written =
            tokio::task::spawn_blocking(move || copy.write(&Kept { confirmed, set })).await.unwrap_or(Ok(()));
        if let Err(error) = written {
            log::error!(
                "the keys of issuer {} cannot be kept ({error}): check the folder of [state] and the space on its disk",
                self.rules.name
            );
        }
    }
}

/// Puts what was kept in `copy` in force in `live` at `now`, in seconds since 1970.
fn restore(
    copy: &Copy,
    rules: &config::Issuer,
    keys: &FetchedKeys,
    limits: &Limits,
    live: &LiveKeys,
    now: u64,
) -> Option<()> {
    let Kept { confirmed, set } = copy.read(limits.issuer_answer)?;
    // A copy from the future was made by a clock that stood wrong: nobody knows how old it is.
    if confirmed > now || now - confirmed > keys.max_stale.as_secs() {
        return None;
    }
    let loaded = KeySet::published("the kept copy", set.into_bytes()).ok()?;
    is_usable(rules, &loaded.keys).then(|| {
        log::info!(
            "issuer {} has {} keys that were kept, fetched {} ago",
            rules.name,
            loaded.keys.len(),
            humantime::format_duration(Duration::from_secs(now - confirmed))
        );
        live.put(Arc::new(loaded.keys.remembering(limits.verified_tokens)), confirmed);
    })
}

/// The keys in `set`, if some of them can be used by `rules`; its text besides.
async fn read(
    rules: &config::Issuer,
    Set { place, body, validators }: Set,
) -> Result<(super::fetch::Validators, crate::auth::Loaded, String), Failure> {
    let url = place.clone();
    let text = String::from_utf8_lossy(&body).into_owned();
    // Checking a thousand keys takes its time.
    let loaded = tokio::task::spawn_blocking(move || KeySet::published(&place, body)).await;
    let mut loaded = loaded.map_err(|_| Fault::Stopping)?.map_err(Fault::NotASet)?;
    if !is_usable(rules, &loaded.keys) {
        let names: Vec<String> = rules.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
        return Err(Fault::NoKey { url, algorithms: names.join(", ") }.into());
    }
    loaded.warnings.extend(crowd(rules, &loaded.keys, &url));
    Ok((validators, loaded, text))
}

fn is_usable(rules: &config::Issuer, keys: &KeySet) -> bool {
    rules.algorithms.iter().any(|algorithm| keys.fits(*algorithm))
}

/// What may keep some tokens out although their key is there.
fn crowd(rules: &config::Issuer, keys: &KeySet, place: &str) -> Option<Diagnostic> {
    let issuer = Issuer::new(rules.clone(), Arc::new(keys.plus(&KeySet::default())));
    let message = issuer.crowd()?;
    Some(Diagnostic::of_file(std::path::Path::new(place), message).warning())
}

#[cfg(test)]
mod tests {
    use super::super::tests::fetched;
    use super::*;
    use crate::config::KeySource;

    const NOW: u64 = 1_800_000_000;
    const SET: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn rules() -> config::Issuer {
        let text = "[[issuer]]\nname = \"main\"\nissuer = \"i\"\naudience = [\"a\"]\n\
                    keys = \"https://idp.example/jwks\"\nalgorithms = [\"EdDSA\"]\n";
        config::parse(std::path::Path::new("g.toml"), text).expect("valid").0.issuers.remove(0)
    }

    /// How many keys are in force at `NOW` after `kept` was on disk.
    fn restored(kept: &Kept) -> usize {
        let folder = tempfile::tempdir().expect("a folder");
        let (rules, keys) = (rules(), fetched());
        let copy = Copy::of(folder.path(), &rules, &keys);
        copy.write(kept).expect("written");
        let live = LiveKeys::new(keys.max_stale);
        restore(&copy, &rules, &keys, &Limits::default(), &live, NOW);
        live.last().len()
    }

    #[test]
    fn kept_keys_serve_unless_they_are_too_old_or_from_the_future() {
        let kept = |confirmed| restored(&Kept { confirmed, set: SET.to_owned() });
        let stale = fetched().max_stale.as_secs();
        assert_eq!((kept(NOW), kept(NOW - stale)), (1, 1));
        assert_eq!((kept(NOW - stale - 1), kept(NOW + 1), kept(u64::MAX), kept(0)), (0, 0, 0, 0));
    }

    #[test]
    fn a_kept_set_is_judged_like_one_that_was_fetched() {
        let secret = r#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;
        for set in ["", "{}", r#"{"keys":[]}"#, secret] {
            assert_eq!(restored(&Kept { confirmed: NOW, set: set.to_owned() }), 0, "{set}");
        }
    }

    #[test]
    fn a_copy_of_another_issuer_or_another_place_is_not_looked_at() {
        let (folder, rules) = (std::path::Path::new("/s"), rules());
        let KeySource::Fetched(keys) = &rules.keys else { panic!("not fetched") };
        let of = |rules: &config::Issuer| format!("{:?}", Copy::of(folder, rules, keys));
        let other = config::Issuer { issuer: "j".to_owned(), ..rules.clone() };
        assert_ne!(of(&rules), of(&other));
        assert_ne!(
            of(&rules),
            format!(
                "{:?}",
                Copy::of(
                    folder,
                    &rules,
                    &FetchedKeys {
                        place: config::KeysPlace::Set(
                            url::Url::parse("https://idp.example/jwks?2").expect("a URL").into()
                        ),
                        ..(**keys).clone()
                    }
                )
            )
        );
    }
}
