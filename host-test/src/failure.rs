//! How does a filter fail while it runs?
//!
//! Envoy treats every trap alike: the stream is answered with 503 and the VM serves nothing more (failure policy
//! closed). Here the reason is kept beside it.

use wasmtime::Trap;

/// The end of a VM: no callback of it runs any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The callback used up its fuel, so it presumably never returns.
    #[error("{callback} did not return within {fuel} units of fuel")]
    EndlessLoop {
        /// The callback that ran.
        callback: String,
        /// The units it was given.
        fuel: u64,
    },
    /// A callback trapped, with the engine's message and the guest's stack.
    #[error("{callback} trapped: {message}")]
    Trap {
        /// The callback that ran.
        callback: String,
        /// What the engine says, the guest's stack included.
        message: String,
    },
}

impl Failure {
    pub(crate) fn new(callback: &str, fuel: u64, error: &wasmtime::Error) -> Self {
        let callback = callback.to_owned();
        if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) {
            Self::EndlessLoop { callback, fuel }
        } else {
            Self::Trap {
                callback,
                message: format!("{error:#}"),
            }
        }
    }
}
