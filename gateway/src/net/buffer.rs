//! Lends buffers of one size to the connections of a worker.
//!
//! A connection holds a buffer only while it has bytes that have not been passed on. Ten thousand idle connections hold
//! none, and a busy worker reuses the same few, which stay in the CPU cache.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

/// The buffers of a worker.
pub(crate) struct BufferPool {
    size: usize,
    free: RefCell<Vec<Box<[u8]>>>,
}

/// A borrowed buffer. Its bytes are those that were filled and not consumed.
pub(crate) struct Buffer {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Rc<BufferPool>,
}

impl BufferPool {
    /// Creates a pool of buffers of `size` bytes each.
    pub(crate) fn new(size: usize) -> Rc<Self> {
        Rc::new(Self {
            size,
            free: RefCell::default(),
        })
    }

    /// Returns an empty buffer.
    pub(crate) fn lend(self: &Rc<Self>) -> Buffer {
        let storage = self.free.borrow_mut().pop();
        Buffer {
            storage: storage.unwrap_or_else(|| vec![0; self.size].into_boxed_slice()),
            start: 0,
            end: 0,
            pool: Rc::clone(self),
        }
    }
}

impl Buffer {
    /// Returns the free part. Moves the bytes to the front first if there is no other room.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.end == self.storage.len() && self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.storage.get_mut(self.end..).unwrap_or_default()
    }

    /// Returns true if the buffer has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == self.storage.len()
    }

    /// Marks `count` bytes of the free part as filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.storage.len());
    }

    /// Drops `count` bytes at the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Keeps the first `count` bytes and returns the others, if there are any.
    pub(crate) fn split_off(&mut self, count: usize) -> Option<Buffer> {
        let others = self.get(count..).filter(|others| !others.is_empty())?;
        let mut other = self.pool.lend();
        let length = others.len();
        other.storage.get_mut(..length)?.copy_from_slice(others);
        other.end = length;
        self.end -= length;
        Some(other)
    }

    /// Keeps only the first `count` bytes.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }

    /// Returns the bytes for changes in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.storage
            .get_mut(self.start..self.end)
            .unwrap_or_default()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.storage.get(self.start..self.end).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.borrow_mut();
        if free.len() < MAX_FREE {
            free.push(std::mem::take(&mut self.storage));
        }
    }
}

/// Maximum number of free buffers to keep.
const MAX_FREE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order() {
        let buffers = BufferPool::new(8);
        let mut buffer = buffers.lend();
        buffer.spare()[..6].copy_from_slice(b"abcdef");
        buffer.filled(6);
        buffer.consume(4);
        assert_eq!(&*buffer, b"ef");
        assert_eq!(buffer.spare().len(), 2);
        buffer.spare().copy_from_slice(b"gh");
        buffer.filled(2);
        assert_eq!(buffer.spare().len(), 4, "consumed bytes make room");
        assert_eq!(&*buffer, b"efgh");
        let other = buffer.split_off(1).unwrap();
        assert_eq!((&*buffer, &*other), (&b"e"[..], &b"fgh"[..]));
        assert!(buffer.split_off(1).is_none());
    }

    #[test]
    fn buffers_are_reused() {
        let buffers = BufferPool::new(8);
        drop(buffers.lend());
        assert_eq!(buffers.free.borrow().len(), 1);
        let _one = buffers.lend();
        assert_eq!(buffers.free.borrow().len(), 0);
    }
}
