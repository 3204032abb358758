//! The answer to an opening handshake, read and judged as a client must (RFC 6455 §4.1).

use tokio::io::AsyncRead;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::headers::{Headers, crossing, has_token, push, values};
use crate::audit::HandshakeId;
use crate::edge::head::{Head, HeadError};
use crate::edge::opening::extension_names;

/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// Headers of an answer.
const MAX_HEADERS: usize = 128;
/// Interim answers (RFC 9110 §15.2) that are skipped before the final one.
const MAX_INTERIM: usize = 8;

/// Why an answer does not accept the handshake. Each is a fault of who answers.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// There is none.
    #[error("there is no answer: {0}")]
    Head(#[from] HeadError),
    /// It is not HTTP.
    #[error("the answer cannot be parsed: {0}")]
    Invalid(#[from] httparse::Error),
    /// Only interim answers came.
    #[error("more than {MAX_INTERIM} interim answers came before the final one")]
    Interim,
    /// RFC 6455 §4.1 allows 101 only.
    #[error("the status is {0} instead of 101")]
    Status(u16),
    /// The version is older than HTTP/1.1, which has no 101.
    #[error("the version is not HTTP/1.1")]
    Version,
    /// RFC 6455 §4.1, item 2.
    #[error("the answer lacks Upgrade: websocket")]
    Upgrade,
    /// RFC 6455 §4.1, item 3.
    #[error("the answer lacks Connection: Upgrade")]
    Connection,
    /// RFC 6455 §4.1, item 4.
    #[error("Sec-WebSocket-Accept does not fit the key")]
    Accept,
    /// RFC 6455 §4.1, item 5.
    #[error("an extension is in use that was not offered")]
    Extension,
    /// RFC 6455 §4.1, item 6.
    #[error("a subprotocol is in use that was not offered")]
    Protocol,
    /// The client has been told that it is in use.
    #[error("the only subprotocol that was offered is not in use")]
    NotSelected,
}

/// What a client offered.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// `Sec-WebSocket-Key`
    pub key: &'a str,
    /// Subprotocols.
    pub protocols: &'a [String],
    /// Names of extensions, in lower case.
    pub extensions: &'a [String],
}

/// A final answer. It accepts nothing until [`Answer::check`] has passed.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    version: u8,
    headers: Headers,
}

impl Answer {
    /// Reads the final answer, and what came after it. The caller sets the deadline.
    ///
    /// # Errors
    ///
    /// There is no answer, or it is not HTTP.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<(Self, Vec<u8>), AnswerError> {
        let mut bytes = Vec::new();
        for _ in 0..=MAX_INTERIM {
            let head = Head::read_after(bytes, stream, MAX_HEAD).await?;
            let answer = Self::parse(head.bytes())?;
            bytes = head.into_rest();
            if answer.status == 101 || answer.status >= 200 {
                return Ok((answer, bytes));
            }
        }
        Err(AnswerError::Interim)
    }

    /// The answer in the bytes of a head.
    ///
    /// # Errors
    ///
    /// It is not HTTP.
    pub fn parse(head: &[u8]) -> Result<Self, AnswerError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        if response.parse(head)?.is_partial() {
            return Err(HeadError::Cut.into());
        }
        let headers = response.headers.iter();
        Ok(Self {
            status: response.code.unwrap_or(0),
            version: response.version.unwrap_or(0),
            headers: headers
                .map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()))
                .collect(),
        })
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Whether this accepts exactly what was offered.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self, offer: Offer<'_>) -> Result<(), AnswerError> {
        if self.status != 101 {
            return Err(AnswerError::Status(self.status));
        }
        if self.version != 1 {
            return Err(AnswerError::Version);
        }
        if !has_token(&self.headers, "upgrade", "websocket") {
            return Err(AnswerError::Upgrade);
        }
        if !has_token(&self.headers, "connection", "upgrade") {
            return Err(AnswerError::Connection);
        }
        let accept = derive_accept_key(offer.key.as_bytes());
        if !self.is_single("sec-websocket-accept", |value| value == accept.as_bytes()) {
            return Err(AnswerError::Accept);
        }
        let mut extensions = values(&self.headers, "sec-websocket-extensions").flat_map(extension_names);
        if !extensions.all(|name| offer.extensions.contains(&name)) {
            return Err(AnswerError::Extension);
        }
        let offered = |value: &[u8]| offer.protocols.iter().any(|protocol| protocol.as_bytes() == value);
        let chosen = values(&self.headers, "sec-websocket-protocol").next();
        if chosen.is_some() && !self.is_single("sec-websocket-protocol", offered) {
            return Err(AnswerError::Protocol);
        }
        Ok(())
    }

    /// The subprotocol in use.
    pub fn protocol(&self) -> Option<&[u8]> {
        values(&self.headers, "sec-websocket-protocol").next()
    }

    /// The same answer as the gate gives it, to the handshake `id`.
    pub fn accept(&self, id: HandshakeId) -> Vec<u8> {
        let mut answer = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
        push(&mut answer, "Upgrade", b"websocket");
        push(&mut answer, "Connection", b"Upgrade");
        for (name, value) in crossing(&self.headers) {
            push(&mut answer, name, value);
        }
        push(&mut answer, "Gatehouse-Id", id.to_string().as_bytes());
        answer.extend_from_slice(b"\r\n");
        answer
    }

    fn is_single(&self, name: &str, valid: impl FnOnce(&[u8]) -> bool) -> bool {
        let mut values = values(&self.headers, name);
        values.next().is_some_and(valid) && values.next().is_none()
    }
}
