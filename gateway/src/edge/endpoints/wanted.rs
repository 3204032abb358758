//! What a request for a ticket asks for. Pure.

use serde::Deserialize;

/// The body of `POST /tickets`: a JSON object with this member and no other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The path of the route on which the ticket is to be good.
    pub route: String,
}

impl Wanted {
    /// What `body` asks for; `None` when it is no such object. Why is not said: a body may hold a token
    /// that somebody has put into the wrong place.
    pub fn parse(body: &[u8]) -> Option<Self> {
        // An array of the same values is a struct, too, to who is not told otherwise.
        serde_json::from_slice(body).ok().filter(|_| body.trim_ascii_start().starts_with(b"{"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_asks_for_one_route_and_for_nothing_else() {
        let route = |body: &str| Wanted::parse(body.as_bytes()).map(|wanted| wanted.route);
        assert_eq!(route(" {\"route\": \"/chat\"} ").as_deref(), Some("/chat"));
        for body in [
            "",
            "{}",
            "null",
            "\"/chat\"",
            "[\"/chat\"]",
            "{\"route\":1}",
            "{\"route\":\"/a\",\"route\":\"/b\"}",
            "{\"route\":\"/a\",\"token\":\"x\"}",
            "{\"route\":\"/a\"}x",
        ] {
            assert_eq!(route(body), None, "{body}");
        }
        assert!(Wanted::parse(b"{\"route\":\"\xff\"}").is_none());
    }
}
