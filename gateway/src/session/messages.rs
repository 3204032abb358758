//! Frames of a session that is not relayed yet (RFC 6455 §5). Pure: whoever holds it reads and
//! writes.
//!
//! tungstenite's own session keeps what it has read ahead to itself; here nothing that came behind
//! the first message may be lost, so messages are put together here. No extension is in use.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// Bytes of the payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

/// Takes a client's frames apart, up to its first message.
pub struct Messages {
    bytes: Vec<u8>,
    /// The payloads of the message so far, once it has begun.
    message: Option<Vec<u8>>,
    limit: usize,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A text message.
    Text(String),
    /// A ping, to be answered with the same payload.
    Ping(Vec<u8>),
    /// The end of the session, with its payload: nothing, or a code and a reason.
    Close(Vec<u8>),
}

/// How a client breaks RFC 6455, or sends what is not expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// RFC 6455 §5.2
    #[error("A frame has an opcode that does not exist.")]
    Opcode,
    /// RFC 6455 §5.2
    #[error("A frame uses an extension that was not agreed on.")]
    Extension,
    /// RFC 6455 §5.1
    #[error("A frame of the client is not masked.")]
    Unmasked,
    /// RFC 6455 §5.5
    #[error("A control frame is fragmented, or longer than 125 bytes.")]
    Control,
    /// RFC 6455 §5.4
    #[error("The fragments of a message are out of order.")]
    Fragment,
    /// RFC 6455 §8.1
    #[error("A text message is not UTF-8.")]
    Text,
    /// There is no use for it.
    #[error("It is a binary message.")]
    Binary,
    /// The limit is the caller's.
    #[error("It is longer than {0} bytes.")]
    TooLong(usize),
}

impl Messages {
    /// Messages that begin with `bytes`, of which a message may have `limit` bytes.
    pub fn new(bytes: Vec<u8>, limit: usize) -> Self {
        Self { bytes, message: None, limit }
    }

    /// Where what is read goes, behind what is there. As long as [`Self::event`] finds nothing
    /// whole, less than a frame of `limit` bytes is there.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The next event; `None` until more has been read.
    ///
    /// # Errors
    ///
    /// See [`MessageError`]. There is no way on from there.
    pub fn event(&mut self) -> Result<Option<Event>, MessageError> {
        while let Some((header, payload)) = self.frame()? {
            match header.opcode {
                OpCode::Control(Control::Ping) => return Ok(Some(Event::Ping(payload))),
                OpCode::Control(Control::Pong) => {}
                OpCode::Control(Control::Close) => return Ok(Some(Event::Close(payload))),
                OpCode::Data(_) => {
                    let mut message = self.message.take().unwrap_or_default();
                    message.extend_from_slice(&payload);
                    if header.is_final {
                        let text = String::from_utf8(message).map_err(|_| MessageError::Text)?;
                        return Ok(Some(Event::Text(text)));
                    }
                    self.message = Some(message);
                }
                OpCode::Control(Control::Reserved(_)) => return Err(MessageError::Opcode),
            }
        }
        Ok(None)
    }

    /// What came behind the last event.
    pub fn into_rest(self) -> Vec<u8> {
        self.bytes
    }

    /// The next whole frame, unmasked. What is wrong with it is found as soon as its header is
    /// there.
    fn frame(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, MessageError> {
        let mut cursor = Cursor::new(&self.bytes);
        // What can be wrong in it is the opcode.
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| MessageError::Opcode)?
        else {
            return Ok(None);
        };
        let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(MessageError::Extension);
        }
        let Some(mask) = header.mask else {
            return Err(MessageError::Unmasked);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > MAX_CONTROL => {
                return Err(MessageError::Control);
            }
            OpCode::Control(_) => {}
            OpCode::Data(Data::Binary) => return Err(MessageError::Binary),
            OpCode::Data(data) => {
                if (data == Data::Continue) != self.message.is_some() {
                    return Err(MessageError::Fragment);
                }
                let before = self.message.as_ref().map_or(0, Vec::len);
                if length > self.limit - before {
                    return Err(MessageError::TooLong(self.limit));
                }
            }
        }
        let end = start + length;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let mut payload = self.bytes[start..end].to_vec();
        apply(mask, &mut payload);
        self.bytes.drain(..end);
        Ok(Some((header, payload)))
    }
}

/// A text message as a server sends it.
pub fn text(text: &str) -> Vec<u8> {
    bytes(Frame::message(text.to_owned(), OpCode::Data(Data::Text), true))
}

/// A text message as a client sends it, masked with `mask`, which has to be random (RFC 6455
/// §5.3).
pub fn masked_text(text: &str, mask: [u8; 4]) -> Vec<u8> {
    let mut frame = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
    frame.header_mut().mask = Some(mask);
    bytes(frame)
}

/// The answer to a ping.
pub fn pong(payload: Vec<u8>) -> Vec<u8> {
    bytes(Frame::pong(payload))
}

/// The end of a session; `reason` has at most [`crate::rejection::close::MAX_REASON`] bytes.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    bytes(Frame::close(Some(CloseFrame { code: code.into(), reason: reason.into() })))
}

