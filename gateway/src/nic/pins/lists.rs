//! Whose counters are whose: the index of every source of decisions, kept with the counters.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use gateway_ebpf::counters::SOURCES;

use crate::nic::bpf;
use crate::policy::{Source, Tier};

/// Bytes of a record: a path of the longest kind, its tier, a space and an end. `bpftool` shows it
/// as text.
const SIZE: usize = 4096 + 64;

type Record = [u8; SIZE];

/// Which source has which index.
#[derive(Debug)]
pub(super) struct Lists {
    map: HashMap<MapData, u32, Record>,
    /// As in the map.
    known: BTreeMap<u16, Option<Source>>,
}

impl Lists {
    /// An empty table, pinned at `path`.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let size = u32::try_from(SIZE).map_err(io::Error::other)?;
        let map = bpf::create_hash(b"gatehouse_lists\0", SOURCES, size)?;
        bpf::pin(map.as_fd(), path)?;
        Self::open(path).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The table at `path`; `None` when there is none that can be read.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let map = MapData::from_pin(path).and_then(Map::from_map_data).ok()?;
        let map: HashMap<MapData, u32, Record> = map.try_into().ok()?;
        let mut known = BTreeMap::new();
        for record in map.iter() {
            let (index, record) = record.ok()?;
            known.insert(u16::try_from(index).ok()?, decode(&record));
        }
        Some(Self { map, known })
    }

    pub(super) fn sources(&self) -> Vec<(u16, Option<Source>)> {
        self.known.iter().map(|(&index, source)| (index, source.clone())).collect()
    }

    /// Notes `sources`. One that had another index before is not found under that any more.
    pub(super) fn remember<'a>(
        &mut self,
        sources: impl Iterator<Item = (u16, &'a Source)>,
    ) -> io::Result<()> {
        for (index, source) in sources {
            if self.known.get(&index).is_some_and(|known| known.as_ref() == Some(source)) {
                continue;
            }
            let former = self.known.iter().find(|(_, known)| known.as_ref() == Some(source));
            if let Some(former) = former.map(|(&former, _)| former) {
                self.put(former, None).map_err(io::Error::other)?;
            }
            self.put(index, Some(source)).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn put(&mut self, index: u16, source: Option<&Source>) -> Result<(), MapError> {
        let record = source.and_then(encode);
        let source = source.filter(|_| record.is_some());
        self.map.insert(u32::from(index), record.unwrap_or([0; SIZE]), 0)?;
        self.known.insert(index, source.cloned());
        Ok(())
    }
}

/// Tier and name; `None` for a name that has no room.
fn encode(source: &Source) -> Option<Record> {
    let name = source.list.as_deref().unwrap_or_default();
    let text = format!("{} {name}", source.tier.name());
    let mut record = [0; SIZE];
    // At least one byte of zero is left as the end.
    record[..SIZE - 1].get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(record)
}

fn decode(record: &Record) -> Option<Source> {
    let text = record.split(|&byte| byte == 0).next()?;
    let (tier, name) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    match Tier::named(tier)? {
        Tier::Default => Some(Source::default_verdict()),
        tier => Some(Source::list(tier, name.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_was_written() {
        let name = "/etc/gatehouse/deny.d/a list with spaces.list";
        let sources = [
            Source::list(Tier::Deny, name.into()),
            Source::list(Tier::Observe, name.into()),
            Source::default_verdict(),
        ];
        for source in sources {
            assert_eq!(encode(&source).as_ref().and_then(decode), Some(source));
        }
    }

    #[test]
    fn a_name_without_room_is_not_cut() {
        let source = Source::list(Tier::Deny, "x".repeat(SIZE).into());
        assert!(encode(&source).is_none());
        assert!(decode(&[0; SIZE]).is_none());
    }
}
