//! The program and its tables in the kernel.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use gateway_ebpf::clients::{Reporting, Slot, WAYS, set_bits};
use gateway_ebpf::generation::{self, BLOCK_SIZE, Block};
use gateway_ebpf::{names, scope};

use super::attach::{self, Attachment, Held};
use super::counters::{self, Counters};
use super::memory::{self, Mapping};
use super::pins::{Pins, TABLES, interface_name};
use super::watch::Watch;
use super::wire::Wire;
use super::{NicError, Reports, bpf};
use crate::config::{Firewall, Mode, Ports};
use crate::policy::{Source, Verdict};

/// The XDP program, as the build script made it.
static PROGRAM: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gatehouse-xdp"));

/// `enum xdp_action` of linux/bpf.h.
const XDP_DROP: u32 = 1;

/// What is tried where the reports are read, for errors.
const REPORTS: &str = "read the drop reports";

/// What holds for the whole life of a [`Card`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which traffic of a denied source is dropped.
    pub ports: Ports,
    /// New clients of drops that are reported one by one in a second. With 0, which is for benches,
    /// nobody is noted at all.
    pub reports_per_second: u32,
}

impl Settings {
    /// What one takeover of a slot has to pay for, in nanoseconds. Each CPU may report twice as many as
    /// are told: clients that had to make room, and come back, are among them.
    fn interval(&self) -> u64 {
        1_000_000_000_u64.checked_div(2 * u64::from(self.reports_per_second)).unwrap_or(0)
    }
}

impl From<&Firewall> for Settings {
    fn from(firewall: &Firewall) -> Self {
        Self { ports: firewall.ports.clone(), reports_per_second: firewall.reports_per_second }
    }
}

/// The XDP program in the kernel, with its tables. Without pins, dropping it detaches the program
/// from every interface and frees the tables, and so does the kernel when the process dies. With
/// pins, all of that stays in force.
pub struct Card {
    ebpf: Ebpf,
    settings: Settings,
    /// Slots of all CPUs together.
    slots: u32,
    generation: Option<u64>,
    links: Vec<Held>,
    pins: Option<Pins>,
    /// From the first time that somebody waits for reports.
    watch: Option<Watch>,
}

impl Card {
    /// Loads the program, which ends with the process. Nothing is attached yet.
    ///
    /// # Errors
    ///
    /// Without the privilege, or on a kernel that lacks something.
    pub fn load(settings: &Settings) -> Result<Self, NicError> {
        Self::load_with(settings, None)
    }

    /// Loads the program, which will stay in force without the process. It uses the tables that
    /// are pinned, if they are of this version. What is in force does not change yet.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], or when pins cannot be made.
    pub fn load_pinned(settings: &Settings, pins: Pins) -> Result<Self, NicError> {
        Self::load_with(settings, Some(pins))
    }

