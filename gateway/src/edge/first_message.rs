//! Sessions that open without a token and have to show one in their first message.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::answer;
use super::gate::Gate;
use super::opening::Opening;
use super::telling::Telling;
use crate::audit::HandshakeId;
use crate::auth::Token;
use crate::auth::sources::first_message::{self, FirstMessage, unusable};
use crate::auth::sources::{Source, of};
use crate::config::TokenSources;
use crate::rejection::{Reason, Rejection};
use crate::session::messages::{self, Event, MessageError, Messages};
use crate::session::relay::Greetings;
use crate::session::stream::Stream;

/// What the client is told once it is admitted, if its message was for the gate alone.
const AUTHENTICATED: &str = "{\"type\":\"authenticated\"}";

/// What the first message of a session holds.
pub(super) struct Heard {
    pub(super) token: Token,
    /// What both sides hear when the token is good.
    pub(super) greetings: Greetings,
}

/// Opens the session of `opening` and waits for its first message; `None`: the client has left.
///
/// From then on the client is told by a close frame what it would have been
/// told by an answer. The upstream does not know of the session yet, so the gate selects the
/// subprotocol, and no extension.
///
/// # Errors
///
/// - `handshake/subprotocol`: none of those offered can be selected; the session is not open;
/// - `credentials/missing`: no message came in time, or one without a token;
/// - `credentials/first_message`, `credentials/multiple`, `credentials/malformed`: the message is
///   of no use.
pub(super) async fn hear(
    stream: &mut Stream,
    opening: &mut Opening,
    sources: &TokenSources,
    id: HandshakeId,
    gate: &Gate,
    telling: &Telling,
) -> Result<Option<Heard>, Box<Rejection>> {
    opening.settle(select(opening.protocols(), sources)?);
    telling.open();
    let limits = gate.limits();
    let beginning = async {
        let protocol = opening.protocols().first().map(String::as_str);
        stream.write_all(&answer::accept(opening.key(), protocol, id, None)).await?;
        first_event(stream, opening.take_early(), limits.first_message_size).await
    };
    let Ok(outcome) = timeout(limits.first_message_timeout, beginning).await else {
        let patience = humantime::format_duration(limits.first_message_timeout);
        let detail = format!("No message came within {patience} of the session's opening.");
        return Err(Box::new(Rejection::new(Reason::CredentialsMissing).detail(detail)));
    };
    let by_message = |rejection| of(Source::FirstMessage, rejection);
    match outcome {
        // Nobody is there to be told anything.
        Err(_) | Ok(Ok(Beginning::Gone)) => Ok(None),
        Ok(Ok(Beginning::Closed(payload))) => {
            answer::deliver(stream, &messages::close_echo(&payload)).await;
            Ok(None)
        }
        Ok(Ok(Beginning::Text(text, rest))) => {
            let protocol = opening.protocols().first().map(String::as_str);
            let FirstMessage { token, forward } =
                first_message::parse(&text, protocol).map_err(by_message)?;
            let greetings = match forward {
                None => Greetings { to_client: messages::text(AUTHENTICATED), to_upstream: rest },
                Some(forward) => {
                    let [a, b, c, d, ..] = gate.random();
                    let message = messages::masked_text(forward.text(), [a, b, c, d]);
                    Greetings { to_client: Vec::new(), to_upstream: [message, rest].concat() }
                }
            };
            Ok(Some(Heard { token, greetings }))
        }
        Ok(Err(error)) => Err(by_message(unusable(&error.to_string()))),
    }
}

/// What the session's beginning comes to.
enum Beginning {
    /// A text message, and the bytes behind it.
    Text(String, Vec<u8>),
    /// The client closed the session.
    Closed(Vec<u8>),
    /// It closed the connection.
    Gone,
}

/// Reads up to the first message, and answers pings before it.
async fn first_event(
    stream: &mut Stream,
    early: Vec<u8>,
    limit: usize,
) -> io::Result<Result<Beginning, MessageError>> {
    let mut messages = Messages::new(early, limit);
    loop {
        match messages.event() {
            Ok(Some(Event::Text(text))) => return Ok(Ok(Beginning::Text(text, messages.into_rest()))),
            Ok(Some(Event::Close(payload))) => return Ok(Ok(Beginning::Closed(payload))),
            Ok(Some(Event::Ping(payload))) => stream.write_all(&messages::pong(payload)).await?,
            Ok(None) => {
                messages.buffer().reserve(1024);
                if stream.read_buf(messages.buffer()).await? == 0 {
                    return Ok(Ok(Beginning::Gone));
                }
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// The subprotocol of the session: the client's first choice among those of the route.
fn select(offered: &[String], sources: &TokenSources) -> Result<Option<String>, Box<Rejection>> {
    let spoken = |name: &&String| sources.subprotocols.as_ref().is_none_or(|known| known.contains(name));
    match offered.iter().find(spoken) {
        // A browser would not open the session either (RFC 6455 §4.1).
        None if !offered.is_empty() => {
            let detail = "This route speaks none of the subprotocols that the client offers.";
            Err(Box::new(Rejection::new(Reason::HandshakeSubprotocol).detail(detail)))
        }
        selected => Ok(selected.cloned()),
    }
}
