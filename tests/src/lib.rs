//! Harness of the whole-system tests: two network namespaces joined by a veth pair, the daemon in
//! one of them, real clients in the other.
//!
//! A test file lists its promises and hands them to [`run`]. What a promise needs from the machine
//! (root, for namespaces and XDP) is checked once; a promise that cannot be tested here is listed
//! as ignored, with the reason.
#![forbid(unsafe_code)]

pub mod admin;
pub mod answer;
pub mod authority;
pub mod bpffs;
pub mod client;
pub mod daemon;
pub mod fetched;
pub mod footprint;
pub mod foreign;
pub mod frame;
pub mod haproxy;
pub mod host;
pub mod introspection;
pub mod issuer;
pub mod journal;
pub mod lists;
pub mod load;
pub mod log;
pub mod netns;
pub mod order;
pub mod plan;
pub mod process;
pub mod provider;
pub mod raw;
pub mod scene;
pub mod token;
pub mod tools;
pub mod upstream;
pub mod wire;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a whole-system test is.
pub type Promise = fn() -> anyhow::Result<()>;

/// Names functions as promises: the test has the name of the function.
#[macro_export]
macro_rules! promises {
    ($($promise:ident),+ $(,)?) => {
        vec![$((stringify!($promise), $promise as $crate::Promise)),+]
    };
}

/// Runs `promises` as the main function of a test file without the standard harness. They need
/// root; without it they are listed as ignored.
pub fn run(promises: Vec<(&'static str, Promise)>) -> ExitCode {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!(
            "ignored, because they need root for network namespaces and XDP: {} whole-system tests",
            promises.len()
        );
    }
    run_trials(promises, !root)
}

/// The same for promises that anybody can test.
pub fn run_unprivileged(promises: Vec<(&'static str, Promise)>) -> ExitCode {
    run_trials(promises, false)
}

fn run_trials(promises: Vec<(&'static str, Promise)>, ignored: bool) -> ExitCode {
    let trials = promises
        .into_iter()
        .map(|(name, promise)| {
            Trial::test(name, move || promise().map_err(|error| failed(&error))).with_ignored_flag(ignored)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The error with all its causes: they are the diagnosis.
fn failed(error: &anyhow::Error) -> Failed {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    Failed::from(causes.join("\nbecause: "))
}
