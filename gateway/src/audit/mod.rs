//! The audit trail: every rejection, admission and end of a session, written by a thread of its
//! own from a bounded queue. Losses are counted, never waited for.

mod entry;
mod fold;
mod past;
pub mod query;
mod record;
mod sink;
mod trail;

pub use entry::{Dropped, Entry, HandshakeId, Point};
pub use past::{Past, Remembered};
pub use record::Record;
pub use sink::{Destination, Sink};
pub use trail::{AuditSink, Settings, Trail, Writer};
