//! Sends frames as fast as one CPU can: an XDP program that the kernel runs on frames of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use aya::EbpfLoader;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use gateway_ebpf::bench;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use crate::Outcome;
use crate::lane::generator_mac::{RECEIVER, SENDER};
use crate::peers::BENCH_PROGRAMS;
use crate::scene::Family;
use crate::system::{pin, run_words};

/// No traffic lasts longer, whatever happens to the measurement.
const LONGEST: Duration = Duration::from_secs(90);

/// Frames of one call to the kernel: begins with the fewest and grows until a call takes [`CALL`],
/// since at the beginning of each the kernel waits for all CPUs.
const FEWEST: u32 = 1 << 14;
const MOST: u32 = 1 << 22;
const CALL: Duration = Duration::from_millis(100);

/// Frames of one batch inside a call.
const BATCH: u32 = 64;

/// Which frames are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Their IP version.
    pub(crate) family: Family,
    /// Number of the first prefix that they come from.
    pub(crate) first: u32,
    /// From how many prefixes they come.
    pub(crate) count: u32,
    /// Whether the packets call themselves longer than they are: the host's IP discards them at
    /// once, so that its work does not hide the cost of what came before.
    pub(crate) cut: bool,
}

enum Order {
    Open,
    Send(Traffic, Arc<AtomicBool>),
}

/// The thread that sends, in a namespace of its own.
#[derive(Debug)]
pub(crate) struct Generator {
    orders: SyncSender<Order>,
    answers: Receiver<Outcome<()>>,
    thread: i32,
}

impl Generator {
    /// Starts the thread, bound to `cpu`. It will send from `interface`.
    pub(crate) fn start(interface: String, cpu: usize) -> Outcome<Self> {
        let (orders, to_do) = sync_channel(1);
        let (reply, answers) = sync_channel(1);
        let (hello, entered) = sync_channel(1);
        thread::Builder::new().name("generator".into()).spawn(move || {
            let entered = enter(cpu);
            let failed = entered.is_err();
            if hello.send(entered).is_err() || failed {
                return;
            }
            for order in to_do {
                let result = match order {
                    Order::Open => run_words(&format!("ip link set {interface} up")).map(|_| ()),
                    Order::Send(traffic, stop) => send(&interface, traffic, &stop),
                };
                if reply.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, answers, thread: entered.recv()?? })
    }

    /// The thread that sends.
    pub(crate) fn thread(&self) -> i32 {
        self.thread
    }

    /// The file that stands for its namespace.
    pub(crate) fn namespace(&self) -> String {
        format!("/proc/{}/task/{}/ns/net", std::process::id(), self.thread)
    }

    /// Brings the sending interface up, once it is there.
    pub(crate) fn open(&self) -> Outcome<()> {
        self.orders.send(Order::Open)?;
        self.answers.recv()?
    }

    /// Sends while `work` runs.
    pub(crate) fn during<T>(&self, traffic: Traffic, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let stop = Arc::new(AtomicBool::new(false));
        self.orders.send(Order::Send(traffic, Arc::clone(&stop)))?;
        let result = work();
        stop.store(true, Ordering::Relaxed);
        // Why nothing was sent says more than that nothing arrived.
        self.answers.recv()??;
        result
    }
}

/// Moves the calling thread to its CPU and into a new namespace; its number.
fn enter(cpu: usize) -> Outcome<i32> {
    pin(0, cpu)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    Ok(gettid().as_raw())
}

fn send(interface: &str, traffic: Traffic, stop: &AtomicBool) -> Outcome<()> {
    let index = if_nametoindex(interface)?;
    let (name, frame) = match traffic.family {
        Family::V4 => (bench::GENERATE_V4, v4_frame(traffic.cut)),
        Family::V6 => (bench::GENERATE_V6, v6_frame(traffic.cut)),
    };
    let sum = frame.get(ETHERNET..ETHERNET + 20).map_or(0, header_sum);
    let mut ebpf = EbpfLoader::new()
        .override_global(bench::INTERFACE, &index, true)
        .override_global(bench::FIRST, &traffic.first, true)
        .override_global(bench::COUNT, &traffic.count, true)
        .override_global(bench::HEADER_SUM, &sum, true)
        .load(BENCH_PROGRAMS)?;
    let program: &mut Xdp = ebpf.program_mut(name).ok_or("the generator is missing")?.try_into()?;
    program.load()?;
    let deadline = Instant::now() + LONGEST;
    let mut repeat = FEWEST;
    while !stop.load(Ordering::Relaxed) && Instant::now() < deadline {
        let started = Instant::now();
        program.test_run(TestRunOptions {
            data_in: Some(&frame),
            repeat,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        })?;
        repeat = if started.elapsed() < CALL { (repeat * 2).min(MOST) } else { (repeat / 2).max(FEWEST) };
    }
    Ok(())
}

/// Bytes of an Ethernet header without tags.
const ETHERNET: usize = 14;

/// Bytes of a frame: the shortest that Ethernet has, without its checksum.
const FRAME: u16 = 60;

fn ethernet(kind: u16) -> Vec<u8> {
    let mut frame = [RECEIVER, SENDER].concat();
    frame.extend(kind.to_be_bytes());
    frame
}

/// UDP to the discard port, source and checksum still to come.
fn v4_frame(cut: bool) -> Vec<u8> {
    let mut frame = ethernet(0x0800);
    let length = FRAME - 14 + if cut { 1000 } else { 0 };
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]);
    frame.extend(Family::DESTINATION_V4.octets());
    frame.extend([0xc0, 0, 0, 9, 0, 26, 0, 0]);
    frame.resize(FRAME.into(), 0);
    frame
}

/// No next header (RFC 8200 §4.7), source still to come.
fn v6_frame(cut: bool) -> Vec<u8> {
    let mut frame = ethernet(0x86dd);
    let length = FRAME - 14 - 40 + if cut { 1000 } else { 0 };
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([59, 64]);
    frame.extend([0; 16]);
    frame.extend(Family::DESTINATION_V6.octets());
    frame.resize(FRAME.into(), 0);
    frame
}

fn header_sum(header: &[u8]) -> u32 {
    header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}
