//! Allocates, copies and compares memory in place of musl, with which the executables of a release are linked, and unmaps what
//! only the start needs.
//!
//! musl's allocator has one lock for all threads. Its function that copies memory on x86-64 copies octet by octet up to an aligned
//! address, then by an instruction that takes long to begin (`rep movsq`): that was 15 % of the CPU time of a small request, with
//! the functions here it is 4 %. Its function that compares goes octet by octet, too. There is no crate with such functions. For
//! arm64, musl has fast ones.

#![cfg_attr(
    any(target_arch = "x86_64", target_env = "musl"),
    expect(
        unsafe_code,
        reason = "the functions of C that work on memory get addresses"
    )
)]

#[cfg(target_env = "musl")]
use procfs::process::{MMPermissions, MMapPath, Process};
#[cfg(target_env = "musl")]
use rustix::mm::{Advice, madvise};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Unmaps the program's code, because much of it runs only at the start. What runs again is mapped again, from memory in which
/// the kernel keeps the file anyway. An idle process then has about 4 MiB of resident memory instead of 7.
///
/// Breakpoints that a debugger has set in the code are lost. A failure is ignored, because only this saving depends on it.
#[cfg(target_env = "musl")]
pub(crate) fn unmap_code() {
    let Ok(maps) = Process::myself().and_then(|process| process.maps()) else {
        return;
    };
    let code = MMPermissions::READ | MMPermissions::EXECUTE | MMPermissions::PRIVATE;
    for map in maps.iter().filter(|map| map.perms == code) {
        let (MMapPath::Path(_), (start, end)) = (&map.pathname, map.address) else {
            continue;
        };
        let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
            continue;
        };
        let first = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: a private mapping of a file that was never writable holds what the file holds, and the kernel maps that again.
        let _ = unsafe { madvise(first, end.saturating_sub(start), Advice::LinuxDontNeed) };
    }
}

/// The functions that take the place of those in the C library, because the linker finds them first.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
mod replaced {
    use std::ffi::{c_int, c_void};

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

    /// As in C: compares `count` octets; returns a number that is negative, zero or positive.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const c_void, two: *const c_void, count: usize) -> c_int {
        // SAFETY: the caller's promise is passed on.
        let order = unsafe { super::compare::compare(one.cast(), two.cast(), count) };
        order as c_int
    }

    /// As in C: returns zero if `count` octets are equal.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const c_void, two: *const c_void, count: usize) -> c_int {
        // SAFETY: the caller's promise is passed on.
        let order = unsafe { super::compare::compare(one.cast(), two.cast(), count) };
        order as c_int
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

#[cfg(target_arch = "x86_64")]
mod compare {
    use std::cmp::Ordering;

    /// Compares `count` octets: eight at a time, and the last eight with an overlap.
    ///
    /// # Safety
    ///
    /// `one` and `two` must be valid for reads of `count` octets, which have values.
    #[inline(always)]
    pub(super) unsafe fn compare(one: *const u8, two: *const u8, count: usize) -> Ordering {
        // SAFETY: no place is behind the last octet.
        unsafe {
            match count {
                0 => Ordering::Equal,
                1 => one.read().cmp(&two.read()),
                2..4 => at::<2>(one, two, 0).then_with(|| at::<2>(one, two, count - 2)),
                4..8 => at::<4>(one, two, 0).then_with(|| at::<4>(one, two, count - 4)),
                _ => {
                    let last = count - 8;
                    let mut place = 0;
                    while place < last {
                        let order = at::<8>(one, two, place);
                        if order.is_ne() {
                            return order;
                        }
                        place += 8;
                    }
                    at::<8>(one, two, last)
                }
            }
        }
    }

    /// Compares `COUNT` octets, at most eight, from `place` on.
    ///
    /// # Safety
    ///
    /// As for [`compare`], up to the last of them.
    #[inline(always)]
    unsafe fn at<const COUNT: usize>(one: *const u8, two: *const u8, place: usize) -> Ordering {
        let number = |from: *const u8| {
            let mut octets = [0; 8];
            // SAFETY: the octets are inside of what the caller has promised.
            let read = unsafe { from.add(place).cast::<[u8; COUNT]>().read_unaligned() };
            octets[..COUNT].copy_from_slice(&read);
            u64::from_be_bytes(octets)
        };
        number(one).cmp(&number(two))
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::compare::compare;
    use super::copy::copy;

    /// Each number of octets, with a difference at each place, and from places with each alignment.
    #[test]
    fn octets_are_compared_as_by_the_standard_library() {
        const LENGTH: usize = 80;
        let original: Vec<u8> = (0..LENGTH).map(|place| (place * 37 % 256) as u8).collect();
        for (count, start) in (0..60).flat_map(|count| (0..9).map(move |start| (count, start))) {
            let one = &original[start..start + count];
            // The last one changes nothing.
            for (place, change) in (0..count).map(|place| (place, 0x81)).chain([(0, 0)]) {
                let mut two = one.to_vec();
                if let Some(octet) = two.get_mut(place) {
                    *octet ^= change;
                }
                // SAFETY: both have so many octets.
                let order = unsafe { compare(one.as_ptr(), two.as_ptr(), count) };
                assert_eq!(order, one.cmp(&two), "{count} octets, changed at {place}");
            }
        }
    }

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
