//! A token in the first message of a session that opened without one.
//!
//! Two forms are known: `{"type":"authenticate","token":"…"}`, which is for the gate alone; and the
//! `connection_init` of GraphQL over WebSocket, whose payload has the token, and which goes on to
//! the upstream without it.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::auth::token::Token;
use crate::rejection::{Reason, Rejection};

/// The subprotocols of which a session begins with `connection_init`: `graphql-transport-ws` is that of
/// the package graphql-ws, `graphql-ws` that of subscriptions-transport-ws.
const GRAPHQL: [&str; 2] = ["graphql-transport-ws", "graphql-ws"];

/// What a first message holds.
#[derive(Debug)]
pub struct FirstMessage {
    /// The token.
    pub token: Token,
    /// The message as the upstream gets it; `None`: it was for the gate alone.
    pub forward: Option<Forward>,
}

/// A message for the upstream, without its token.
pub struct Forward(String);

impl Forward {
    /// The text of the message.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What else stands in a message that authenticates is nobody's business.
        f.write_str("Forward(…)")
    }
}

type Judged<T> = Result<T, Box<Rejection>>;

/// Reads the message `text` of a session that speaks `protocol`.
///
/// # Errors
///
/// - `credentials/first_message`: it is no message that authenticates;
/// - `credentials/missing`: it is one, and has no token;
/// - `credentials/multiple`: it has more than one;
/// - `credentials/malformed`: what stands in the place of the token is none.
pub fn parse(text: &str, protocol: Option<&str>) -> Judged<FirstMessage> {
    let message = Members::parse(text).ok_or_else(|| unusable("It is not a JSON object of unique names."))?;
    match message.text("type")?.as_deref() {
        Some("authenticate") => {
            let token = message.text("token")?.ok_or_else(|| missing("the member token"))?;
            Ok(FirstMessage { token: bearer(&token)?, forward: None })
        }
        Some("connection_init") if protocol.is_some_and(|protocol| GRAPHQL.contains(&protocol)) => {
            connection_init(&message)
        }
        _ => Err(unusable("Its type is neither authenticate nor, for GraphQL, connection_init.")),
    }
}

fn connection_init(message: &Members<'_>) -> Judged<FirstMessage> {
    let nowhere = || missing("the payload: token, Authorization or headers.Authorization");
    let payload = message.get("payload").filter(|payload| payload.get() != "null").ok_or_else(nowhere)?;
    let fault = || unusable("Its payload is not a JSON object of unique names.");
    let mut payload = Members::parse(payload.get()).ok_or_else(fault)?;
    let mut tokens = payload.take(|name| name == "token" || is_authorization(name))?;
    if let Some(headers) = payload.get("headers").filter(|headers| headers.get().starts_with('{')) {
        let fault = || unusable("The headers of its payload are not a JSON object of unique names.");
        let mut headers = Members::parse(headers.get()).ok_or_else(fault)?;
        tokens.extend(headers.take(is_authorization)?);
        let headers = headers.render();
        payload.replace("headers", headers);
    }
    let [token] = &tokens[..] else {
        if tokens.is_empty() {
            return Err(nowhere());
        }
        let detail = "There is more than one token in the first message.";
        return Err(Box::new(Rejection::new(Reason::CredentialsMultiple).detail(detail)));
    };
    let token = bearer(token)?;
    let mut message = message.clone();
    message.replace("payload", payload.render());
    Ok(FirstMessage { token, forward: Some(Forward(message.render())) })
}

/// Headers are called the same in upper and lower case (RFC 9110 §5.1).
fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case("authorization")
}

/// The token in `text`, with or without the scheme before it.
fn bearer(text: &str) -> Judged<Token> {
    let text = text.trim_ascii();
    let token = match text.split_at_checked("bearer".len()) {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("bearer") && !rest.starts_with(|next| next != ' ') =>
        {
            rest.trim_ascii_start()
        }
        _ => text,
    };
    Token::parse(token.as_bytes())
}

/// `detail` is why the first message is of no use.
pub fn unusable(detail: &str) -> Box<Rejection> {
    Box::new(Rejection::new(Reason::CredentialsFirstMessage).detail(detail))
}

