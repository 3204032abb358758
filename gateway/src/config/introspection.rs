//! `[issuer.introspection]` tables: how an issuer is asked about tokens.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use url::Url;

use super::form;
use super::issuer::not_empty;
use super::remote::{SecretUrl, may_be_asked};
use super::validate::Checker;

/// How long an answer is remembered: so long can a token be used after its issuer has revoked it.
const CACHE: Duration = Duration::from_secs(60);
const MAX_CACHE: Duration = Duration::from_secs(60 * 60);
/// How long it is remembered that a token is not active: it may be one that is just being made.
const INACTIVE: Duration = Duration::from_secs(10);
/// Failures in a row before an endpoint is left alone.
const FAILURES: u32 = 5;
const MOST_FAILURES: u32 = 1000;
/// For how long it is left alone.
const REST: Duration = Duration::from_secs(5);
const RESTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10 * 60);
/// When clients are told to come back.
const RETRY: Duration = Duration::from_secs(5);
const RETRIES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60 * 60);

/// How an issuer is asked about a token (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Where: an https URL, or one of this host; `None`: where the issuer's metadata says.
    pub endpoint: Option<SecretUrl>,
    /// Who the gate is there.
    pub client_id: String,
    /// The file with its secret.
    pub secret: PathBuf,
    /// How it shows both.
    pub auth: ClientAuth,
    /// About which tokens it is asked.
    pub asked: Asked,
    /// How long an answer is remembered at most.
    pub cache: Duration,
    /// How long it is remembered at most that a token is not active; not longer than `cache`.
    pub inactive_cache: Duration,
    /// Failures in a row after which the endpoint is left alone for `rest`; at least 1.
    pub failures: u32,
    /// For how long it is left alone, and then again after each further failure.
    pub rest: Duration,
    /// When a client should come back after a failure.
    pub retry: Duration,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

/// About which tokens an issuer is asked that has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Those that only it can read.
    Opaque,
    /// JWTs that are good by its keys as well: it may have revoked them.
    Always,
}

/// How a client proves who it is (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the header `Authorization: Basic`.
    Basic,
    /// In the form.
    Post,
}

/// What an issuer is asked about a token with. With `discovery`, its metadata can say where.
pub(super) fn check(
    checker: &mut Checker<'_>,
    form: &Spanned<form::Introspection>,
    discovery: bool,
) -> Option<Introspection> {
    let (table, form) = (form.span(), form.get_ref());
    let endpoint = form.endpoint.as_ref().map(|text| endpoint(checker, text));
    if endpoint.is_none() && !discovery {
        let message = "endpoint is missing: write \"https://HOST/PATH\", or let the issuer's metadata say where it \
                       is with discovery = true";
        // The table's own span ends where the next table begins.
        checker.fault(&(table.start..table.start), message);
    }
    not_empty(checker, &form.client_id, "client_id");
    let auth = word(
        checker,
        form.auth.as_ref(),
        "a way to show a client secret",
        [("basic", ClientAuth::Basic), ("post", ClientAuth::Post)],
    );
    let asked = word(
        checker,
        form.introspect.as_ref(),
        "a kind of tokens to ask about",
        [("opaque", Asked::Opaque), ("always", Asked::Always)],
    );
    let cache = span(checker, form.cache.as_ref(), CACHE, &(Duration::ZERO..=MAX_CACHE), "cache");
    let inactives = Duration::ZERO..=cache.unwrap_or(MAX_CACHE);
    let inactive = INACTIVE.min(*inactives.end());
    let inactive = span(checker, form.inactive_cache.as_ref(), inactive, &inactives, "inactive_cache");
    let failures = form.failures.as_ref().map_or(FAILURES, |failures| {
        if !(1..=MOST_FAILURES).contains(failures.get_ref()) {
            let message = format!("failures is a number from 1 to {MOST_FAILURES}");
            checker.fault(&failures.span(), message);
        }
        *failures.get_ref()
    });
    let rest = span(checker, form.rest.as_ref(), REST, &RESTS, "rest");
    let retry = span(checker, form.retry.as_ref(), RETRY, &RETRIES, "retry");
    Some(Introspection {
        endpoint: match endpoint {
            Some(endpoint) => Some(endpoint?),
            None => None,
        },
        client_id: form.client_id.get_ref().clone(),
        secret: checker.path(form.client_secret.get_ref()),
        auth,
        asked,
        cache: cache?,
        inactive_cache: inactive?,
        failures,
        rest: rest?,
        retry: retry?,
        ca: form.ca.as_ref().map(|ca| checker.path(ca.get_ref())),
    })
}

/// No message repeats a URL: there may be a secret in it.
fn endpoint(checker: &mut Checker<'_>, text: &Spanned<String>) -> Option<SecretUrl> {
    let url = Url::parse(text.get_ref()).ok().filter(|url| {
        may_be_asked(url) && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
    });
    if url.is_none() {
        checker.fault(
            &text.span(),
            "this is no endpoint that may be asked: write \"https://HOST/PATH\", without a user, a password or a \
             part after `#` (http is for loopback addresses such as 127.0.0.1 alone)",
        );
    }
    url.map(SecretUrl::from)
}

