//! The answer of an endpoint, after which the connection is closed. Pure.

use std::time::SystemTime;

use super::MAX_AGE;

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    headers: String,
    body: String,
}

impl Response {
    /// A JSON document.
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self { body: body.to_owned(), ..Self::empty(status) }.header("Content-Type", "application/json")
    }

    /// Without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: String::new(), body: String::new() }
    }

    /// The same with a header. Nothing in its value can start another.
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(name);
        self.headers.push_str(": ");
        self.headers.extend(value.chars().filter(|character| matches!(character, ' '..='~')));
        self.headers.push_str("\r\n");
        self
    }

    /// The answer to whatever is no POST, where nothing else is served; pages of `origin` may send one with
    /// these headers.
    pub(super) fn unless_post(method: &str, origin: Option<&str>, headers: &str) -> Option<Self> {
        match method {
            "POST" => None,
            "OPTIONS" => Some(Self::preflight(origin, headers)),
            _ => Some(Self::empty(405).header("Allow", "POST, OPTIONS")),
        }
    }

    /// The answer to a page of `origin` that asks whether it may send a POST with these headers (Fetch
    /// standard, CORS protocol); `None`: no page may, or none of that origin.
    fn preflight(origin: Option<&str>, headers: &str) -> Self {
        let response = Self::empty(204).readable_by(origin);
        if origin.is_none() {
            return response;
        }
        response
            .header("Access-Control-Allow-Methods", "POST")
            .header("Access-Control-Allow-Headers", headers)
            .header("Access-Control-Max-Age", &MAX_AGE.to_string())
    }

    /// The same, which pages of `origin` may read, and no others.
    pub(super) fn readable_by(self, origin: Option<&str>) -> Self {
        let response = self.header("Vary", "Origin");
        match origin {
            Some(origin) => response.header("Access-Control-Allow-Origin", origin),
            None => response,
        }
    }

    /// All of it; for a HEAD request without the body (RFC 9110 §9.3.2).
    pub(super) fn bytes(self, now: SystemTime, head_only: bool) -> Vec<u8> {
        let status = http::StatusCode::from_u16(self.status).ok();
        let phrase = status.and_then(|status| status.canonical_reason()).unwrap_or("Answer");
        let mut head =
            format!("HTTP/1.1 {} {phrase}\r\nDate: {}\r\n", self.status, httpdate::fmt_http_date(now));
        head.push_str(&self.headers);
        // RFC 9110 §8.6: not with 204.
        if self.status != 204 {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend(self.body.into_bytes());
        }
        bytes
    }
}
