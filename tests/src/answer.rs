//! What the gate answers to a rejected client, and what every such answer must hold.

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// An HTTP answer other than 101.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names and values, in the order on the wire.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: String,
}

/// A rejection as a client sees it. Header and body agree.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The layer that rejected.
    pub layer: String,
    /// The reason within the layer.
    pub reason: String,
    /// Names the handshake, here and in the log.
    pub id: String,
    /// The problem document (RFC 9457).
    pub problem: Value,
    /// The whole answer.
    pub answer: Answer,
}

impl Answer {
    /// The value of a header that stands there exactly once.
    pub fn header(&self, name: &str) -> Result<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Ok(value),
            (None, _) => Err(anyhow!("there is no header {name}: {self:#?}")),
            (Some(_), Some(_)) => Err(anyhow!("there is more than one header {name}: {self:#?}")),
        }
    }

    /// Whether a header is there.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(found, _)| found.eq_ignore_ascii_case(name))
    }

    /// The rejection that the answer spells out, once as a header and once as a body.
    pub fn rejection(self) -> Result<Rejection> {
        let text = self.header("Gatehouse-Rejection")?;
        let header: Dictionary = Parser::new(text)
            .parse()
            .map_err(|error| anyhow!("{text} is no dictionary (RFC 9651): {error}"))?;
        let layer = token(&header, "layer").with_context(|| format!("in {text}"))?;
        let reason = token(&header, "reason").with_context(|| format!("in {text}"))?;
        let id = string(&header, "id").with_context(|| format!("in {text}"))?;

        ensure!(self.header("Content-Type")?.starts_with("application/problem+json"), "{self:#?}");
        let problem: Value = serde_json::from_str(&self.body).with_context(|| format!("{self:#?}"))?;
        ensure!(problem["layer"] == *layer, "header and body name different layers: {self:#?}");
        ensure!(problem["reason"] == *reason, "header and body name different reasons: {self:#?}");
        ensure!(problem["id"] == *id, "header and body name different handshakes: {self:#?}");
        ensure!(problem["status"] == self.status, "the body names another status: {self:#?}");
        ensure!(problem["retryable"].is_boolean(), "the body does not say whether to retry: {self:#?}");
        for member in ["type", "title", "detail", "fix"] {
            let said = problem[member].as_str().is_some_and(|text| !text.is_empty());
            ensure!(said, "the body has no {member}: {self:#?}");
        }
        // RFC 9110 §15.5.2, §15.5.6, §15.5.22: these answers are incomplete without their header.
        let required = match self.status {
            401 => Some("WWW-Authenticate"),
            405 => Some("Allow"),
            426 => Some("Upgrade"),
            503 => Some("Retry-After"),
            _ => None,
        };
        if let Some(name) = required {
            self.header(name)?;
        }
        Ok(Rejection { layer, reason, id, problem, answer: self })
    }
}

fn token(dictionary: &Dictionary, key: &str) -> Result<String> {
    match item(dictionary, key)? {
        BareItem::Token(token) => Ok(token.as_str().to_owned()),
        other => Err(anyhow!("{key} is no token: {other:?}")),
    }
}

fn string(dictionary: &Dictionary, key: &str) -> Result<String> {
    match item(dictionary, key)? {
        BareItem::String(string) => Ok(string.as_str().to_owned()),
        other => Err(anyhow!("{key} is no string: {other:?}")),
    }
}

fn item<'a>(dictionary: &'a Dictionary, key: &str) -> Result<&'a BareItem> {
    match dictionary.get(key) {
        Some(ListEntry::Item(item)) => Ok(&item.bare_item),
        other => Err(anyhow!("{key} is no item: {other:?}")),
    }
}
