//! The admin listener, asked over a plain connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::host::Host;
use crate::process::PATIENCE;

/// Where the daemon listens when the configuration has [`TABLE`].
pub const ADDRESS: &str = "127.0.0.1:9464";
/// The table of the configuration.
pub const TABLE: &str = "[admin]\nlisten = \"127.0.0.1:9464\"\n";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// Asks for `path` on the host of the gate.
pub fn get(host: &Host, path: &str) -> Result<Answer> {
    ask(host, "GET", path, &[], "")
}

/// Asks with these headers and this body.
pub fn ask(host: &Host, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: {ADDRESS}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let address: SocketAddr = ADDRESS.parse()?;
    let mut text = Vec::new();
    host.gate.enter(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut text)?;
        Ok(())
    })?;
    let text = String::from_utf8(text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The metrics, one sample a line.
pub fn metrics(host: &Host) -> Result<Vec<String>> {
    let answer = get(host, "/metrics")?;
    ensure!(answer.status == 200 && answer.head.contains("openmetrics-text"), "{}", answer.head);
    ensure!(answer.body.ends_with("# EOF\n"), "the metrics are cut off");
    Ok(answer.body.lines().map(str::to_owned).collect())
}

/// The value of the sample `name` whose labels are among those asked for; 0 when there is none.
pub fn sample(metrics: &[String], name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted = |line: &&String| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    let values =
        metrics.iter().filter(wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}
