//! Follows the frames of a WebSocket (RFC 6455 §5.2) in the bytes that are relayed, without keeping
//! or changing any: where messages end, how many there were, and whether one side has said goodbye.

/// The most that a header has before its masking key: two bytes, and eight of a long length.
const LONGEST: usize = 10;
const MASK: u64 = 4;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;

/// One direction of a session, followed from its first byte on.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The header of the frame under way, as far as it is known.
    header: [u8; LONGEST],
    known: usize,
    /// Bytes of the frame under way after what is known of its header.
    rest: u64,
    /// Inside the payload, or the masking key before it.
    inside: bool,
    /// A message has begun and its last fragment is not over.
    fragmented: bool,
    /// What came cannot be a frame: nothing is known from there on.
    lost: bool,
    closed: bool,
    messages: u64,
    /// Bytes since the last one that ended a message or a control frame between messages.
    since: u64,
}

impl Frames {
    /// Follows `bytes`, which come after all that were followed before.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.follow_frame(bytes);
            bytes = &bytes[count..];
        }
    }

    /// Follows `bytes` up to the first place where no message is under way; how many that were.
    /// `None`: there is no such place, and all of them were followed.
    pub fn follow_to_boundary(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut followed = 0;
        while followed < bytes.len() {
            followed += self.follow_frame(&bytes[followed..]);
            if self.is_between() {
                return Some(followed);
            }
        }
        None
    }

    /// Whether no frame and no message is under way, so that a frame can be put in here.
    pub fn is_between(&self) -> bool {
        self.since == 0 && !self.lost
    }

    /// Of the last `count` bytes that were followed, how many lie before the last boundary among
    /// them. `None`: there is none.
    pub fn boundary_within(&self, count: usize) -> Option<usize> {
        let since = usize::try_from(self.since).ok()?;
        if self.lost { None } else { count.checked_sub(since) }
    }

    /// Whether something came that is no frame: no boundary will be found any more.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether a Close frame has come.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The messages that have ended; control frames are none.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Follows to the end of the frame under way, at most; how many bytes that were.
    fn follow_frame(&mut self, bytes: &[u8]) -> usize {
        if self.lost {
            return bytes.len();
        }
        let mut used = 0;
        if !self.inside {
            while used < bytes.len() && !self.inside {
                self.header[self.known] = bytes[used];
                self.known += 1;
                used += 1;
                self.read_header();
                if self.lost {
                    return bytes.len();
                }
            }
            self.since += used as u64;
            if !self.inside {
                return used;
            }
        }
        let left = (bytes.len() - used) as u64;
        let skipped = self.rest.min(left);
        self.rest -= skipped;
        self.since += skipped;
        if self.rest == 0 {
            self.end_frame();
        }
        // Not more than the length of `bytes`.
        used + usize::try_from(skipped).unwrap_or(usize::MAX)
    }

    /// Enters the payload once the header is known.
    fn read_header(&mut self) {
        let [_, second, ..] = self.header;
        let length = match (second & !MASKED, self.known) {
            (_, 0 | 1) | (126, ..4) | (127, ..10) => return,
            (126, _) => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            (127, _) => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.header[2..]);
                u64::from_be_bytes(length)
            }
            (short, _) => u64::from(short),
        };
        // RFC 6455 §5.2: the most significant bit is 0.
        if length > u64::MAX >> 1 {
            self.lost = true;
            return;
        }
        self.rest = length + if second & MASKED == 0 { 0 } else { MASK };
        self.inside = true;
    }

    fn end_frame(&mut self) {
        let first = self.header[0];
        (self.known, self.inside) = (0, false);
        let opcode = first & OPCODE;
        // RFC 6455 §5.2: from 8 on they are control frames, which no message holds.
        if opcode < CLOSE {
            self.fragmented = first & FINAL == 0;
            self.messages += u64::from(!self.fragmented);
        }
        self.closed |= opcode == CLOSE;
        if !self.fragmented {
            self.since = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame with this first byte, and whether it ends outside of any message.
    fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; length + if masked { 4 } else { 0 }]);
        frame
    }

    #[test]
    fn a_frame_of_every_form_of_length_is_followed_to_its_end() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            for masked in [false, true] {
                let mut frames = Frames::default();
                let bytes = frame(0x82, length, masked);
                frames.follow(&bytes[..bytes.len() - 1]);
                assert!(!frames.is_between(), "{length}");
                frames.follow(&bytes[bytes.len() - 1..]);
                assert!(frames.is_between() && frames.messages() == 1, "{length}");
            }
        }
    }

    #[test]
    fn between_the_fragments_of_a_message_nothing_may_be_put_in() {
        let mut frames = Frames::default();
        for (first, between) in [(0x01, false), (0x89, false), (0x00, false), (0x80, true), (0x8a, true)] {
            frames.follow(&frame(first, 5, false));
            assert_eq!(frames.is_between(), between, "{first:#x}");
        }
        assert_eq!(frames.messages(), 1);
    }

    #[test]
    fn a_close_frame_is_noticed_once_it_is_whole() {
        let mut frames = Frames::default();
        let close = frame(0x88, 2, true);
        frames.follow(&close[..5]);
        assert!(!frames.is_closed());
        frames.follow(&close[5..]);
        assert!(frames.is_closed() && frames.messages() == 0);
    }

    #[test]
    fn after_a_length_that_no_frame_has_nothing_is_claimed() {
        let mut frames = Frames::default();
        frames.follow(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        frames.follow(&frame(0x82, 1, false));
        assert!(!frames.is_between() && frames.boundary_within(3).is_none());
        assert_eq!(frames.follow_to_boundary(&frame(0x82, 1, false)), None);
    }

    /// Frames with their first bytes, as a naive reader of whole frames sees them.
    fn stream() -> impl Strategy<Value = Vec<(u8, usize, bool)>> {
        let first =
            prop_oneof![Just(0x01), Just(0x81), Just(0x02), Just(0x82), Just(0x00), Just(0x80), Just(0x89)];
        let length = prop_oneof![0_usize..200, 65_530_usize..65_540];
        prop::collection::vec((first, length, any::<bool>()), 1..8)
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_boundaries_are_where_messages_end(all in stream(), cut in 1_usize..5000) {
            let (mut bytes, mut boundaries, mut open) = (Vec::new(), vec![0], false);
            for (first, length, masked) in all {
                bytes.extend(frame(first, length, masked));
                if first & 8 == 0 {
                    open = first & FINAL == 0;
                }
                if !open {
                    boundaries.push(bytes.len());
                }
            }
            let mut frames = Frames::default();
            let mut at = 0;
            for piece in bytes.chunks(cut) {
                frames.follow(piece);
                at += piece.len();
                prop_assert_eq!(frames.is_between(), boundaries.contains(&at));
                let last = boundaries.iter().rev().find(|boundary| **boundary <= at).copied().unwrap_or(0);
                let start = at - piece.len();
                prop_assert_eq!(frames.boundary_within(piece.len()), last.checked_sub(start));
            }
            let mut again = Frames::default();
            let first = again.follow_to_boundary(&bytes);
            prop_assert_eq!(first, boundaries.get(1).copied());
        }
    }
}
