//! Other programs, and what the kernel says about itself.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Outcome;

/// Runs a program; what it says on failure is the error.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    finish(program, Command::new(program).args(arguments).stdin(Stdio::null()))
}

/// As [`run`], with words separated by spaces.
pub(crate) fn run_words(command: &str) -> Outcome<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, arguments) = words.split_first().ok_or("no command")?;
    run(program, arguments)
}

/// As [`run_words`], with `input` as standard input.
pub(crate) fn feed(command: &str, input: &str) -> Outcome<()> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, arguments) = words.split_first().ok_or("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} cannot be started ({error}): is it installed?"))?;
    let Some(mut stdin) = child.stdin.take() else {
        return Err(format!("{program} has no standard input").into());
    };
    let output = thread::scope(|scope| {
        // A program that gives up early closes its input; its own words say why.
        scope.spawn(move || stdin.write_all(input.as_bytes()).is_ok());
        child.wait_with_output()
    })?;
    if !output.status.success() {
        return Err(failure(program, &output.stderr).into());
    }
    Ok(())
}

fn finish(program: &str, command: &mut Command) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|error| format!("{program} cannot be started ({error}): is it installed?"))?;
    if !output.status.success() {
        return Err(failure(program, &output.stderr).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first words of a failed program; a parser's complaint about a long list repeats the list.
fn failure(program: &str, stderr: &[u8]) -> String {
    let words = String::from_utf8_lossy(stderr);
    let words: String = words.trim().chars().take(300).collect();
    format!("{program}: {words}")
}

/// The two CPUs that are used: one sends, one receives.
pub(crate) fn two_cpus() -> Outcome<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    match (cpus.next(), cpus.next()) {
        (Some(sender), Some(receiver)) => Ok([sender, receiver]),
        _ => Err("this needs two CPUs: one sends, one receives".into()),
    }
}

/// Binds a thread (0: the calling one) to one CPU.
pub(crate) fn pin(thread: i32, cpu: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(thread), &set)?)
}

/// Bytes of kernel memory of the kinds that tables are made of, of the whole machine.
pub(crate) fn kernel_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    (kib("SUnreclaim:") + kib("VmallocUsed:") + kib("Percpu:")) * 1024
}

/// Kernel, processor, and how busy the machine is with other work.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "Linux {}, {}, load average at the start {}",
        read("/proc/sys/kernel/osrelease"),
        model.map_or("unknown processor", |(_, model)| model),
        read("/proc/loadavg")
    )
}
