//! Values of the contract as they come out of maps and rings.

use aya::Pod;
use gateway_ebpf::clients::{Reporting, Takeover};
use gateway_ebpf::counters::{Counter, Verdicts};

/// Makes a type of the contract known to aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Wire<T>(pub(super) T);

// SAFETY: integers only, without gaps; any bits are a value.
unsafe impl Pod for Wire<Counter> {}
// SAFETY: as above.
unsafe impl Pod for Wire<Verdicts> {}
// SAFETY: as above.
unsafe impl Pod for Wire<Reporting> {}
// SAFETY: as above.
unsafe impl Pod for Wire<Takeover> {}

/// The value in `bytes`; `None` when the length is not its own.
pub(super) fn read<T: Copy + 'static>(bytes: &[u8]) -> Option<T>
where
    Wire<T>: Pod,
{
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, and any bits are a value.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
