//! Reading frames in the kernel.

use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use gateway_ebpf::packet::Frame;

/// The frame under judgement.
pub(super) struct Packet {
    context: *mut xdp_md,
    start: usize,
    end: usize,
}

impl Packet {
    #[inline(always)]
    pub(super) fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx, start: context.data(), end: context.data_end() }
    }

    /// Bytes of the whole frame, fragments included.
    #[inline(always)]
    pub(super) fn length(&self) -> u64 {
        // SAFETY: the context is the kernel's own.
        unsafe { bpf_xdp_get_buff_len(self.context) }
    }

    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> Option<T> {
        let start = self.start.wrapping_add(at);
        if start.wrapping_add(size_of::<T>()) <= self.end {
            // SAFETY: the bytes are inside the frame, as the verifier checks once more.
            return Some(unsafe { ptr::read_unaligned(start as *const T) });
        }
        self.read_fragment(at)
    }

    /// Some drivers leave the first buffer of a fragmented frame empty. Past the end of the whole
    /// frame, the helper refuses.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "offsets and sizes of headers are small")]
    fn read_fragment<T: Copy>(&self, at: usize) -> Option<T> {
        let mut value = MaybeUninit::<T>::zeroed();
        let (to, size) = (value.as_mut_ptr().cast(), size_of::<T>() as u32);
        // SAFETY: the helper writes `size` bytes to `value`, or fails.
        let result = unsafe { bpf_xdp_load_bytes(self.context, at as u32, to, size) };
        // SAFETY: every `T` here is an integer, for which the zeroes are a value already.
        (result == 0).then(|| unsafe { value.assume_init() })
    }
}

impl Frame for Packet {
    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        self.read(at)
    }

    #[inline(always)]
    fn half(&self, at: usize) -> Option<u16> {
        self.read(at).map(u16::from_be)
    }

    #[inline(always)]
    fn word(&self, at: usize) -> Option<u32> {
        self.read(at).map(u32::from_be)
    }

    #[inline(always)]
    fn double(&self, at: usize) -> Option<u64> {
        self.read(at).map(u64::from_be)
    }
}
