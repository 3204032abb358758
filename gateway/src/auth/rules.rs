//! Rules over claims.

use serde_json::Value;

use super::certificate::Certificate;
use super::jws::Members;
use crate::config::{ClaimPath, ClaimRule, ClaimTest, ClaimValue};
use crate::rejection::{Reason, Rejection};

/// The claim at `path`; `None` when it is not there.
pub(super) fn at<'a>(claims: &'a Members, path: &ClaimPath) -> Option<&'a Value> {
    let (first, rest) = path.0.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
}

/// What rules are about: the claims of a token, and the certificate that its client showed.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a> {
    pub(super) token: &'a Members,
    pub(super) certificate: Option<&'a Certificate>,
}

impl<'a> Claims<'a> {
    /// The claim at `path`. Under the name of the certificate, nothing of the token is found.
    fn at(self, path: &ClaimPath) -> Option<&'a Value> {
        match path.0.split_first() {
            Some((first, rest)) if first == Certificate::CLAIM => {
                rest.iter().try_fold(self.certificate?.claims(), |value, name| value.as_object()?.get(name))
            }
            _ => at(self.token, path),
        }
    }
}

/// Whether a claim is what it has to be. `None`: it is not there, or an object or `null`, which no
/// rule is about.
fn holds(claims: Claims<'_>, test: &ClaimTest) -> Option<bool> {
    let one_of = |found: &Value| test.values.iter().any(|value| equals(found, value));
    match claims.at(&test.claim)? {
        Value::Object(_) | Value::Null => None,
        Value::Array(values) => Some(values.iter().any(one_of)),
        value => Some(one_of(value)),
    }
}

/// Numbers are equal by value, 1.0 and 1 too, as JSON does not tell them apart (RFC 8259 §6).
#[expect(clippy::cast_precision_loss, reason = "numbers beyond 2^53 are compared as integers before")]
fn equals(found: &Value, value: &ClaimValue) -> bool {
    match (found, value) {
        (Value::String(found), ClaimValue::Text(text)) => found == text,
        (Value::Bool(found), ClaimValue::Flag(flag)) => found == flag,
        (Value::Number(found), ClaimValue::Number(number)) => match found.as_i64() {
            Some(found) => found == *number,
            None => found.is_f64() && found.as_f64() == Some(*number as f64),
        },
        _ => false,
    }
}

/// Whether `claims` have what their issuer has to put into them.
///
/// # Errors
///
/// `credentials/missing_claim` or `credentials/wrong_claim`. What is expected stays in the journal.
pub(super) fn required(claims: Claims<'_>, tests: &[ClaimTest]) -> Result<(), Box<Rejection>> {
    for test in tests {
        let reason = match holds(claims, test) {
            Some(true) => continue,
            Some(false) => Reason::CredentialsWrongClaim,
            None => Reason::CredentialsMissingClaim,
        };
        let note = format!("the claim {} is not {}", test.claim, expected(test));
        return Err(Box::new(Rejection::new(reason).note(note)));
    }
    Ok(())
}

/// Whether `claims` satisfy the rule of a route.
///
/// # Errors
///
/// `scope/insufficient_claims`. What is expected stays in the journal.
pub(super) fn check(claims: Claims<'_>, rule: &ClaimRule) -> Result<(), Box<Rejection>> {
    let fault = |note: String| Err(Box::new(Rejection::new(Reason::ScopeInsufficientClaims).note(note)));
    for test in &rule.all {
        if holds(claims, test) != Some(true) {
            return fault(format!("the claim {} is not {}", test.claim, expected(test)));
        }
    }
    if !rule.any.is_empty() && !rule.any.iter().any(|test| holds(claims, test) == Some(true)) {
        let tests: Vec<String> =
            rule.any.iter().map(|test| format!("{} is {}", test.claim, expected(test))).collect();
        return fault(format!("none of these holds: {}", tests.join("; ")));
    }
    for test in &rule.none {
        match holds(claims, test) {
            Some(false) => {}
            Some(true) => return fault(format!("the claim {} is {}", test.claim, expected(test))),
            None => return fault(format!("the claim {}, which a rule is about, is not there", test.claim)),
        }
    }
    Ok(())
}

