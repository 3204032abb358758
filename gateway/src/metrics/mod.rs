//! What happened, counted where it happens: before the audit trail takes it, so that nothing that the
//! trail folds or loses is missing here.
//!
//! Counting never waits: it is an addition to an atomic number, found by an index, or in a map that is
//! swapped whole when a route is new. The table of the busiest clients alone has a lock; who does not
//! get it at once is left out there, and nowhere else.

mod busiest;
mod histogram;
mod tally;

pub use busiest::{Busiest, Busy};
pub use histogram::{Histogram, Latency};
pub use tally::{Counted, Outcome, RejectionCount, RouteCount, Tally, Times};
