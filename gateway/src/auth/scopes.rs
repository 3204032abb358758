//! What a token allows.

use serde_json::Value;

use super::jws::{Members, malformed};
use crate::config::ScopeRule;
use crate::rejection::{Reason, Rejection};

/// The scopes that `claims` grant: in the claim `name`, or else in `scope` (RFC 8693 §4.2, RFC
/// 9068 §2.2.3), or else in `scp`. Each is a list, or a string of names separated by spaces.
///
/// Names that are no scopes by RFC 6749 §3.3 are left out: no route can ask for them, and two
/// words in one element must not turn into two scopes where they are written as one string.
pub(super) fn granted(claims: &Members, name: Option<&str>) -> Result<Vec<String>, Box<Rejection>> {
    let (name, value) = match name {
        Some(name) => (name, claims.get(name)),
        None => match claims.get("scope") {
            Some(value) => ("scope", Some(value)),
            None => ("scp", claims.get("scp")),
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
    let (needed, detail) = match rule {
        ScopeRule::All(needed) => {
            let missing: Vec<&str> =
                needed.iter().filter(|scope| !granted.contains(scope)).map(String::as_str).collect();
            if missing.is_empty() {
                return Ok(());
            }
            (needed, format!("The token lacks the scope {}.", missing.join(" and ")))
        }
        ScopeRule::Any(needed) => {
            if needed.iter().any(|scope| granted.contains(scope)) {
                return Ok(());
            }
            (needed, format!("The token lacks the scope {}.", needed.join(" or ")))
        }
    };
    let mut rejection = Rejection::new(Reason::ScopeInsufficient)
        .detail(detail)
        .note(format!("the token has the scopes: {}", super::excerpt(&granted.join(" "))));
    rejection.scope = Some(needed.join(" "));
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
        granted(&serde_json::from_str(json).unwrap(), name).unwrap()
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
        assert!(check(&ScopeRule::All(names("")), &[]).is_ok());
        assert!(check(&ScopeRule::All(names("a b")), &names("b a c")).is_ok());
        assert!(check(&ScopeRule::Any(names("a b")), &names("b")).is_ok());

        let rejection = check(&ScopeRule::All(names("a b c")), &names("b")).unwrap_err();
        assert_eq!(rejection.reason, Reason::ScopeInsufficient);
        assert_eq!(rejection.scope.as_deref(), Some("a b c"));
        assert_eq!(rejection.detail.as_deref(), Some("The token lacks the scope a and c."));

        let rejection = check(&ScopeRule::Any(names("a b")), &names("ab A")).unwrap_err();
        assert_eq!(rejection.scope.as_deref(), Some("a b"));
        assert_eq!(rejection.detail.as_deref(), Some("The token lacks the scope a or b."));
        assert!(check(&ScopeRule::Any(Vec::new()), &names("a")).is_err());
    }
}
