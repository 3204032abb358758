//! `gatehouse top`: everything at a glance, in a terminal, as it happens.

mod draw;
mod view;

use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};

use super::{ConfigFile, FAILED, UNAVAILABLE, failed};
use crate::admin::control::{self, Request};
use crate::admin::explain::{Query, Report};
use crate::admin::overview::Overview;
use view::{Order, View};

/// Show who is turned away, what is dropped, and how everything is, as it happens
///
/// q quits, p pauses, s sorts, / filters, the arrows choose a client and Enter explains it. Without a
/// terminal: `gatehouse status`.
#[derive(Args, Debug)]
pub(super) struct Top {
    #[command(flatten)]
    config: ConfigFile,
    /// From one look to the next
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    interval: Duration,
}

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(100);

/// What happens.
enum Happened {
    Key(KeyEvent),
    Resized,
    Looked(Box<Result<Overview, String>>),
    Explained(String),
    Stop,
}

impl Top {
    pub(super) fn run(&self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let Some(socket) = config.control else {
            complain!(
                "gatehouse: {} has no [control] socket: add one, and restart the daemon",
                config.file.display()
            );
            return ExitCode::from(UNAVAILABLE);
        };
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            complain!("gatehouse: top needs a terminal; `gatehouse status --json` is for scripts");
            return ExitCode::from(FAILED);
        }
        let (sender, happened) = channel();
        start(&sender, socket.clone(), self.interval.max(SHORTEST));
        // Restored on every way out: a panic restores it, too.
        let mut terminal = match ratatui::try_init() {
            Ok(terminal) => terminal,
            Err(error) => return failed(&error),
        };
        let result = watch(&mut terminal, &socket, &sender, &happened);
        ratatui::restore();
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    }
}

/// Starts whatever tells what happens. All of it ends with the process.
fn start(sender: &Sender<Happened>, socket: PathBuf, interval: Duration) {
    let keys = sender.clone();
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            let happened = match event {
                Event::Key(key) if key.kind == KeyEventKind::Press => Happened::Key(key),
                Event::Resize(..) => Happened::Resized,
                _ => continue,
            };
            if keys.send(happened).is_err() {
                return;
            }
        }
        // The terminal is gone.
        let _ = keys.send(Happened::Stop);
    });
    let signals = sender.clone();
    thread::spawn(move || {
        // Without it, the default of the signal holds, and the terminal stays as it is.
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            let _ = runtime.block_on(terminated());
            let _ = signals.send(Happened::Stop);
        }
    });
    let looks = sender.clone();
    thread::spawn(move || {
        loop {
            let began = Instant::now();
            let look = Happened::Looked(Box::new(ask(&socket, &Request::Overview)));
            if looks.send(look).is_err() {
                return;
            }
            thread::sleep(interval.saturating_sub(began.elapsed()));
        }
    });
}

async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

fn ask<T: serde::de::DeserializeOwned>(socket: &Path, request: &Request) -> Result<T, String> {
    match control::ask(socket, request) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(format!("no daemon answers at {}", socket.display())),
        Err(error) => Err(error.to_string()),
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    socket: &Path,
    sender: &Sender<Happened>,
    happened: &Receiver<Happened>,
) -> io::Result<()> {
    let mut view = View::default();
    terminal.draw(|frame| draw::draw(frame, &view))?;
    // Whoever tells what happens has the other end, and so has this.
    while let Ok(happened) = happened.recv() {
        match happened {
            Happened::Key(key) => match view.press(key) {
                Some(Order::Quit) => return Ok(()),
                Some(Order::Explain(address)) => explain(socket, sender, address),
                None => {}
            },
            Happened::Resized => {}
            Happened::Looked(look) => view.look(*look),
            Happened::Explained(text) => view.explained(text),
            Happened::Stop => return Ok(()),
        }
        terminal.draw(|frame| draw::draw(frame, &view))?;
    }
    Ok(())
}

/// Asks beside everything else: an issuer may have to be asked, which can take a while.
fn explain(socket: &Path, sender: &Sender<Happened>, address: IpAddr) {
    let (socket, sender) = (socket.to_owned(), sender.clone());
    thread::spawn(move || {
        let query = Query { address: Some(address), ..Query::default() };
        let text = match ask::<Report>(&socket, &Request::Explain(query)) {
            Ok(report) => report.to_string(),
            Err(error) => error,
        };
        // Nobody waits for it any more when it cannot be sent.
        let _ = sender.send(Happened::Explained(text));
    });
}
