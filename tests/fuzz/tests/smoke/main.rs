//! Every target, with its whole corpus and with mutations of it, in every `cargo test`.

mod mutator;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gatehouse_fuzz::{TARGETS, Target};
use libtest_mimic::{Arguments, Failed, Trial};

use mutator::Mutator;

/// Mutations of one input that are judged before the worker says that it goes on.
const BATCH: u64 = 250;

/// A batch takes seconds at most. One that has not ended after this hangs.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let arguments = Arguments::from_args();
    let trials = TARGETS.map(|target| {
        let promise = format!("nothing_breaks_the_target_{}", target.name);
        Trial::test(promise, move || smoke(target))
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// How many mutations of each input: as many as a second or two allow.
fn mutations(target: Target) -> u64 {
    match target.name {
        // A policy is compiled for each.
        "policy" => 64,
        // Signatures are verified.
        "token" => 8 * BATCH,
        _ => 16 * BATCH,
    }
}

fn smoke(target: Target) -> Result<(), Failed> {
    let corpus = corpus(target)?;
    if corpus.len() < 12 {
        return Err(format!("only {} inputs are in the corpus", corpus.len()).into());
    }
    let (done, progress) = mpsc::channel();
    let worker = thread::spawn(move || work(target, &corpus, &done));
    loop {
        match progress.recv_timeout(PATIENCE) {
            Ok(Ok(_)) => {}
            Ok(Err(broken)) => return Err(broken.into()),
            Err(mpsc::RecvTimeoutError::Timeout) => return Err("an input makes the target hang".into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    worker.join().map_err(|_| "the worker panicked".into())
}

/// Judges every input and its mutations, and says after each batch that it goes on, or what input
/// broke the target.
fn work(target: Target, corpus: &[(PathBuf, Vec<u8>)], done: &mpsc::Sender<Result<u64, String>>) {
    for (number, (path, input)) in (1..).zip(corpus) {
        let mut mutator = Mutator::new(number);
        for mutation in 0..mutations(target) {
            let other = &corpus[mutator.below(corpus.len())].1;
            // The first one is the input itself.
            let mutated = if mutation == 0 { input.clone() } else { mutator.mutate(input, other) };
            let report = match catch_unwind(AssertUnwindSafe(|| (target.run)(&mutated))) {
                Ok(()) if (mutation + 1) % BATCH == 0 => Ok(mutation),
                Ok(()) => continue,
                Err(_) => {
                    let input = mutated.escape_ascii();
                    Err(format!("mutation {mutation} of {} breaks it:\n{input}", path.display()))
                }
            };
            let broken = report.is_err();
            if done.send(report).is_err() || broken {
                return;
            }
        }
    }
}

/// The inputs of a target, by name.
fn corpus(target: Target) -> Result<Vec<(PathBuf, Vec<u8>)>, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.corpus);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let input = fs::read(&path)?;
        inputs.push((path, input));
    }
    inputs.sort();
    Ok(inputs)
}
