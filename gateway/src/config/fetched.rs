//! Keys of an issuer that are fetched: where from, how often, and for how long they are believed.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use url::Url;

use super::form;
use super::remote::{SecretUrl, is_loopback, may_be_asked};
use super::validate::Checker;

/// From one good answer to the next request, at least: a set is small, and a key that is taken
/// away should not serve for long.
const MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The same at most, however long the issuer says that its answer is fresh.
const MAX_INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);
/// How long keys serve after the last good answer.
const MAX_STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two requests that tokens with unknown keys cause.
const COOLDOWN: Duration = Duration::from_secs(30);
/// The shortest interval and cool-down: whoever serves the keys should not mind.
const SHORTEST: Duration = Duration::from_secs(10);
/// The same of an issuer on this host.
const SHORTEST_LOCAL: Duration = Duration::from_secs(1);
/// Keys that nobody has confirmed for longer are anybody's guess.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Keys of an issuer that are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedKeys {
    /// Where they are.
    pub place: KeysPlace,
    /// From one good answer to the next request, at least.
    pub min_interval: Duration,
    /// From one good answer to the next request, at most; shorter than `max_stale`.
    pub max_interval: Duration,
    /// How long keys serve after the last good answer.
    pub max_stale: Duration,
    /// Between two requests that tokens with unknown keys cause.
    pub cooldown: Duration,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

/// Where the keys of an issuer are to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysPlace {
    /// At the URL of a JWK set.
    Set(SecretUrl),
    /// Where the issuer's metadata says: `jwks_uri` (RFC 8414 §2). The URLs are asked in turn.
    Metadata([Url; 2]),
}

impl KeysPlace {
    /// What is asked, for people: never a query.
    pub fn shown(&self) -> String {
        match self {
            Self::Set(url) => url.shown(),
            Self::Metadata([_, second]) => second.to_string(),
        }
    }
}

/// The keys of `form` that are fetched from `url`, or found by the issuer's metadata.
pub(super) fn check(
    checker: &mut Checker<'_>,
    form: &form::Issuer,
    url: Option<&Spanned<String>>,
) -> Option<FetchedKeys> {
    let (place, local) = match url {
        Some(text) => {
            let url = set(text.get_ref()).map_err(|fault| checker.fault(&text.span(), fault)).ok()?;
            let local = is_loopback(&url);
            (KeysPlace::Set(url.into()), local)
        }
        None => {
            let text = &form.issuer;
            let url = identifier(text.get_ref()).map_err(|fault| checker.fault(&text.span(), fault)).ok()?;
            (KeysPlace::Metadata(metadata(&url)), is_loopback(&url))
        }
    };
    let shortest = if local { SHORTEST_LOCAL } else { SHORTEST };
    let min_interval = span(checker, form.keys_min_interval.as_ref(), MIN_INTERVAL, shortest..LONGEST)?;
    let default = MAX_INTERVAL.max(min_interval);
    let max_interval = span(checker, form.keys_max_interval.as_ref(), default, min_interval..LONGEST)?;
    let default = MAX_STALE.max(max_interval.saturating_mul(2)).min(LONGEST);
    let max_stale = span(checker, form.max_stale.as_ref(), default, max_interval..LONGEST)?;
    let cooldown = span(checker, form.keys_cooldown.as_ref(), COOLDOWN, shortest..LONGEST)?;
    let ca = form.ca.as_ref().map(|ca| checker.path(ca.get_ref()));
    Some(FetchedKeys { place, min_interval, max_interval, max_stale, cooldown, ca })
}

/// Records a fault for each setting of fetched keys in `form`, whose keys are not fetched.
pub(super) fn refuse(checker: &mut Checker<'_>, form: &form::Issuer) {
    let settings = [
        (&form.keys_min_interval, "keys_min_interval"),
        (&form.keys_max_interval, "keys_max_interval"),
        (&form.max_stale, "max_stale"),
        (&form.keys_cooldown, "keys_cooldown"),
        (&form.ca, "ca"),
    ];
    for (setting, name) in settings {
        if let Some(setting) = setting {
            let message = format!(
                "{name} is about keys that are fetched, and those of this issuer are in a file: remove it, or \
                 give keys a URL"
            );
            checker.fault(&setting.span(), message);
        }
    }
}

fn span(
    checker: &mut Checker<'_>,
    text: Option<&Spanned<String>>,
    default: Duration,
    range: Range<Duration>,
) -> Option<Duration> {
    let Some(text) = text else { return Some(default) };
    let span = checker.duration(text)?;
    if !(range.start..=range.end).contains(&span) {
        let message = format!(
            "this is from {} to {} here: keys_min_interval is at most keys_max_interval, that at most \
             max_stale, and whoever serves the keys should not mind",
            humantime::format_duration(range.start),
            humantime::format_duration(range.end)
        );
        checker.fault(&text.span(), message);
    }
    Some(span)
}

/// The URL of a JWK set, or what is wrong with it. No message repeats what may be a secret.
fn set(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("this is not a URL ({error}): write \"https://idp.example/jwks.json\""))?;
    safe(&url)?;
    if url.fragment().is_some() {
        return Err("no server gets to see what stands after `#`: remove it".to_owned());
    }
    Ok(url)
}

/// The URL that `text` is as an issuer identifier (RFC 8414 §2, OpenID Connect Discovery 1.0 §3).
fn identifier(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| {
        format!(
            "with discovery the issuer is asked, and this is not a URL ({error}): write \
             \"https://idp.example\", or name the JWK set with keys"
        )
    })?;
    safe(&url)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "an issuer that can be asked has no query and no part after `#` in its name (RFC 8414 §2): \
                    name the JWK set with keys"
                .to_owned(),
        );
    }
    Ok(url)
}

