//! Array maps mapped into memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use gateway_ebpf::generation::{BLOCK_SIZE, Block};

/// The values of an array map that was created with `BPF_F_MMAPABLE`.
pub(super) struct Mapping {
    start: NonNull<libc::c_void>,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes to be read while the kernel writes.
    pub(super) fn shared(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        Self::new(map, length, libc::PROT_READ)
    }

    fn new(map: BorrowedFd<'_>, length: usize, protection: i32) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory.
        let start = unsafe {
            let descriptor = map.as_raw_fd();
            libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, descriptor, 0)
        };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Self { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The values as words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping lives as long as `self` and is aligned to a page; whoever else
        // writes to it, writes whole words, which is what atomics allow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length / size_of::<u64>()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

// SAFETY: the mapping is not bound to a thread, and its words are read as atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Copies `blocks` into `map`, an array map with at least that many elements of [`BLOCK_SIZE`]
/// that nobody else has seen yet.
pub(super) fn fill(map: BorrowedFd<'_>, blocks: &[Block]) -> io::Result<()> {
    let length = blocks.len() * BLOCK_SIZE;
    let mapping = Mapping::new(map, length, libc::PROT_READ | libc::PROT_WRITE)?;
    // SAFETY: the mapping is writable, `length` bytes long, and does not overlap the blocks.
    unsafe { ptr::copy_nonoverlapping(blocks.as_ptr().cast(), mapping.start.as_ptr(), length) };
    Ok(())
}
