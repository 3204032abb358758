//! The `gatehouse` binary: arguments to exit code, nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A handshake takes about a hundred pieces of memory and gives them back at once, on any thread;
/// glibc spent a seventh of the gateway's time on that (`cargo xtask bench handshake`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    gateway::cli::main()
}