    fn load_with(settings: &Settings, pins: Option<Pins>) -> Result<Self, NicError> {
        const ACTION: &str = "load the XDP program";
        let cpus = nr_cpus().map_err(|(_, error)| NicError::from_io("count the CPUs", error))?;
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX).max(1);
        let bits = set_bits(cpus);
        let sets = cpus.saturating_mul(1 << bits);
        let slots = sets.saturating_mul(WAYS);
        let interval = settings.interval();
        let scoped = u32::from(settings.ports != Ports::All);
        let mut loader = EbpfLoader::new();
        if let Some(pins) = &pins {
            let set = pins.set();
            for table in TABLES {
                loader.map_pin_path(table, set.join(table));
            }
        }
        let mut ebpf = loader
            .verifier_log_level(VerifierLogLevel::DEBUG)
            .map_max_entries(names::CLIENTS, slots)
            .map_max_entries(names::TAGS, sets)
            .override_global(names::SCOPED, &scoped, true)
            .override_global(names::SET_BITS, &bits, true)
            .override_global(names::REPORT_INTERVAL, &interval, true)
            .load(PROGRAM)
            .map_err(|error| NicError::from_error(ACTION, &error))?;
        if let Ports::Only(ports) = &settings.ports {
            guard(&mut ebpf, ports).map_err(|error| NicError::from_error(ACTION, &error))?;
        }
        program(&mut ebpf)
            .and_then(|program| program.load())
            .map_err(|error| NicError::from_error(ACTION, &error))?;
        let settings = settings.clone();
        Ok(Self { ebpf, settings, slots, generation: None, links: Vec::new(), pins, watch: None })
    }

    /// Notes whose counters are whose, for the next daemon that finds the pins; to be called before
    /// a generation with these sources is published. Without pins nobody will ask.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory for it.
    pub fn remember<'a>(&mut self, sources: impl Iterator<Item = (u16, &'a Source)>) -> Result<(), NicError> {
        let remembered = self.pins.as_mut().map_or(Ok(()), |pins| pins.remember(sources));
        remembered.map_err(|error| NicError::from_io("note whose counters are whose", error))
    }

    /// Puts generation `number` in force: fills a map of its own beside the live one, then swaps them by
    /// one store. When this returns, no packet sees the former generation any more. Blocks the
    /// thread for as long as that takes: some milliseconds for each 10 MB, and until the kernel is
    /// sure of the packets on every CPU, some 15 ms on busy ones.
    ///
    /// # Errors
    ///
    /// When the blocks are not that generation, or the kernel has no memory for it; the former
    /// generation then stays in force.
    pub fn publish(&mut self, blocks: &[Block], number: u64) -> Result<(), NicError> {
        const ACTION: &str = "publish a generation";
        let count = u32::try_from(blocks.len())
            .ok()
            .filter(|_| generation::number(blocks) == Some(number))
            .ok_or(NicError::NotAGeneration { number, blocks: blocks.len() })?;
        let bytes = u64::from(count) * BLOCK_SIZE as u64;
        let map = bpf::create_generation(count).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOMEM | libc::E2BIG) => NicError::Memory { bytes, source },
            _ => NicError::from_io(ACTION, source),
        })?;
        memory::fill(map.as_fd(), blocks).map_err(|error| NicError::from_io(ACTION, error))?;
        self.put(map).map_err(|error| NicError::from_error(ACTION, &error))?;
        self.generation = Some(number);
        Ok(())
    }

    fn put(&mut self, map: OwnedFd) -> Result<(), MapError> {
        let missing = || MapError::InvalidName { name: names::GENERATION.to_owned() };
        let outer = self.ebpf.map_mut(names::GENERATION).ok_or_else(missing)?;
        let mut outer: ArrayOfMaps<&mut MapData> = outer.try_into()?;
        outer.set(0, &MapData::from_fd(map)?, 0)
    }

    /// Number of the generation in force.
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Attaches the program to an interface of this network namespace.
    ///
    /// # Errors
    ///
    /// Before the first publication; when there is no such interface, or it does not carry
    /// Ethernet frames, or runs another XDP program, or its driver refuses.
    pub fn attach(&mut self, interface: &str, mode: Mode) -> Result<Attachment, NicError> {
        if self.generation.is_none() {
            return Err(NicError::Unpublished { interface: interface.to_owned() });
        }
        let failed = |error| NicError::from_error("attach the XDP program", &error);
        let program = program(&mut self.ebpf).map_err(failed)?;
        let descriptor = program.fd().map_err(failed)?;
        // A link to an interface that is gone, or that somebody has cut, is of no use any more.
        if let Some(at) = self.links.iter().position(|held| held.attachment.interface == interface) {
            let cut = self.links.swap_remove(at).cut();
            cut.map_err(|error| NicError::from_io("remove the pin of a link that is cut", error))?;
        }
        let held = attach::attach(descriptor.as_fd(), interface, mode, self.pins.as_mut())?;
        let attachment = held.attachment.clone();
        self.links.push(held);
        Ok(attachment)
    }

    /// To be called when the program is attached wherever it should be: detaches it from every
    /// other interface on which a former daemon has left it, and pins the tables for the next one.
    /// The names of those interfaces.
    ///
    /// # Errors
    ///
    /// When the pins cannot be changed.
    pub fn settle(&mut self) -> Result<Vec<String>, NicError> {
        let detached = self.pins.as_mut().map_or_else(|| Ok(Vec::new()), Pins::settle);
        let detached = detached.map_err(|error| NicError::from_io("settle the pins", error))?;
        Ok(detached.into_iter().map(interface_name).collect())
    }

    /// Where the program and its tables are pinned, if they are.
    pub fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }

    /// Whether the program still runs on `interface`. It does not when the interface is gone, when
    /// another one has its name now, or when somebody has detached the program.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be asked.
    pub fn guards(&self, interface: &str) -> Result<bool, NicError> {
        let Some(held) = self.links.iter().find(|held| held.attachment.interface == interface) else {
            return Ok(false);
        };
        let failed = |error| NicError::from_error("ask about the XDP program", &error);
        let program = self.ebpf.program(names::PROGRAM).ok_or(ProgramError::UnexpectedProgramType);
        let own = program.and_then(|program| program.info()).map_err(failed)?;
        attach::guards(&held.attachment, own.id())
    }

    /// Runs the program on `frame` without any interface, `repeat` times, and says what becomes of
    /// it and how long one run took on average. It counts and reports as if the frame had come in.
    /// The first `first_buffer` bytes are in one buffer and the rest in fragments, as some drivers
    /// deliver them; a kernel older than 6.18 decides that by itself.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the frame: it must have at least 14 bytes.
    pub fn rehearse(
        &self,
        frame: &[u8],
        first_buffer: usize,
        repeat: u32,
    ) -> Result<(Verdict, Duration), NicError> {
        let failed = |error| NicError::from_error("run the XDP program", &error);
        let program: &Xdp = self
            .ebpf
            .program(names::PROGRAM)
            .ok_or(ProgramError::UnexpectedProgramType)
            .and_then(TryInto::try_into)
            .map_err(failed)?;
        // `struct xdp_md`, of which only the end of the first buffer differs from zero.
        let mut context = [0; 24];
        let end = u32::try_from(first_buffer).unwrap_or(u32::MAX);
        context[4..8].copy_from_slice(&end.to_ne_bytes());
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                ctx_in: (first_buffer < frame.len()).then_some(&context),
                repeat,
                ..TestRunOptions::new()
            })
            .map_err(failed)?;
        let verdict = if result.return_value == XDP_DROP { Verdict::Drop } else { Verdict::Pass };
        Ok((verdict, result.duration))
    }

    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be asked.
    pub fn counters(&self) -> Result<Counters, NicError> {
        self.counters_up_to(u16::MAX, u32::MAX)
    }

    /// The same without the sources behind `source`, and without the interfaces behind the one with the
    /// index `interface`: of those that there can be, few are in use.
    ///
    /// # Errors
    ///
    /// As [`Self::counters`].
    pub fn counters_up_to(&self, source: u16, interface: u32) -> Result<Counters, NicError> {
        let slots = interface.saturating_add(1);
        counters::read(&self.ebpf, u32::from(source) + 1, slots)
            .map_err(|error| NicError::from_error("read the counters", &error))
    }

    /// The number that the kernel gave to the table of counters: another one counts from 0 on.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be asked.
    pub fn counters_table(&self) -> Result<u32, NicError> {
        let missing = || MapError::InvalidName { name: names::SOURCES.to_owned() };
        let table = match self.ebpf.map(names::SOURCES) {
            Some(Map::PerCpuArray(table)) => table.info(),
            _ => Err(missing()),
        };
        let failed = |error| NicError::from_error("ask about the counters", &error);
        table.map(|info| info.id()).map_err(failed)
    }

    /// Waits until there are dropped clients to report; never returns nothing. Nothing is lost
    /// when the future is dropped. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be asked. That does not pass by itself.
    pub async fn next_reports(&mut self) -> Result<Reports, NicError> {
        self.watch()?.next().await.map_err(|error| NicError::from_io(REPORTS, error))
    }

    /// Detaches from every interface, unless pinned, and returns what has not been reported yet.
    /// With it, all reports together add up to all packets that were dropped until now. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be asked; everything is detached all the same.
    pub fn finish(mut self) -> Result<Reports, NicError> {
        self.links.clear();
        self.watch()?.finish().map_err(|error| NicError::from_io(REPORTS, error))
    }

    fn watch(&mut self) -> Result<&mut Watch, NicError> {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => self.start_watch()?,
        };
        Ok(self.watch.insert(watch))
    }

    fn start_watch(&mut self) -> Result<Watch, NicError> {
        let failed = |error| NicError::from_error(REPORTS, &error);
        let mut take = |name: &str| {
            let missing = MapError::InvalidName { name: name.to_owned() };
            self.ebpf.take_map(name).ok_or(missing).map_err(failed)
        };
        let events: RingBuf<MapData> = take(names::EVENTS)?.try_into().map_err(failed)?;
        let reporting: PerCpuArray<MapData, Wire<Reporting>> =
            take(names::REPORTING)?.try_into().map_err(failed)?;
        let clients = take(names::CLIENTS)?;
        let Map::Array(clients) = &clients else {
            let map_type = 0;
            return Err(failed(MapError::InvalidMapType { map_type }));
        };
        let length = self.slots as usize * size_of::<Slot>();
        Mapping::shared(clients.fd().as_fd(), length)
            .and_then(|slots| Watch::new(events, slots, reporting, self.settings.reports_per_second))
            .map_err(|error| NicError::from_io(REPORTS, error))
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("settings", &self.settings)
            .field("generation", &self.generation)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(names::PROGRAM).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}

/// Makes `ports` the guarded ports.
fn guard(ebpf: &mut Ebpf, ports: &[u16]) -> Result<(), MapError> {
    let missing = || MapError::InvalidName { name: names::PORTS.to_owned() };
    let map = ebpf.map_mut(names::PORTS).ok_or_else(missing)?;
    let mut set: Array<&mut MapData, u64> = map.try_into()?;
    for port in ports {
        let word = scope::word(*port);
        let bits = set.get(&word, 0)?;
        set.set(word, bits | scope::bit(*port), 0)?;
    }
    Ok(())
}
