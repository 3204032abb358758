//! Mutations that are the same in every run.

/// Bytes of the longest input: what is longer takes more time and shows nothing new.
const LONGEST: usize = 8 * 1024;

/// Pieces that matter to one parser or another.
const PIECES: [&[u8]; 40] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b",",
    b";",
    b":",
    b"\"",
    b".",
    b"=",
    b"/0",
    b"/32",
    b"/128",
    b"-",
    b"::",
    b"::ffff:0:0/96",
    b"255.255.255.255",
    b"0.0.0.0",
    b"#",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"1e999",
    b"\xff",
    b"\xc3\xa4",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
    b"\x81\x00\x00\x07",
    b"\x88\xa8\x00\x07",
    b"\x08\x00\x45",
    b"\x86\xdd\x60",
    b"Host: a\r\n",
    b"Connection: Upgrade\r\n",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 1\r\n",
];

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `input` with a few changes; `other` is an input that pieces may come from.
    pub(crate) fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut mutated = input.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut mutated, other);
        }
        mutated.truncate(LONGEST);
        mutated
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(16)).min(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.byte(),
            2 => input.insert(at, self.byte()),
            3 => drop(input.drain(at.min(end)..end)),
            4 => {
                let piece = input[at.min(end)..end].to_vec();
                insert(input, at, &piece);
            }
            5 => insert(input, at, PIECES[self.below(PIECES.len())]),
            6 => input.truncate(at),
            7 => {
                // Also across the line: digits count up and down.
                if let Some(digit) = input[at..].iter_mut().find(|byte| byte.is_ascii_digit()) {
                    *digit = b'0' + u8::try_from(self.below(10)).unwrap_or(0);
                }
            }
            _ => {
                let from = self.below(other.len() + 1);
                let to = (from + 1 + self.below(64)).min(other.len());
                insert(input, at, &other[from.min(to)..to]);
            }
        }
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}