fn expected(test: &ClaimTest) -> String {
    let words = test.values.iter().map(|value| match value {
        ClaimValue::Text(text) => format!("{text:?}"),
        ClaimValue::Number(number) => number.to_string(),
        ClaimValue::Flag(flag) => flag.to_string(),
    });
    words.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Members {
        let json = r#"{"tenant": "acme", "level": 3, "half": 1.5, "one": 1.0, "big": 9007199254740993, "admin": true,
            "roles": ["a", 7, null, {"x": 1}], "realm_access": {"roles": ["chat"]}, "nothing": null, "object": {"a": "b"},
            "https://app.example/roles": ["dotted"], "empty": []}"#;
        serde_json::from_str(json).unwrap()
    }

    fn shown(token: &Members) -> Claims<'_> {
        Claims { token, certificate: None }
    }

    #[test]
    fn what_the_certificate_says_comes_from_the_certificate_and_never_from_a_token() {
        let certificate = crate::auth::certificate::tests::certificate("robot");
        let own: Members =
            serde_json::from_str(r#"{"certificate": {"common_name": "mallory"}, "a": 1}"#).unwrap();
        let (good, bad) =
            ["robot", "mallory"].map(|name| test(&["certificate", "common_name"], &[text(name)])).into();
        let with = Claims { token: &own, certificate: Some(&certificate) };
        assert_eq!((holds(with, &good), holds(with, &bad)), (Some(true), Some(false)));
        assert_eq!((holds(shown(&own), &good), holds(shown(&own), &bad)), (None, None));
        assert_eq!(holds(with, &test(&["certificate", "dns"], &[text("robot.example")])), Some(true));
        assert_eq!(holds(with, &test(&["a"], &[ClaimValue::Number(1)])), Some(true));
    }

    fn test(path: &[&str], values: &[ClaimValue]) -> ClaimTest {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        ClaimTest { claim: ClaimPath(path), values: values.to_vec() }
    }

    fn text(text: &str) -> ClaimValue {
        ClaimValue::Text(text.to_owned())
    }

    #[test]
    fn a_claim_is_found_at_its_path_and_equals_a_value_of_its_own_type() {
        use ClaimValue::{Flag, Number};
        let held: [(&[&str], ClaimValue); 9] = [
            (&["tenant"], text("acme")),
            (&["level"], Number(3)),
            (&["one"], Number(1)),
            (&["big"], Number(9_007_199_254_740_993)),
            (&["admin"], Flag(true)),
            (&["roles"], text("a")),
            (&["roles"], Number(7)),
            (&["realm_access", "roles"], text("chat")),
            (&["https://app.example/roles"], text("dotted")),
        ];
        for (path, value) in held {
            assert_eq!(
                holds(shown(&claims()), &test(path, &[text("other"), value.clone()])),
                Some(true),
                "{path:?}"
            );
            assert_eq!(holds(shown(&claims()), &test(path, &[text("other")])), Some(false), "{path:?}");
        }
        for (path, value) in [("tenant", text("ACME")), ("level", text("3")), ("admin", text("true"))] {
            assert_eq!(holds(shown(&claims()), &test(&[path], &[value])), Some(false), "{path}");
        }
        for (path, value) in
            [("half", Number(1)), ("big", Number(9_007_199_254_740_992)), ("admin", Number(1))]
        {
            assert_eq!(holds(shown(&claims()), &test(&[path], &[value])), Some(false), "{path}");
        }
        assert_eq!(holds(shown(&claims()), &test(&["empty"], &[text("a")])), Some(false));
    }

    #[test]
    fn no_test_of_a_claim_that_is_not_there_is_passed_not_even_one_that_forbids() {
        let absent: [&[&str]; 6] = [
            &["missing"],
            &["nothing"],
            &["object"],
            &["tenant", "roles"],
            &["realm_access"],
            &["realm_access", "missing"],
        ];
        for path in absent {
            let test = test(path, &[text("a")]);
            assert_eq!(holds(shown(&claims()), &test), None, "{path:?}");
            let alone = vec![test];
            for rule in [
                ClaimRule { all: alone.clone(), ..ClaimRule::default() },
                ClaimRule { any: alone.clone(), ..ClaimRule::default() },
                ClaimRule { none: alone.clone(), ..ClaimRule::default() },
            ] {
                let rejection = check(shown(&claims()), &rule).unwrap_err();
                assert_eq!(rejection.reason, Reason::ScopeInsufficientClaims, "{path:?}");
                assert!(rejection.detail.is_none());
            }
            let rejection = required(shown(&claims()), &alone).unwrap_err();
            assert_eq!(rejection.reason, Reason::CredentialsMissingClaim, "{path:?}");
        }
    }

    #[test]
    fn all_any_and_none_have_to_hold_together() {
        let (yes, no) = (test(&["tenant"], &[text("acme")]), test(&["tenant"], &[text("other")]));
        let rule = |all: &[&ClaimTest], any: &[&ClaimTest], none: &[&ClaimTest]| {
            let own = |tests: &[&ClaimTest]| tests.iter().map(|test| (*test).clone()).collect();
            check(shown(&claims()), &ClaimRule { all: own(all), any: own(any), none: own(none) }).is_ok()
        };
        assert!(rule(&[], &[], &[]));
        assert!(rule(&[&yes, &yes], &[&no, &yes], &[&no, &no]));
        assert!(!rule(&[&yes, &no], &[&yes], &[&no]));
        assert!(!rule(&[&yes], &[&no, &no], &[&no]));
        assert!(!rule(&[&yes], &[&yes], &[&no, &yes]));
    }

    #[test]
    fn what_an_issuer_has_to_say_is_told_to_the_operator_alone() {
        let rejection = required(shown(&claims()), &[test(&["tenant"], &[text("wanted")])]).unwrap_err();
        assert_eq!(rejection.reason, Reason::CredentialsWrongClaim);
        assert!(rejection.detail.is_none() && rejection.note.unwrap().contains("wanted"));
    }
}