/// The answer to the end of a session that the client began: its own code (RFC 6455 §5.5.1).
pub fn close_echo(payload: &[u8]) -> Vec<u8> {
    match payload {
        [high, low, ..] => close(u16::from_be_bytes([*high, *low]), ""),
        _ => bytes(Frame::close(None)),
    }
}

fn bytes(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = frame.format(&mut bytes);
    bytes
}

/// Masks, or takes the mask off (RFC 6455 §5.3).
fn apply(mask: [u8; 4], payload: &mut [u8]) {
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];
    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode = OpCode::Control(Control::Ping);

    fn part(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = Frame::message(payload.to_vec(), OpCode::Data(Data::Text), is_final);
        (frame.header_mut().opcode, frame.header_mut().mask) = (opcode, Some(MASK));
        bytes(frame)
    }

    fn events(bytes: &[u8], limit: usize) -> (Vec<Event>, Option<MessageError>, Vec<u8>) {
        let mut frames = Messages::new(bytes.to_vec(), limit);
        let mut events = Vec::new();
        let end = loop {
            match frames.event() {
                Ok(Some(event)) => {
                    let last = matches!(event, Event::Text(_) | Event::Close(_));
                    events.push(event);
                    if last {
                        break None;
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        (events, end, frames.into_rest())
    }

    #[test]
    fn a_message_is_whole_however_it_is_cut_and_nothing_behind_it_is_lost() {
        let bytes = [
            part(TEXT, false, b"h\xc3"),
            part(PING, true, b"are you there?"),
            part(MORE, false, b""),
            part(OpCode::Control(Control::Pong), true, b"unasked"),
            part(MORE, true, b"\xa4llo"),
            b"what comes next".to_vec(),
        ]
        .concat();
        let expected = [Event::Ping(b"are you there?".to_vec()), Event::Text("h\u{e4}llo".to_owned())];
        for cut in 0..bytes.len() {
            let mut frames = Messages::new(bytes[..cut].to_vec(), 7);
            let mut seen = Vec::new();
            let mut rest = bytes[cut..].to_vec();
            while seen.len() < expected.len() {
                match frames.event().expect("valid") {
                    Some(event) => seen.push(event),
                    None => frames.buffer().append(&mut rest),
                }
            }
            assert_eq!(seen, expected, "cut at {cut}");
            assert_eq!([frames.into_rest(), rest].concat(), b"what comes next", "cut at {cut}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        let changed = |bit: u8, place: usize| {
            let mut bytes = part(TEXT, true, b"x");
            bytes[place] ^= bit;
            bytes
        };
        for (bytes, error) in [
            (changed(0x40, 0), MessageError::Extension),
            (changed(0x20, 0), MessageError::Extension),
            (changed(0x80, 1), MessageError::Unmasked),
            (changed(0x02, 0), MessageError::Opcode),
            (part(OpCode::Data(Data::Binary), true, b"x"), MessageError::Binary),
            (part(MORE, true, b"x"), MessageError::Fragment),
            ([part(TEXT, false, b"x"), part(TEXT, true, b"x")].concat(), MessageError::Fragment),
            (part(PING, false, b"x"), MessageError::Control),
            (part(PING, true, &[b'x'; 126]), MessageError::Control),
            (part(TEXT, true, b"\xff"), MessageError::Text),
            (part(TEXT, true, b"too long"), MessageError::TooLong(7)),
            ([part(TEXT, false, b"too "), part(MORE, true, b"long")].concat(), MessageError::TooLong(7)),
        ] {
            assert_eq!(events(&bytes, 7), (vec![], Some(error), events(&bytes, 7).2), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_length_that_no_memory_has_is_refused_by_its_header_alone() {
        let mut bytes = vec![0x81, 0xff];
        bytes.extend(u64::MAX.to_be_bytes());
        bytes.extend(MASK);
        assert_eq!(events(&bytes, 1 << 20).1, Some(MessageError::TooLong(1 << 20)));
        bytes[0] = 0x89;
        assert_eq!(events(&bytes, 1 << 20).1, Some(MessageError::Control));
    }

    #[test]
    fn what_is_sent_to_an_upstream_is_masked_and_reads_back() {
        let bytes = masked_text("{\"type\":1}", [0x37, 0xfa, 0x21, 0x3d]);
        assert!(!bytes.windows(4).any(|window| window == b"type"));
        assert_eq!(events(&bytes, 99).0, [Event::Text("{\"type\":1}".to_owned())]);
        let long = "x".repeat(70_000);
        assert_eq!(events(&masked_text(&long, MASK), 70_000).0, [Event::Text(long)]);
    }

    #[test]
    fn a_close_frame_has_code_and_reason_and_its_echo_only_the_code() {
        assert_eq!(close(4401, "why"), b"\x88\x05\x11\x31why");
        assert_eq!(close_echo(b"\x03\xe8bye"), b"\x88\x02\x03\xe8");
        assert_eq!(close_echo(b""), b"\x88\x00");
    }
}
