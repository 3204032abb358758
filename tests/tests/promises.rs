//! The page of promises names tests that are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::promises;

fn main() -> ExitCode {
    gatehouse_tests::run_unprivileged(promises![every_promise_names_tests_that_are_there])
}

fn every_promise_names_tests_that_are_there() -> Result<()> {
    let top =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests are a folder of the workspace")?;
    let page = fs::read_to_string(top.join("docs/promises.md"))?;
    let mut sources = String::new();
    let folders =
        ["gateway/src", "gateway/tests", "gateway-ebpf/src", "tests/tests", "tests/src", "tests/fuzz/tests"];
    for folder in folders {
        for file in rust_files(&top.join(folder))? {
            sources += &fs::read_to_string(file)?;
        }
    }
    let mut checked = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        ensure!(tests.contains('`'), "a promise without a test: {row}");
        for test in tests.split('`').filter(|name| !name.trim().is_empty()) {
            ensure!(sources.contains(&format!("fn {test}(")), "there is no test {test}: {row}");
            let runs = sources.contains(&format!("    {test},\n"))
                || sources.contains(&format!("#[test]\n    fn {test}("))
                || sources.contains(&format!("#[test]\nfn {test}("))
                || sources.contains(&format!("#[test]\n        fn {test}("))
                || sources.contains(&format!("#[tokio::test]\nasync fn {test}("))
                || sources.contains(&format!("#[tokio::test]\n    async fn {test}("))
                || sources.contains(&format!("#[tokio::test(flavor = \"multi_thread\")]\nasync fn {test}("))
                || sources.contains(&format!("[{test}]"));
            ensure!(runs, "the test {test} is there, but no suite runs it: {row}");
            checked += 1;
        }
    }
    ensure!(checked >= 40, "only {checked} tests were found on the page: has its form changed?");
    Ok(())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
