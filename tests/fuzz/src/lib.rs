//! What has to hold for any input of the parsers and judges that strangers can reach: one function
//! for each, which panics when it does not hold.
//!
//! The smoke run (`tests/smoke`) feeds them the corpus and mutations of it in every `cargo test`;
//! `libfuzzer/` lets libFuzzer search for more.
#![forbid(unsafe_code)]

mod answer;
mod audit;
mod bans;
mod captures;
mod config;
mod endpoint;
mod first_message;
mod forwarded;
mod frames;
mod handshake;
mod introspection;
mod keys;
mod lists;
mod metadata;
mod naive;
mod packets;
mod policy;
mod proxy_header;
mod revocations;
mod signing;
mod sources;
mod ticket;
mod token;
mod unpack;

/// One parser or judge.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// The folder of its corpus.
    pub corpus: &'static str,
    /// Feeds it an input, and panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 23] = [
    Target { name: "lists", corpus: "lists", run: lists::run },
    Target { name: "policy", corpus: "lists", run: policy::run },
    Target { name: "unpack", corpus: "archives", run: unpack::run },
    Target { name: "packets", corpus: "packets", run: packets::run },
    Target { name: "captures", corpus: "captures", run: captures::run },
    Target { name: "config", corpus: "config", run: config::run },
    Target { name: "proxy_header", corpus: "proxy_header", run: proxy_header::run },
    Target { name: "forwarded", corpus: "forwarded", run: forwarded::run },
    Target { name: "handshake", corpus: "handshake", run: handshake::run },
    Target { name: "token", corpus: "token", run: token::run },
    Target { name: "keys", corpus: "keys", run: keys::run },
    Target { name: "metadata", corpus: "metadata", run: metadata::run },
    Target { name: "sources", corpus: "handshake", run: sources::run },
    Target { name: "first_message", corpus: "first_message", run: first_message::run },
    Target { name: "answer", corpus: "answer", run: answer::run },
    Target { name: "frames", corpus: "frames", run: frames::run },
    Target { name: "revocations", corpus: "revocations", run: revocations::run },
    Target { name: "endpoint", corpus: "endpoint", run: endpoint::run },
    Target { name: "bans", corpus: "bans", run: bans::run },
    Target { name: "audit", corpus: "audit", run: audit::run },
    Target { name: "ticket", corpus: "ticket", run: ticket::run },
    Target { name: "signing", corpus: "signing", run: signing::run },
    Target { name: "introspection", corpus: "introspection", run: introspection::run },
];

/// Feeds an input to the target with this name.
///
/// # Panics
///
/// When something does not hold, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    assert!(target.is_some(), "there is no target {name}");
    target.into_iter().for_each(|target| (target.run)(input));
}

/// One line without anything that a terminal obeys, as every message to an operator has to be.
fn is_one_plain_line(message: &str) -> bool {
    !message.is_empty() && !message.chars().any(char::is_control)
}
