//! The assembly of the daemon: reading lists and keys, watching files, swapping snapshots,
//! signals.

mod card;
mod daemon;
mod generations;
mod keys;
mod lists;
mod offline;
mod watch;

pub use daemon::{StartError, run};
pub use offline::{Summary, check, explain};
