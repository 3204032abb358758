//! The two commands of bpf(2) that aya does not offer in the form needed here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use gateway_ebpf::generation::BLOCK_SIZE;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_F_INNER_MAP: u32 = 1 << 12;
const BPF_XDP: u32 = 37;

/// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// The beginning of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// A map for a generation of `blocks` blocks: like the inner map that the program declares, but of
/// this length.
pub(super) fn create_generation(blocks: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: BLOCK_SIZE as u32,
        max_entries: blocks,
        map_flags: BPF_F_INNER_MAP | BPF_F_MMAPABLE,
        map_name: *b"gatehouse_gen\0\0\0",
        ..MapCreate::default()
    };
    // SAFETY: the attributes are those of the command, which returns a descriptor.
    unsafe { bpf(BPF_MAP_CREATE, &attributes) }
}

/// Attaches `program` to the interface with index `interface`; closing the descriptor detaches.
///
/// aya's own way falls back to a netlink attachment, which replaces foreign programs and stays
/// when the process dies. This one does neither.
pub(super) fn create_link(
    program: BorrowedFd<'_>,
    interface: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: interface,
        attach_type: BPF_XDP,
        flags,
    };
    // SAFETY: the attributes are those of the command, which returns a descriptor.
    unsafe { bpf(BPF_LINK_CREATE, &attributes) }
}

/// # Safety
///
/// `attributes` must be a prefix of `union bpf_attr` as `command` reads it, and `command` must
/// return a new descriptor.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes; the rest of its union it takes as zero.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    match i32::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
