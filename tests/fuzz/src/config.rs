//! The configuration file: what is accepted needs no further validation, and what is not is
//! explained in place.

use std::path::Path;

use gateway::config::{
    Config, Diagnostic, KeySource, KeysPlace, ListFiles, Place, Ports, ScopeRule, may_be_asked, parse,
};

pub(crate) fn run(input: &[u8]) {
    // `load` refuses other files before it parses them.
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let file = Path::new("/etc/gatehouse/gatehouse.toml");
    match parse(file, text) {
        Ok((config, warnings)) => {
            are_in_place(&warnings, text);
            is_valid(&config);
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "a configuration is refused for no reason");
            are_in_place(&faults, text);
        }
    }
}

fn are_in_place(diagnostics: &[Diagnostic], text: &str) {
    let lines = text.matches('\n').count() + 1;
    for diagnostic in diagnostics {
        assert!(diagnostic.line as usize <= lines, "{diagnostic}");
        assert!(crate::is_one_plain_line(&diagnostic.to_string()), "{diagnostic:?}");
    }
}

/// What the rest of the program relies on.
fn is_valid(config: &Config) {
    assert!(config.routes.is_empty() || !config.listen.is_empty());
    for route in &config.routes {
        assert!(route.path.starts_with('/') && !route.issuers.is_empty());
        assert_eq!(config.routes.iter().filter(|other| other.path == route.path).count(), 1);
        let known = |name: &String| config.issuers.iter().any(|issuer| &issuer.name == name);
        assert!(route.issuers.iter().all(known), "{route:?}");
        let ScopeRule { all, any, none } = &route.scopes;
        let mut scopes = all.iter().chain(any).chain(none);
        // A `scope-token` of RFC 6749 §3.3 has no blank, which would make it two.
        assert!(scopes.all(|scope| !scope.is_empty() && !scope.contains(' ')), "{route:?}");
        let sources = &route.sources;
        // A page could otherwise act for whoever looks at it.
        assert!(
            sources.cookie.is_none() || route.origins.as_ref().is_some_and(|all| !all.is_empty()),
            "{route:?}"
        );
        assert!(sources.subprotocol_prefix.as_ref().is_none_or(|prefix| !prefix.is_empty()), "{route:?}");
        assert!(!route.upstreams.is_empty(), "{route:?}");
        for upstream in &route.upstreams {
            match &upstream.place {
                Place::Tcp { host, .. } => {
                    assert!(!host.is_empty() && !host.contains(char::is_whitespace), "{route:?}");
                }
                Place::Unix(path) => assert!(path.is_absolute(), "{route:?}"),
            }
            assert!(upstream.path.as_ref().is_none_or(|path| path.starts_with('/')), "{route:?}");
        }
    }
    for issuer in &config.issuers {
        assert!(!issuer.algorithms.is_empty() && !issuer.audience.is_empty(), "{issuer:?}");
        assert_eq!(config.issuers.iter().filter(|other| other.name == issuer.name).count(), 1);
        if let Some(rules) = &issuer.introspection {
            let discovered = matches!(&issuer.keys, KeySource::Fetched(keys) if matches!(keys.place, KeysPlace::Metadata(_)));
            match &rules.endpoint {
                Some(url) => assert!(may_be_asked(url.expose()), "{issuer:?}"),
                None => assert!(discovered, "nobody says where to ask: {issuer:?}"),
            }
            assert!(rules.inactive_cache <= rules.cache && rules.failures > 0, "{issuer:?}");
            assert!(!rules.rest.is_zero() && !rules.retry.is_zero(), "{issuer:?}");
        }
        if let KeySource::Fetched(keys) = &issuer.keys {
            let asked = match &keys.place {
                KeysPlace::Set(url) => vec![url.expose()],
                KeysPlace::Metadata(urls) => urls.iter().collect(),
            };
            assert!(asked.into_iter().all(may_be_asked), "{issuer:?}");
            assert!(!keys.min_interval.is_zero() && !keys.cooldown.is_zero(), "{issuer:?}");
            assert!(
                keys.min_interval <= keys.max_interval && keys.max_interval <= keys.max_stale,
                "{issuer:?}"
            );
        }
    }
    if let Some(firewall) = &config.firewall {
        let patterns = firewall.deny.iter().chain(&firewall.allow);
        assert!(patterns.into_iter().all(|list| absolute(&list.files) && list.line >= 1));
        if let Ports::Only(ports) = &firewall.ports {
            assert!(!ports.is_empty() && !ports.contains(&0), "{ports:?}");
        }
    }
    let limits = &config.limits;
    assert!(limits.sessions > 0 && limits.request_head > 0);
    // This much is reserved at once.
    assert!((1..=4096).contains(&limits.request_headers) && (1..=1 << 20).contains(&limits.audit_queue));
    assert!((64..=1 << 20).contains(&limits.first_message_size) && !limits.first_message_timeout.is_zero());
    assert!(!limits.handshake_timeout.is_zero() && !limits.upstream_timeout.is_zero());
}

fn absolute(files: &ListFiles) -> bool {
    match files {
        ListFiles::One(path) => path.is_absolute(),
        ListFiles::Remote(list) => list.file.is_absolute() && may_be_asked(list.url.expose()),
        ListFiles::Matching { glob, folder } => glob.starts_with('/') && folder.is_absolute(),
    }
}
