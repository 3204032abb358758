//! One look at the keys of an issuer: where they are, where that has to be found out, and what they
//! are now.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::fault::{Failure, Fault};
use super::freshness::freshness;
use crate::auth::metadata;
use crate::config::{FetchedKeys, KeysPlace, Limits, SecretUrl};
use crate::service::introspection::Place;
use crate::service::outgoing::{Answer, Client, Terms, retry_after};

/// The longest validator that is kept; a longer one makes the next request unconditional.
const VALIDATOR: usize = 1024;

/// Asks one issuer.
#[derive(Debug)]
pub(super) struct Fetcher {
    issuer: String,
    place: KeysPlace,
    terms: Terms,
    limits: Limits,
    /// For how long the metadata is believed.
    metadata: Duration,
    /// Where the keys are by the metadata, and when that was said.
    found: Option<(SecretUrl, Instant)>,
    known: Option<Validators>,
    /// Where the introspection endpoint goes that the metadata names, and whose it is.
    introspection: Option<(String, Place)>,
}

/// What the last set that was taken can be told from others by (RFC 9110 §8.8), and where it was.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    url: SecretUrl,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Fetched {
    /// For how long it is fresh by its own word.
    pub fresh: Option<Duration>,
    /// The set; `None`: the one that was taken last is still the newest.
    pub set: Option<Set>,
}

/// A set that nobody has looked at.
#[derive(Debug)]
pub(super) struct Set {
    /// Where it was, without a query.
    pub place: String,
    /// The bytes.
    pub body: Vec<u8>,
    /// To be given back with [`Fetcher::taken`] if the set is taken.
    pub validators: Validators,
}

impl Fetcher {
    /// Asks the issuer `issuer` for its `keys`.
    pub(super) fn new(issuer: &str, keys: &FetchedKeys, limits: &Limits) -> Self {
        let terms = Terms {
            connect: limits.issuer_timeout,
            idle: limits.issuer_timeout,
            whole: limits.issuer_timeout,
            size: limits.issuer_answer,
            ca: keys.ca.clone(),
            redirects: true,
            kept: 1,
        };
        let (issuer, place) = (issuer.to_owned(), keys.place.clone());
        let (limits, metadata) = (limits.clone(), keys.max_interval);
        Self { issuer, place, terms, limits, metadata, found: None, known: None, introspection: None }
    }

    /// The same, which tells where the issuer of this name is asked about tokens.
    pub(super) fn telling(self, introspection: Option<(String, Place)>) -> Self {
        Self { introspection, ..self }
    }

    /// Asks now.
    pub(super) async fn fetch(&mut self) -> Result<Fetched, Failure> {
        // A client for each request: certificates are read anew, and no connection is kept for hours.
        let client =
            Client::new(&self.terms).map_err(|error| Fault::of(error, &self.place.shown(), &self.limits))?;
        let url = match &self.place {
            KeysPlace::Set(url) => url.clone(),
            KeysPlace::Metadata(urls) => match &self.found {
                Some((url, since)) if since.elapsed() < self.metadata => url.clone(),
                _ => self.discover(&client, urls).await?,
            },
        };
        // Where a request fails, the keys may have moved.
        let found = self.found.take();
        let fetched = self.ask(&client, &url).await?;
        self.found = found.or_else(|| Some((url, Instant::now())));
        Ok(fetched)
    }

    /// The set that came with `validators` is taken: only another one has to be sent from now on.
    pub(super) fn taken(&mut self, validators: Validators) {
        self.known = Some(validators);
    }

    /// Finds out where the keys are. Both places are asked, and the failure of the one that answered
    /// with more than a missing page is told.
    async fn discover(&self, client: &Client, urls: &[Url; 2]) -> Result<SecretUrl, Failure> {
        let mut told: Option<Failure> = None;
        for url in urls {
            match self.metadata(client, url).await {
                Ok(found) => return Ok(found.into()),
                Err(failure) => {
                    let absent = matches!(
                        &told,
                        None | Some(Failure { fault: Fault::Status { status: 404, .. }, .. })
                    );
                    if absent {
                        told = Some(failure);
                    }
                }
            }
        }
        Err(told.unwrap_or_else(|| Fault::Stopping.into()))
    }

    async fn metadata(&self, client: &Client, url: &Url) -> Result<Url, Failure> {
        let fault = |error| Fault::of(error, url.as_str(), &self.limits);
        let answer = client.get(url, asking(None)).await.map_err(fault)?;
        expect(&answer, url.as_str())?;
        let body = answer.body().await.map_err(fault)?;
        let found = metadata::jwks_uri(&body, &self.issuer);
        let found = found.map_err(|error| Fault::Metadata { url: url.to_string(), error })?;
        if let Some((name, place)) = &self.introspection {
            let endpoint = metadata::introspection_endpoint(&body, &self.issuer).map(SecretUrl::from);
            place.put(endpoint.map_err(|error| error.to_string()), name);
        }
        Ok(found)
    }

    async fn ask(&self, client: &Client, url: &SecretUrl) -> Result<Fetched, Failure> {
        let place = url.shown();
        let fault = |error| Fault::of(error, &place, &self.limits);
        let known = self.known.as_ref().filter(|known| known.url == *url);
        let headers = asking(known);
        let conditional = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
        let answer = client.get(url.expose(), headers).await.map_err(fault)?;
        let fresh = freshness(answer.headers(), SystemTime::now());
        if conditional && answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(Fetched { fresh, set: None });
        }
        expect(&answer, &place)?;
        let kept =
            |name: HeaderName| answer.headers().get(name).filter(|value| value.len() <= VALIDATOR).cloned();
        let validators =
            Validators { url: url.clone(), etag: kept(ETAG), last_modified: kept(LAST_MODIFIED) };
        let body = answer.body().await.map_err(fault)?;
        Ok(Fetched { fresh, set: Some(Set { place, body, validators }) })
    }
}

/// The headers of a request, on condition of `known`.
fn asking(known: Option<&Validators>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    if let Some(known) = known {
        headers.extend(known.etag.clone().map(|etag| (IF_NONE_MATCH, etag)));
        headers.extend(known.last_modified.clone().map(|date| (IF_MODIFIED_SINCE, date)));
    }
    headers
}

/// A failure unless the answer has a document.
fn expect(answer: &Answer, url: &str) -> Result<(), Failure> {
    if answer.status() == StatusCode::OK {
        return Ok(());
    }
    let fault = Fault::Status { url: url.to_owned(), status: answer.status().as_u16() };
    Err(Failure { fault, retry_after: retry_after(answer.headers(), SystemTime::now()) })
}
