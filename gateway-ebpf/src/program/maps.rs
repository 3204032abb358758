//! The maps and constants. Their names are the contract's, in [`gateway_ebpf::names`].

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use gateway_ebpf::clients::{EVENTS_SIZE, Reporting, Slot, Tags, Takeover};
use gateway_ebpf::counters::{
    Counter, INTERFACES as INTERFACE_COUNT, Outcome, SOURCES as SOURCE_COUNT, Verdicts,
};
use gateway_ebpf::generation::{Block, Blocks};
use gateway_ebpf::scope;

/// Inner maps are of any length, and filled by user space through a mapping.
const INNER: usize = (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize;

/// A generation. Its length here is only a placeholder for the verifier.
pub(super) type Generation = Array<Block, 1, INNER>;

#[btf_map]
pub(super) static GENERATION: ArrayOfMaps<Generation, 1> = ArrayOfMaps::new();

#[btf_map]
pub(super) static PORTS: Array<u64, { scope::WORDS as usize }> = Array::new();

#[btf_map]
pub(super) static OUTCOMES: PerCpuArray<Counter, { Outcome::ALL.len() }> = PerCpuArray::new();

#[btf_map]
pub(super) static SOURCES: PerCpuArray<Verdicts, { SOURCE_COUNT as usize }> = PerCpuArray::new();

#[btf_map]
pub(super) static INTERFACES: PerCpuArray<Verdicts, { INTERFACE_COUNT as usize }> = PerCpuArray::new();

/// The daemon sets the length before it loads the program: it depends on the number of CPUs.
#[btf_map]
pub(super) static CLIENTS: Array<Slot, 64, { BPF_F_MMAPABLE as usize }> = Array::new();

/// As long as the slots are sets.
#[btf_map]
pub(super) static TAGS: Array<Tags, 8> = Array::new();

#[btf_map]
pub(super) static REPORTING: PerCpuArray<Reporting, 1> = PerCpuArray::new();

#[btf_map]
pub(super) static EVENTS: RingBuf<Takeover, EVENTS_SIZE> = RingBuf::new();

#[unsafe(no_mangle)]
pub(super) static SCOPED: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
pub(super) static SET_BITS: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
pub(super) static REPORT_INTERVAL: Global<u64> = Global::new(0);

/// The blocks of a generation.
pub(super) struct Live<'a>(pub(super) &'a Generation);

impl Blocks for Live<'_> {
    #[inline(always)]
    fn block(&self, index: u32) -> Option<&Block> {
        self.0.get(index)
    }
}
