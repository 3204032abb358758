//! `[[issuer]]` tables.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use toml::{Spanned, Value};

use super::model::{Issuer, KeySource, Profile};
use super::validate::Checker;
use super::{claims, fetched, form, introspection};

/// Tolerated clock difference unless the issuer says otherwise. RFC 7519 §4.1.4 allows "usually
/// no more than a few minutes"; hosts with NTP need far less.
const LEEWAY: Duration = Duration::from_secs(30);
/// Above this, an expired token would stay useful for long.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Those of our own keys.
const OWN: [Algorithm; 2] = [Algorithm::EdDSA, Algorithm::ES256];

const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

pub(super) fn check(checker: &mut Checker<'_>, forms: Vec<form::Issuer>) -> Vec<Issuer> {
    let mut names = HashSet::new();
    let mut issuers = Vec::new();
    for form in forms {
        checker.unique(&mut names, &form.name, "the issuer");
        issuers.extend(one(checker, form));
    }
    issuers
}

fn one(checker: &mut Checker<'_>, form: form::Issuer) -> Option<Issuer> {
    not_empty(checker, &form.name, "name");
    not_empty(checker, &form.issuer, "issuer");
    if form.audience.get_ref().is_empty() {
        checker.fault(
            &form.audience.span(),
            "audience is empty: name the values of which one must be in a token's `aud`, \
             or tokens for other services would be accepted here",
        );
    }
    let keys = keys(checker, &form);
    let algorithms = algorithms(checker, form.algorithms.as_ref(), keys.as_ref());
    let discovery = form.discovery.as_ref().is_some_and(|discovery| *discovery.get_ref());
    let introspection =
        form.introspection.as_ref().map(|form| introspection::check(checker, form, discovery));
    let serve_keys = form.serve_keys.as_ref().is_some_and(|serve| *serve.get_ref());
    if let (Some(serve), None) = (&form.serve_keys, &form.signing_key) {
        checker
            .fault(&serve.span(), "serve_keys goes with signing_key: other keys are their issuer's to serve");
    }
    let profile = profile(checker, form.profile.as_ref());
    let typ = typ(checker, form.typ.as_ref(), profile);
    let scope_claim = form.scope_claim.as_ref().and_then(|form| claims::path(checker, form));
    let require = form.require.as_ref().map_or_else(Vec::new, |form| claims::tests(checker, form));
    let max_lifetime = claims::span(checker, form.max_lifetime.as_ref());
    let leeway = form.leeway.as_ref().map_or(Some(LEEWAY), |text| {
        let leeway = checker.duration(text)?;
        if leeway > MAX_LEEWAY {
            checker.fault(&text.span(), "leeway is above 5m: expired tokens would stay useful for too long");
        }
        Some(leeway)
    });
    Some(Issuer {
        name: form.name.into_inner(),
        issuer: form.issuer.into_inner(),
        audience: form.audience.into_inner().into_iter().map(Spanned::into_inner).collect(),
        keys: keys?,
        algorithms,
        typ,
        leeway: leeway?,
        scope_claim,
        introspection: introspection.flatten(),
        serve_keys,
        profile,
        require,
        max_lifetime,
    })
}

fn profile(checker: &mut Checker<'_>, form: Option<&Spanned<String>>) -> Profile {
    let Some(form) = form else { return Profile::Rfc9068 };
    match form.get_ref().as_str() {
        "rfc9068" => {}
        "jwt" => return Profile::Jwt,
        other => {
            let message = format!(
                "`{other}` is not a profile: \"rfc9068\" demands what standard access tokens have (the default), \
                 \"jwt\" only iss, sub, aud and exp"
            );
            checker.fault(&form.span(), message);
        }
    }
    Profile::Rfc9068
}

pub(super) fn not_empty(checker: &mut Checker<'_>, text: &Spanned<String>, what: &str) {
    if text.get_ref().trim().is_empty() {
        checker.fault(&text.span(), format!("{what} is empty"));
    }
}

