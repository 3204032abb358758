//! The audit trail: every rejection, admission and end of a session, written by a thread of its
//! own from a bounded queue. Losses are counted, never waited for.

mod entry;

pub use entry::{Dropped, Entry, HandshakeId, Point};