/// The one of `choices` that `text` names; the first when it is not there.
fn word<T: Copy>(
    checker: &mut Checker<'_>,
    text: Option<&Spanned<String>>,
    what: &str,
    choices: [(&str, T); 2],
) -> T {
    let [(first, default), (second, _)] = choices;
    let Some(text) = text else { return default };
    match choices.into_iter().find(|(name, _)| name == text.get_ref()) {
        Some((_, choice)) => choice,
        None => {
            let message = format!("`{}` is not {what}: \"{first}\" or \"{second}\"", text.get_ref());
            checker.fault(&text.span(), message);
            default
        }
    }
}

fn span(
    checker: &mut Checker<'_>,
    text: Option<&Spanned<String>>,
    default: Duration,
    range: &RangeInclusive<Duration>,
    name: &str,
) -> Option<Duration> {
    let Some(text) = text else { return Some(default) };
    let span = checker.duration(text)?;
    if !range.contains(&span) {
        let message = match name {
            "cache" => "cache is above 1h: revoked tokens would stay useful for too long".to_owned(),
            "inactive_cache" => "inactive_cache is longer than cache: make it shorter".to_owned(),
            _ => format!(
                "{name} is from {} to {}",
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end())
            ),
        };
        checker.fault(&text.span(), message);
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    fn with(issuer: &str, table: &str) -> Result<Introspection, String> {
        let text = format!(
            "[[issuer]]\nname = \"main\"\nissuer = \"https://i\"\naudience = [\"a\"]\n{issuer}\n\
             [issuer.introspection]\nclient_id = \"gate\"\nclient_secret = \"s\"\n{table}\n"
        );
        match parse(Path::new("/etc/g.toml"), &text) {
            Ok((mut config, _)) => Ok(config.issuers.remove(0).introspection.expect("a table")),
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    const ENDPOINT: &str = "endpoint = \"https://i/introspect\"";

    #[test]
    fn what_is_not_said_has_sane_defaults() {
        let rules = with("", ENDPOINT).expect("valid");
        assert_eq!((rules.auth, rules.asked), (ClientAuth::Basic, Asked::Opaque));
        assert_eq!((rules.cache, rules.inactive_cache), (CACHE, INACTIVE));
        assert_eq!((rules.failures, rules.rest, rules.retry), (FAILURES, REST, RETRY));
        let short = with("", &format!("{ENDPOINT}\ncache = \"2s\"")).expect("valid");
        assert_eq!(short.inactive_cache, Duration::from_secs(2));
    }

    #[test]
    fn the_endpoint_may_be_left_out_only_where_the_metadata_says_it() {
        assert_eq!(with("discovery = true", "").expect("valid").endpoint, None);
        for keys in ["", "keys = \"https://i/keys\"", "secret = \"k\""] {
            let fault = with(keys, "").expect_err("faulty");
            assert!(fault.starts_with("/etc/g.toml:6:") && fault.contains("discovery = true"), "{fault}");
        }
    }

    #[test]
    fn settings_are_taken() {
        let more = "introspect = \"always\"\nauth = \"post\"\ncache = \"30s\"\ninactive_cache = \"1s\"\nfailures = 2\n\
                    rest = \"500ms\"\nretry = \"7s\"";
        let rules = with("", &format!("{ENDPOINT}\n{more}")).expect("valid");
        assert_eq!((rules.auth, rules.asked, rules.failures), (ClientAuth::Post, Asked::Always, 2));
        let spans = [rules.cache, rules.inactive_cache, rules.rest, rules.retry].map(|span| span.as_millis());
        assert_eq!(spans, [30_000, 1_000, 500, 7_000]);
    }

    #[test]
    fn what_hurts_or_means_nothing_is_refused_in_its_place() {
        for (setting, expected) in [
            ("introspect = \"never\"", "\"opaque\" or \"always\""),
            ("auth = \"none\"", "\"basic\" or \"post\""),
            ("cache = \"2h\"", "above 1h"),
            ("inactive_cache = \"2m\"", "longer than cache"),
            ("failures = 0", "from 1 to 1000"),
            ("failures = 1001", "from 1 to 1000"),
            ("rest = \"1ms\"", "from 100ms to 10m"),
            ("rest = \"1h\"", "from 100ms to 10m"),
            ("retry = \"0s\"", "from 1s to 1h"),
            ("retry = \"soon\"", "duration"),
        ] {
            let fault = with("", &format!("{ENDPOINT}\n{setting}")).expect_err("faulty");
            assert!(fault.starts_with("/etc/g.toml:10:") && fault.contains(expected), "{setting}: {fault}");
        }
    }

    #[test]
    fn an_endpoint_that_must_not_be_asked_is_refused_and_not_repeated() {
        for url in ["http://i/hush", "https://a:hush@i/", "https://i/#hush", "hush", "file:///hush"] {
            let fault = with("", &format!("endpoint = \"{url}\"")).expect_err("faulty");
            assert!(fault.starts_with("/etc/g.toml:9:12: ") && !fault.contains("hush"), "{fault}");
        }
    }
}
