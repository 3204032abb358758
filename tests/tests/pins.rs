//! A firewall that stays in force without the daemon.

use std::fs;
use std::path::PathBuf;
use std::process::{ExitCode, Output};

use anyhow::{Context as _, Result, ensure};
use gatehouse_tests::bpffs::BpfFs;
use gatehouse_tests::client::{Attempt, Client};
use gatehouse_tests::daemon::{Daemon, verb};
use gatehouse_tests::host::{CLIENT_V4, DENIED_RANGE_V4, DENIED_V4, GATE_INTERFACE, OTHER_CLIENT_V4};
use gatehouse_tests::load::Load;
use gatehouse_tests::plan::Plan;
use gatehouse_tests::process::PATIENCE;
use gatehouse_tests::promises;
use gatehouse_tests::scene::Scene;
use gatehouse_tests::token::Key;

fn main() -> ExitCode {
    gatehouse_tests::run(promises![
        a_killed_daemon_leaves_drops_in_force_and_the_next_one_counts_on,
        a_daemon_killed_at_any_moment_of_its_start_lets_nothing_pass,
        incomplete_tables_are_replaced_without_a_packet_passing_and_the_log_says_so,
        a_stopped_daemon_leaves_drops_in_force_and_says_how_to_end_them,
        a_list_that_changed_without_a_daemon_is_in_force_under_the_next_one,
        lists_keep_their_counters_when_others_come_and_go_without_a_daemon,
        detach_removes_everything_but_not_while_a_daemon_runs,
        a_second_daemon_with_the_same_pins_is_refused,
        pins_that_cannot_be_are_refused_with_the_remedy,
        a_firewall_that_is_switched_off_does_not_stay_in_force,
        an_interface_that_comes_later_is_guarded,
        an_interface_left_out_of_the_configuration_is_let_go,
    ])
}

/// The usual system with pins of its own. They end after it.
struct Pinned {
    scene: Scene,
    bpf: BpfFs,
}

impl Pinned {
    fn new(change: impl FnOnce(Plan) -> Plan) -> Result<Self> {
        let bpf = BpfFs::mount()?;
        let pins = format!("pins = {:?}", bpf.pins());
        let scene = Scene::with(Key::generate("ES256", "key-1")?, |_, plan| {
            Ok(change(Plan { firewall: plan.firewall.replace("pins = \"none\"", &pins), ..plan }))
        })?;
        Ok(Self { scene, bpf })
    }

    /// Starts the next daemon.
    fn restart(&mut self) -> Result<()> {
        self.scene.daemon = Daemon::start(&self.scene.host, &self.scene.config())?;
        Ok(())
    }

    /// Replaces `from` in the configuration, which must be there.
    fn configure(&self, from: &str, to: &str) -> Result<()> {
        let before = fs::read_to_string(self.scene.config())?;
        ensure!(before.contains(from), "{from:?} is not in the configuration");
        self.scene.edit("gatehouse.toml", &before.replace(from, to))
    }

    fn detach(&self) -> Result<Output> {
        let command = verb("detach", &self.scene.config())?;
        Ok(self.scene.host.gate.command(&command).output()?)
    }

    /// The number of the program on the interface; `None` when there is none.
    fn program(&self) -> Result<Option<u64>> {
        Ok(self.scene.host.attached()?["prog"]["id"].as_u64())
    }

    /// Packets that the list `name` has decided.
    fn packets(&self, name: &str) -> Result<u64> {
        let status = self.scene.daemon.status()?;
        let lists = status["policy"]["lists"].as_array().context("no lists")?;
        let path = self.scene.file(name).display().to_string();
        let list = lists.iter().find(|list| list["list"] == path).context("the list is not there")?;
        list["packets"].as_u64().context("no packets")
    }
}

fn a_killed_daemon_leaves_drops_in_force_and_the_next_one_counts_on() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    let load = Load::from(&pinned.scene.host, DENIED_V4)?;
    let ((), sent) = load.during(|| {
        load.wait_for(300)?;
        let before = pinned.program()?;
        pinned.scene.daemon.kill()?;
        ensure!(before.is_some() && pinned.program()? == before, "the program is gone");
        load.wait_for(300)?;
        pinned.restart()?;
        ensure!(pinned.program()?.is_some_and(|now| Some(now) != before), "the program is the old one");
        load.wait_for(300)
    })?;
    ensure!(
        pinned.packets("deny.list")? == sent,
        "{sent} packets were sent: {:#}",
        pinned.scene.daemon.status()?
    );
    let said = pinned.scene.daemon.log();
    ensure!(said.iter().any(|entry| entry.line.contains("counters go on")), "{said:#?}");
    // The gateway is there again, and reports what is dropped from now on.
    let attempt = Attempt::on("/chat").token(&pinned.scene.token()?);
    pinned.scene.admits(Client::Raw, &attempt)?;
    pinned.scene.drops(Client::Raw, &attempt.from(DENIED_V4))?;
    Ok(())
}

