//! `gatehouse audit`: what the audit trail in the journal has of a client.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::SystemTime;

use clap::Args;
use ipnet::IpNet;

use super::colour::{self, Tone, paint};
use super::progress::Progress;
use super::{FAILED, UNAVAILABLE};
use crate::audit::query::{Found, Wanted, printable};

/// Bytes of a line of journalctl: an entry of the trail has some kilobytes.
const MAX_LINE: u64 = 1 << 20;

/// Show what the audit trail in the journal has of a client
///
/// Rejections and drops, admissions and ends of sessions, newest last. Exit code 1: nothing was found; 69:
/// the journal cannot be read.
#[derive(Args, Debug)]
pub(super) struct Audit {
    /// Of a client with this address, or with one in this network
    #[arg(long, value_name = "IP|NET", value_parser = net)]
    client: Option<IpNet>,
    /// Of this subject of a token
    #[arg(long)]
    subject: Option<String>,
    /// Of this layer: firewall, handshake, credentials, expiry, scope, auth_system, limit or upstream
    #[arg(long)]
    layer: Option<String>,
    /// For this reason, such as `expired` or `expiry/expired`
    #[arg(long)]
    reason: Option<String>,
    /// At the card (`nic`) or at the gateway (`gateway`)
    #[arg(long)]
    point: Option<String>,
    /// On this route
    #[arg(long, value_name = "PATH")]
    route: Option<String>,
    /// Of the handshake with this identifier, which the client was told
    #[arg(long)]
    id: Option<String>,
    /// Only what this unit has written, such as `gatehouse.service`: every user of a host can write entries
    /// to its journal that look like those of the gate
    #[arg(long)]
    unit: Option<String>,
    /// Not before this time: a duration back from now (`10m`), or as journalctl(1) takes it
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Not after this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Wait for more
    #[arg(long, short)]
    follow: bool,
    /// At most so many, the newest
    #[arg(long, short = 'n', value_name = "NUMBER")]
    limit: Option<usize>,
    /// The journal in this folder, as that of another host
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// An address or a network.
pub(super) fn net(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "write an address, or a network such as 192.0.2.0/24".to_owned())
}

/// journalctl takes many forms of time; durations such as `10m` are ours.
fn time(text: &str, now: SystemTime) -> String {
    let back = humantime::parse_duration(text).ok().and_then(|back| now.checked_sub(back));
    back.map_or_else(|| text.to_owned(), |then| format!("@{}", crate::auth::revocation::seconds(then)))
}

impl Audit {
    pub(super) fn run(&self) -> ExitCode {
        let wanted = Wanted {
            client: self.client.map(|net| net.trunc()),
            subject: self.subject.clone(),
            layer: self.layer.clone(),
            reason: self.reason.clone(),
            point: self.point.clone(),
            route: self.route.clone(),
            id: self.id.clone(),
            unit: self.unit.clone(),
        };
        let mut journal = match self.journalctl(&wanted) {
            Ok(journal) => journal,
            Err(code) => return code,
        };
        let coloured = colour::wanted();
        let mut newest = VecDeque::new();
        let mut count = 0u64;
        let show = |found: &Found| match serde_json::to_string(found) {
            Ok(text) if self.json => out!("{text}"),
            _ => out!("{}", line(found, coloured)),
        };
        // Where entries are printed as they come, they are progress enough.
        let progress =
            self.limit.filter(|_| !self.follow).map(|_| Progress::of("reading the journal, entries"));
        let read = entries(&mut journal, |found| {
            if let Some(progress) = &progress {
                progress.advance(1);
            }
            if !wanted.keeps(&found) {
                return;
            }
            count += 1;
            match self.limit.filter(|_| !self.follow) {
                None => show(&found),
                Some(limit) => {
                    newest.push_back(found);
                    if newest.len() > limit {
                        newest.pop_front();
                    }
                }
            }
        });
        drop(progress);
        newest.iter().for_each(show);
        match read.and_then(|()| journal.wait()) {
            Ok(status) if status.success() && count > 0 => ExitCode::SUCCESS,
            // journalctl ends with 1 when nothing matches, and says so only on a terminal.
            Ok(status) if count == 0 && status.code().is_some_and(|code| code <= 1) => {
                complain!(
                    "gatehouse: nothing is found; journals of other users need root or the group systemd-journal"
                );
                ExitCode::from(FAILED)
            }
            Ok(status) => {
                complain!("gatehouse: journalctl ended with {status}: see above");
                ExitCode::from(UNAVAILABLE)
            }
            Err(error) => {
                complain!("gatehouse: the journal cannot be read: {error}");
                ExitCode::from(UNAVAILABLE)
            }
        }
    }

