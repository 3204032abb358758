//! The contract between the XDP program and the daemon.
//!
//! Both sides compile this crate: the program for `bpfel-unknown-none`, the daemon for the host.
//! Whatever crosses the border between kernel and user space (map names, table layouts, event and
//! counter layouts) is defined here once, and the layout asserts below hold on both targets.
#![no_std]
#![forbid(unsafe_code)]

pub mod generation;

/// Version of everything in this crate that crosses the border. A daemon that finds a pinned
/// program of another version replaces it instead of adopting it.
pub const ABI_VERSION: u32 = 1;

/// TCP ports that the verdicts can be limited to.
pub const MAX_PORTS: usize = 64;
