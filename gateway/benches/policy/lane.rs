//! A pair of interfaces in namespaces of their own, and the counters of its receiving end.

use std::fs;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::Outcome;
use crate::generator::Generator;
use crate::scene::Family;
use crate::system::{pin, run, run_words, two_cpus};

/// How long the kernel may take for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The receiving end, in the namespace of the thread that made it, and the generator at the other.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The receiving interface.
    pub(crate) receiver: String,
    /// Sends from another namespace.
    pub(crate) generator: Generator,
    sender_cpu: usize,
    cpu: usize,
}

/// Which CPU receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// The one that sends, in turns: the packet is still in its cache, as it is with a real card,
    /// and the time of sending counts, too.
    Shared,
    /// Another one: only receiving counts, and whoever looks at the packet first has to get it from
    /// the sender's cache.
    Own,
}

impl Seat {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Shared, Self::Own];
}

/// What the receiving end has done so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// Frames taken from the ring, whatever became of them.
    pub(crate) packets: u64,
    /// Packets that came as far as the host's IP.
    pub(crate) reached_ip: u64,
    /// Packets that came as far as the protocol above IP.
    pub(crate) delivered: u64,
    /// Time that the thread that receives has had its CPU.
    pub(crate) cpu: Duration,
    /// When this was read.
    pub(crate) at: Instant,
}

impl Lane {
    /// Moves the calling thread into a new namespace. The namespaces go with the process.
    pub(crate) fn new() -> Outcome<Self> {
        let [sender_cpu, cpu] = two_cpus()?;
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("no network namespace of its own ({error}): run as root"))?;
        // The names of the kernel's threads do not tell the namespace, so they must be unique.
        let id = std::process::id();
        let (receiver, sender) = (format!("gb{id}r"), format!("gb{id}s"));
        let generator = Generator::start(sender.clone(), sender_cpu)?;
        let (to, from) = (mac(generator_mac::RECEIVER), mac(generator_mac::SENDER));
        run_words(&format!(
            "ip link add {receiver} address {to} numrxqueues 1 numtxqueues 1 type veth \
             peer name {sender} address {from} numrxqueues 1 numtxqueues 1"
        ))?;
        run_words(&format!("ip link set {sender} netns {}", generator.namespace()))?;
        run_words(&format!("ip address add {}/24 dev {receiver}", Family::DESTINATION_V4))?;
        run_words(&format!("ip address add {}/64 dev {receiver} nodad", Family::DESTINATION_V6))?;
        run_words(&format!("ip link set {receiver} up"))?;
        generator.open()?;
        Ok(Self { receiver, generator, sender_cpu, cpu })
    }

    /// Chooses the CPU that receives; the threads whose time is the time of receiving. They are
    /// others for each program that is attached.
    pub(crate) fn seat(&self, seat: Seat) -> Outcome<Vec<i32>> {
        // The namespace has no sysfs of its own yet, and the interface takes this only once a
        // program is attached.
        let (receiver, threaded) = (&self.receiver, u8::from(seat == Seat::Own));
        let script =
            format!("mount -t sysfs sysfs /sys && echo {threaded} > /sys/class/net/{receiver}/threaded");
        run("unshare", &["--mount", "sh", "-c", &script])?;
        match seat {
            // What the sender receives in its turns, and what the kernel's own thread takes over.
            Seat::Shared => {
                let takes_over = kernel_thread(&format!("ksoftirqd/{}", self.sender_cpu))?;
                Ok(vec![self.generator.thread(), takes_over])
            }
            Seat::Own => {
                let receives = kernel_thread(&format!("napi/{receiver}"))?;
                pin(receives, self.cpu)?;
                Ok(vec![receives])
            }
        }
    }

    /// Reads the counters; `threads` receive.
    pub(crate) fn counters(&self, family: Family, threads: &[i32]) -> Outcome<Counters> {
        let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
        let at = Instant::now();
        let fields = devices
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(self.receiver.as_str())?.strip_prefix(':'))
            .ok_or("the receiving interface has gone")?;
        // Received: bytes, packets, ...
        let fields: Vec<u64> = fields.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let cpu = threads.iter().map(|&thread| running(thread)).sum::<Outcome<Duration>>()?;
        let (reached_ip, delivered) = ip_counters(family)?;
        Ok(Counters { packets: fields.get(1).copied().unwrap_or(0), reached_ip, delivered, cpu, at })
    }
}

/// The thread of the kernel whose name begins so; awaited, since the kernel may be about to make it.
fn kernel_thread(prefix: &str) -> Outcome<i32> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.starts_with(prefix) {
                return Ok(id);
            }
        }
        std::thread::yield_now();
    }
    Err(format!("the kernel has no thread {prefix}: threaded NAPI is needed (Linux 5.12)").into())
}

/// The time that a thread has had its CPU.
fn running(thread: i32) -> Outcome<Duration> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat"))?;
    let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Ok(Duration::from_nanos(nanos.ok_or("the kernel does not tell the time of its threads")?))
}

/// `InReceives` and `InDelivers` of this namespace (RFC 4293).
fn ip_counters(family: Family) -> Outcome<(u64, u64)> {
    let missing = "the kernel does not count IP packets";
    if family == Family::V6 {
        let text = fs::read_to_string("/proc/thread-self/net/snmp6")?;
        let value = |name: &str| {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        };
        return Ok((value("Ip6InReceives").ok_or(missing)?, value("Ip6InDelivers").ok_or(missing)?));
    }
    let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next().ok_or(missing)?, lines.next().ok_or(missing)?);
    let value = |wanted: &str| {
        let mut pairs = names.split(' ').zip(values.split(' '));
        pairs.find(|(name, _)| *name == wanted).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    Ok((value("InReceives").ok_or(missing)?, value("InDelivers").ok_or(missing)?))
}

/// The addresses of both ends.
pub(crate) mod generator_mac {
    /// The receiving interface.
    pub(crate) const RECEIVER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    /// The sending interface.
    pub(crate) const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 2];
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
