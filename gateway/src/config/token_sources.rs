//! The keys of a `[[route]]` that say where its clients put their tokens.

use toml::Spanned;

use super::form;
use super::validate::Checker;

/// What stands before a token among the subprotocols, unless the route says otherwise: the form
/// that Kubernetes has made known.
pub const SUBPROTOCOL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Where the clients of a route may put their tokens. `Authorization` is always looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSources {
    /// A subprotocol that begins with this holds a token in base64url; `None`: none does.
    pub subprotocol_prefix: Option<String>,
    /// The cookie that holds a token, of requests with an `Origin` header; `None`: none does.
    pub cookie: Option<String>,
    /// Whether the query parameter `ticket` stands for a token.
    pub tickets: bool,
    /// Whether the query parameter `access_token` (RFC 6750 §2.3) is a token.
    pub query: bool,
    /// Whether a session opens without a token, and its first message has it.
    pub first_message: bool,
    /// Of which subprotocols the gate selects one when it has to answer before the upstream;
    /// `None`: whatever the client wants most.
    pub subprotocols: Option<Vec<String>>,
}

impl Default for TokenSources {
    fn default() -> Self {
        Self {
            subprotocol_prefix: Some(SUBPROTOCOL_PREFIX.to_owned()),
            cookie: None,
            tickets: false,
            query: false,
            first_message: false,
            subprotocols: None,
        }
    }
}

pub(super) fn check(checker: &mut Checker<'_>, form: &form::Route) -> TokenSources {
    if let Some(query) = form.query.as_ref().filter(|query| *query.get_ref()) {
        checker.warn(
            &query.span(),
            "query = true takes tokens from URLs, which browsers, proxies and servers on the way write down \
             (RFC 6750 §5.3): use tickets = true or first_message = true where clients cannot set a header",
        );
    }
    let first_message = is_true(form.first_message.as_ref());
    let prefix = match form.subprotocol_prefix.as_ref() {
        None => Some(SUBPROTOCOL_PREFIX.to_owned()),
        Some(prefix) => self::prefix(checker, prefix),
    };
    TokenSources {
        subprotocols: subprotocols(checker, form, prefix.as_deref(), first_message),
        subprotocol_prefix: prefix,
        cookie: cookie(checker, form),
        tickets: is_true(form.tickets.as_ref()),
        query: is_true(form.query.as_ref()),
        first_message,
    }
}

fn is_true(form: Option<&Spanned<bool>>) -> bool {
    form.is_some_and(|value| *value.get_ref())
}

fn prefix(checker: &mut Checker<'_>, form: &Spanned<String>) -> Option<String> {
    let text = form.get_ref();
    if text == "none" {
        return None;
    }
    if !is_token(text) {
        let message = format!(
            "`{text}` cannot stand before a token among the subprotocols: use letters, digits and \
             !#$%&'*+-.^_`|~, or \"none\" to take no tokens from there"
        );
        checker.fault(&form.span(), message);
    }
    Some(text.clone())
}

fn cookie(checker: &mut Checker<'_>, form: &form::Route) -> Option<String> {
    let cookie = form.cookie.as_ref()?;
    let name = cookie.get_ref();
    if !is_token(name) {
        let message = format!("`{name}` cannot be the name of a cookie (RFC 6265 §4.1.1)");
        checker.fault(&cookie.span(), message);
    }
    // A browser sends its cookies whatever page asks for the connection.
    if form.origins.as_ref().is_none_or(|origins| origins.get_ref().is_empty()) {
        checker.fault(
            &cookie.span(),
            "with a cookie, any page on the web could connect as its visitor: name the pages that may, such as \
             origins = [\"https://app.example\"]",
        );
    }
    Some(name.clone())
}

