//! `[[route]]` tables.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use toml::{Spanned, Value};

use super::claims;
use super::form::{self, Strings};
use super::model::{Browser, Issuer, Place, Route, RouteLimits, TrafficLimits, Upstream, UpstreamTls};
use super::token_sources;
use super::validate::Checker;

pub(super) fn check(checker: &mut Checker<'_>, forms: Vec<form::Route>, issuers: &[Issuer]) -> Vec<Route> {
    let mut paths = HashSet::new();
    let mut routes = Vec::new();
    let tickets = forms.iter().any(|form| form.tickets.as_ref().is_some_and(|tickets| *tickets.get_ref()));
    let renewal = forms.iter().any(|form| form.renewal);
    for form in forms {
        checker.unique(&mut paths, &form.path, "the path");
        let own = form.path.get_ref().starts_with("/.well-known/")
            || tickets && form.path.get_ref() == "/tickets"
            || renewal && form.path.get_ref().starts_with("/sessions/");
        if own {
            let message =
                format!("`{}` is answered by the gate itself: choose another path", form.path.get_ref());
            checker.fault(&form.path.span(), message);
        }
        path(checker, &form.path);
        issuer_names(checker, &form.issuers, issuers);
        let upstreams = upstreams(checker, &form.upstream, form.upstream_ca.as_ref());
        let scopes = claims::scopes(checker, form.scopes.as_ref());
        let rule = claims::rule(checker, form.claims.as_ref());
        let max_age = claims::span(checker, form.max_age.as_ref());
        let sources = token_sources::check(checker, &form);
        let traffic = checker.traffic(form.bytes_rate.as_ref(), form.messages_rate.as_ref());
        let limits = limits(checker, form.sessions.as_ref(), form.handshake_rate.as_ref(), traffic);
        let control = control(checker, form.renewal, form.renewal_warning.as_ref());
        let browser = browser(checker, form.browser.as_ref());
        let origins = form.origins.map(|origins| self::origins(checker, &origins));
        let Some(scopes) = scopes.filter(|_| !upstreams.is_empty()) else {
            continue;
        };
        routes.push(Route {
            path: form.path.into_inner(),
            upstreams,
            issuers: form.issuers.into_inner().into_iter().map(Spanned::into_inner).collect(),
            scopes,
            claims: rule,
            max_age,
            origins,
            sources,
            limits,
            browser,
            renewal: form.renewal,
            control,
        });
    }
    routes
}

fn browser(checker: &mut Checker<'_>, form: Option<&Spanned<String>>) -> Browser {
    let Some(form) = form else { return Browser::Status };
    match form.get_ref().as_str() {
        "status" => Browser::Status,
        "close_code" => Browser::CloseCode,
        "origin" => Browser::Origin,
        other => {
            let message = format!(
                "`{other}` does not say how clients hear that they are turned away: choose \"status\", \
                 \"close_code\" or \"origin\""
            );
            checker.fault(&form.span(), message);
            Browser::Status
        }
    }
}

/// How long before its end a session is told so.
fn control(checker: &mut Checker<'_>, renewal: bool, warning: Option<&Spanned<String>>) -> Option<Duration> {
    let warning = warning?;
    let span = checker.duration(warning)?;
    if !renewal {
        checker.fault(
            &warning.span(),
            "sessions on this route cannot be renewed, so there is nothing to be warned for: add renewal = true",
        );
    }
    if span < Duration::from_secs(1) {
        checker
            .fault(&warning.span(), "nobody gets a token in less than a second: write \"1m\", for instance");
    }
    Some(span)
}

fn limits(
    checker: &mut Checker<'_>,
    sessions: Option<&Spanned<u64>>,
    rate: Option<&Spanned<u64>>,
    traffic: TrafficLimits,
) -> RouteLimits {
    if let Some(none) = sessions.filter(|sessions| *sessions.get_ref() == 0) {
        checker
            .fault(&none.span(), "sessions is 0: no client could be admitted; leave it out for any number");
    }
    let sessions = sessions.map(|sessions| usize::try_from(*sessions.get_ref()).unwrap_or(usize::MAX));
    RouteLimits { sessions, handshake_rate: checker.rate(rate), traffic }
}

