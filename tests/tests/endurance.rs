//! Many clients at once, slow ones, greedy ones, and a host that runs out of files.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::client::{Attempt, Client, GATE_PORT};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::footprint::{Footprint, eventually};
use gatehouse_tests::host::GATE_V4;
use gatehouse_tests::plan::{good_token, route};
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::raw::Session;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::{Key, jwk_set};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        slow_clients_are_held_cheaply_block_nobody_and_are_cut_at_the_deadline,
        a_client_that_does_not_read_costs_a_bounded_amount_of_memory_and_loses_nothing,
        accepting_pauses_when_the_files_run_out_and_goes_on_when_there_are_some,
        thousands_of_sessions_with_churn_expiry_revocation_and_reloads_leave_nothing_behind,
    ])
}

/// Slow clients, each a file of the gate, and open sessions, each two, where a process may open 20,000 files;
/// fewer where it may open fewer, which is said.
fn crowd() -> Result<(usize, usize)> {
    const FILES: u64 = 20_000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The clients are files of this process.
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    if most < FILES {
        eprintln!("a process may open {most} files here, and not {FILES}: the crowds are smaller by as much");
    }
    let files = most.min(FILES);
    Ok((usize::try_from(files / 2)?, usize::try_from(files.saturating_sub(2_000) / 2)?))
}
/// Where the echo service of these tests is: a process of its own.
const ECHO: &str = "127.0.0.1:9100";

/// No limit but that of the files.
const LIMITS: &str = "[limits]\nsessions = 12000\nsessions_per_address = 100000\nsessions_per_subject = 100000\n\
                      handshake_rate_per_address = 0\n";

/// The usual system, before an echo service that can take them all.
fn scene(limits: &str) -> Result<(Scene, Daemon)> {
    let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, mut plan| {
        plan.routes = route("/chat", ECHO);
        plan.more.push_str(&format!("{LIMITS}{limits}"));
        plan.more.push_str("[state]\nfolder = \"state\"\n");
        Ok(plan.file("echo.toml", format!("[echo]\nlisten = \"{ECHO}\"\n")))
    })?;
    let echo = Daemon::start(&scene.host, &scene.file("echo.toml"))?;
    Ok((scene, echo))
}

fn pid(scene: &Scene) -> Result<u64> {
    scene.daemon.status()?["pid"].as_u64().context("a process id")
}

fn connect(scene: &Scene) -> Result<TcpStream> {
    scene.host.client.enter(|| Ok(TcpStream::connect(SocketAddr::new(GATE_V4, GATE_PORT))?))
}

fn slow_clients_are_held_cheaply_block_nobody_and_are_cut_at_the_deadline() -> Result<()> {
    // Time to come, and to be looked at.
    let (count, _) = crowd()?;
    let (scene, _echo) = scene("handshake_timeout = \"25s\"\n")?;
    let pid = pid(&scene)?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    scene.admits(Client::Raw, &attempt)?;
    let before = Footprint::of(pid)?;
    let beginnings =
        ["", "G", "GET /chat HTTP/1.1\r\nHost: ", &format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(900))]
            .map(str::to_owned);
    let mut slow = scene.host.client.enter(|| {
        let mut slow = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = TcpStream::connect(SocketAddr::new(GATE_V4, GATE_PORT))?;
            stream.write_all(beginnings[number % beginnings.len()].as_bytes())?;
            slow.push(stream);
        }
        Ok(slow)
    })?;
    let held = eventually("all are held", PATIENCE, || Footprint::of(pid), |now| now.files >= count)?;
    let each = held.memory.saturating_sub(before.memory) * 1024 / count as u64;
    ensure!(each <= 16 * 1024, "each slow client takes {each} bytes");
    scene.admits(Client::Raw, &attempt)?;
    scene.admits(Client::Python, &attempt)?;
    for (number, stream) in slow.iter_mut().enumerate() {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let told = answer.starts_with(b"HTTP/1.1 408 ");
        ensure!(told, "client {number} was told {:?}", answer.escape_ascii().to_string());
    }
    drop(slow);
    eventually("all are gone", PATIENCE, || Footprint::of(pid), |now| now.files <= before.files)?;
    scene.admits(Client::Raw, &attempt)?;
    scene.end()
}

