//! Names by which the daemon finds things in the program's object file. The statics in
//! `src/program` carry the same names.

/// The program.
pub const PROGRAM: &str = "gatehouse";

/// Array of maps with one element: the live [generation](crate::generation), or nothing before the
/// first publication.
pub const GENERATION: &str = "GENERATION";

/// Array of [`crate::scope::WORDS`] words: the guarded ports.
pub const PORTS: &str = "PORTS";

/// Per-CPU array of [`crate::counters::Counter`], one for each
/// [`Outcome`](crate::counters::Outcome).
pub const OUTCOMES: &str = "OUTCOMES";

/// Per-CPU array of [`crate::counters::SourceCounters`], one for each source of decisions.
pub const SOURCES: &str = "SOURCES";

/// Array of [`crate::clients::Slot`], mapped by the daemon: the dropped clients.
pub const CLIENTS: &str = "CLIENTS";

/// Per-CPU array with one [`crate::clients::Reporting`].
pub const REPORTING: &str = "REPORTING";

/// Ring buffer of [`crate::clients::Takeover`].
pub const EVENTS: &str = "EVENTS";

/// Constant, `u32`: 0 when the verdicts apply to all traffic, 1 when only to TCP to the
/// guarded ports.
pub const SCOPED: &str = "SCOPED";

/// Constant, `u32`: the base-2 logarithm of the number of [slots](crate::clients::Slot) of one CPU.
pub const SLOT_BITS: &str = "SLOT_BITS";

/// Constant, `u32`: takeovers that one CPU may report in one second.
pub const REPORTS_PER_SECOND: &str = "REPORTS_PER_SECOND";
