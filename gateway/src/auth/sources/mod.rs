//! Where the token of a request stands. Pure.
//!
//! Each enabled place is looked at, and what it holds is taken out: whoever sees the request
//! afterwards, the upstream above all, sees no token. A place that is not enabled is left as it is,
//! for what stands there may be the upstream's own business.

mod cookie;
pub mod first_message;
mod query;
mod subprotocol;

#[cfg(test)]
mod tests;

use std::fmt;

use super::token::{Token, bearer};
use crate::config::TokenSources;
use crate::rejection::{Reason, Rejection};
use crate::session::headers::Headers;

/// A place where a client can put its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `Authorization: Bearer` (RFC 6750 §2.1).
    Authorization,
    /// An entry of `Sec-WebSocket-Protocol`.
    Subprotocol,
    /// The route's cookie.
    Cookie,
    /// The query parameter `ticket`, which stands for a token.
    Ticket,
    /// The query parameter `access_token` (RFC 6750 §2.3).
    Query,
    /// The first message of the session.
    FirstMessage,
}

impl Source {
    /// The name in the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Subprotocol => "subprotocol",
            Self::Cookie => "cookie",
            Self::Ticket => "ticket",
            Self::Query => "query",
            Self::FirstMessage => "first_message",
        }
    }

    /// The place, in words that continue "in".
    pub const fn place(self) -> &'static str {
        match self {
            Self::Authorization => "the Authorization header",
            Self::Subprotocol => "Sec-WebSocket-Protocol",
            Self::Cookie => "a cookie",
            Self::Ticket => "the query parameter ticket",
            Self::Query => "the query parameter access_token",
            Self::FirstMessage => "the first message",
        }
    }
}

/// The parts of an opening handshake in which a token can stand.
#[derive(Debug)]
pub struct Carriers<'a> {
    /// All headers, their names in lower case.
    pub headers: &'a mut Headers,
    /// The subprotocols offered, which also stand in the headers.
    pub protocols: &'a mut Vec<String>,
    /// The query, without its question mark.
    pub query: &'a mut Option<String>,
    /// Whether the request has an `Origin` header.
    pub has_origin: bool,
}

/// What a client showed to prove who it is.
#[derive(Debug)]
pub enum Presented {
    /// A token.
    Token(Token),
    /// What stands for a token that was shown before.
    Ticket(Ticket),
}

/// A ticket as the client sent it: as short as a token at most, and not judged yet.
///
/// Whoever reads it can use it, so `Debug` does not print it.
pub struct Ticket(String);