fn a_client_that_does_not_read_costs_a_bounded_amount_of_memory_and_loses_nothing() -> Result<()> {
    const CLIENTS: usize = 20;
    const MOST: usize = 64 << 20;
    let (scene, _echo) = scene("")?;
    let pid = pid(&scene)?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(Session::open(&scene.host, &attempt)?);
    }
    let before = Footprint::of(pid)?;
    let mut sent = Vec::new();
    for session in &mut sessions {
        sent.push(session.flood(MOST, Duration::from_millis(500))?);
    }
    let after = Footprint::of(pid)?;
    let each = after.memory.saturating_sub(before.memory) / CLIENTS as u64;
    ensure!(each <= 128, "a session with two full sides takes {each} KiB more");
    // What came through the kernel's buffers and the gate is echoed: four bytes less for each mask.
    for (session, sent) in sessions.iter_mut().zip(sent) {
        ensure!(sent < MOST, "nothing ever made the client wait");
        let frame = 8 + 4096;
        session.swallow(sent / frame * (frame - 4))?;
    }
    scene.end()
}

fn accepting_pauses_when_the_files_run_out_and_goes_on_when_there_are_some() -> Result<()> {
    let scene = Scene::usual()?;
    let pid = pid(&scene)?;
    let attempt = Attempt::on("/chat").token(&scene.token()?);
    let mut open = Session::open(&scene.host, &attempt)?;
    let files = Footprint::of(pid)?.files;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let soft_limit = |limit: &str| -> Result<()> {
        let status = Command::new("prlimit")
            .args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")])
            .status()?;
        ensure!(status.success(), "prlimit(1): {status}");
        Ok(())
    };
    // Two of which the daemon has open at times itself.
    soft_limit(&(files + 2).to_string())?;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(connect(&scene)?);
    }
    scene.daemon.wait_for("that there are no files", PATIENCE, |entry| {
        entry.line.contains("connections cannot be accepted")
    })?;
    // Who is in stays in.
    ensure!(open.echo("still here")? == "still here");
    soft_limit(&most.to_string())?;
    scene.daemon.wait_for("that there are files again", PATIENCE, |entry| {
        entry.line.contains("connections are accepted again")
    })?;
    scene.admits(Client::Raw, &attempt)?;
    // Those who waited are served, too.
    for mut stream in waiting {
        stream.write_all(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut status = [0; 13];
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut status)?;
        ensure!(status == *b"HTTP/1.1 426 ", "{}", status.escape_ascii());
    }
    scene.end()
}

/// Who opens sessions: a group for each thing that happens.
struct Crowd<'a> {
    scene: &'a Scene,
    count: usize,
    lasting: Vec<Session>,
    revoked: Vec<Session>,
    expiring: Vec<Session>,
}

/// How long the tokens of those live that expire.
const LIFE: i64 = 45;

impl<'a> Crowd<'a> {
    /// All sessions, of which a tenth is to be revoked and a tenth to expire.
    fn gather(scene: &'a Scene, count: usize) -> Result<Self> {
        let mut crowd = Self { scene, count, lasting: Vec::new(), revoked: Vec::new(), expiring: Vec::new() };
        for number in 0..count {
            match number % 10 {
                0 => crowd.revoked.push(open(scene, "mallory", 3600)?),
                1 => crowd.expiring.push(open(scene, "guest", LIFE)?),
                _ => crowd.lasting.push(open(scene, "alice", 3600)?),
            }
        }
        Ok(crowd)
    }

    /// Half of those that last leave without a word, and others come.
    fn churn(&mut self) -> Result<()> {
        let half = self.lasting.len() / 2;
        self.lasting.drain(..half);
        self.await_sessions(self.count - half)?;
        for _ in 0..half {
            self.lasting.push(open(self.scene, "bob", 3600)?);
        }
        Ok(())
    }

