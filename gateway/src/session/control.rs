//! Messages between the client and the gate within a session, where a route allows them. They are put
//! in between messages of the upstream, and taken out before the upstream sees them. Pure, but for the
//! channels at its ends.

use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::messages;
use crate::audit::HandshakeId;
use crate::rejection::Rejection;

/// How a message for the gate begins, to the byte. Whatever begins otherwise is for the upstream.
pub const PREFIX: &[u8] = b"{\"type\":\"gatehouse.renew\"";

/// A text message in one frame, not compressed (RFC 6455 §5.2).
const WHOLE_TEXT: u8 = 0x81;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const FIRST_CONTROL: u8 = 0x8;
/// Bytes of the longest header of a client's frame: with a length of eight bytes, and the mask.
const LONGEST_HEADER: usize = 14;

/// Messages for the client that wait to be put in.
const WAITING: usize = 4;

/// The relay's end.
#[derive(Debug)]
pub struct Controls {
    pub(super) to_client: mpsc::Receiver<Vec<u8>>,
    from_client: mpsc::Sender<String>,
    sieve: Sieve,
}

/// The end of who answers.
#[derive(Debug)]
pub struct Desk {
    to_client: mpsc::Sender<Vec<u8>>,
    from_client: mpsc::Receiver<String>,
}

/// Both ends of the messages of one session, of which the client's have at most `limit` bytes.
pub fn controls(limit: usize) -> (Controls, Desk) {
    let (say, to_client) = mpsc::channel(WAITING);
    // One at a time: a client that does not wait for its answer is not heard.
    let (from_client, hear) = mpsc::channel(1);
    let controls = Controls { to_client, from_client, sieve: Sieve::new(limit) };
    (controls, Desk { to_client: say, from_client: hear })
}

impl Controls {
    /// Of `bytes`, which the client sent next, those for the upstream go to `passed`.
    pub(super) fn sift(&mut self, bytes: &[u8], passed: &mut Vec<u8>) {
        let from_client = &self.from_client;
        self.sieve.sift(bytes, passed, |text| {
            // What comes before the last has been answered is lost, and so is what nobody awaits.
            let _ = from_client.try_send(text);
        });
    }

    /// What was held back of a message that has not ended.
    pub(super) fn release(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sieve.held)
    }
}

impl Desk {
    /// The next message for the gate.
    pub async fn hear(&mut self) -> Option<String> {
        self.from_client.recv().await
    }

    /// Tells the client something, as soon as a message can be put in.
    pub fn say(&self, message: &serde_json::Value) {
        // A client that does not read what it is told misses the rest.
        let _ = self.to_client.try_send(messages::text(&message.to_string()));
    }
}

/// The session `id` ends in `seconds`, unless it is renewed.
pub fn expiring(id: HandshakeId, seconds: u64) -> serde_json::Value {
    json!({ "type": "gatehouse.expiring", "id": id.to_string(), "expires_in": seconds })
}

/// The session goes on for `seconds`.
pub fn renewed(seconds: u64) -> serde_json::Value {
    json!({ "type": "gatehouse.renewed", "expires_in": seconds })
}

/// The token does not renew the session, which goes on as it was.
pub fn refused(rejection: &Rejection) -> serde_json::Value {
    let reason = rejection.reason;
    let mut message = json!({
        "type": "gatehouse.refused",
        "layer": reason.layer().name(),
        "reason": reason.name(),
        "detail": rejection.detail.as_deref().unwrap_or(reason.title()),
        "retryable": reason.retryable(),
    });
    if let Some(wait) = rejection.retry_after {
        message["retry_after"] = wait.as_secs().max(1).into();
    }
    message
}

/// The token in a message for the gate, as far as it is one.
pub fn token(message: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Renew {
        token: String,
    }
    serde_json::from_str::<Renew>(message).ok().map(|renew| renew.token)
}

/// Takes the messages for the gate out of a client's frames.
struct Sieve {
    /// The start of a frame of which it is not known yet whose it is, or all that has come of one for the
    /// gate.
    held: Vec<u8>,
    /// Bytes of the frame under way that are the upstream's.
    passing: u64,
    /// A message has begun whose last fragment has not.
    fragmented: bool,
    limit: usize,
}

impl std::fmt::Debug for Sieve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is held can be a token.
        f.debug_struct("Sieve").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// A header of a client's frame.
struct Header {
    length: usize,
    payload: u64,
    mask: Option<[u8; 4]>,
}

impl Sieve {
    fn new(limit: usize) -> Self {
        Self { held: Vec::new(), passing: 0, fragmented: false, limit }
    }

