//! The program and its tables in the kernel.

use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::Xdp;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use gateway_ebpf::clients::{Reporting, Slot, slot_bits};
use gateway_ebpf::generation::{self, BLOCK_SIZE, Block};
use gateway_ebpf::{names, scope};

use super::attach::{self, Attachment};
use super::counters::{self, Counters};
use super::memory::{self, Mapping};
use super::wire::Wire;
use super::{NicError, Reports, bpf};
use crate::config::{Mode, Ports};

/// The XDP program, as the build script made it.
static PROGRAM: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gatehouse-xdp"));

/// What holds for the whole life of a [`Card`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardSettings {
    /// Which traffic of a denied source is dropped.
    pub ports: Ports,
    /// Dropped clients that are reported one by one in a second, by the stream of reports and,
    /// before it, by each CPU.
    pub reports_per_second: u32,
}

/// The XDP program in the kernel, with its tables. Dropping it detaches the program from every
/// interface and frees the tables; so does the kernel when the process dies.
pub struct Card {
    ebpf: Ebpf,
    settings: CardSettings,
    /// Slots of all CPUs together.
    slots: u32,
    generation: Option<u64>,
    /// Closing one detaches.
    links: Vec<OwnedFd>,
}

impl Card {
    /// Loads the program. Nothing is attached yet.
    ///
    /// # Errors
    ///
    /// Without the privilege, or on a kernel that lacks something.
    pub fn load(settings: CardSettings) -> Result<Self, NicError> {
        const ACTION: &str = "load the XDP program";
        let cpus = nr_cpus().map_err(|(_, error)| NicError::from_io("count the CPUs", error))?;
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX).max(1);
        let bits = slot_bits(cpus);
        let slots = cpus.saturating_mul(1 << bits);
        let scoped = u32::from(settings.ports != Ports::All);
        let mut ebpf = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::DEBUG)
            .map_max_entries(names::CLIENTS, slots)
            .override_global(names::SCOPED, &scoped, true)
            .override_global(names::SLOT_BITS, &bits, true)
            .override_global(names::REPORTS_PER_SECOND, &settings.reports_per_second, true)
            .load(PROGRAM)
            .map_err(|error| NicError::from_error(ACTION, &error))?;
        if let Ports::Only(ports) = &settings.ports {
            guard(&mut ebpf, ports).map_err(|error| NicError::from_error(ACTION, &error))?;
        }
        program(&mut ebpf)
            .and_then(|program| program.load())
            .map_err(|error| NicError::from_error(ACTION, &error))?;
        Ok(Self { ebpf, settings, slots, generation: None, links: Vec::new() })
    }

    /// Puts a generation in force: fills a map of its own beside the live one, then swaps them by
    /// one store. When this returns, no packet sees the former generation any more. Blocks the
    /// thread for as long as that takes, some milliseconds for each 10 MB.
    ///
    /// # Errors
    ///
    /// When the blocks are no generation, or the kernel has no memory for it; the former
    /// generation then stays in force.
    pub fn publish(&mut self, blocks: &[Block]) -> Result<(), NicError> {
        const ACTION: &str = "publish a generation";
        let refused = NicError::NotAGeneration { blocks: blocks.len() };
        let (Some(number), Ok(count)) = (generation::number(blocks), u32::try_from(blocks.len()))
        else {
            return Err(refused);
        };
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
        let (link, attachment) = attach::attach(descriptor.as_fd(), interface, mode)?;
        self.links.push(link);
        Ok(attachment)
    }

    /// Reads the counters of every outcome and of the sources of decisions from 0 to
    /// `last_source`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be asked.
    pub fn counters(&self, last_source: u16) -> Result<Counters, NicError> {
        counters::read(&self.ebpf, last_source)
            .map_err(|error| NicError::from_error("read the counters", &error))
    }

    /// The stream of dropped clients; only once. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The second time, or when the kernel refuses the mapping.
    pub fn reports(&mut self) -> Result<Reports, NicError> {
        const ACTION: &str = "read the drop reports";
        let mut take = |name| self.ebpf.take_map(name).ok_or(NicError::ReportsTaken);
        let (events, clients, reporting) =
            (take(names::EVENTS)?, take(names::CLIENTS)?, take(names::REPORTING)?);
        let failed = |error| NicError::from_error(ACTION, &error);
        let events: RingBuf<MapData> = events.try_into().map_err(failed)?;
        let reporting: PerCpuArray<MapData, Wire<Reporting>> =
            reporting.try_into().map_err(failed)?;
        let length = self.slots as usize * size_of::<Slot>();
        let Map::Array(clients) = clients else {
            let error = MapError::InvalidName { name: names::CLIENTS.to_owned() };
            return Err(failed(error));
        };
        let clients = Mapping::shared(clients.fd().as_fd(), length)
            .map_err(|error| NicError::from_io(ACTION, error))?;
        Reports::new(events, clients, reporting, self.settings.reports_per_second)
            .map_err(|error| NicError::from_io(ACTION, error))
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, aya::programs::ProgramError> {
    ebpf.program_mut(names::PROGRAM)
        .ok_or(aya::programs::ProgramError::UnexpectedProgramType)?
        .try_into()
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