fn a_daemon_killed_at_any_moment_of_its_start_lets_nothing_pass() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    let load = Load::from(&pinned.scene.host, DENIED_V4)?;
    let ((), sent) = load.during(|| {
        pinned.scene.daemon.kill()?;
        // The load is the clock: a start takes some thousands of packets.
        for packets in (0..16).map(|step| 1 + 200 * step) {
            pinned.scene.daemon = Daemon::launch(&pinned.scene.host, &pinned.scene.config())?;
            load.wait_for(packets)?;
            pinned.scene.daemon.kill()?;
        }
        pinned.restart()
    })?;
    ensure!(
        pinned.packets("deny.list")? == sent,
        "{sent} packets were sent: {:#}",
        pinned.scene.daemon.status()?
    );
    let leftover = pinned.bpf.pins().join("next");
    ensure!(!leftover.exists(), "tables of a daemon that was killed stay behind");
    pinned.scene.daemon.stop()
}

fn incomplete_tables_are_replaced_without_a_packet_passing_and_the_log_says_so() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    let load = Load::from(&pinned.scene.host, DENIED_V4)?;
    let ((), sent) = load.during(|| {
        load.wait_for(300)?;
        pinned.scene.daemon.kill()?;
        fs::remove_file(pinned.bpf.pins().join("maps/OUTCOMES"))?;
        pinned.restart()?;
        load.wait_for(300)
    })?;
    let counted = pinned.packets("deny.list")?;
    ensure!((300..=sent - 300).contains(&counted), "{counted} of {sent}: the counters do not start anew");
    let said = pinned.scene.daemon.log();
    ensure!(said.iter().any(|entry| entry.line.contains("counters start anew")), "{said:#?}");
    pinned.scene.daemon.stop()
}

fn a_stopped_daemon_leaves_drops_in_force_and_says_how_to_end_them() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    let load = Load::from(&pinned.scene.host, DENIED_V4)?;
    let ((), sent) = load.during(|| {
        load.wait_for(300)?;
        pinned.scene.daemon.stop()?;
        let said = pinned.scene.daemon.log();
        ensure!(said.iter().any(|entry| entry.line.contains("gatehouse detach")), "{said:#?}");
        load.wait_for(300)?;
        // A constant of the program: the next daemon has one of its own.
        pinned.configure("ports = \"all\"", "ports = \"all\"\nreports_per_second = 1")?;
        pinned.restart()?;
        load.wait_for(300)
    })?;
    ensure!(
        pinned.packets("deny.list")? == sent,
        "{sent} packets were sent: {:#}",
        pinned.scene.daemon.status()?
    );
    pinned.scene.daemon.stop()
}

fn a_list_that_changed_without_a_daemon_is_in_force_under_the_next_one() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    let attempt = Attempt::on("/chat").token(&pinned.scene.token()?);
    pinned.scene.admits(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    let load = Load::from(&pinned.scene.host, DENIED_V4)?;
    let ((), sent) = load.during(|| {
        pinned.scene.daemon.kill()?;
        pinned.scene.edit("deny.list", &format!("{OTHER_CLIENT_V4}\n{DENIED_V4}\n"))?;
        load.wait_for(300)?;
        pinned.restart()?;
        load.wait_for(300)
    })?;
    ensure!(
        pinned.packets("deny.list")? == sent,
        "{sent} packets were sent: {:#}",
        pinned.scene.daemon.status()?
    );
    pinned.scene.drops(Client::Raw, &attempt.clone().from(OTHER_CLIENT_V4))?;
    pinned.scene.admits(Client::Raw, &attempt)?;
    Ok(())
}

fn lists_keep_their_counters_when_others_come_and_go_without_a_daemon() -> Result<()> {
    let mut pinned = Pinned::new(|plan| {
        let firewall = plan.firewall.replace("[\"deny.list\"]", "[\"deny.list\", \"second.list\"]");
        let plan = Plan { firewall, ..plan }.file("deny.list", "192.0.2.0/24\n");
        plan.file("second.list", format!("{DENIED_RANGE_V4}\n")).file("third.list", "198.51.100.0/24\n")
    })?;
    let load = Load::from(&pinned.scene.host, DENIED_V4)?;
    let ((), sent) = load.during(|| load.wait_for(100))?;
    pinned.scene.daemon.stop()?;
    pinned.configure("[\"deny.list\", \"second.list\"]", "[\"third.list\", \"second.list\"]")?;
    pinned.restart()?;
    ensure!(pinned.packets("second.list")? == sent, "{sent} were sent: {:#}", pinned.scene.daemon.status()?);
    ensure!(pinned.packets("third.list")? == 0, "{:#}", pinned.scene.daemon.status()?);
    Ok(())
}

