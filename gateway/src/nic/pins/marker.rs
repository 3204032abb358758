//! By which version of the contract pinned tables were made, and where.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError, MapType};
use gateway_ebpf::counters::{Counter, INTERFACES, Outcome, SOURCES, Verdicts};
use gateway_ebpf::{ABI_VERSION, names};

use crate::nic::bpf;

/// Words of the marker.
const WORDS: u32 = 2;

#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    /// [`ABI_VERSION`] of whoever made the tables.
    pub(super) abi: u64,
    /// The network namespace that the links are in.
    pub(super) namespace: u64,
}

/// The network namespace of this thread.
pub(super) fn network_namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// The marker at `path`; `None` when there is none that can be read.
pub(super) fn read(path: &Path) -> Option<Marker> {
    let words = open(path).ok()?;
    Some(Marker { abi: words.get(&0, 0).ok()?, namespace: words.get(&1, 0).ok()? })
}

/// Marks the tables beside `path` as ours, in the network namespace `namespace`.
pub(super) fn write(path: &Path, namespace: u64) -> io::Result<()> {
    if !path.exists() {
        use std::os::fd::AsFd;
        let map = bpf::create_words(b"gatehouse_abi\0\0\0", WORDS)?;
        bpf::pin(map.as_fd(), path)?;
    }
    let mut words = open(path).map_err(io::Error::other)?;
    let set = words.set(1, namespace, 0).and_then(|()| words.set(0, u64::from(ABI_VERSION), 0));
    set.map_err(io::Error::other)
}

fn open(path: &Path) -> Result<Array<MapData, u64>, MapError> {
    Map::from_map_data(MapData::from_pin(path)?)?.try_into()
}

/// Whether the tables in `folder` are there and look as this program declares them.
pub(super) fn fits(folder: &Path) -> bool {
    let expected = [
        (names::GENERATION, MapType::ArrayOfMaps, 4, 1),
        (names::OUTCOMES, MapType::PerCpuArray, size_of::<Counter>(), Outcome::ALL.len()),
        (names::SOURCES, MapType::PerCpuArray, size_of::<Verdicts>(), SOURCES as usize),
        (names::INTERFACES, MapType::PerCpuArray, size_of::<Verdicts>(), INTERFACES as usize),
    ];
    expected.into_iter().all(|(name, kind, size, entries)| {
        MapData::from_pin(folder.join(name)).and_then(|map| map.info()).is_ok_and(|info| {
            info.map_type().is_ok_and(|found| found == kind)
                && info.key_size() == 4
                && info.value_size() as usize == size
                && info.max_entries() as usize == entries
        })
    })
}
