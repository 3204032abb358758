//! Configuration: the file's form, the valid model made from it, and diagnostics with file, line
//! and column.

mod admin;
mod bounds;
mod change;
mod claims;
mod diagnostic;
mod fetched;
mod form;
mod introspection;
mod issuer;
mod list;
mod listen;
mod model;
mod remote;
mod route;
mod token_sources;
mod validate;

use std::io::Read;
use std::path::Path;

pub use admin::{Admin, AdminListen};
pub use diagnostic::{Diagnostic, Severity};
pub use fetched::{FetchedKeys, KeysPlace};
pub use introspection::{Asked, ClientAuth, Introspection};
pub use model::*;
pub use remote::{RemoteList, SecretUrl, may_be_asked};
pub use token_sources::{SUBPROTOCOL_PREFIX, TokenSources};

/// Bytes of a configuration file; more cannot be meant as one.
const MAX_FILE: u64 = 1024 * 1024;

/// The configuration in `file` with warnings about it, or everything that is wrong with it.
pub fn load(file: &Path) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let text = read(file).map_err(|diagnostic| vec![diagnostic])?;
    parse(file, &text)
}

/// The configuration in `text`, which is the content of `file`.
pub fn parse(file: &Path, text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let form = toml::from_str(text).map_err(|error| {
        // The parser's own message can span lines; the first says it all.
        let message = error.message().lines().next().unwrap_or("not valid TOML").to_owned();
        vec![match error.span() {
            Some(span) => Diagnostic::at(file, text, &span, message),
            None => Diagnostic::of_file(file, message),
        }]
    })?;
    validate::Checker::new(file, text).config(form)
}

fn read(file: &Path) -> Result<String, Diagnostic> {
    let fault = |message: String| Diagnostic::of_file(file, message);
    let open = std::fs::File::open(file).map_err(|error| {
        fault(format!("cannot be read ({error}): check --config and the file's permissions"))
    })?;
    let mut bytes = Vec::new();
    open.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault(format!("cannot be read ({error})")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fault(format!("is larger than {MAX_FILE} bytes: this is not a configuration file")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good =
            String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        Diagnostic::at(file, &good, &(good.len()..good.len()), "is not UTF-8 from here on: save it as UTF-8")
    })
}

#[cfg(test)]
mod tests;
