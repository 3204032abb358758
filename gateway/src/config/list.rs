//! The items of `deny` and `allow`.

use toml::Spanned;

use super::model::{ListFiles, ListPattern};
use super::validate::Checker;
use super::{form, remote};

/// The lists that `forms` name.
pub(super) fn check(checker: &mut Checker<'_>, forms: &[Spanned<form::List>]) -> Vec<ListPattern> {
    forms.iter().filter_map(|form| pattern(checker, form)).collect()
}

fn pattern(checker: &mut Checker<'_>, form: &Spanned<form::List>) -> Option<ListPattern> {
    let (text, span, table) = match form.get_ref() {
        form::List::Name(name) => (name, form.span(), None),
        form::List::Table(table) => (table.list.get_ref(), table.list.span(), Some(table)),
    };
    let (line, column) = checker.position(&span);
    if text.contains("://") {
        let files = remote::check(checker, text, &span, table)?;
        return Some(ListPattern { files, line, column });
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
    Some(ListPattern { files, line, column })
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
