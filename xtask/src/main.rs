//! Set-up, run, test, bench and lint of Gatehouse: everything that takes more than one cargo command.
#![forbid(unsafe_code)]

mod bench;
mod lint;
mod privilege;
mod progress;
mod run;
mod setup;
mod tally;
mod test;
mod tree;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};

use setup::Purpose;
use tree::Tree;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  setup [build|bench|test|ci]
                         Install what is missing to build, to bench, to test (the default), or to lint
                         as well as to test
  run [-- ARGS]          Build, and run the daemon on a copy of config/ in target/run/
  test [-- ARGS]         Build, and run every test; ARGS go to the test programs
  bench policy [-- ARGS] Measure the address policy beside its peers; ARGS go to the bench
  bench handshake [-- ARGS]
                         Measure opening handshakes beside HAProxy and Envoy
  bench relay [-- ARGS]  Measure open sessions beside HAProxy and Envoy
  lint                   Check format, clippy, and the licences and sources of dependencies
  ci                     lint, then test
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or("\u{fffd}")).collect();
    match dispatch(&words, &arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str], arguments: &[OsString]) -> Result<ExitCode> {
    let tree = Tree::find()?;
    match words {
        ["setup"] | ["setup", "test"] => setup::setup(&tree, Purpose::Test).map(|()| ExitCode::SUCCESS),
        ["setup", "build"] => setup::setup(&tree, Purpose::Build).map(|()| ExitCode::SUCCESS),
        ["setup", "bench"] => setup::setup(&tree, Purpose::Bench).map(|()| ExitCode::SUCCESS),
        ["setup", "ci"] => setup::setup(&tree, Purpose::Ci).map(|()| ExitCode::SUCCESS),
        ["run"] => run::run(&tree, &[]),
        ["run", "--", ..] => run::run(&tree, &arguments[2..]),
        ["test"] => test::test(&tree, &[]),
        ["test", "--", ..] => test::test(&tree, &arguments[2..]),
        ["bench", "policy"] => bench::policy(&tree, &[]).map(|()| ExitCode::SUCCESS),
        ["bench", "policy", "--", ..] => bench::policy(&tree, &arguments[3..]).map(|()| ExitCode::SUCCESS),
        ["bench", "handshake"] => bench::handshake(&tree, &[]).map(|()| ExitCode::SUCCESS),
        ["bench", "handshake", "--", ..] => {
            bench::handshake(&tree, &arguments[3..]).map(|()| ExitCode::SUCCESS)
        }
        ["bench", "relay"] => bench::relay(&tree, &[]).map(|()| ExitCode::SUCCESS),
        ["bench", "relay", "--", ..] => bench::relay(&tree, &arguments[3..]).map(|()| ExitCode::SUCCESS),
        ["lint"] => lint::lint(&tree).map(|()| ExitCode::SUCCESS),
        ["ci"] => {
            lint::lint(&tree)?;
            test::test(&tree, &[])
        }
        ["help" | "--help" | "-h", ..] => {
            eprint!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        [] => bail!("no command\n\n{USAGE}"),
        _ => bail!("`{}` is not a command\n\n{USAGE}", words.join(" ")),
    }
}