impl Ticket {
    /// The ticket itself, which belongs into no log and no answer.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

type Judged<T> = Result<T, Box<Rejection>>;

/// Something in one of the places: what it is, or what is wrong with it.
struct Candidate {
    source: Source,
    presented: Judged<Presented>,
}

impl Candidate {
    fn new(source: Source, token: Judged<Token>) -> Self {
        Self { source, presented: token.map(Presented::Token) }
    }
}

/// Takes what the client presents out of its request; `None` when there is nothing in any enabled
/// place.
///
/// # Errors
///
/// Whatever the error, nothing that was found is left in the request.
///
/// - `handshake/malformed` or `handshake/subprotocol`: the subprotocols cannot be answered once the
///   token is taken out;
/// - `credentials/multiple`: there is more than one;
/// - `credentials/malformed`: what is there is no token;
/// - `credentials/missing`: it stands where this very request may not have it.
pub fn take(carriers: Carriers<'_>, sources: &TokenSources) -> Judged<Option<(Source, Presented)>> {
    let Carriers { headers, protocols, query, has_origin } = carriers;
    // Everything is taken out before anything is judged.
    let (header, unusable) = authorization(headers);
    let subprotocols = sources.subprotocol_prefix.as_deref().map(|prefix| {
        let tokens = subprotocol::take(headers, protocols, prefix);
        tokens.iter().map(|token| Candidate::new(Source::Subprotocol, subprotocol::decode(token))).collect()
    });
    let subprotocols: Vec<Candidate> = subprotocols.unwrap_or_default();
    let cookies = sources.cookie.as_deref().map(|name| cookie::take(headers, name)).unwrap_or_default();
    let mut parameters = |name, enabled: bool| if enabled { query::take(query, name) } else { Vec::new() };
    let tickets = parameters("ticket", sources.tickets);
    let tokens = parameters("access_token", sources.query);

    if protocols.iter().any(|protocol| protocol.contains('=')) {
        let rejection = Rejection::new(Reason::HandshakeMalformed);
        return Err(Box::new(rejection.detail("Sec-WebSocket-Protocol is not a list of tokens.")));
    }
    if !subprotocols.is_empty() && protocols.is_empty() {
        let detail = "Beside its token, the client offers no subprotocol that could be selected.";
        return Err(Box::new(Rejection::new(Reason::HandshakeSubprotocol).detail(detail)));
    }

    let mut candidates: Vec<Candidate> = header.into_iter().chain(subprotocols).collect();
    candidates.extend(cookies.iter().map(|value| Candidate::new(Source::Cookie, Token::parse(value))));
    candidates.extend(
        tickets.into_iter().map(|value| Candidate { source: Source::Ticket, presented: ticket(&value) }),
    );
    candidates.extend(tokens.iter().map(|value| Candidate::new(Source::Query, Token::parse(value))));
    let mut candidates = candidates.into_iter();
    let Some(Candidate { source, presented }) = candidates.next() else {
        // Where the first message can have the token, the request need not.
        return unusable.filter(|_| !sources.first_message).map_or(Ok(None), Err);
    };
    if let Some(other) = candidates.next() {
        return Err(multiple(source, other.source));
    }
    if source == Source::Cookie && !has_origin {
        let detail = "The token in the cookie does not count, for the request has no Origin header.";
        return Err(of(source, Box::new(Rejection::new(Reason::CredentialsMissing).detail(detail))));
    }
    match presented {
        Ok(presented) => Ok(Some((source, presented))),
        Err(rejection) => Err(of(source, rejection)),
    }
}

/// `rejection`, of something that stood in `source`.
pub fn of(source: Source, mut rejection: Box<Rejection>) -> Box<Rejection> {
    rejection.source = Some(source);
    rejection
}

/// The rejection of a request without a token on a route with these sources: it says where one
/// could be.
pub fn missing(sources: &TokenSources) -> Box<Rejection> {
    let detail = format!("The request has no token. This route takes one in {}.", places(sources));
    Box::new(Rejection::new(Reason::CredentialsMissing).detail(detail))
}

/// The places in which a route with these sources takes a token, in words.
pub fn places(sources: &TokenSources) -> String {
    let enabled = [
        (Source::Authorization, true),
        (Source::Subprotocol, sources.subprotocol_prefix.is_some()),
        (Source::Cookie, sources.cookie.is_some()),
        (Source::Ticket, sources.tickets),
        (Source::Query, sources.query),
        (Source::FirstMessage, sources.first_message),
    ];
    let places: Vec<&str> =
        enabled.iter().filter(|(_, enabled)| *enabled).map(|(source, _)| source.place()).collect();
    match places.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => places.concat(),
    }
}

/// The token of the `Authorization` headers, which are taken out; or why what is there is none.
fn authorization(headers: &mut Headers) -> (Option<Candidate>, Option<Box<Rejection>>) {
    let values: Vec<Vec<u8>> =
        headers.extract_if(.., |(name, _)| name == "authorization").map(|(_, value)| value).collect();
    match bearer(values.iter().map(Vec::as_slice)) {
        Err(rejection) if rejection.reason == Reason::CredentialsMissing => {
            (None, Some(rejection).filter(|rejection| rejection.detail.is_some()))
        }
        token => (Some(Candidate::new(Source::Authorization, token)), None),
    }
}

fn ticket(value: &[u8]) -> Judged<Presented> {
    Token::parse(value)
        .map(|token| Presented::Ticket(Ticket(token.as_str().to_owned())))
        .map_err(|_| malformed("The ticket is not one that this service has given out."))
}

fn multiple(one: Source, other: Source) -> Box<Rejection> {
    let detail = if one == other {
        format!("There is more than one token in {}.", one.place())
    } else {
        format!("There is a token in {} and another one in {}.", one.place(), other.place())
    };
    Box::new(Rejection::new(Reason::CredentialsMultiple).detail(detail))
}

fn malformed(detail: &str) -> Box<Rejection> {
    Box::new(Rejection::new(Reason::CredentialsMalformed).detail(detail))
}
