//! Reads the head of a request or of an answer: up to the empty line, and no more than a limit.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::rejection::{Reason, Rejection};

/// The bytes of a head, and what came after it.
#[derive(Debug)]
pub struct Head {
    bytes: Vec<u8>,
    length: usize,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The peer closed the connection before it said anything, or the connection broke.
    #[error("the connection was closed without a word")]
    Closed(#[source] Option<io::Error>),
    /// The peer ended its half in the middle of the head.
    #[error("the head ends before its empty line")]
    Cut,
    /// The head is longer than the limit.
    #[error("the head is longer than {0} bytes")]
    TooLarge(usize),
    /// A line does not end in CR LF (RFC 9112 §2.2 lets a server insist on it).
    #[error("a line of the head does not end in CR LF")]
    BareLineFeed,
}

impl HeadError {
    /// The rejection of a client whose request has no head.
    pub fn rejection(&self) -> Box<Rejection> {
        let reason = match self {
            Self::TooLarge(_) => Reason::HandshakeTooLarge,
            Self::Closed(_) | Self::Cut | Self::BareLineFeed => Reason::HandshakeMalformed,
        };
        Box::new(Rejection::new(reason).detail(format!("In the request, {self}.")))
    }
}

impl Head {
    /// Reads from `stream` until the head is complete. The caller sets the deadline.
    ///
    /// # Errors
    ///
    /// See [`HeadError`].
    pub async fn read(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<Self, HeadError> {
        Self::read_after(Vec::new(), stream, limit).await
    }

    /// The same for a head whose first `bytes` were read already.
    ///
    /// # Errors
    ///
    /// See [`HeadError`].
    pub async fn read_after(
        mut bytes: Vec<u8>,
        stream: &mut (impl AsyncRead + Unpin),
        limit: usize,
    ) -> Result<Self, HeadError> {
        let mut seen = 0;
        loop {
            match end(&bytes, &mut seen) {
                Scan::End(length) if length <= limit => return Ok(Self { bytes, length }),
                Scan::BareLineFeed => return Err(HeadError::BareLineFeed),
                Scan::More if bytes.len() < limit => {}
                Scan::End(_) | Scan::More => return Err(HeadError::TooLarge(limit)),
            }
            // Room for a common head at once; growth is bounded by the limit and what is read.
            bytes.reserve(1024);
            match stream.read_buf(&mut bytes).await {
                Ok(0) if bytes.is_empty() => return Err(HeadError::Closed(None)),
                Ok(0) => return Err(HeadError::Cut),
                Ok(_) => {}
                Err(error) if bytes.is_empty() => return Err(HeadError::Closed(Some(error))),
                // Who has begun to speak is not forgotten when the connection breaks.
                Err(_) => return Err(HeadError::Cut),
            }
        }
    }

    /// A head from bytes that were read some other way; `None` when they hold no complete one.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        match end(&bytes, &mut 0) {
            Scan::End(length) => Some(Self { bytes, length }),
            Scan::More | Scan::BareLineFeed => None,
        }
    }

    /// The head, with the empty line that ends it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// What came after the head.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.length..]
    }

    /// What came after the head, alone.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.length);
        self.bytes.shrink_to_fit();
        self.bytes
    }
}

enum Scan {
    End(usize),
    BareLineFeed,
    More,
}

/// Looks for the empty line from `seen` on, where the last scan stopped.
fn end(bytes: &[u8], seen: &mut usize) -> Scan {
    while let Some(found) = bytes[*seen..].iter().position(|byte| *byte == b'\n') {
        let feed = *seen + found;
        if feed == 0 || bytes[feed - 1] != b'\r' {
            return Scan::BareLineFeed;
        }
        *seen = feed + 1;
        if feed == 1 || (feed >= 3 && bytes[feed - 3..=feed] == *b"\r\n\r\n") {
            return Scan::End(feed + 1);
        }
    }
    *seen = bytes.len();
    Scan::More
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_first_empty_line_however_it_arrives() {
        let text = b"GET / HTTP/1.1\r\nA: b\r\n\r\nmore";
        for cut in 0..text.len() {
            let mut seen = 0;
            let first = end(&text[..cut], &mut seen);
            match first {
                Scan::End(length) => assert_eq!(length, 24),
                Scan::More => assert!(matches!(end(text, &mut seen), Scan::End(24)), "cut at {cut}"),
                Scan::BareLineFeed => panic!("cut at {cut}"),
            }
        }
    }

    #[test]
    fn a_bare_line_feed_is_found_at_once() {
        assert!(matches!(end(b"GET / HTTP/1.1\nA: b", &mut 0), Scan::BareLineFeed));
        assert!(matches!(end(b"\n", &mut 0), Scan::BareLineFeed));
    }
}