fn detach_removes_everything_but_not_while_a_daemon_runs() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    let refused = pinned.detach()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("stop it first"), "{said}");
    ensure!(pinned.program()?.is_some(), "the daemon's program is gone");

    pinned.scene.daemon.stop()?;
    ensure!(pinned.program()?.is_some(), "the program does not stay");
    let removed = pinned.detach()?;
    let said = String::from_utf8_lossy(&removed.stdout).into_owned();
    ensure!(removed.status.success() && said.contains(GATE_INTERFACE), "{removed:?}");
    ensure!(
        pinned.program()?.is_none() && !pinned.bpf.pins().exists(),
        "{:#}",
        pinned.scene.host.attached()?
    );

    let again = pinned.detach()?;
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    ensure!(again.status.success() && said.contains("nothing to remove"), "{again:?}");
    Ok(())
}

fn a_second_daemon_with_the_same_pins_is_refused() -> Result<()> {
    let pinned = Pinned::new(|plan| plan)?;
    let before = pinned.program()?;
    let mut second = Daemon::launch(&pinned.scene.host, &pinned.scene.config())?;
    ensure!(second.exit_code()? == Some(1), "{:#?}", second.log());
    let named = second.log().iter().any(|entry| entry.line.contains("another gatehouse uses the pins"));
    ensure!(named, "the error is not clear: {:#?}", second.log());
    ensure!(pinned.program()? == before, "the first daemon's program is gone");
    pinned.scene.end()
}

fn pins_that_cannot_be_are_refused_with_the_remedy() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    pinned.scene.daemon.stop()?;
    let folder: PathBuf = pinned.scene.file("pins");
    pinned.configure(&format!("{:?}", pinned.bpf.pins()), &format!("{folder:?}"))?;
    let mut daemon = Daemon::launch(&pinned.scene.host, &pinned.scene.config())?;
    ensure!(daemon.exit_code()? == Some(1), "{:#?}", daemon.log());
    let named = daemon.log().iter().any(|entry| entry.line.contains("mount -t bpf"));
    ensure!(named && !folder.exists(), "the error is not clear: {:#?}", daemon.log());
    Ok(())
}

fn a_firewall_that_is_switched_off_does_not_stay_in_force() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    pinned.scene.daemon.stop()?;
    ensure!(pinned.program()?.is_some(), "the program does not stay");
    pinned.configure("mode = \"native\"", "mode = \"off\"")?;
    pinned.restart()?;
    ensure!(
        pinned.program()?.is_none() && !pinned.bpf.pins().exists(),
        "{:#}",
        pinned.scene.host.attached()?
    );
    pinned.scene.end()
}

fn an_interface_that_comes_later_is_guarded() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    pinned.scene.daemon.stop()?;
    pinned.scene.host.unlink()?;
    // The gate's own address goes with the interface, so this daemon listens everywhere.
    pinned.configure(&format!("{}:", gatehouse_tests::host::GATE_V4), "0.0.0.0:")?;
    pinned.configure(&format!("[{}]:", gatehouse_tests::host::GATE_V6), "[::1]:")?;
    pinned.restart()?;
    let status = pinned.scene.daemon.status()?;
    ensure!(status["interfaces"][0]["mode"] == "none", "{status:#}");
    ensure!(
        status["interfaces"][0]["reason"].as_str().is_some_and(|why| why.contains(GATE_INTERFACE)),
        "{status:#}"
    );
    let mark = pinned.scene.daemon.mark();
    pinned.scene.host.link()?;
    pinned.scene.daemon.wait_after(mark, "that it is guarded", PATIENCE, |entry| entry.says("attached"))?;
    ensure!(pinned.scene.daemon.status()?["interfaces"][0]["mode"] == "native");
    let attempt = Attempt::on("/chat").token(&pinned.scene.token()?);
    pinned.scene.drops(Client::Raw, &attempt.clone().from(DENIED_V4))?;
    pinned.scene.admits(Client::Raw, &attempt.from(CLIENT_V4))?;
    pinned.scene.end()
}

fn an_interface_left_out_of_the_configuration_is_let_go() -> Result<()> {
    let mut pinned = Pinned::new(|plan| plan)?;
    pinned.scene.daemon.stop()?;
    pinned.scene.host.gate.ip("link add other type veth peer name wire")?;
    pinned.configure(&format!("interfaces = [\"{GATE_INTERFACE}\"]"), "interfaces = [\"other\"]")?;
    pinned.restart()?;
    ensure!(pinned.program()?.is_none(), "{:#}", pinned.scene.host.attached()?);
    let said = pinned.scene.daemon.log();
    ensure!(said.iter().any(|entry| entry.says("detached") && entry.says(GATE_INTERFACE)), "{said:#?}");
    pinned.scene.end()
}
