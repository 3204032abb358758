//! The commands of bpf(2) that aya does not offer in the form needed here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gateway_ebpf::generation::BLOCK_SIZE;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_F_INNER_MAP: u32 = 1 << 12;
const BPF_XDP: u32 = 37;

/// Bytes of an element of a generation.
const VALUE_SIZE: u32 = 64;
const _: () = assert!(VALUE_SIZE as usize == BLOCK_SIZE);

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

/// `union bpf_attr` for `BPF_MAP_LOOKUP_BATCH`.
#[repr(C)]
struct LookupBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The beginning of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_LINK_UPDATE`.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// `union bpf_attr` for `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Info {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`, of a link to an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkInfo {
    kind: u32,
    id: u32,
    /// Number of the program.
    pub(super) program: u32,
    padding: u32,
    /// Index of the interface; 0 when it is gone, or somebody has cut the link.
    pub(super) interface: u32,
}

const LINK_INFO_SIZE: u32 = 20;
const _: () = assert!(LINK_INFO_SIZE as usize == size_of::<LinkInfo>());

/// A map for a generation of `blocks` blocks: like the inner map that the program declares, but of
/// this length.
pub(super) fn create_generation(blocks: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: VALUE_SIZE,
        max_entries: blocks,
        map_flags: BPF_F_INNER_MAP | BPF_F_MMAPABLE,
        map_name: *b"gatehouse_gen\0\0\0",
        ..MapCreate::default()
    };
    // SAFETY: the attributes are those of the command, which returns a descriptor.
    unsafe { descriptor(BPF_MAP_CREATE, &attributes) }
}

/// Attaches `program` to the interface with index `interface`; closing the descriptor detaches.
///
/// aya's own way falls back to a netlink attachment, which replaces foreign programs and stays
/// when the process dies. This one does neither.
pub(super) fn create_link(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: interface,
        attach_type: BPF_XDP,
        flags,
    };
    // SAFETY: the attributes are those of the command, which returns a descriptor.
    unsafe { descriptor(BPF_LINK_CREATE, &attributes) }
}

/// Puts `program` in the place of the one that `link` runs. Each packet meets one or the other.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = LinkUpdate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_prog_fd: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: the attributes are those of the command, and hold no addresses.
    unsafe { bpf(BPF_LINK_UPDATE, &attributes) }.map(drop)
}

/// Detaches `link`, whoever else holds it.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let link_fd = link.as_raw_fd().cast_unsigned();
    // SAFETY: the command reads one descriptor.
    unsafe { bpf(BPF_LINK_DETACH, &link_fd) }.map(drop)
}

/// What the kernel says about `link`.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let attributes = Info {
        bpf_fd: link.as_raw_fd().cast_unsigned(),
        info_len: LINK_INFO_SIZE,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes, for which there is room.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) }?;
    Ok(info)
}

/// Pins `object` at `path`, which must not exist, in a BPF file system: the kernel then keeps it
/// without any process.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Object {
        pathname: path.as_ptr().expose_provenance() as u64,
        bpf_fd: object.as_raw_fd().cast_unsigned(),
        file_flags: 0,
    };
    // SAFETY: the path is a string of C that outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &attributes) }.map(drop)
}

/// Opens what is pinned at `path`.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Object { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the path is a string of C that outlives the call, which returns a descriptor.
    unsafe { descriptor(BPF_OBJ_GET, &attributes) }
}

/// An array of `count` words.
pub(super) fn create_words(name: &[u8; 16], count: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: count,
        map_name: *name,
        ..MapCreate::default()
    };
    // SAFETY: the attributes are those of the command, which returns a descriptor.
    unsafe { descriptor(BPF_MAP_CREATE, &attributes) }
}

/// A hash of `count` values of `size` bytes by numbers of 32 bits, which takes memory only for
/// those that it has.
pub(super) fn create_hash(name: &[u8; 16], count: u32, size: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_HASH,
        key_size: 4,
        value_size: size,
        max_entries: count,
        map_flags: BPF_F_NO_PREALLOC,
        map_name: *name,
        ..MapCreate::default()
    };
    // SAFETY: the attributes are those of the command, which returns a descriptor.
    unsafe { descriptor(BPF_MAP_CREATE, &attributes) }
}

/// The values of the first `count` elements of an array map, `size` bytes each, one after the
/// other.
pub(super) fn lookup_all(map: impl AsFd, count: u32, size: usize) -> io::Result<Vec<u8>> {
    let mut keys = vec![0u32; count as usize];
    let mut values = vec![0u8; count as usize * size];
    let mut next = 0u64;
    let attributes = LookupBatch {
        in_batch: 0,
        out_batch: (&raw mut next).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: values.as_mut_ptr().expose_provenance() as u64,
        count,
        map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes at most `count` keys and values of the map's own sizes, for which
    // there is room, and where it stopped, in eight bytes.
    match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &attributes) } {
        // The end of the map was reached.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(values),
        result => result.map(|_| values),
    }
}

/// # Safety
///
/// As [`bpf`], and `command` must return a new descriptor.
unsafe fn descriptor<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as promised by the caller.
    let result = unsafe { bpf(command, attributes) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// # Safety
///
/// `attributes` must be a prefix of `union bpf_attr` as `command` reads it, and where it holds
/// addresses, the memory there must be valid for what the command does.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes; the rest of its union it takes as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
