//! Asks issuers about tokens that only they can read (RFC 7662): each token once at a time, what was
//! said is remembered for a short time, and an endpoint that is down is left alone for a while.

mod breaker;
mod means;
mod place;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use http::header::{CONTENT_TYPE, HeaderMap};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use self::breaker::Breaker;
use self::means::{Means, Stamps, stamps};
pub(super) use self::place::Place;
use super::outgoing::OutgoingError;
use crate::admin::introspection::IntrospectionStatus;
use crate::admin::status::IssuerStatus;
use crate::auth::Token;
use crate::auth::introspection::{Answered, Introspect, Introspected, Outage};
use crate::auth::revocation::seconds;
use crate::config::{Diagnostic, Introspection, Limits, SecretUrl};

/// What an endpoint did that does not answer.
const TOO_LONG: &str = "it took too long: check the endpoint";
/// Who asks hears by itself that its time is over, and says so, before anybody gives it up.
const GRACE: Duration = Duration::from_millis(100);

/// Asks one issuer.
#[derive(Debug)]
pub(super) struct Introspector {
    rules: Introspection,
    limits: Limits,
    place: Place,
    means: ArcSwap<Means>,
    /// What the means were read from, and what is wrong with newer files.
    files: Mutex<(Stamps, Option<String>)>,
    /// By the hash of the token (SHA-256): it is not kept.
    cache: Cache<[u8; 32], Remembered>,
    state: Mutex<State>,
    /// Questions at once.
    lines: Semaphore,
}

/// How it went so far.
#[derive(Debug)]
struct State {
    breaker: Breaker,
    /// In seconds since 1970.
    last_success: Option<u64>,
    last_failure: Option<u64>,
    error: Option<String>,
}

/// What a token was said to be, and until when that counts.
#[derive(Clone, Debug)]
struct Remembered {
    said: Introspected,
    until: Instant,
}

/// Why there is no answer.
struct Failure {
    note: String,
    /// Whether it says something about the endpoint, and not only about this token.
    counts: bool,
}

impl From<String> for Failure {
    fn from(note: String) -> Self {
        Self { note, counts: true }
    }
}

impl Introspector {
    /// Asks as `rules` say, within `limits`.
    ///
    /// # Errors
    ///
    /// The file of the secret or of the certificates, and what is wrong with it.
    pub(super) fn new(rules: &Introspection, limits: &Limits) -> Result<Self, Diagnostic> {
        // Before they are read: what changes meanwhile is read again.
        let stamps = stamps(rules);
        Ok(Self {
            place: Place::new(rules.endpoint.clone()),
            means: ArcSwap::from_pointee(Means::read(rules, limits)?),
            files: Mutex::new((stamps, None)),
            cache: Cache::new(limits.introspection_cache),
            state: Mutex::new(State {
                breaker: Breaker::new(rules.failures, rules.rest),
                last_success: None,
                last_failure: None,
                error: None,
            }),
            lines: Semaphore::new(limits.introspection_requests),
            rules: rules.clone(),
            limits: limits.clone(),
        })
    }

    /// Where the endpoint goes that the issuer's metadata names; `None`: the configuration names it.
    pub(super) fn place(&self) -> Option<Place> {
        self.rules.endpoint.is_none().then(|| self.place.clone())
    }

    /// The files that it reads.
    pub(super) fn files(rules: &Introspection) -> impl Iterator<Item = &std::path::Path> {
        std::iter::once(rules.secret.as_path()).chain(rules.ca.as_deref())
    }

