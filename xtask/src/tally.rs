//! Counting tests from what the test programs print.
//!
//! The stable output of libtest and libtest-mimic is made for people: `running 3 tests`, a line
//! per test, `test result: …`. A program that dies in between leaves no result; what it still
//! owed counts as failed.

/// The count so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Each failed test, or what else failed, with its suite.
    pub(crate) failures: Vec<String>,
    /// Each skipped test with its suite.
    pub(crate) skips: Vec<String>,
    suite: String,
    open: Option<Open>,
    pending: Vec<u8>,
}

/// A suite without a result yet.
#[derive(Debug, Default)]
struct Open {
    tests: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    /// Takes the next bytes of the output.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.pending);
                self.line(plain(&String::from_utf8_lossy(&line)).trim_end());
            } else if self.pending.len() > MAX_LINE {
                self.pending.clear();
            }
        }
    }

    /// Closes the count: a suite that is still open has died.
    pub(crate) fn finish(&mut self) {
        let line = std::mem::take(&mut self.pending);
        self.line(plain(&String::from_utf8_lossy(&line)).trim_end());
        self.abandon();
    }

    fn line(&mut self, line: &str) {
        if let Some(suite) = suite(line) {
            self.abandon();
            self.suite = suite;
        } else if let Some(tests) = announced(line) {
            self.abandon();
            self.open = Some(Open { tests, ..Open::default() });
        } else if let Some([passed, failed, skipped]) = result(line) {
            if self.open.take().is_some() {
                self.passed += passed;
                self.failed += failed;
                self.skipped += skipped;
            }
        } else if let Some((name, outcome)) = test(line) {
            let Some(open) = &mut self.open else { return };
            match outcome {
                "ok" => open.passed += 1,
                "FAILED" => {
                    open.failed += 1;
                    self.failures.push(format!("{}: {name}", self.suite));
                }
                _ => {
                    open.skipped += 1;
                    self.skips.push(format!("{}: {name}", self.suite));
                }
            }
        }
    }

    fn abandon(&mut self) {
        let Some(open) = self.open.take() else { return };
        let owed = open.tests.saturating_sub(open.passed + open.failed + open.skipped).max(1);
        self.failures.push(format!("{}: the program ended with {owed} of its tests unfinished", self.suite));
        self.passed += open.passed;
        self.failed += open.failed + owed;
        self.skipped += open.skipped;
    }
}

/// Bytes of a line; a longer one is not of interest.
const MAX_LINE: usize = 64 * 1024;

/// `Running unittests src/lib.rs (target/debug/deps/gateway-0123456789abcdef)`, `Doc-tests gateway`.
fn suite(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} doc tests"));
    }
    let (_, program) = line.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once('(')?;
    let file = program.rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _hash)| name).to_owned())
}

/// `running 3 tests`
fn announced(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"))?.parse().ok()
}

/// `test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn result(line: &str) -> Option<[usize; 3]> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim_end().parse::<usize>().ok())
    };
    Some([count("passed")?, count("failed")?, count("ignored")?])
}

/// `test name ... ok`, `… ... FAILED`, `… ... ignored, why`
fn test(line: &str) -> Option<(&str, &str)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let word = outcome.split([',', ' ']).next()?;
    matches!(word, "ok" | "FAILED" | "ignored").then_some((name.trim_end(), word))
}

/// The text without colours (ECMA-48 control sequences).
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain += before;
        rest = after.split_once(|end: char| ('@'..='~').contains(&end)).map_or("", |(_, after)| after);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        // The pieces of a pipe know nothing of lines.
        for piece in output.as_bytes().chunks(7) {
            tally.feed(piece);
        }
        tally.finish();
        tally
    }

    fn counts(tally: &Tally) -> [usize; 3] {
        [tally.passed, tally.failed, tally.skipped]
    }

    #[test]
    fn suites_are_summed_and_skips_are_named() {
        let tally = tally(
            "\u{20}    Running unittests src/lib.rs (target/debug/deps/gateway-5d1f)\n\
             \nrunning 2 tests\ntest a ... ok\ntest b::c ... ok\n\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n\
             \u{20}    Running tests/card.rs (target/debug/deps/card-77aa)\n\
             \nrunning 3 tests\ntest attach ... ignored\ntest d ... ok\ntest e ... ignored, needs root\n\n\
             test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\n\
             \u{20}  Doc-tests gateway\n\nrunning 0 tests\n\n\
             test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(counts(&tally), [3, 0, 2]);
        assert_eq!(tally.skips, ["card: attach", "card: e"]);
        assert!(tally.failures.is_empty());
    }

    #[test]
    fn failures_are_counted_and_named() {
        let tally = tally(
            "     Running tests/gate.rs (/t/debug/deps/gate-77aa)\nrunning 2 tests\n\
             test a ... FAILED\ntest b ... ok\n\nfailures:\n    a\n\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
        );
        assert_eq!(counts(&tally), [1, 1, 0]);
        assert_eq!(tally.failures, ["gate: a"]);
    }

    #[test]
    fn a_program_that_dies_counts_as_failed() {
        let died = "     Running tests/gate.rs (/t/deps/gate-77aa)\nrunning 4 tests\n\
                    test a ... ok\ntest b ... ignored\nfree(): invalid pointer\n";
        let one = tally(died);
        assert_eq!(counts(&one), [1, 2, 1]);
        assert_eq!(one.failures, ["gate: the program ended with 2 of its tests unfinished"]);
        let followed = tally(&format!(
            "{died}     Running tests/next.rs (/t/deps/next-77aa)\nrunning 1 test\ntest x ... ok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n"
        ));
        assert_eq!(counts(&followed), [2, 2, 1]);
    }

    #[test]
    fn colours_do_not_hide_a_result() {
        let tally = tally(
            "\x1b[1m\x1b[32m     Running\x1b[0m tests/gate.rs (/t/deps/gate-77aa)\nrunning 1 test\n\
             test a ... \x1b[31mFAILED\x1b[0m\n\
             test result: \x1b[31mFAILED\x1b[0m. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(counts(&tally), [0, 1, 0]);
        assert_eq!(tally.failures, ["gate: a"]);
    }

    #[test]
    fn a_result_that_no_suite_announced_does_not_count() {
        let tally = tally("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n");
        assert_eq!(counts(&tally), [0, 0, 0]);
    }
}
