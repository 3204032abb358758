//! Captured traffic: its frames, and what a policy would have done with them.
//!
//! Memory is bounded whatever the file holds: one block of it is in memory at a time.

mod frames;
mod report;
mod tally;
#[cfg(test)]
mod tests;

pub use frames::{CaptureError, End, frames};
pub use report::{CaptureReport, Changes, ListPackets, TopSource};
pub use tally::{MOST_SOURCES, Tally};