fn subprotocols(
    checker: &mut Checker<'_>,
    form: &form::Route,
    prefix: Option<&str>,
    first_message: bool,
) -> Option<Vec<String>> {
    let list = form.subprotocols.as_ref()?;
    if !first_message {
        checker.fault(
            &list.span(),
            "subprotocols says which one the gate selects before the upstream is asked, so it goes with \
             first_message = true: add that, or remove this",
        );
    }
    if list.get_ref().is_empty() {
        let message =
            "subprotocols is empty: no client that offers any could connect; name some, or remove this";
        checker.fault(&list.span(), message);
    }
    for item in list.get_ref() {
        let name = item.get_ref();
        if !is_token(name) {
            let message =
                format!("`{name}` cannot be a subprotocol: it has to be a token of RFC 9110 §5.6.2");
            checker.fault(&item.span(), message);
        } else if prefix.is_some_and(|prefix| name.starts_with(prefix)) {
            let message = format!("`{name}` would be taken for a token: change this or subprotocol_prefix");
            checker.fault(&item.span(), message);
        }
    }
    Some(list.get_ref().iter().map(|item| item.get_ref().clone()).collect())
}

/// `token` of RFC 9110 §5.6.2, which is also what a cookie is called by (RFC 6265 §4.1.1).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Diagnostic, parse};

    fn with(keys: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
        let text = format!(
            "[[listen]]\naddress = \"127.0.0.1:8080\"\n[[issuer]]\nname = \"main\"\nissuer = \"https://idp.example\"\n\
             audience = [\"a\"]\nkeys = \"jwks.json\"\n[[route]]\npath = \"/chat\"\nupstream = \"ws://127.0.0.1:9000\"\n\
             issuers = [\"main\"]\n{keys}\n"
        );
        parse(Path::new("g.toml"), &text)
    }

    fn sources(keys: &str) -> TokenSources {
        let (config, warnings) = with(keys).expect("valid");
        assert_eq!(warnings, []);
        config.routes[0].sources.clone()
    }

    fn fault(keys: &str, expected: &str) {
        let found: Vec<String> = with(keys).expect_err("a fault").iter().map(ToString::to_string).collect();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:#?}");
    }

    #[test]
    fn a_route_takes_tokens_from_the_header_and_the_subprotocols_unless_it_says_more() {
        assert_eq!(sources(""), TokenSources::default());
        assert_eq!(sources("subprotocol_prefix = \"none\"").subprotocol_prefix, None);
        let prefix = sources("subprotocol_prefix = \"bearer.\"").subprotocol_prefix;
        assert_eq!(prefix.as_deref(), Some("bearer."));
        let all = sources(
            "origins = [\"https://app.example\"]\ncookie = \"__Host-token\"\ntickets = true\n\
             first_message = true\nsubprotocols = [\"v2\", \"v1\"]",
        );
        assert_eq!(all.cookie.as_deref(), Some("__Host-token"));
        assert!(all.tickets && all.first_message && !all.query);
        assert_eq!(all.subprotocols, Some(vec!["v2".to_owned(), "v1".to_owned()]));
    }

    #[test]
    fn a_token_in_the_query_is_warned_about() {
        let (config, warnings) = with("query = true").expect("valid");
        assert!(config.routes[0].sources.query);
        assert!(warnings.len() == 1, "{warnings:?}");
        assert!(warnings[0].to_string().starts_with("g.toml:12:9: warning: query = true"), "{}", warnings[0]);
    }

    #[test]
    fn a_cookie_without_origins_is_a_fault_that_names_the_remedy() {
        for origins in ["", "\norigins = []"] {
            let keys = format!("cookie = \"token\"{origins}");
            fault(&keys, "g.toml:12:10: with a cookie, any page on the web could connect as its visitor");
        }
        let origins = "origins = [\"https://app.example\"]";
        fault(&format!("cookie = \"to ken\"\n{origins}"), "g.toml:12:10: `to ken` cannot be the name");
    }

    #[test]
    fn what_cannot_stand_among_the_subprotocols_is_a_fault() {
        fault("subprotocol_prefix = \"a,b\"", "g.toml:12:22: `a,b` cannot stand before a token");
        fault("subprotocol_prefix = \"\"", "g.toml:12:22: `` cannot stand");
        let more = "\nfirst_message = true";
        fault(&format!("subprotocols = []{more}"), "g.toml:12:16: subprotocols is empty");
        fault(&format!("subprotocols = [\"a b\"]{more}"), "g.toml:12:17: `a b` cannot be a subprotocol");
        fault(
            &format!("subprotocols = [\"bearer.v1\"]{more}\nsubprotocol_prefix = \"bearer.\""),
            "g.toml:12:17: `bearer.v1` would be taken for a token",
        );
        fault("subprotocols = [\"v1\"]", "g.toml:12:16: subprotocols says which one the gate selects");
    }
}