fn missing(place: &str) -> Box<Rejection> {
    let detail = format!("The first message has no token in {place}.");
    Box::new(Rejection::new(Reason::CredentialsMissing).detail(detail))
}

/// The members of a JSON object in their order, no two of the same name, their values as they were
/// written.
#[derive(Clone)]
struct Members<'a>(Vec<(String, Value<'a>)>);

#[derive(Clone)]
enum Value<'a> {
    Written(&'a RawValue),
    Rendered(String),
}

impl Value<'_> {
    fn get(&self) -> &str {
        match self {
            Self::Written(raw) => raw.get(),
            Self::Rendered(text) => text,
        }
    }
}

impl<'a> Members<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The string in the member `name`, if that is there and not null.
    fn text(&self, name: &str) -> Judged<Option<String>> {
        match self.get(name).map(Value::get) {
            None | Some("null") => Ok(None),
            Some(value) => match serde_json::from_str(value) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(unusable(&format!("Its member {name} is not a string."))),
            },
        }
    }

    /// Takes the members out whose names are `wanted`; the strings in them.
    fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Judged<Vec<String>> {
        let taken: Vec<_> = self.0.extract_if(.., |(name, _)| wanted(name)).collect();
        let written = taken.iter().map(|(_, value)| value.get()).filter(|value| *value != "null");
        written
            .map(|value| serde_json::from_str(value).map_err(|_| unusable("Its token is not a string.")))
            .collect()
    }

    fn replace(&mut self, name: &str, text: String) {
        if let Some((_, value)) = self.0.iter_mut().find(|(own, _)| own == name) {
            *value = Value::Rendered(text);
        }
    }

    fn render(&self) -> String {
        let members = self.0.iter().map(|(name, value)| {
            // The names have quotes around them, and what has to be escaped is.
            format!("{}:{}", serde_json::Value::from(name.as_str()), value.get())
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Vec<(String, Value<'de>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut names = HashSet::new();
                let mut members = Vec::new();
                while let Some((name, value)) = access.next_entry::<String, &RawValue>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                    members.push((name, Value::Written(value)));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Unique).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: Option<&str> = Some("graphql-transport-ws");

    fn good(text: &str, protocol: Option<&str>) -> (String, Option<String>) {
        let FirstMessage { token, forward } = parse(text, protocol).expect("a good message");
        (token.as_str().to_owned(), forward.map(|forward| forward.0))
    }

    fn reason(text: &str, protocol: Option<&str>) -> Reason {
        let rejection = parse(text, protocol).expect_err(text);
        assert!(!format!("{rejection:?}").contains("SECRET"), "{rejection:?}");
        rejection.reason
    }

    #[test]
    fn the_plain_form_is_for_the_gate_alone_whatever_the_subprotocol() {
        for protocol in [None, Some("chat"), MODERN] {
            let text = "{\"type\":\"authenticate\",\"token\":\"a.b.c\",\"more\":[1]}";
            assert_eq!(good(text, protocol), ("a.b.c".to_owned(), None));
        }
        assert_eq!(good(r#" {"token":"bEARER  a.b.c", "type":"authenticate"} "#, None).0, "a.b.c");
        assert_eq!(good(r#"{"token":"Bearer.b.c", "type":"authenticate"}"#, None).0, "Bearer.b.c");
        assert_eq!(good(r#"{"to\u006ben":"a.b.c","type":"\u0061uthenticate"}"#, None).0, "a.b.c");
    }

    #[test]
    fn connection_init_goes_on_without_its_token_and_otherwise_as_it_was_written() {
        for (payload, rest) in [
            (r#"{"token":"a.b.c"}"#, "{}"),
            (
                r#"{"x": 1e400,"token":"a.b.c","y":[ 12345678901234567890 ]}"#,
                r#"{"x":1e400,"y":[ 12345678901234567890 ]}"#,
            ),
            (r#"{"authorization":"Bearer a.b.c","headers":null}"#, r#"{"headers":null}"#),
            (r#"{"Authorization":"a.b.c"}"#, "{}"),
            (r#"{"headers":{"X":"\u0041","Authorization":"Bearer a.b.c"}}"#, r#"{"headers":{"X":"\u0041"}}"#),
            (
                r#"{"headers":{"authorization":"a.b.c"},"token":null,"z":{"token":"theirs"}}"#,
                r#"{"headers":{},"z":{"token":"theirs"}}"#,
            ),
        ] {
            for protocol in GRAPHQL {
                let text =
                    format!("{{\"id\":\"\\u0031\", \"type\":\"connection_init\",\"payload\":{payload}}}");
                let forward =
                    format!("{{\"id\":\"\\u0031\",\"type\":\"connection_init\",\"payload\":{rest}}}");
                assert_eq!(good(&text, Some(protocol)), ("a.b.c".to_owned(), Some(forward)), "{payload}");
            }
        }
    }

    #[test]
    fn connection_init_authenticates_only_where_graphql_is_spoken() {
        let text = r#"{"type":"connection_init","payload":{"token":"SECRET"}}"#;
        for protocol in [None, Some("chat"), Some("GraphQL-WS")] {
            assert_eq!(reason(text, protocol), Reason::CredentialsFirstMessage);
        }
    }

    #[test]
    fn a_message_without_a_token_has_a_missing_token() {
        for text in [
            r#"{"type":"authenticate"}"#,
            r#"{"type":"authenticate","token":null}"#,
            r#"{"type":"connection_init"}"#,
            r#"{"type":"connection_init","payload":null}"#,
            r#"{"type":"connection_init","payload":{}}"#,
            r#"{"type":"connection_init","payload":{"headers":{"X":"SECRET"},"Token":"SECRET"}}"#,
        ] {
            assert_eq!(reason(text, MODERN), Reason::CredentialsMissing, "{text}");
        }
    }

    #[test]
    fn two_tokens_in_one_message_are_refused() {
        for payload in [
            r#"{"token":"SECRET","Authorization":"SECRET"}"#,
            r#"{"authorization":"SECRET","Authorization":"SECRET"}"#,
            r#"{"token":"SECRET","headers":{"Authorization":"SECRET"}}"#,
            r#"{"headers":{"authorization":"SECRET","AUTHORIZATION":"SECRET"}}"#,
        ] {
            let text = format!("{{\"type\":\"connection_init\",\"payload\":{payload}}}");
            assert_eq!(reason(&text, MODERN), Reason::CredentialsMultiple, "{payload}");
        }
    }

    #[test]
    fn whatever_else_comes_first_does_not_authenticate() {
        let deep = format!("{{\"type\":{}1{}}}", "[".repeat(9999), "]".repeat(9999));
        for text in [
            "",
            "SECRET",
            "\"SECRET\"",
            "[]",
            "{}",
            r#"{"type":7,"token":"SECRET"}"#,
            r#"{"type":"auth","token":"SECRET"}"#,
            r#"{"type":"authenticate","token":{"SECRET":1}}"#,
            r#"{"type":"authenticate","token":"SECRET","token":"SECRET"}"#,
            r#"{"type":"authenticate","token":"SECRET","to\u006ben":"SECRET"}"#,
            r#"{"type":"authenticate","token":"SECRET"} {}"#,
            r#"{"type":"connection_init","payload":"SECRET"}"#,
            r#"{"type":"connection_init","payload":{"token":["SECRET"]}}"#,
            r#"{"type":"connection_init","payload":{"token":"SECRET","token":"SECRET"}}"#,
            r#"{"type":"connection_init","payload":{"headers":{"authorization":7}}}"#,
            r#"{"type":"connection_init","payload":{"headers":{"X":7,"X":7}}}"#,
            deep.as_str(),
        ] {
            assert_eq!(reason(text, MODERN), Reason::CredentialsFirstMessage, "{text}");
        }
    }

    #[test]
    fn what_stands_in_the_place_of_the_token_and_is_none_is_malformed() {
        for token in ["", "Bearer ", "SECRET SECRET", "Basic SECRET", "SECRET\\u0000", "SECRET\u{e4}"] {
            let text = format!("{{\"type\":\"authenticate\",\"token\":\"{token}\"}}");
            assert_eq!(reason(&text, None), Reason::CredentialsMalformed, "{token}");
        }
    }
}
