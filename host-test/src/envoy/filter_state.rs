//! What do the filters of a stream keep for each other, and for the proxy?
//!
//! Envoy's filter state: values by key, one set for the whole stream, which access logs and other filters read. A property
//! that a filter sets is in it under `wasm.` and its path; [`crate::vm::imports::foreign`] sets others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values by key.
pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The filter state of one stream, shared by the filters of a chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilterState(Arc<Mutex<Entries>>);

impl FilterState {
    pub(crate) fn set(&self, key: Vec<u8>, value: Vec<u8>) {
        self.entries().insert(key, value);
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.entries().get(key).cloned()
    }

    /// All of it.
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a property that a filter sets, measured in Envoy 1.40.
pub(crate) fn key_of_property(path: &[u8]) -> Vec<u8> {
    [b"wasm.", path].concat()
}
