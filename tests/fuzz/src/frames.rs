//! Frames followed in a stream: however it is cut, messages end where the reader of tungstenite finds
//! that they end.

use std::io::Cursor;

use gateway::session::frames::Frames;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, OpCode};

/// The first byte is the size of the pieces, less one; the others are the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((size, stream)) = input.split_first() else { return };
    let expected = Expected::of(stream);
    let stream = &stream[..expected.known];
    let mut frames = Frames::default();
    let mut at = 0;
    for piece in stream.chunks(usize::from(*size) + 1) {
        frames.follow(piece);
        at += piece.len();
        let between = expected.boundaries.contains(&at);
        assert_eq!(frames.is_between(), between, "at {at}");
        let last = expected.boundaries.iter().rev().find(|boundary| **boundary <= at);
        let inside = last.and_then(|last| last.checked_sub(at - piece.len()));
        assert_eq!(frames.boundary_within(piece.len()), inside, "at {at}");
    }
    assert_eq!(frames.messages(), expected.messages);
    assert_eq!(frames.is_closed(), expected.closed);
    let mut again = Frames::default();
    assert_eq!(again.follow_to_boundary(stream), expected.boundaries.get(1).copied());
}

/// What another reader finds.
struct Expected {
    /// As far as it can read: from there on, the stream holds something that is no frame.
    known: usize,
    /// Where no message is under way, from the start on.
    boundaries: Vec<usize>,
    messages: u64,
    closed: bool,
}

impl Expected {
    fn of(stream: &[u8]) -> Self {
        let mut this = Self { known: stream.len(), boundaries: vec![0], messages: 0, closed: false };
        let (mut at, mut fragmented) = (0_usize, false);
        loop {
            // tungstenite leaves it to its caller (RFC 6455 §5.2).
            if matches!(stream[at..], [_, 127 | 255, 128..=255, _, _, _, _, _, _, _, ..]) {
                this.known = at;
                return this;
            }
            let mut cursor = Cursor::new(&stream[at..]);
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(found)) => found,
                Ok(None) => return this,
                Err(_) => {
                    this.known = at;
                    return this;
                }
            };
            let end = cursor.position().saturating_add(length).saturating_add(at as u64);
            let Some(end) = usize::try_from(end).ok().filter(|end| *end <= stream.len()) else {
                return this;
            };
            match header.opcode {
                OpCode::Control(Control::Close) => this.closed = true,
                OpCode::Control(_) => {}
                OpCode::Data(_) => {
                    fragmented = !header.is_final;
                    this.messages += u64::from(!fragmented);
                }
            }
            at = end;
            if !fragmented {
                this.boundaries.push(at);
            }
        }
    }
}
