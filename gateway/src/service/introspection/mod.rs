//! Asks issuers about tokens that only they can read (RFC 7662): each token once at a time, what was
//! said is remembered for a short time, and an endpoint that is down is left alone for a while.

mod breaker;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use self::breaker::Breaker;
use super::outgoing::{Client, OutgoingError, Terms};
use crate::auth::Token;
use crate::auth::introspection::{Answered, Introspect, Introspected, Outage};
use crate::auth::revocation::seconds;
use crate::config::{ClientAuth, Diagnostic, Introspection, Limits};

/// Bytes of a file with a client secret.
const MAX_SECRET: u64 = 4096;
/// When to come back after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How long it is remembered at most that a token is not active: it may be one that is just being made.
const INACTIVE: Duration = Duration::from_secs(10);
/// Connections that are kept for the next question.
const KEPT: usize = 8;

/// Asks one endpoint.
#[derive(Debug)]
pub(super) struct Introspector {
    client: Client,
    endpoint: Url,
    credentials: Credentials,
    cache: Cache<String, Remembered>,
    /// How long an answer is remembered at most.
    keep: Duration,
    breaker: Mutex<Breaker>,
    /// Questions at once.
    lines: Semaphore,
    patience: Duration,
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

/// How the gate proves who it is.
enum Credentials {
    /// In a header (RFC 6749 §2.3.1).
    Basic(HeaderValue),
    /// In the form (RFC 6749 §2.3.1).
    Post { id: String, secret: String },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Introspector {
    /// Asks as `rules` say, within `limits`.
    ///
    /// # Errors
    ///
    /// The file of the secret or of the certificates, and what is wrong with it.
    pub(super) fn new(rules: &Introspection, limits: &Limits) -> Result<Self, Diagnostic> {
        let terms = Terms {
            connect: limits.introspection_timeout,
            idle: limits.introspection_timeout,
            whole: limits.introspection_timeout,
            size: limits.issuer_answer,
            ca: rules.ca.clone(),
            // A token is for this endpoint alone.
            redirects: false,
            kept: KEPT,
        };
        let client = Client::new(&terms).map_err(|error| {
            let file = rules.ca.as_deref().unwrap_or(&rules.secret);
            Diagnostic::of_file(file, error.to_string())
        })?;
        Ok(Self {
            client,
            endpoint: rules.endpoint.clone(),
            credentials: credentials(rules)?,
            cache: Cache::new(limits.introspection_cache),
            keep: rules.cache,
            breaker: Mutex::default(),
            lines: Semaphore::new(limits.introspection_requests),
            patience: limits.introspection_timeout,
        })
    }

    async fn remembered(&self, token: &Token) -> Result<Introspected, Outage> {
        let key = token.as_str();
        if let Some(known) = self.cache.get(key).filter(|known| known.until > Instant::now()) {
            return Ok(known.said);
        }
        // What is there is too old: the first one asks, the others wait for what it hears.
        self.cache.remove_if(key, |known| known.until <= Instant::now());
        let told = self.cache.get_or_insert_async(key, self.ask(key)).await;
        told.map(|known| known.said)
    }

    /// Asks once.
    async fn ask(&self, token: &str) -> Result<Remembered, Outage> {
        let outage = |note: String, retry_after| Outage { note, retry_after };
        let line = timeout(self.patience, self.lines.acquire()).await;
        let Ok(Ok(_line)) = line else {
            return Err(outage("too many tokens are being asked about".to_owned(), RETRY));
        };
        if let Err(rest) = self.breaker().ask(Instant::now()) {
            return Err(outage(
                "the endpoint failed several times, and is left alone for a while".to_owned(),
                rest,
            ));
        }
        let answered = self.request(token).await;
        match answered {
            Ok(said) => {
                self.breaker().answered();
                let until = Instant::now() + self.life(&said);
                Ok(Remembered { said, until })
            }
            Err(Failure { note, counts }) => {
                if counts {
                    self.breaker().failed(Instant::now());
                    let place = self.endpoint.origin().ascii_serialization();
                    log::error!("introspection at {place} failed: {note}");
                } else {
                    self.breaker().answered();
                }
                Err(outage(note, RETRY))
            }
        }
    }

    async fn request(&self, token: &str) -> Result<Introspected, Failure> {
        let (headers, form) = self.form(token);
        let answer = self.client.post(&self.endpoint, headers, form).await;
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
                note: format!("it answered with {status}"),
                counts: !status.is_client_error(),
            });
        }
        let json =
            answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                let kind = value.split(';').next().unwrap_or_default().trim();
                kind.eq_ignore_ascii_case("application/json")
            });
        if !json {
            return Err("its answer is not application/json: check the endpoint".to_owned().into());
        }
        let body = answer.body().await.map_err(|error| error.to_string())?;
        Introspected::parse(&body).map_err(|fault| fault.to_owned().into())
    }

    fn form(&self, token: &str) -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token).append_pair("token_type_hint", "access_token");
        match &self.credentials {
            Credentials::Basic(value) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Credentials::Post { id, secret } => {
                form.append_pair("client_id", id).append_pair("client_secret", secret);
            }
        }
        (headers, form.finish())
    }

    /// How long it counts that this was said: as configured, and not beyond `exp`.
    fn life(&self, said: &Introspected) -> Duration {
        let Introspected::Active(claims) = said else { return self.keep.min(INACTIVE) };
        let expires = claims.get("exp").and_then(serde_json::Value::as_u64);
        let left = expires.map(|expires| expires.saturating_sub(seconds(SystemTime::now())));
        left.map_or(self.keep, |left| self.keep.min(Duration::from_secs(left)))
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Introspect for Introspector {
    fn introspect<'a>(&'a self, token: &'a Token) -> Answered<'a> {
        // Who waits for the answer to another's question waits no longer than for an own one.
        Box::pin(async {
            let told = timeout(self.patience, self.remembered(token)).await;
            told.unwrap_or_else(|_| {
                Err(Outage { note: "it took too long: check the endpoint".to_owned(), retry_after: RETRY })
            })
        })
    }
}

/// All of `rules`, each ready to ask, with what is wrong with them.
pub(super) fn of(
    rules: Option<&Introspection>,
    limits: &Limits,
) -> Result<Option<Arc<dyn Introspect>>, Diagnostic> {
    let introspector = rules.map(|rules| Introspector::new(rules, limits)).transpose()?;
    Ok(introspector.map(|introspector| Arc::new(introspector) as Arc<dyn Introspect>))
}

fn credentials(rules: &Introspection) -> Result<Credentials, Diagnostic> {
    let fault = |message: String| Diagnostic::of_file(&rules.secret, message);
    let mut text = String::new();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&rules.secret);
    let read = file.and_then(|file| file.take(MAX_SECRET + 1).read_to_string(&mut text));
    read.map_err(|error| fault(format!("cannot be read ({error}): it must hold the client secret")))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.len() as u64 > MAX_SECRET || secret.contains(char::is_control) {
        return Err(fault("must hold the client secret, one line and nothing else".to_owned()));
    }
    match rules.auth {
        ClientAuth::Post => Ok(Credentials::Post { id: rules.client_id.clone(), secret: secret.to_owned() }),
        ClientAuth::Basic => {
            // RFC 6749 §2.3.1: both are encoded as in a form before they are joined.
            let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encode(&rules.client_id), encode(secret));
            let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|_| fault("cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            Ok(Credentials::Basic(value))
        }
    }
}
