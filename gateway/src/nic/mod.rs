//! The network card: loads the XDP program, publishes generations to it, counts, and reports the
//! clients that it dropped. The only room that knows aya.
//!
//! ```text
//! Card::load -> publish -> attach -> settle -> publish, next_reports, counters ... -> finish
//! ```

mod attach;
mod bpf;
mod card;
mod counters;
mod error;
mod ledger;
mod memory;
mod netlink;
mod pins;
mod watch;
mod wire;

pub use attach::{AttachedMode, Attachment};
pub use card::{Card, Settings};
pub use counters::Counters;
pub use error::NicError;
pub use gateway_ebpf::counters::{Counter, Verdicts};
pub use ledger::{ClientDrop, Reports};
pub use pins::{Found, Pins, detach};
