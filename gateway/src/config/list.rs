//! The items of `deny` and `allow`.

use toml::Spanned;

use super::model::{Bounds, ListFiles, ListPattern};
use super::validate::Checker;
use super::{bounds, form, remote};

/// The lists that `forms`, the items of `deny` or else of `allow`, name; `bounds` are those of lists
/// without any of their own.
pub(super) fn check(
    checker: &mut Checker<'_>,
    forms: &[Spanned<form::List>],
    bounds: Bounds,
    deny: bool,
) -> Vec<ListPattern> {
    forms.iter().filter_map(|form| pattern(checker, form, bounds, deny)).collect()
}

fn pattern(
    checker: &mut Checker<'_>,
    form: &Spanned<form::List>,
    default: Bounds,
    deny: bool,
) -> Option<ListPattern> {
    let (text, span, table) = match form.get_ref() {
        form::List::Name(name) => (name, form.span(), None),
        form::List::Table(table) => (table.list.get_ref(), table.list.span(), Some(&**table)),
    };
    let bounds = table.map_or(default, |table| bounds::check(checker, &given(table), default));
    let observe = table.and_then(|table| table.observe.as_ref()).filter(|observe| *observe.get_ref());
    if let Some(observe) = observe.filter(|_| !deny) {
        let message = "an allow list drops nothing that could be observed: set observe on items of deny";
        checker.fault(&observe.span(), message);
        return None;
    }
    let (line, column) = checker.position(&span);
    if text.contains("://") {
        let files = remote::check(checker, text, &span, table)?;
        return Some(ListPattern { files, observe: observe.is_some(), bounds, line, column });
    }
    for setting in table.into_iter().flat_map(|table| [&table.interval, &table.ca]).flatten() {
        let message = "this is for lists from a URL alone, a file is read when it changes: remove it";
        checker.fault(&setting.span(), message);
    }
    let files = match files(checker, text) {
        Ok(files) => files,
        Err(error) => {
            checker.fault(&span, format!("`{text}` is not a valid glob: {error}"));
            return None;
        }
    };
    Some(ListPattern { files, observe: observe.is_some(), bounds, line, column })
}

fn given(table: &form::ListTable) -> bounds::Given<'_> {
    bounds::Given {
        max_shrink: &table.max_shrink,
        max_growth: &table.max_growth,
        change_freely_below: &table.change_freely_below,
    }
}

/// Whether something is a glob is decided by what was written: the folder of the configuration can
/// have any name.
fn files(checker: &Checker<'_>, text: &str) -> Result<ListFiles, glob::PatternError> {
    let Some(wildcard) = text.find(['*', '?', '[']) else {
        return Ok(ListFiles::One(checker.path(text)));
    };
    let fixed = text[..wildcard].rfind('/').map_or("", |slash| &text[..=slash]);
    let folder = checker.path(fixed);
    let escaped = glob::Pattern::escape(&folder.to_string_lossy());
    let glob = format!("{}/{}", escaped.trim_end_matches('/'), &text[fixed.len()..]);
    glob::Pattern::new(&glob)?;
    Ok(ListFiles::Matching { glob, folder })
}
