//! Every target, with its whole corpus and with mutations of it, in every `cargo test`.

mod mutator;

use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gatehouse_fuzz::{TARGETS, Target};
use mutator::Mutator;

type Outcome = Result<(), Box<dyn Error>>;

/// Where an input comes from, and the input.
type Input = (PathBuf, Vec<u8>);

/// Mutations of one input that are judged before the worker says that it goes on.
const BATCH: u64 = 250;

/// A batch takes seconds at most. One that has not ended after this hangs.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn an_accepted_list_is_read_again_as_it_is_written() -> Outcome {
    smoke("lists", 16 * BATCH)
}

#[test]
fn no_archive_unpacks_to_more_than_the_limit() -> Outcome {
    smoke("unpack", 16 * BATCH)
}

#[test]
fn every_entry_of_a_list_is_enforced_up_to_its_borders() -> Outcome {
    // A policy is compiled for each input.
    smoke("policy", 64)
}

#[test]
fn a_frame_has_the_source_and_port_that_etherparse_finds() -> Outcome {
    smoke("packets", 16 * BATCH)
}

#[test]
fn a_capture_gives_no_more_than_it_holds_and_no_less_before_it_is_cut_off() -> Outcome {
    smoke("captures", BATCH)
}

#[test]
fn an_accepted_configuration_keeps_what_the_rest_relies_on() -> Outcome {
    smoke("config", 16 * BATCH)
}

#[test]
fn a_proxy_header_names_the_client_that_stands_in_it() -> Outcome {
    smoke("proxy_header", 16 * BATCH)
}

#[test]
fn nothing_that_a_client_writes_into_the_headers_of_proxies_makes_it_somebody_else() -> Outcome {
    smoke("forwarded", 16 * BATCH)
}

#[test]
fn an_accepted_handshake_satisfies_rfc_6455_when_it_is_read_again() -> Outcome {
    smoke("handshake", 16 * BATCH)
}

#[test]
fn a_token_that_is_found_in_a_request_is_taken_out_and_nothing_else_is() -> Outcome {
    smoke("sources", 16 * BATCH)
}

#[test]
fn no_byte_behind_a_first_message_is_lost_and_no_token_in_it_goes_on() -> Outcome {
    smoke("first_message", 16 * BATCH)
}

#[test]
fn no_token_is_admitted_that_nobody_signed() -> Outcome {
    // Signatures are verified.
    smoke("token", 8 * BATCH)
}

#[test]
fn no_private_key_is_taken_for_a_public_one_or_repeated_in_a_message() -> Outcome {
    smoke("keys", 16 * BATCH)
}

#[test]
fn nobody_else_speaks_for_an_issuer() -> Outcome {
    smoke("metadata", 16 * BATCH)
}

#[test]
fn an_accepted_answer_satisfies_rfc_6455_and_so_does_what_is_passed_on() -> Outcome {
    smoke("answer", 16 * BATCH)
}

#[test]
fn messages_end_where_tungstenite_finds_that_they_end() -> Outcome {
    smoke("frames", 16 * BATCH)
}

#[test]
fn a_revocation_means_the_same_when_it_is_written_again() -> Outcome {
    smoke("revocations", 16 * BATCH)
}

#[test]
fn a_request_to_an_endpoint_is_read_as_anybody_would_read_it() -> Outcome {
    smoke("endpoint", 16 * BATCH)
}

#[test]
fn bans_that_were_kept_mean_the_same_when_they_are_kept_again() -> Outcome {
    smoke("bans", 16 * BATCH)
}

#[test]
fn a_line_of_the_journal_is_an_entry_of_the_trail_or_none() -> Outcome {
    smoke("audit", 16 * BATCH)
}

#[test]
fn a_request_for_a_ticket_is_an_object_with_a_route_and_nothing_else() -> Outcome {
    smoke("ticket", 16 * BATCH)
}

#[test]
fn what_a_key_in_a_file_signs_is_verified_by_its_public_half() -> Outcome {
    // Tokens are signed and verified.
    smoke("signing", 8 * BATCH)
}

#[test]
fn nobody_is_admitted_by_an_answer_that_does_not_say_so_or_blamed_for_one_that_says_nothing() -> Outcome {
    // Signatures are verified.
    smoke("introspection", 8 * BATCH)
}

#[test]
fn every_target_has_a_corpus_and_is_there_for_libfuzzer() -> Outcome {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in TARGETS {
        let inputs = corpus(target)?.len();
        if inputs < 12 {
            return Err(format!("only {inputs} inputs are in the corpus of {}", target.name).into());
        }
        let file = top.join(format!("libfuzzer/fuzz_targets/{}.rs", target.name));
        if !fs::read_to_string(&file)?.contains(&format!("run(\"{}\", ", target.name)) {
            return Err(format!("{} runs another target", file.display()).into());
        }
    }
    Ok(())
}

/// Feeds a target its corpus, and so many mutations of each input.
fn smoke(name: &str, mutations: u64) -> Outcome {
    let target = TARGETS.into_iter().find(|target| target.name == name).ok_or("there is no such target")?;
    let corpus = corpus(target)?;
    let (done, progress) = mpsc::channel();
    let worker = thread::spawn(move || work(target, &corpus, mutations, &done));
    loop {
        match progress.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => return Err(broken.into()),
            Err(mpsc::RecvTimeoutError::Timeout) => return Err("an input makes the target hang".into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    worker.join().map_err(|_| "the worker panicked".into())
}

/// Judges every input and its mutations, and says after each batch that it goes on, or what input
/// broke the target.
fn work(target: Target, corpus: &[Input], mutations: u64, done: &mpsc::Sender<Result<(), String>>) {
    for (number, (path, input)) in (1..).zip(corpus) {
        let mut mutator = Mutator::new(number);
        for mutation in 0..mutations {
            let other = &corpus[mutator.below(corpus.len())].1;
            // The first one is the input itself.
            let mutated = if mutation == 0 { input.clone() } else { mutator.mutate(input, other) };
            let report = match catch_unwind(AssertUnwindSafe(|| (target.run)(&mutated))) {
                Ok(()) if (mutation + 1) % BATCH == 0 => Ok(()),
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
fn corpus(target: Target) -> Result<Vec<Input>, Box<dyn Error>> {
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
