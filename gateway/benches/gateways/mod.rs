//! What the benches of gateways share: the gateways, each a process of its own on one CPU, tokens for
//! them, and the opening handshake on both sides of them.

pub(crate) mod opening;
pub(crate) mod tokens;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use tokens::{AUDIENCE, Algorithm, ISSUER, Keys};

/// How long a gateway may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The kernel counts CPU time in `/proc` in hundredths of a second (`USER_HZ`).
const TICKS: f64 = 100.0;

/// A running gateway; it is ended when this is dropped.
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    process: Child,
    ports: [Option<SocketAddr>; 3],
    /// Where it listens with TLS, for tokens of RS256 at least; `None` where that is not compared.
    #[allow(dead_code, reason = "the handshake bench speaks no TLS")]
    pub(crate) tls: Option<SocketAddr>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The files of [`certificate`].
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Both, as HAProxy wants them.
const BOTH: &str = "tls.pem";

/// Makes a certificate for `localhost` in `folder`, which signs itself: its DER.
pub(crate) fn certificate(folder: &Path) -> Outcome<Vec<u8>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (own, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.join(BOTH), format!("{own}{key}"))?;
    fs::write(folder.join(CERTIFICATE), own)?;
    fs::write(folder.join(KEY), key)?;
    Ok(made.cert.der().to_vec())
}

/// What every gateway needs to start. There is a [`certificate`] in its folder.
pub(crate) struct Ground<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) cpu: usize,
    pub(crate) upstream: SocketAddr,
    pub(crate) keys: &'a Keys,
}

impl Gate {
    /// Where it listens for tokens of `algorithm`; `None` when it cannot verify them.
    pub(crate) fn address(&self, algorithm: Algorithm) -> Option<SocketAddr> {
        self.ports[algorithm as usize]
    }

    /// Seconds of CPU time that the process has used so far.
    pub(crate) fn cpu_time(&self) -> Outcome<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name of the program, in brackets, can hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no process")?.1.split_whitespace().collect();
        let ticks = |index: usize| -> Outcome<f64> { Ok(fields.get(index).ok_or("no time")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / TICKS)
    }

    /// KiB of memory that the process holds at the moment.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|rest| rest.split_whitespace().next()).ok_or("no memory")?.parse()?)
    }

    pub(crate) fn gatehouse(ground: &Ground<'_>) -> Outcome<Self> {
        let [listen, tls] = [free()?, free()?];
        let file = ground.folder.join("gatehouse.toml");
        fs::write(ground.folder.join("jwks.json"), ground.keys.jwks())?;
        let mut text = format!(
            "[[listen]]\naddress = \"{listen}\"\n\n[[listen]]\naddress = \"{tls}\"\n\
             [listen.tls]\ncertificate = \"{CERTIFICATE}\"\nkey = \"{KEY}\"\n\n[limits]\nhandshake_rate_per_address = 0\n\
             sessions_per_address = 8192\nsessions_per_subject = 8192\n\n[[issuer]]\nname = \"bench\"\nissuer = \"{ISSUER}\"\n\
             audience = [\"{AUDIENCE}\"]\nkeys = \"jwks.json\"\nalgorithms = [\"RS256\", \"ES256\", \"EdDSA\"]\n"
        );
        for algorithm in Algorithm::ALL {
            text += &format!(
                "\n[[route]]\npath = \"/{}\"\nupstream = \"ws://{}\"\nissuers = [\"bench\"]\nscopes = [\"chat:read\"]\n",
                algorithm.name(),
                ground.upstream
            );
        }
        fs::write(&file, text)?;
        let mut command = pinned(ground.cpu, Path::new(env!("CARGO_BIN_EXE_gatehouse")));
        command.args(["run", "--log", "stderr", "--config"]).arg(&file);
        Self::start("gatehouse", command, ground, [Some(listen); 3], Some(tls))
    }

    pub(crate) fn haproxy(ground: &Ground<'_>) -> Outcome<Self> {
        let mut text =
            "global\n  nbthread 1\n  maxconn 9000\ndefaults\n  mode http\n  timeout connect 5s\n  \
             timeout client 30s\n  timeout server 30s\n  timeout tunnel 1h\n"
                .to_owned();
        let mut ports = [None; 3];
        let tls = free()?;
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let (name, listen) = (algorithm.name(), free()?);
            let key = ground.keys.pem(algorithm, ground.folder)?;
            ports[algorithm as usize] = Some(listen);
            let secured = match algorithm {
                Algorithm::Rs256 => {
                    format!("\n  bind {tls} ssl crt {}", ground.folder.join(BOTH).display())
                }
                _ => String::new(),
            };
            text += &format!(
                "frontend {name}\n  bind {listen}{secured}\n  \
                 http-request set-var(txn.bearer) http_auth_bearer\n  \
                 http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')\n  \
                 http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')\n  \
                 http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')\n  \
                 http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')\n  \
                 http-request set-var(txn.now) date()\n  \
                 http-request deny deny_status 401 unless {{ var(txn.alg) -m str {name} }}\n  \
                 http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}\n  \
                 http-request deny deny_status 401 unless {{ var(txn.aud) -m str {AUDIENCE} }}\n  \
                 http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}\n  \
                 http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,\"{}\") -m int 1 }}\n  \
                 default_backend upstream\n",
                key.display()
            );
        }
        text += &format!("backend upstream\n  server one {}\n", ground.upstream);
        let file = ground.folder.join("haproxy.cfg");
        fs::write(&file, text)?;
        let mut command = pinned(ground.cpu, Path::new("haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        Self::start("HAProxy", command, ground, ports, Some(tls))
    }

    pub(crate) fn envoy(ground: &Ground<'_>, binary: &Path) -> Outcome<Self> {
        let listen = free()?;
        let file = ground.folder.join("envoy.yaml");
        let text = include_str!("envoy.yaml")
            .replace("@PORT@", &listen.port().to_string())
            .replace("@UPSTREAM@", &ground.upstream.port().to_string())
            .replace("@ISSUER@", ISSUER)
            .replace("@AUDIENCE@", AUDIENCE)
            .replace("@JWKS@", &ground.keys.jwks());
        fs::write(&file, text)?;
        let mut command = pinned(ground.cpu, binary);
        command
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"])
            .arg(&file);
        Self::start("Envoy", command, ground, [Some(listen); 3], None)
    }

    fn start(
        name: &'static str,
        mut command: Command,
        ground: &Ground<'_>,
        ports: [Option<SocketAddr>; 3],
        tls: Option<SocketAddr>,
    ) -> Outcome<Self> {
        // Gatehouse watches the folder of its configuration: what it writes itself goes elsewhere.
        let logs = ground.folder.join("logs");
        fs::create_dir_all(&logs)?;
        let log: PathBuf = logs.join(format!("{name}.log"));
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = command.spawn().map_err(|error| format!("taskset cannot be started: {error}"))?;
        let mut gate = Self { name, process, ports, tls };
        let deadline = Instant::now() + PATIENCE;
        for address in ports.into_iter().flatten() {
            // There is no common event to wait for.
            while TcpStream::connect(address).is_err() {
                if Instant::now() > deadline || gate.process.try_wait()?.is_some() {
                    let words = fs::read_to_string(&log).unwrap_or_default();
                    let words: String = words.chars().take(2000).collect();
                    return Err(format!("{name} did not start: {words}").into());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(gate)
    }
}

fn pinned(cpu: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &cpu.to_string()]).arg(program);
    command
}

/// An address on loopback where nobody listens.
fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
