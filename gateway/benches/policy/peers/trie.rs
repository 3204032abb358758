//! An XDP program with the kernel's own longest-prefix-match trie.

use std::net::IpAddr;

use aya::EbpfLoader;
use aya::maps::lpm_trie::{Key, LpmTrie};
use gateway_ebpf::bench;
use ipnet::IpNet;

use super::xdp::Program;
use super::{BENCH_PROGRAMS, Peer, loading};
use crate::Outcome;
use crate::lane::Lane;
use crate::scene::Family;

/// Loads `list`; there is no way to fill a trie but one system call for each prefix.
pub(super) fn load<'a>(lane: &'a Lane, family: Family, list: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    let (name, map) = match family {
        Family::V4 => (bench::TRIE_DROP_V4, bench::TRIE_V4),
        Family::V6 => (bench::TRIE_DROP_V6, bench::TRIE_V6),
    };
    let length = u32::try_from(list.len())?;
    let mut ebpf = EbpfLoader::new().map_max_entries(map, length).load(BENCH_PROGRAMS)?;
    let map = ebpf.map_mut(map).ok_or("the bench's programs lack the trie")?;
    let ((), cost) = match family {
        Family::V4 => {
            let mut trie: LpmTrie<_, [u8; 4], u32> = map.try_into()?;
            loading(|| {
                for prefix in list {
                    if let IpAddr::V4(address) = prefix.addr() {
                        trie.insert(&Key::new(prefix.prefix_len().into(), address.octets()), 1, 0)?;
                    }
                }
                Ok(())
            })?
        }
        Family::V6 => {
            let mut trie: LpmTrie<_, [u8; 16], u32> = map.try_into()?;
            loading(|| {
                for prefix in list {
                    if let IpAddr::V6(address) = prefix.addr() {
                        trie.insert(&Key::new(prefix.prefix_len().into(), address.octets()), 1, 0)?;
                    }
                }
                Ok(())
            })?
        }
    };
    Ok(Box::new(Program::new(ebpf, name, lane, cost)?))
}
