//! Keeps the memory of edits for the next message, so that no edit allocates memory of its own.
//!
//! A worker of Envoy is one thread, and a message is processed as a whole before the next one. So one memory for each
//! thread is enough.

use std::cell::Cell;

use fluxlit_policy::Edits;

thread_local! {
    static MEMORY: Cell<Edits> = const { Cell::new(Edits::new()) };
}

/// Returns the memory; nothing is kept until the next call of [`keep`].
pub(crate) fn take() -> Edits {
    // Fails only while the thread ends.
    MEMORY.try_with(Cell::take).unwrap_or_default()
}

/// Keeps the memory of edits that have been applied.
pub(crate) fn keep(edits: Edits) {
    // Fails only while the thread ends.
    let _ = MEMORY.try_with(|memory| memory.set(edits));
}
