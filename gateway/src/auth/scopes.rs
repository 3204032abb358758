//! What a token allows.

use serde_json::Value;

use super::jws::{Members, malformed};
use super::rules;
use crate::config::{ClaimPath, ScopeRule};
use crate::rejection::{Reason, Rejection};

/// The scopes that `claims` grant: in the claim `name`, or else in `scope` (RFC 8693 §4.2, RFC
/// 9068 §2.2.3), or else in `scp`. Each is a list, or a string of names separated by spaces.
///
/// Names that are no scopes by RFC 6749 §3.3 are left out: no route can ask for them, and two
/// words in one element must not turn into two scopes where they are written as one string.
pub(super) fn granted(claims: &Members, path: Option<&ClaimPath>) -> Result<Vec<String>, Box<Rejection>> {
    let (name, value) = match path {
        Some(path) => (path.to_string(), rules::at(claims, path)),
        None => match claims.get("scope") {
            Some(value) => ("scope".to_owned(), Some(value)),
            None => ("scp".to_owned(), claims.get("scp")),
        },
    };
    let scopes: Vec<&str> = match value {
        None => Vec::new(),
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(values)) if values.iter().all(Value::is_string) => {
            values.iter().filter_map(Value::as_str).collect()
        }
        Some(_) => {
            return Err(malformed(format!("The claim {name} is neither a string nor a list of strings.")));
        }
    };
    Ok(scopes.into_iter().filter(|scope| is_scope(scope)).map(str::to_owned).collect())
}

/// Whether `granted` is enough for `rule`.
///
/// # Errors
///
/// `scope/insufficient_scope`, with the scopes to ask for.
pub(super) fn check(rule: &ScopeRule, granted: &[String]) -> Result<(), Box<Rejection>> {
    let has = |scope: &&String| granted.contains(scope);
    let missing: Vec<&str> = rule.all.iter().filter(|scope| !has(scope)).map(String::as_str).collect();
    let detail = if !missing.is_empty() {
        format!("The token lacks the scope {}.", missing.join(" and "))
    } else if !rule.any.is_empty() && !rule.any.iter().any(|scope| has(&scope)) {
        format!("The token lacks the scope {}.", rule.any.join(" or "))
    } else if let Some(scope) = rule.none.iter().find(has) {
        format!("The token has the scope {scope}, with which nobody is admitted here.")
    } else {
        return Ok(());
    };
    let mut rejection = Rejection::new(Reason::ScopeInsufficient)
        .detail(detail)
        .note(format!("the token has the scopes: {}", super::excerpt(&granted.join(" "))));
    let wanted: Vec<&str> = rule.wanted().collect();
    rejection.scope = (!wanted.is_empty()).then(|| wanted.join(" "));
    Err(Box::new(rejection))
}

/// `scope-token` of RFC 6749 §3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(json: &str, name: Option<&str>) -> Vec<String> {
        let path = name.map(|name| ClaimPath(name.split('.').map(str::to_owned).collect()));
        granted(&serde_json::from_str(json).unwrap(), path.as_ref()).unwrap()
    }

    #[test]
    fn scopes_are_read_from_strings_and_lists() {
        assert_eq!(scopes(r#"{"scope": "a  b:c"}"#, None), ["a", "b:c"]);
        assert_eq!(scopes(r#"{"scope": ["a", "b"]}"#, None), ["a", "b"]);
        assert_eq!(scopes(r#"{"scp": "a b"}"#, None), ["a", "b"]);
        assert_eq!(scopes(r#"{"scp": ["a", "b"]}"#, None), ["a", "b"]);
        assert!(scopes("{}", None).is_empty());
    }

    #[test]
    fn one_claim_decides_and_the_others_grant_nothing() {
        assert_eq!(scopes(r#"{"scope": "a", "scp": "b"}"#, None), ["a"]);
        assert_eq!(scopes(r#"{"scope": "a", "groups": ["b"]}"#, Some("groups")), ["b"]);
        assert!(scopes(r#"{"scope": "a"}"#, Some("groups")).is_empty());
    }

    #[test]
    fn an_element_with_a_space_does_not_grant_two_scopes() {
        assert_eq!(scopes("{\"scp\": [\"a b\", \"c\", \"\", \"d\\\"\", \"e\\n\"]}", None), ["c"]);
        assert_eq!(scopes("{\"scope\": \"a\\tb c\"}", None), ["c"]);
    }

    #[test]
    fn scopes_of_another_type_are_malformed_and_not_ignored() {
        for json in [r#"{"scope": 1}"#, r#"{"scope": null}"#, r#"{"scp": ["a", 1]}"#, r#"{"scp": {"a": 1}}"#]
        {
            let rejection = granted(&serde_json::from_str(json).unwrap(), None).unwrap_err();
            assert_eq!(rejection.reason, Reason::CredentialsMalformed, "{json}");
        }
    }

    #[test]
    fn all_demands_each_and_any_demands_one() {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let all = |text: &str| ScopeRule::all(names(text));
        let any = |text: &str| ScopeRule { any: names(text), ..ScopeRule::default() };
        assert!(check(&all(""), &[]).is_ok());
        assert!(check(&all("a b"), &names("b a c")).is_ok());
        assert!(check(&any("a b"), &names("b")).is_ok());

        let rejection = check(&all("a b c"), &names("b")).unwrap_err();
        assert_eq!(rejection.reason, Reason::ScopeInsufficient);
        assert_eq!(rejection.scope.as_deref(), Some("a b c"));
        assert_eq!(rejection.detail.as_deref(), Some("The token lacks the scope a and c."));

        let rejection = check(&any("a b"), &names("ab A")).unwrap_err();
        assert_eq!(rejection.scope.as_deref(), Some("a b"));
        assert_eq!(rejection.detail.as_deref(), Some("The token lacks the scope a or b."));
    }

    #[test]
    fn every_part_of_a_rule_has_to_hold() {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let rule = ScopeRule { all: names("a"), any: names("b c"), none: names("guest") };
        assert!(check(&rule, &names("a c")).is_ok());
        for granted in ["", "a", "c", "a b guest", "guest"] {
            let rejection = check(&rule, &names(granted)).unwrap_err();
            assert_eq!(rejection.scope.as_deref(), Some("a b c"), "{granted}");
        }
    }

    #[test]
    fn scopes_are_read_from_inside_an_object() {
        let json = r#"{"realm_access": {"roles": ["a", "b"]}, "realm_access.roles": ["c"], "scope": "d"}"#;
        assert_eq!(scopes(json, Some("realm_access.roles")), ["a", "b"]);
        assert!(scopes(r#"{"realm_access": "a"}"#, Some("realm_access.roles")).is_empty());
    }
}
