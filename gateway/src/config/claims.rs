//! Rules over claims and scopes.

use std::time::Duration;

use toml::{Spanned, Value};

use super::model::{ClaimPath, ClaimRule, ClaimTest, ClaimValue, ScopeRule};
use super::validate::Checker;

/// A claim: `"realm_access.roles"`, where each point leads into an object, or a list of names, where
/// a point is a point.
pub(super) fn path(checker: &mut Checker<'_>, form: &Spanned<Value>) -> Option<ClaimPath> {
    let names: Option<Vec<String>> = match form.get_ref() {
        Value::String(text) => Some(text.split('.').map(str::to_owned).collect()),
        Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let names = names.filter(|names| !names.is_empty() && names.iter().all(|name| !name.is_empty()));
    if names.is_none() {
        checker.fault(
            &form.span(),
            "a claim is a name, such as \"scope\" or \"realm_access.roles\", or a list of names when one has a \
             point, such as [\"https://app.example/roles\"]",
        );
    }
    names.map(ClaimPath)
}

/// What claims have to be: `{ tenant = "acme", "realm_access.level" = [2, 3] }`.
pub(super) fn tests(checker: &mut Checker<'_>, form: &Spanned<Value>) -> Vec<ClaimTest> {
    let tests = form.get_ref().as_table().and_then(table);
    tests.unwrap_or_else(|| {
        checker.fault(
            &form.span(),
            "claims and their values are a table, such as { tenant = \"acme\", \"realm_access.level\" = [2, 3] }: a \
             value is a string, a whole number, true or false, or a list of these of which one is enough",
        );
        Vec::new()
    })
}

/// The rule of a route: `{ all = {…}, any = {…}, none = {…} }`.
pub(super) fn rule(checker: &mut Checker<'_>, form: Option<&Spanned<Value>>) -> ClaimRule {
    let Some(form) = form else { return ClaimRule::default() };
    let mut rule = ClaimRule::default();
    let read = form.get_ref().as_table().filter(|parts| !parts.is_empty()).and_then(|parts| {
        for (word, value) in parts {
            let tests = value.as_table().and_then(table)?;
            *match word.as_str() {
                "all" => &mut rule.all,
                "any" => &mut rule.any,
                "none" => &mut rule.none,
                _ => return None,
            } = tests;
        }
        Some(())
    });
    if read.is_none() {
        checker.fault(
            &form.span(),
            "claims is a table of all, any and none, each a table of claims and their values, such as \
             { all = { tenant = \"acme\" }, none = { suspended = true } }",
        );
    }
    rule
}

fn table(form: &toml::Table) -> Option<Vec<ClaimTest>> {
    let test = |(name, value): (&String, &Value)| {
        let names: Vec<String> = name.split('.').map(str::to_owned).collect();
        let values = match value {
            Value::Array(values) => values.iter().map(one).collect::<Option<Vec<_>>>()?,
            value => vec![one(value)?],
        };
        let whole = names.iter().all(|name| !name.is_empty()) && !values.is_empty();
        whole.then_some(ClaimTest { claim: ClaimPath(names), values })
    };
    let tests: Option<Vec<_>> = form.iter().map(test).collect();
    tests.filter(|tests| !tests.is_empty())
}

fn one(value: &Value) -> Option<ClaimValue> {
    match value {
        Value::String(text) => Some(ClaimValue::Text(text.clone())),
        Value::Integer(number) => Some(ClaimValue::Number(*number)),
        Value::Boolean(flag) => Some(ClaimValue::Flag(*flag)),
        _ => None,
    }
}

/// Scopes: a list, of which all are needed, or `{ all = […], any = […], none = […] }`.
pub(super) fn scopes(checker: &mut Checker<'_>, form: Option<&Spanned<Value>>) -> Option<ScopeRule> {
    let Some(form) = form else {
        return Some(ScopeRule::default());
    };
    // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
    let valid = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
    };
    let list = |value: &Value| -> Option<Vec<String>> {
        let strings = value.as_array()?.iter().map(Value::as_str);
        strings.map(|text| text.filter(|text| valid(text)).map(str::to_owned)).collect()
    };
    let mut rule = ScopeRule::default();
    let read = match form.get_ref() {
        value @ Value::Array(_) => list(value).map(|scopes| rule.all = scopes),
        Value::Table(table) if !table.is_empty() => table.iter().try_for_each(|(word, value)| {
            // An empty list of which one is needed, or which is forbidden, is a mistake.
            let scopes = list(value).filter(|scopes| word == "all" || !scopes.is_empty())?;
            match word.as_str() {
                "all" => rule.all = scopes,
                "any" => rule.any = scopes,
                "none" => rule.none = scopes,
                _ => return None,
            }
            Some(())
        }),
        _ => None,
    };
    if read.is_none() {
        checker.fault(
            &form.span(),
            "scopes is a list of scopes that are all needed, such as [\"chat:read\"], or a table of all, any and \
             none, such as { any = [\"a\", \"b\"], none = [\"guest\"] }",
        );
        return None;
    }
    Some(rule)
}

/// A span of a second or more.
pub(super) fn span(checker: &mut Checker<'_>, form: Option<&Spanned<String>>) -> Option<Duration> {
    let form = form?;
    let span = checker.duration(form)?;
    if span < Duration::from_secs(1) {
        checker.fault(&form.span(), "no token could be accepted: allow a second or more, such as \"1h\"");
    }
    Some(span)
}
