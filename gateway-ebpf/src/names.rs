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

/// Per-CPU array of [`crate::counters::Verdicts`], one for each source of decisions.
pub const SOURCES: &str = "SOURCES";

/// Per-CPU array of [`crate::counters::Verdicts`], one for each
/// [slot of interfaces](crate::counters::interface_slot).
pub const INTERFACES: &str = "INTERFACES";

/// Array of [`crate::clients::Slot`], mapped by the daemon: the dropped clients.
pub const CLIENTS: &str = "CLIENTS";

/// Array of `u64`: the tags of each set of slots.
pub const TAGS: &str = "TAGS";

/// Per-CPU array with one [`crate::clients::Reporting`].
pub const REPORTING: &str = "REPORTING";

/// Ring buffer of [`crate::clients::Takeover`].
pub const EVENTS: &str = "EVENTS";

/// Constant, `u32`: 0 when the verdicts apply to all traffic, 1 when only to TCP to the
/// guarded ports.
pub const SCOPED: &str = "SCOPED";

/// Constant, `u32`: the base-2 logarithm of the number of sets of [slots](crate::clients::Slot) of one
/// CPU.
pub const SET_BITS: &str = "SET_BITS";

/// Constant, `u64`: nanoseconds that a takeover of one CPU has to
/// [pay](crate::clients::Reporting::pay) for; 0 when nobody is noted.
pub const REPORT_INTERVAL: &str = "REPORT_INTERVAL";