fn safe(url: &Url) -> Result<(), String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or password in the URL is not supported: keys are public".to_owned());
    }
    if may_be_asked(url) {
        return Ok(());
    }
    Err(match url.scheme() {
        "http" => {
            "keys are fetched by https; http is for loopback addresses such as 127.0.0.1 alone, because \
                   anybody on the way could put keys of their own in: write https://"
                .to_owned()
        }
        scheme => format!("keys cannot be fetched by `{scheme}`: write https://"),
    })
}

/// Where the metadata of `issuer` can be: between host and path (RFC 8414 §3), and after the path
/// (OpenID Connect Discovery 1.0 §4).
fn metadata(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    [
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("{path}/.well-known/openid-configuration")),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{KeySource, parse};
    use super::*;

    fn with(issuer: &str, more: &str) -> Result<FetchedKeys, String> {
        let text =
            format!("[[issuer]]\nname = \"main\"\nissuer = \"{issuer}\"\naudience = [\"a\"]\n{more}\n");
        match parse(Path::new("/etc/g.toml"), &text) {
            Ok((config, _)) => match config.issuers[0].keys.clone() {
                KeySource::Fetched(keys) => Ok(*keys),
                other => panic!("{other:?}"),
            },
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    #[test]
    fn a_url_is_a_set_that_is_fetched_with_sane_defaults() {
        let keys = with("i", "keys = \"https://idp.example/jwks\"").expect("valid");
        assert_eq!(keys.place.shown(), "https://idp.example/jwks");
        assert_eq!((keys.min_interval, keys.max_interval), (MIN_INTERVAL, MAX_INTERVAL));
        assert_eq!((keys.max_stale, keys.cooldown, keys.ca), (MAX_STALE, COOLDOWN, None));
    }

    #[test]
    fn settings_are_taken_and_bounds_follow_each_other() {
        let more = "keys = \"http://127.0.0.1:9/j\"\nkeys_min_interval = \"1s\"\nkeys_max_interval = \"2s\"\n\
                    max_stale = \"3s\"\nkeys_cooldown = \"4s\"\nca = \"ca.pem\"";
        let keys = with("i", more).expect("valid");
        let seconds =
            [keys.min_interval, keys.max_interval, keys.max_stale, keys.cooldown].map(|span| span.as_secs());
        assert_eq!((seconds, keys.ca.as_deref()), ([1, 2, 3, 4], Some(Path::new("/etc/ca.pem"))));
        let long = with("i", "keys = \"https://idp.example/j\"\nkeys_max_interval = \"20h\"").expect("valid");
        assert!(long.max_stale > long.max_interval);
    }

    #[test]
    fn discovery_asks_at_both_well_known_places() {
        for (issuer, expected) in [
            (
                "https://idp.example",
                [
                    "https://idp.example/.well-known/oauth-authorization-server",
                    "https://idp.example/.well-known/openid-configuration",
                ],
            ),
            (
                "https://idp.example/realms/one/",
                [
                    "https://idp.example/.well-known/oauth-authorization-server/realms/one",
                    "https://idp.example/realms/one/.well-known/openid-configuration",
                ],
            ),
        ] {
            match with(issuer, "discovery = true").expect("valid").place {
                KeysPlace::Metadata(urls) => assert_eq!(urls.map(String::from), expected),
                KeysPlace::Set(_) => panic!("no discovery"),
            }
        }
    }

    #[test]
    fn what_cannot_be_asked_safely_is_refused_in_its_place_and_without_repeating_it() {
        for (issuer, more, place, expected) in [
            ("i", "keys = \"http://idp.example/j?hush\"", "5:8", "https://"),
            ("i", "keys = \"http://localhost/j?hush\"", "5:8", "loopback"),
            ("i", "keys = \"file:///hush\"", "5:8", "`file`"),
            ("i", "keys = \"https://me:hush@idp.example/j\"", "5:8", "password"),
            ("i", "keys = \"https://idp.example/j#hush\"", "5:8", "`#`"),
            ("not a url", "discovery = true", "3:10", "not a URL"),
            ("http://idp.example", "discovery = true", "3:10", "https://"),
            ("https://idp.example?hush", "discovery = true", "3:10", "RFC 8414"),
        ] {
            let fault = with(issuer, more).expect_err("faulty");
            assert!(fault.starts_with(&format!("/etc/g.toml:{place}: ")), "{fault}");
            assert!(fault.contains(expected) && !fault.contains("hush"), "{fault}");
        }
    }

    #[test]
    fn intervals_that_hurt_or_contradict_each_other_are_refused() {
        let url = "keys = \"https://idp.example/j\"";
        for setting in [
            "keys_min_interval = \"1s\"",
            "keys_max_interval = \"1m\"",
            "max_stale = \"1h\"",
            "keys_cooldown = \"0s\"",
            "max_stale = \"99d\"",
        ] {
            let fault = with("i", &format!("{url}\n{setting}")).expect_err("faulty");
            assert!(fault.contains(":6:") && fault.contains("from "), "{fault}");
        }
    }

    #[test]
    fn settings_of_fetched_keys_beside_a_file_are_refused() {
        let fault = with("i", "keys = \"k.json\"\nmax_stale = \"1h\"").expect_err("faulty");
        assert!(fault.contains(":6:13: max_stale is about keys that are fetched"), "{fault}");
        let fault = with("https://i", "keys = \"https://i/j\"\ndiscovery = true").expect_err("faulty");
        assert!(fault.contains("exactly one of"), "{fault}");
    }
}
