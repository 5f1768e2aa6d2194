//! Allocates and copies memory in place of musl, with which the executables of a release are linked.
//!
//! musl's allocator has one lock for all threads. Its function that copies memory on x86-64 copies octet by octet up to an aligned
//! address, then by an instruction that takes long to begin (`rep movsq`): that was 15 % of the CPU time of a small request, with
//! the functions here it is 4 %. There is no crate with such functions. For arm64, musl has fast ones.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "the functions of C that copy memory get addresses"
    )
)]

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The functions that take the place of those in the C library, because the linker finds them first.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
mod replaced {
    use std::ffi::c_void;

    /// As in C: copies `count` octets, which do not overlap.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, count: usize) -> *mut c_void {
        // SAFETY: the caller's promise is passed on.
        unsafe { super::copy::copy(to.cast(), from.cast(), count) };
        to
    }

    /// As in C: copies `count` octets, which may overlap.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(
        to: *mut c_void,
        from: *const c_void,
        count: usize,
    ) -> *mut c_void {
        // SAFETY: the caller's promise is passed on.
        unsafe { super::copy::copy(to.cast(), from.cast(), count) };
        to
    }
}

#[cfg(target_arch = "x86_64")]
mod copy {
    use std::arch::x86_64::__m128i;
    use std::mem::MaybeUninit;

    /// Copies `count` octets, which may overlap.
    ///
    /// What has at most 128 octets is read as a whole before any of it is written: from its beginning, and from its end, with
    /// an overlap in the middle. What is longer is copied in blocks, in the order in which no octet is overwritten before it
    /// was read. Not all octets need have a value, as in a structure with gaps, so parts are `MaybeUninit`.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reads of `count` octets, and `to` for writes.
    #[inline(always)]
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, count: usize) {
        // SAFETY: in each branch, the parts have together at least `count` octets, and none is longer than `count`.
        unsafe {
            match count {
                0 => {}
                1 => both_ends::<MaybeUninit<u8>>(to, from, count),
                2..4 => both_ends::<MaybeUninit<u16>>(to, from, count),
                4..8 => both_ends::<MaybeUninit<u32>>(to, from, count),
                8..16 => both_ends::<MaybeUninit<u64>>(to, from, count),
                16..=32 => both_ends::<MaybeUninit<__m128i>>(to, from, count),
                33..=64 => both_ends::<MaybeUninit<[__m128i; 2]>>(to, from, count),
                65..=128 => both_ends::<MaybeUninit<[__m128i; 4]>>(to, from, count),
                // Also true if `to` is before `from`, because the difference is then a large number.
                _ if to.addr().wrapping_sub(from.addr()) >= count => forwards(to, from, count),
                _ => backwards(to, from, count),
            }
        }
    }

    /// Copies a part at each end.
    ///
    /// # Safety
    ///
    /// As for [`copy`], and `count` must be at least the size of a part.
    #[inline(always)]
    unsafe fn both_ends<Part>(to: *mut u8, from: *const u8, count: usize) {
        let last = count - size_of::<Part>();
        // SAFETY: both parts are inside of the octets.
        unsafe {
            let first_part = from.cast::<Part>().read_unaligned();
            let last_part = from.add(last).cast::<Part>().read_unaligned();
            to.cast::<Part>().write_unaligned(first_part);
            to.add(last).cast::<Part>().write_unaligned(last_part);
        }
    }

    /// Copies blocks from the beginning. The last one overlaps, so it is read before all others are written.
    ///
    /// # Safety
    ///
    /// As for [`copy`], and `count` must be at least the size of a block.
    #[inline(always)]
    unsafe fn forwards(to: *mut u8, from: *const u8, count: usize) {
        let last = count - size_of::<Block>();
        // SAFETY: all blocks are inside of the octets.
        unsafe {
            let last_block = from.add(last).cast::<Block>().read_unaligned();
            let mut place = 0;
            while place < last {
                let block = from.add(place).cast::<Block>().read_unaligned();
                to.add(place).cast::<Block>().write_unaligned(block);
                place += size_of::<Block>();
            }
            to.add(last).cast::<Block>().write_unaligned(last_block);
        }
    }

    /// Copies blocks from the end. The first one overlaps, so it is read before all others are written.
    ///
    /// # Safety
    ///
    /// As for [`forwards`].
    #[inline(always)]
    unsafe fn backwards(to: *mut u8, from: *const u8, count: usize) {
        // SAFETY: all blocks are inside of the octets.
        unsafe {
            let first_block = from.cast::<Block>().read_unaligned();
            let mut end = count;
            while end > size_of::<Block>() {
                end -= size_of::<Block>();
                let block = from.add(end).cast::<Block>().read_unaligned();
                to.add(end).cast::<Block>().write_unaligned(block);
            }
            to.cast::<Block>().write_unaligned(first_block);
        }
    }

    /// As much as fits into four registers.
    type Block = MaybeUninit<[__m128i; 4]>;
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::copy::copy;

    /// Each number of octets, from each place to each other near it, before and after.
    #[test]
    fn what_overlaps_is_copied_as_by_the_standard_library() {
        const LENGTH: usize = 700;
        let original: Vec<u8> = (0..LENGTH).map(|place| (place % 251) as u8).collect();
        for count in (0..300).chain([511, 512, 513]) {
            for (from, to) in (0..80).flat_map(|from| [(from, 40), (40, from)]) {
                let mut wanted = original.clone();
                wanted.copy_within(from..from + count, to);
                let mut got = original.clone();
                let start = got.as_mut_ptr();
                // SAFETY: both ranges end before the end of the vector.
                unsafe { copy(start.add(to), start.add(from), count) };
                assert_eq!(got, wanted, "{count} octets from {from} to {to}");
            }
        }
    }
}