    fn await_sessions(&self, count: usize) -> Result<()> {
        let sessions = || Ok(self.scene.daemon.status()?["sessions"].as_u64());
        let wanted = Some(count as u64);
        eventually("the open sessions", 3 * PATIENCE, sessions, |now| *now == wanted).map(drop)
    }

    /// All who last are still relayed.
    fn echoes(&mut self) -> Result<()> {
        for session in &mut self.lasting {
            ensure!(session.echo("on and on")? == "on and on");
        }
        Ok(())
    }
}

fn open(scene: &Scene, subject: &str, life: i64) -> Result<Session> {
    let token = scene.sign(good_token()?.claim("sub", subject).time("exp", life)?)?;
    let session = Session::open(&scene.host, &Attempt::on("/chat").token(&token).patient_for(3 * PATIENCE))?;
    Ok(session)
}

fn thousands_of_sessions_with_churn_expiry_revocation_and_reloads_leave_nothing_behind() -> Result<()> {
    let (_, count) = crowd()?;
    let (scene, _echo) = scene("")?;
    let pid = pid(&scene)?;
    scene.admits(Client::Raw, &Attempt::on("/chat").token(&scene.token()?))?;
    let before = eventually("nobody", PATIENCE, || scene.daemon.status(), |status| status["sessions"] == 0)
        .and_then(|_| Footprint::of(pid))?;
    let other = Key::generate("ES256", "key-2")?;
    let mut memory: Vec<u64> = Vec::new();
    // What a round leaves is room for the next; how much the allocator keeps of it differs by a fifth from
    // round to round. What is lost would be lost in each round anew.
    let grows = |memory: &[u64]| match memory {
        [.., before, last] => *last > before + before / 20,
        _ => true,
    };
    for round in 0..4_u8 {
        if !grows(&memory) {
            break;
        }
        let mut crowd = Crowd::gather(&scene, count)?;
        crowd.churn()?;
        // The policy and the keys are swapped under all of them.
        let mark = scene.daemon.mark();
        scene.edit("deny.list", &format!("203.0.113.{round}\n"))?;
        scene.edit(
            "keys.json",
            &jwk_set(&if round % 2 == 0 { vec![&scene.key, &other] } else { vec![&scene.key] }),
        )?;
        for sign in ["is in force", "keys were read anew"] {
            scene.daemon.wait_after(mark, sign, PATIENCE, |entry| entry.line.contains(sign))?;
        }
        crowd.echoes()?;
        let revoking = verb("revoke", &scene.config())?.args(["--subject", "mallory"]).output()?;
        ensure!(revoking.status.success(), "{revoking:?}");
        for session in &mut crowd.revoked {
            ensure!(session.closed()? == 4401);
        }
        for session in &mut crowd.expiring {
            session.patient_for(Duration::from_secs(2 * LIFE.unsigned_abs()))?;
            ensure!(session.closed()? == 4419);
        }
        crowd.revoked.clear();
        crowd.expiring.clear();
        crowd.await_sessions(crowd.lasting.len())?;
        crowd.echoes()?;
        crowd.lasting.clear();
        crowd.await_sessions(0)?;
        eventually("all files are closed", PATIENCE, || Footprint::of(pid), |now| now.files <= before.files)?;
        memory.push(Footprint::of(pid)?.memory);
        let undone = verb("revoke", &scene.config())?.args(["--list", "--json"]).output()?;
        let list: serde_json::Value = serde_json::from_slice(&undone.stdout)?;
        let id = list["revocations"][0]["id"].as_str().context("a revocation")?.to_owned();
        ensure!(verb("revoke", &scene.config())?.args(["--undo", &id]).status()?.success());
    }
    ensure!(!grows(&memory), "memory grows from round to round: {memory:?} KiB");
    scene.end()
}