    /// Reads the files anew that have changed. Faulty ones leave the last good ones in force.
    pub(super) fn refresh(&self) -> Result<(), Diagnostic> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.rules);
        if now == files.0 {
            return Ok(());
        }
        files.0 = now;
        match Means::read(&self.rules, &self.limits) {
            Ok(means) => {
                self.means.store(Arc::new(means));
                files.1 = None;
                // It may have failed for the very reason that was repaired.
                self.state().breaker.answered();
                Ok(())
            }
            Err(fault) => {
                files.1 = Some(fault.to_string());
                Err(fault)
            }
        }
    }

    /// How it stands at `now`.
    pub(super) fn status(&self, now: SystemTime) -> IntrospectionStatus {
        let endpoint = self.place.get().ok();
        let file_error = self.files.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        let state = self.state();
        let rest = state.breaker.resting(Instant::now());
        IntrospectionStatus {
            endpoint: endpoint.as_ref().map(SecretUrl::shown),
            resting: rest.is_some(),
            // Of a part of a second, a whole one is left.
            rest_s: rest.map(|rest| rest.as_secs() + u64::from(rest.subsec_nanos() > 0)),
            failures: state.breaker.failures(),
            last_success: state.last_success,
            age_s: state.last_success.map(|then| seconds(now).saturating_sub(then)),
            last_failure: state.last_failure,
            // Why metadata has not arrived is told where the keys are.
            error: self.place.fault().or_else(|| state.error.clone()),
            file_error,
        }
    }

    async fn remembered(&self, token: &Token) -> Result<Introspected, Outage> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_str().as_bytes()).as_ref());
        if let Some(known) = self.cache.get(&key).filter(|known| known.until > Instant::now()) {
            return Ok(known.said);
        }
        // What is there is too old: the first one asks, the others wait for what it hears.
        self.cache.remove_if(&key, |known| known.until <= Instant::now());
        let told = self.cache.get_or_insert_async(&key, self.ask(token.as_str())).await;
        told.map(|known| known.said)
    }

    /// Asks once.
    async fn ask(&self, token: &str) -> Result<Remembered, Outage> {
        let retry = self.rules.retry;
        let outage = |note: String, retry_after| Outage { note, retry_after };
        let endpoint = self.place.get().map_err(|note| outage(note, retry))?;
        let deadline = Instant::now() + self.limits.introspection_timeout;
        let line = timeout_at(deadline, self.lines.acquire()).await;
        let Ok(Ok(_line)) = line else {
            return Err(outage("too many tokens are being asked about".to_owned(), retry));
        };
        if let Err(rest) = self.state().breaker.ask(Instant::now()) {
            let note = "the endpoint failed several times, and is left alone for a while: `gatehouse status` says why";
            return Err(outage(note.to_owned(), rest));
        }
        let answered = timeout_at(deadline, self.request(&endpoint, token)).await;
        match answered.unwrap_or_else(|_| Err(TOO_LONG.to_owned().into())) {
            Ok(said) => {
                self.state().answered(SystemTime::now());
                let until = Instant::now() + self.life(&said);
                Ok(Remembered { said, until })
            }
            Err(failure) => {
                if failure.counts {
                    let place = endpoint.expose().origin().ascii_serialization();
                    log::error!("introspection at {place} failed: {}", failure.note);
                }
                self.state().failed(&failure, SystemTime::now());
                Err(outage(failure.note, retry))
            }
        }
    }

    async fn request(&self, endpoint: &SecretUrl, token: &str) -> Result<Introspected, Failure> {
        let means = self.means.load_full();
        let (headers, form) = means.form(token);
        let answer = means.client.post(endpoint.expose(), headers, form).await;
        let answer = answer.map_err(|error: OutgoingError| error.to_string())?;
        let status = answer.status();
        if matches!(status.as_u16(), 401 | 403) {
            let note = format!("it refused the gate itself with {status}: check client_id and client_secret");
            return Err(note.into());
        }
        // It may be the token that it does not like: whoever sends such a one must not be able to have
        // the endpoint left alone.
        if status.as_u16() != 200 {
            return Err(Failure {
                note: format!("it answered with {status}: check the issuer and the endpoint"),
                counts: !status.is_client_error(),
            });
        }
        if !is_json(answer.headers()) {
            return Err("its answer is not application/json: check the endpoint".to_owned().into());
        }
        let body = answer.body().await.map_err(|error| error.to_string())?;
        Introspected::parse(&body).map_err(|fault| fault.to_owned().into())
    }

    /// How long it counts that this was said: as configured, and not beyond `exp`.
    fn life(&self, said: &Introspected) -> Duration {
        let Introspected::Active(claims) = said else { return self.rules.inactive_cache };
        let keep = self.rules.cache;
        let expires = claims.get("exp").and_then(serde_json::Value::as_u64);
        let left = expires.map(|expires| expires.saturating_sub(seconds(SystemTime::now())));
        left.map_or(keep, |left| keep.min(Duration::from_secs(left)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answered(&mut self, now: SystemTime) {
        self.breaker.answered();
        (self.last_success, self.error) = (Some(seconds(now)), None);
    }

    fn failed(&mut self, failure: &Failure, now: SystemTime) {
        if failure.counts {
            self.breaker.failed(Instant::now());
        } else {
            self.breaker.answered();
        }
        (self.last_failure, self.error) = (Some(seconds(now)), Some(failure.note.clone()));
    }
}

impl Introspect for Introspector {
    fn introspect<'a>(&'a self, token: &'a Token) -> Answered<'a> {
        // Who waits for the answer to another's question waits no longer than for an own one.
        Box::pin(async {
            let told = timeout(self.limits.introspection_timeout + GRACE, self.remembered(token)).await;
            told.unwrap_or_else(|_| Err(Outage { note: TOO_LONG.to_owned(), retry_after: self.rules.retry }))
        })
    }
}

/// Who asks about tokens, of all issuers of a configuration that are asked.
#[derive(Debug, Default)]
pub(super) struct Introspectors(Vec<(String, Arc<Introspector>)>);

impl Introspectors {
    /// With these, each by the name of its issuer.
    pub(super) fn new(known: Vec<(String, Arc<Introspector>)>) -> Self {
        Self(known)
    }

    /// Adds to the status of each issuer how the asking about its tokens stands at `now`.
    pub(super) fn add_to(&self, status: &mut [IssuerStatus], now: SystemTime) {
        for issuer in status {
            let known = self.0.iter().find(|(name, _)| *name == issuer.issuer);
            issuer.introspection = known.map(|(_, introspector)| introspector.status(now));
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let kind = value.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}
