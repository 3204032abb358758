//! Who a client is, with what has to be asked outside for the judgement.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::excerpt;
use super::issuer::{Issuer, Keys, Requirement};
use super::judge::Identity;
use super::jws::Jws;
use super::keys::{LiveKeys, Refreshed};
use super::token::Token;
use crate::rejection::{Reason, Rejection};

impl Requirement {
    /// Who `token` is for: [`Self::judge`], by a clock that can be read again after a wait.
    ///
    /// A token whose key is not among the fetched keys of its issuer makes the gate ask that issuer,
    /// and is judged again by what it has then. Where an issuer is asked about all tokens, it confirms
    /// those that are good by its keys.
    ///
    /// # Errors
    ///
    /// As for [`Self::judge`]. A token with an unknown key of an issuer that could not be asked is
    /// `auth_system/keys_unavailable`: the key may be a new one.
    pub async fn authenticate(
        &self,
        token: &Token,
        now: impl Fn() -> SystemTime,
    ) -> Result<Identity, Box<Rejection>> {
        if let Some(introspected) = self.introspect(token, &now).await {
            return introspected;
        }
        let identity = self.judge_by_keys(token, &now).await?;
        self.confirm(token, identity, now).await
    }

    /// Who `token` is for by keys, after its issuer was asked for one that has not arrived here.
    async fn judge_by_keys(
        &self,
        token: &Token,
        now: impl Fn() -> SystemTime,
    ) -> Result<Identity, Box<Rejection>> {
        let rejection = match self.judge(token, now()) {
            Ok(identity) => return Ok(identity),
            Err(rejection) => rejection,
        };
        let mut outcome = Err(rejection);
        // The second time when an issuer was being asked already, before there was this token.
        for _ in 0..2 {
            let lacking = outcome.as_ref().err().map(|rejection| self.lacking(rejection, token, now()));
            let (mut earlier, mut unknown) = (false, None);
            for Lacking { issuer, keys, key } in lacking.unwrap_or_default() {
                // What the issuer said about the key of one token says nothing about a later one with a
                // key of the same name: it may have been rotated in since.
                let question = format!("{key} {}", token.as_str());
                match keys.refresh(&question).await {
                    Refreshed::Current => {}
                    Refreshed::Earlier => earlier = true,
                    Refreshed::Unknown { retry_after } => {
                        unknown.get_or_insert_with(|| outage(&issuer, &key, retry_after));
                    }
                }
                outcome = self.judge(token, now());
            }
            match (&outcome, unknown) {
                (Err(again), Some(outage)) if is_unverified(again.reason) => return Err(outage),
                _ if earlier => {}
                _ => break,
            }
        }
        outcome
    }

    /// The issuers that may have a key for `token`, rejected by `rejection`, that has not arrived
    /// here. Nothing in the token is verified: it only says whom to ask.
    fn lacking(&self, rejection: &Rejection, token: &Token, now: SystemTime) -> Vec<Lacking> {
        let outage =
            matches!(rejection.reason, Reason::AuthSystemKeysUnavailable | Reason::AuthSystemKeysStale);
        let is_live = |issuer: &&Arc<Issuer>| matches!(issuer.keys, Keys::Live(_));
        if !(outage || is_unverified(rejection.reason)) || !self.issuers.iter().any(|issuer| is_live(&issuer))
        {
            return Vec::new();
        }
        let Ok(jws) = Jws::parse(token) else { return Vec::new() };
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (algorithm, id) = (jws.header.algorithm, jws.header.key_id.as_deref());
        let iss = jws.claims.get("iss").and_then(Value::as_str);
        let named = self.issuers.iter().filter(|issuer| Some(issuer.rules.issuer.as_str()) == iss);
        let lacking =
            named.filter(|issuer| issuer.rules.algorithms.contains(&algorithm)).filter_map(|issuer| {
                let Keys::Live(keys) = &issuer.keys else { return None };
                let has =
                    keys.current(now).is_ok_and(|current| current.candidates(id, algorithm).next().is_some());
                let key = format!("{algorithm:?} {}", id.unwrap_or_default());
                (!has).then(|| Lacking { issuer: issuer.rules.name.clone(), keys: Arc::clone(keys), key })
            });
        lacking.collect()
    }
}

/// An issuer whose keys may lack one that it has.
struct Lacking {
    issuer: String,
    keys: Arc<LiveKeys>,
    /// Algorithm and `kid` of the key, as the token has them.
    key: String,
}

/// Whether no key confirmed the token, though another key might.
fn is_unverified(reason: Reason) -> bool {
    matches!(reason, Reason::CredentialsUnknownKey | Reason::CredentialsBadSignature)
}

/// Whether the token is good cannot be told: the issuer may have a key that it did not have when it
/// was last heard of, and that is not the client's fault.
fn outage(issuer: &str, key: &str, retry_after: Duration) -> Box<Rejection> {
    let note = format!(
        "the key {} is not known, and the issuer could not be asked just now whether it is new",
        excerpt(key)
    );
    let mut rejection = Rejection::new(Reason::AuthSystemKeysUnavailable).note(note).retry_after(retry_after);
    rejection.issuer = Some(issuer.to_owned());
    Box::new(rejection)
}