    fn sift(&mut self, mut bytes: &[u8], passed: &mut Vec<u8>, mut taken: impl FnMut(String)) {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let count = usize::try_from(self.passing).unwrap_or(usize::MAX).min(bytes.len());
                passed.extend_from_slice(&bytes[..count]);
                self.passing -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            // No more is taken than the next decision needs, so that nothing of the frame behind is held.
            let count = self.wanted().min(bytes.len());
            self.held.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.decide(passed, &mut taken);
        }
    }

    /// Bytes that are missing for the next decision; at least one.
    fn wanted(&self) -> usize {
        match header(&self.held) {
            None => 1,
            Some(header) => {
                let payload = usize::try_from(header.payload).unwrap_or(usize::MAX);
                let known = self.held.len() - header.length;
                let next = if known < PREFIX.len() { PREFIX.len().min(payload) } else { payload };
                next.saturating_sub(known).max(1)
            }
        }
    }

    fn decide(&mut self, passed: &mut Vec<u8>, taken: &mut impl FnMut(String)) {
        let Some(header) = header(&self.held) else {
            return;
        };
        let first = self.held[0];
        let known = self.held.len() - header.length;
        let possible = first == WHOLE_TEXT
            && !self.fragmented
            && header.payload >= PREFIX.len() as u64
            && header.payload <= self.limit as u64;
        if let (true, Some(mask)) = (possible, header.mask) {
            let payload = self.held[header.length..].iter().zip(mask.iter().cycle());
            if payload.clone().zip(PREFIX).all(|((byte, mask), expected)| byte ^ mask == *expected) {
                if (known as u64) < header.payload {
                    return;
                }
                let text: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
                self.held = Vec::new();
                // What is no text is nobody's message.
                if let Ok(text) = String::from_utf8(text) {
                    taken(text);
                }
                return;
            }
        }
        // RFC 6455 §5.4: control frames may come between the fragments of a message.
        if first & OPCODE < FIRST_CONTROL {
            self.fragmented = first & FINAL == 0;
        }
        self.passing = header.payload.saturating_sub(known as u64);
        passed.append(&mut self.held);
        self.held = Vec::new();
    }
}

/// The header at the start of `bytes`, once it is whole.
fn header(bytes: &[u8]) -> Option<Header> {
    let second = *bytes.get(1)?;
    let (payload, length) = match second & !MASKED {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    if second & MASKED == 0 {
        return Some(Header { length, payload, mask: None });
    }
    let mask = bytes.get(length..length + 4)?.try_into().ok()?;
    debug_assert!(length + 4 <= LONGEST_HEADER);
    Some(Header { length: length + 4, payload, mask: Some(mask) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::messages::masked_text;
    use super::*;

    const MASK: [u8; 4] = [0x81, 0x02, 0xff, 0x00];
    const RENEW: &str = "{\"type\":\"gatehouse.renew\",\"token\":\"a.b.c\"}";

    fn sift(pieces: &[&[u8]], limit: usize) -> (Vec<u8>, Vec<String>, Vec<u8>) {
        let mut sieve = Sieve::new(limit);
        let (mut passed, mut taken) = (Vec::new(), Vec::new());
        for piece in pieces {
            sieve.sift(piece, &mut passed, |text| taken.push(text));
        }
        (passed, taken, sieve.held)
    }

    /// A frame with this first byte.
    fn frame(first: u8, text: &str) -> Vec<u8> {
        let mut frame = masked_text(text, MASK);
        frame[0] = first;
        frame
    }

    #[test]
    fn a_message_for_the_gate_is_taken_out_and_no_other() {
        let (before, after) = (masked_text("{\"type\":\"gatehouse\"}", MASK), masked_text("", MASK));
        let all = [&before[..], &masked_text(RENEW, MASK), &after].concat();
        let (passed, taken, held) = sift(&[&all], 4096);
        assert_eq!((passed, taken), ([before, after].concat(), vec![RENEW.to_owned()]));
        assert!(held.is_empty());
        assert_eq!(token(RENEW).as_deref(), Some("a.b.c"));
        assert_eq!(token("{\"type\":\"gatehouse.renew\"}"), None);
    }

    #[test]
    fn what_is_binary_compressed_fragmented_unmasked_or_too_long_is_the_upstreams() {
        let long = format!("{{\"type\":\"gatehouse.renew\",\"token\":\"{}\"}}", "x".repeat(4096));
        let mut unmasked = messages::text(RENEW);
        unmasked.extend(frame(0x8a, ""));
        for other in [
            frame(0x82, RENEW),
            frame(0xc1, RENEW),
            [frame(0x01, "a"), frame(0x89, RENEW), frame(0x80, RENEW)].concat(),
            [frame(0x01, RENEW), frame(0x80, "")].concat(),
            masked_text(&long, MASK),
            unmasked,
        ] {
            let (passed, taken, _) = sift(&[&other], 4096);
            assert!(passed == other && taken.is_empty(), "{:?}", other.escape_ascii().to_string());
        }
    }

    #[test]
    fn an_idle_session_holds_nothing() {
        let (_, _, held) = sift(&[&masked_text(RENEW, MASK), &masked_text("other", MASK)], 4096);
        assert_eq!(held.capacity(), 0);
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_the_same_is_taken_and_the_same_passes(
            parts in prop::collection::vec(prop_oneof![
                Just(masked_text(RENEW, MASK)),
                Just(frame(0x01, RENEW)),
                Just(frame(0x80, "end")),
                Just(frame(0x89, "ping")),
                "[a-z{\":]{0,200}".prop_map(|text| masked_text(&text, MASK)),
                Just(masked_text(&"y".repeat(70_000), MASK)),
            ], 0..6),
            cut in 1_usize..100,
        ) {
            let all = parts.concat();
            let whole = sift(&[&all], 4096);
            let pieces: Vec<&[u8]> = all.chunks(cut).collect();
            prop_assert_eq!(&sift(&pieces, 4096), &whole);
            // Nothing but messages for the gate is missing.
            let renewals = masked_text(RENEW, MASK);
            prop_assert_eq!(whole.0.len() + whole.1.len() * renewals.len() + whole.2.len(), all.len());
        }
    }
}