fn path(checker: &mut Checker<'_>, path: &Spanned<String>) {
    let text = path.get_ref();
    // RFC 3986 §3.3, less what a request could spell in two ways.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    let message = if !text.starts_with('/') {
        "a path starts with `/`"
    } else if text.contains("//") || text.split('/').any(|segment| segment == "." || segment == "..") {
        "a path has no empty, `.` or `..` segments"
    } else if !text.bytes().all(plain) {
        "a path has no query, no percent-encoding and no other characters than RFC 3986 §3.3 allows"
    } else {
        return;
    };
    checker.fault(&path.span(), message);
}

fn issuer_names(checker: &mut Checker<'_>, names: &Spanned<Strings>, issuers: &[Issuer]) {
    if names.get_ref().is_empty() {
        checker.fault(&names.span(), "issuers is empty: no token could be accepted on this route");
    }
    for name in names.get_ref() {
        if !issuers.iter().any(|issuer| &issuer.name == name.get_ref()) {
            let message = format!("there is no valid [[issuer]] with the name `{}`", name.get_ref());
            checker.fault(&name.span(), message);
        }
    }
}

/// One upstream, or a list of them.
fn upstreams(
    checker: &mut Checker<'_>,
    form: &Spanned<Value>,
    ca: Option<&Spanned<String>>,
) -> Vec<Upstream> {
    let texts: Option<Vec<&str>> = match form.get_ref() {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let texts = texts.filter(|texts| !texts.is_empty()).unwrap_or_else(|| {
        checker.fault(&form.span(), "upstream is \"ws://HOST:PORT\", or a list of such");
        Vec::new()
    });
    let trusted = ca.map(|ca| checker.path(ca.get_ref()));
    let mut upstreams = Vec::new();
    for text in texts {
        let Some(upstream) = upstream(text, trusted.as_ref()) else {
            let message = format!(
                "`{text}` is not an upstream: write \"ws://HOST:PORT\", \"wss://HOST:PORT\" or \"unix:/FILE\", \
                 the first two with a path when it differs from the route's"
            );
            checker.fault(&form.span(), message);
            continue;
        };
        if upstreams.contains(&upstream) {
            checker.fault(&form.span(), format!("the upstream `{text}` stands here twice"));
        }
        upstreams.push(upstream);
    }
    if let Some(ca) = ca.filter(|_| upstreams.iter().all(|upstream| upstream.tls.is_none())) {
        checker.fault(&ca.span(), "upstream_ca has nothing to check: no upstream of this route is wss://");
    }
    upstreams
}

fn upstream(text: &str, ca: Option<&PathBuf>) -> Option<Upstream> {
    if let Some(path) = text.strip_prefix("unix:") {
        let valid = path.starts_with('/') && !path.contains('\0');
        return valid.then(|| Upstream { place: Place::Unix(path.into()), tls: None, path: None });
    }
    let uri: http::Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host().trim_matches(['[', ']']);
    if host.is_empty() {
        return None;
    }
    let path = Some(uri.path()).filter(|path| *path != "/" && !path.is_empty());
    let (tls, port) = match uri.scheme_str() {
        Some("ws") => (None, 80),
        Some("wss") => (Some(UpstreamTls { ca: ca.cloned() }), 443),
        _ => return None,
    };
    uri.query().is_none().then(|| Upstream {
        place: Place::Tcp { host: host.to_owned(), port: authority.port_u16().unwrap_or(port) },
        tls,
        path: path.map(str::to_owned),
    })
}

fn origins(checker: &mut Checker<'_>, forms: &Spanned<Strings>) -> Vec<String> {
    let mut origins = Vec::new();
    for form in forms.get_ref() {
        let text = form.get_ref().to_ascii_lowercase();
        // RFC 6454 §6.2: scheme "://" host [ ":" port ], and nothing after it.
        let serialised = text.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty() && !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*', ' '])
        });
        if !serialised {
            let message = format!(
                "`{}` is not an origin: write \"https://app.example\" without a path",
                form.get_ref()
            );
            checker.fault(&form.span(), message);
        }
        origins.push(text);
    }
    origins
}
