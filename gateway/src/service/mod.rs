//! The assembly of the daemon: reading lists and keys, watching files, swapping snapshots,
//! signals.

mod accept;
mod apply;
mod bans;
mod card;
mod certificates;
mod daemon;
mod files;
mod firewall;
mod generations;
mod given;
mod health;
mod introspection;
mod issuers;
mod keys;
mod listeners;
mod lists;
mod live;
mod memory;
mod offline;
mod outgoing;
mod protected;
mod recent;
mod reconfigure;
mod reload;
mod remote;
mod revocations;
mod stamp;
mod state;
mod state_folder;
mod totals;
mod trial;
mod watch;

pub use daemon::{StartError, run};
pub use offline::{Summary, check, explain, lists, policy};
pub use revocations::revoke;

use crate::config::{Diagnostic, Severity};

/// Logs what is wrong with files.
fn say(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        match diagnostic.severity {
            Severity::Error => log::error!("{diagnostic}"),
            Severity::Warning => log::warn!("{diagnostic}"),
        }
    }
}
