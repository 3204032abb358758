//! A child process whose lines can be awaited.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running program. Ended on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// What the program has printed so far, standard output and standard error together.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<Printed>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Printed {
    lines: Vec<String>,
    /// Streams that the program has closed: it has ended when both are.
    closed: u8,
}

/// A place in the output of a program: everything before it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(usize);

impl Process {
    /// Starts `command`, called `name` in errors.
    pub fn start(name: &str, command: Command) -> Result<Self> {
        Self::start_with(name, command, Stdio::null())
    }

    /// The same with `input` as its standard input.
    pub fn start_with(name: &str, mut command: Command, input: impl Into<Stdio>) -> Result<Self> {
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let output = Arc::new(Output::default());
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            collect(stdout, Arc::clone(&output));
            collect(stderr, Arc::clone(&output));
        }
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what was printed so far.
    pub fn mark(&self) -> Mark {
        Mark(self.output.lock().lines.len())
    }

    /// Everything printed so far.
    pub fn printed(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// The first result of `find` on a line after `mark`, awaited for `patience` at most.
    pub fn wait_for<T>(
        &self,
        what: &str,
        mark: Mark,
        patience: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        let mut printed = self.output.lock();
        let mut next = mark.0;
        loop {
            while let Some(line) = printed.lines.get(next) {
                if let Some(found) = find(line) {
                    return Ok(found);
                }
                next += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if printed.closed == 2 || left.is_zero() {
                let how = if printed.closed == 2 { "ended before" } else { "did not print in time" };
                return Err(anyhow!(
                    "{} {how}: {what}; it printed:\n{}",
                    self.name,
                    printed.lines.join("\n")
                ));
            }
            printed = self
                .output
                .changed
                .wait_timeout(printed, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(printed, _)| printed);
        }
    }

    /// Sends the signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)
            .with_context(|| format!("{} cannot be sent {signal}", self.name))
    }

    /// Runs `work` on a thread in the network namespace of the program.
    pub fn inside_network<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = format!("/proc/{}/ns/net", self.child.id());
        crate::netns::inside(std::path::Path::new(&namespace), work)
    }

    /// Asks the program to end, and waits until it has.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        if self.child.try_wait()?.is_none() {
            kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop {}", self.name))?;
        }
        self.finish()
    }

    /// Ends the program without a chance to do anything more.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.finish().map(drop)
    }

    /// Waits until the program has ended by itself.
    pub fn finish(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        let mut printed = self.output.lock();
        while printed.closed < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let lines = printed.lines.join("\n");
                drop(printed);
                self.child.kill()?;
                return Err(anyhow!("{} did not end in time; it printed:\n{lines}", self.name));
            }
            printed = self
                .output
                .changed
                .wait_timeout(printed, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(printed, _)| printed);
        }
        drop(printed);
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Printed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Output>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            output.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
            output.changed.notify_all();
        }
        output.lock().closed += 1;
        output.changed.notify_all();
    });
}
