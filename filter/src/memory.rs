//! Where does memory come from?
//!
//! A stream makes some fifty small allocations and frees them all. The allocator of the standard library spends a
//! seventh of the filter's instructions on that, because it splits and joins blocks. Here a block keeps its size for
//! good: sizes are rounded up to a power of two, and what is freed lies on the list of its size until it is wanted
//! again. So both ways are a handful of instructions, and nothing is lost but the rounding.

#![expect(unsafe_code, reason = "an allocator deals in raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

#[global_allocator]
static MEMORY: Memory = Memory {
    free: [const { Cell::new(ptr::null_mut()) }; SIZES],
};

/// Lists of free blocks by size: 16, 32, ... 2048 bytes. Larger ones are the standard allocator's.
struct Memory {
    free: [Cell<*mut Block>; SIZES],
}

/// A free block holds the address of the next one.
struct Block {
    next: *mut Block,
}

// SAFETY: a module of wasm32-wasip1 has one thread.
unsafe impl Sync for Memory {}

impl Memory {
    /// The list for blocks of this layout, and their size; none if it is too large.
    fn list(&self, layout: Layout) -> Option<(&Cell<*mut Block>, usize)> {
        if layout.align() > ALIGNMENT {
            return None;
        }
        let size = layout.size().max(SMALLEST).checked_next_power_of_two()?;
        let place = size
            .trailing_zeros()
            .checked_sub(SMALLEST.trailing_zeros())?;
        Some((self.free.get(usize::try_from(place).ok()?)?, size))
    }
}

// SAFETY: a block comes from the standard allocator with the size and alignment of its list, which is at least what was
// asked for; it is on no list while it is in use, and both functions find the same list for the same layout.
unsafe impl GlobalAlloc for Memory {
    // Inlined at every place that allocates, it would make the module a tenth larger.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((list, size)) = self.list(layout) else {
            // SAFETY: the caller's promise is passed on.
            return unsafe { System.alloc(layout) };
        };
        let block = list.get();
        if block.is_null() {
            // SAFETY: neither is zero, and the size is a multiple of the alignment.
            return unsafe { System.alloc(Layout::from_size_align_unchecked(size, ALIGNMENT)) };
        }
        // SAFETY: what is on a list was a free block when it was put there.
        list.set(unsafe { (*block).next });
        block.cast()
    }

    #[inline(never)]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some((list, _)) = self.list(layout) else {
            // SAFETY: the caller's promise is passed on.
            return unsafe { System.dealloc(memory, layout) };
        };
        let block: *mut Block = memory.cast();
        // SAFETY: the block is free now, large enough for an address, and aligned for one.
        unsafe { (*block).next = list.get() };
        list.set(block);
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is a valid one for this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (self.list(layout), self.list(wanted)) {
            (Some((_, old)), Some((_, new))) if old == new => memory,
            // SAFETY: the caller's promise is passed on; the standard allocator has both.
            (None, None) => unsafe { System.realloc(memory, layout, size) },
            // SAFETY: the old block and the new one are both at least as large as what is copied, and are two.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(memory, moved, layout.size().min(size));
                    self.dealloc(memory, layout);
                }
                moved
            },
        }
    }
}

/// The smallest block, in bytes.
const SMALLEST: usize = 16;

/// The alignment of every block; what asks for more is the standard allocator's.
const ALIGNMENT: usize = 16;

/// How many sizes there are.
const SIZES: usize = 8;
