//! The contract between the XDP program and the daemon.
//!
//! Both sides compile this crate: the program for `bpfel-unknown-none`, the daemon for the host.
//! Whatever crosses the border between kernel and user space (map names, table layouts, event and
//! counter layouts) is defined here once, and the layout asserts below hold on both targets. The
//! parsers live here too, so that tests and fuzzers in user space run the very code of the kernel.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "bench")]
pub mod bench;
pub mod clients;
pub mod counters;
pub mod generation;
pub mod judgement;
pub mod names;
pub mod packet;
pub mod scope;
pub mod transport;

/// Version of everything in this crate that crosses the border. A daemon that finds a pinned
/// program of another version replaces it instead of adopting it.
pub const ABI_VERSION: u32 = 7;
