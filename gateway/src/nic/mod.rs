//! The network card: loads the XDP program, publishes generations to it, counts, and reports the
//! clients that it dropped. The only room that knows aya.
//!
//! ```text
//! Card::load -> publish -> attach ... publish ... -> drop (detaches)
//!            -> reports: a stream of its own
//! ```

mod attach;
mod bpf;
mod card;
mod counters;
mod error;
mod ledger;
mod memory;
mod netlink;
mod reports;
mod wire;

pub use attach::{Attachment, Driver};
pub use card::{Card, CardSettings};
pub use counters::Counters;
pub use error::NicError;
pub use gateway_ebpf::clients::Sample;
pub use gateway_ebpf::counters::{Counter, Outcome, SourceCounters};
pub use ledger::{ClientDrop, Drops};
pub use reports::Reports;
