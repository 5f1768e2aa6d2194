//! Moves bytes: connections, buffers, timers and TLS.
//!
//! Uses no other folder.

pub(crate) mod buffer;
mod certificates;
pub(crate) mod seldom;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod timer;
pub(crate) mod tls;