    fn journalctl(&self, wanted: &Wanted) -> Result<Child, ExitCode> {
        let now = SystemTime::now();
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--all", "--no-pager", "--quiet"]).args(wanted.matches());
        if let Some(since) = &self.since {
            command.args(["--since", &time(since, now)]);
        }
        if let Some(until) = &self.until {
            command.args(["--until", &time(until, now)]);
        }
        if self.follow {
            command.args(["--follow", "--lines", &self.limit.unwrap_or(10).to_string()]);
        }
        if let Some(folder) = &self.directory {
            command.arg("--directory").arg(folder);
        }
        spawn(command)
    }
}

fn spawn(mut command: Command) -> Result<Child, ExitCode> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| {
        complain!(
            "gatehouse: journalctl cannot be started ({error}): the audit trail is in the journal of systemd"
        );
        ExitCode::from(UNAVAILABLE)
    })
}

/// Calls `each` with every entry of the trail that `journal` prints.
fn entries(journal: &mut Child, mut each: impl FnMut(Found)) -> std::io::Result<()> {
    let Some(output) = journal.stdout.take() else { return Ok(()) };
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        if output.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // A longer line is none of ours; its pieces cannot be parsed, and are left out.
        if let Some(found) = Found::parse(&line) {
            each(found);
        }
    }
}

/// What the journal has of the handshake `id`: its rejection or its end, the newest.
pub(super) fn past(id: &str) -> Result<Option<crate::audit::Past>, ExitCode> {
    let wanted = Wanted { id: Some(id.to_owned()), ..Wanted::default() };
    let mut command = Command::new("journalctl");
    command.args(["--output=json", "--all", "--no-pager", "--quiet"]).args(wanted.matches());
    let mut journal = spawn(command)?;
    let mut last = None;
    let progress = Progress::of("asking the journal");
    let read = entries(&mut journal, |found| {
        if matches!(found.event.as_str(), "rejected" | "ended" | "admitted") {
            last = Some(found);
        }
    });
    let read = read.and_then(|()| journal.wait().map(drop));
    drop(progress);
    if let Err(error) = read {
        complain!("gatehouse: the journal cannot be read: {error}");
        return Err(ExitCode::from(UNAVAILABLE));
    }
    Ok(last.map(|found| Found { ids: vec![id.to_owned()], ..found }.past()))
}

/// One line for people.
fn line(found: &Found, coloured: bool) -> String {
    let field = |name: &str| printable(found.field(name).unwrap_or("-"));
    let (what, tone) = match (found.field("layer"), found.field("reason")) {
        (Some(layer), Some(reason)) => {
            let ours = matches!(layer, "auth_system" | "upstream");
            let verb = if found.event == "rejected" { "" } else { found.event.as_str() };
            let what = format!("{verb} {layer}/{reason}");
            (what.trim().to_owned(), if ours { Tone::Bad } else { Tone::Warning })
        }
        _ => (found.event.clone(), if found.event == "admitted" { Tone::Good } else { Tone::Quiet }),
    };
    let times = found.field("repeats").map_or_else(String::new, |count| format!(" x{}", printable(count)));
    let time = found.time.get(..19).unwrap_or(&found.time).replace('T', " ");
    let id = found.ids.first().map_or_else(|| "-".to_owned(), |id| printable(id));
    format!(
        "{time}  {:<15}  {}{times}  {}  {}  {}\n    {}",
        field("client"),
        paint(&printable(&what), tone, coloured),
        field("subject"),
        field("route"),
        id,
        paint(&printable(&found.message), Tone::Quiet, coloured),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_duration_is_counted_back_and_all_else_is_for_journalctl() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(time("10m", now), "@400");
        assert_eq!(time("yesterday", now), "yesterday");
        assert_eq!(time("2026-11-23 10:00", now), "2026-11-23 10:00");
    }

    #[test]
    fn a_line_says_who_when_and_why_and_no_client_can_forge_it() {
        let fields = [
            ("client", "192.0.2.7"),
            ("layer", "scope"),
            ("reason", "insufficient_scope"),
            ("subject", "eve\u{1b}[31m"),
            ("repeats", "4"),
        ];
        let found = Found {
            time: "2026-11-23T11:46:08.123Z".to_owned(),
            event: "rejected".to_owned(),
            message: "rejected\nforged".to_owned(),
            ids: vec!["aa".to_owned()],
            fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let text = line(&found, false);
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.starts_with(
                "2026-11-23 11:46:08  192.0.2.7        scope/insufficient_scope x4  eve\\u{1b}[31m  -  aa\n"
            ),
            "{text}"
        );
        assert!(line(&found, true).contains("\u{1b}[33m"));
    }
}