fn keys(checker: &mut Checker<'_>, form: &form::Issuer) -> Option<KeySource> {
    let discovery = form.discovery.as_ref().is_some_and(|discovery| *discovery.get_ref());
    let url = form.keys.as_ref().filter(|keys| keys.get_ref().contains("://"));
    if !discovery && url.is_none() {
        fetched::refuse(checker, form);
    }
    match (&form.keys, &form.secret, &form.signing_key) {
        (None, None, None) if form.introspection.is_some() && !discovery => Some(KeySource::Nothing),
        (None, None, None) if discovery => {
            fetched::check(checker, form, None).map(Box::new).map(KeySource::Fetched)
        }
        (Some(_), None, None) if url.is_some() && !discovery => {
            fetched::check(checker, form, url).map(Box::new).map(KeySource::Fetched)
        }
        (Some(keys), None, None) if !discovery => {
            let text = keys.get_ref();
            let path = checker.path(text);
            match Path::new(text).extension().and_then(|extension| extension.to_str()) {
                Some("json" | "jwks" | "jwk") => Some(KeySource::JwkSet(path)),
                Some("pem" | "pub" | "key") => Some(KeySource::Pem(path)),
                _ => {
                    let message = format!(
                        "the kind of `{text}` is not clear: a JWK set ends in .json or .jwks, a public key in .pem"
                    );
                    checker.fault(&keys.span(), message);
                    None
                }
            }
        }
        (None, Some(secret), None) if !discovery => Some(KeySource::Secret(checker.path(secret.get_ref()))),
        (None, None, Some(key)) if !discovery => Some(KeySource::SigningKey(checker.path(key.get_ref()))),
        _ => {
            checker.fault(
                &form.name.span(),
                "an issuer needs exactly one of keys (JWK set or PEM file, or URL), discovery, secret (HMAC) and signing_key \
                 (our own), or an introspection table",
            );
            None
        }
    }
}

/// The accepted algorithms. HMAC and public-key algorithms never stand together: whoever may
/// verify with the one could forge for the other (RFC 8725 §3.1).
fn algorithms(
    checker: &mut Checker<'_>,
    forms: Option<&Spanned<form::Strings>>,
    keys: Option<&KeySource>,
) -> Vec<Algorithm> {
    let Some(forms) = forms else {
        return match keys {
            Some(KeySource::Secret(_)) => vec![Algorithm::HS256],
            Some(KeySource::SigningKey(_)) => OWN.to_vec(),
            _ => {
                vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]
            }
        };
    };
    if forms.get_ref().is_empty() {
        checker.fault(&forms.span(), "algorithms is empty: no token could be accepted");
    }
    let mut algorithms = Vec::new();
    for form in forms.get_ref() {
        match form.get_ref().parse::<Algorithm>() {
            Ok(algorithm) if ASYMMETRIC.contains(&algorithm) || HMAC.contains(&algorithm) => {
                algorithms.push(algorithm)
            }
            _ => {
                let message = format!(
                    "`{}` is not an algorithm: choose among RS256, RS384, RS512, PS256, PS384, PS512, \
                     ES256, ES384, EdDSA, HS256, HS384, HS512",
                    form.get_ref()
                );
                checker.fault(&form.span(), message);
            }
        }
    }
    let hmac = algorithms.iter().filter(|algorithm| HMAC.contains(algorithm)).count();
    if hmac > 0 && hmac < algorithms.len() {
        checker.fault(
            &forms.span(),
            "HMAC and public-key algorithms stand together: make two issuers, or a public key could be taken for a secret",
        );
    }
    let is_hmac = hmac > 0;
    let fits = match keys {
        Some(KeySource::Secret(_)) => is_hmac || algorithms.is_empty(),
        // A set that anybody can fetch has no secrets.
        Some(KeySource::Pem(_) | KeySource::Fetched(_)) => !is_hmac,
        Some(KeySource::SigningKey(_)) => algorithms.iter().all(|algorithm| OWN.contains(algorithm)),
        Some(KeySource::JwkSet(_) | KeySource::Nothing) | None => true,
    };
    if !fits {
        checker.fault(
            &forms.span(),
            "these algorithms do not fit the key: HS256, HS384 and HS512 need a secret, all others a public key, \
             and signing keys of ours are for EdDSA and ES256",
        );
    }
    algorithms
}

/// The accepted `typ` header values (RFC 9068 §4 unless relaxed).
fn typ(checker: &mut Checker<'_>, form: Option<&Spanned<Value>>, profile: Profile) -> Option<Vec<String>> {
    let normal = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.strip_prefix("application/").map_or(lower.clone(), str::to_owned)
    };
    let Some(form) = form else {
        return match profile {
            Profile::Rfc9068 => Some(vec!["at+jwt".to_owned()]),
            Profile::Jwt => None,
        };
    };
    match form.get_ref() {
        Value::String(text) if text == "any" => None,
        Value::String(text) if !text.is_empty() => Some(vec![normal(text)]),
        Value::Array(values) if !values.is_empty() && values.iter().all(Value::is_str) => {
            Some(values.iter().filter_map(Value::as_str).map(normal).collect())
        }
        _ => {
            checker.fault(
                &form.span(),
                "typ is \"at+jwt\" (the default of profile \"rfc9068\"), a list such as [\"at+jwt\", \"jwt\"], or \"any\"",
            );
            None
        }
    }
}
