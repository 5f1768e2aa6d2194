//! Stores the filter state of a stream, which its filters share.
//!
//! Envoy's filter state holds values by key, one set for the whole stream; access logs and other filters read it. A property
//! that a filter sets has the key `wasm.` followed by its path; foreign functions set others.

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

    /// Locks and returns all entries.
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the key of a property that a filter sets, as measured in Envoy 1.40.
pub(crate) fn property_key(path: &[u8]) -> Vec<u8> {
    [b"wasm.", path].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_a_stream_share_values() {
        let state = FilterState::default();
        let of_next_filter = state.clone();
        state.set(property_key(b"a"), b"1".to_vec());
        assert_eq!(of_next_filter.get(b"wasm.a"), Some(b"1".to_vec()));
        of_next_filter.set(b"wasm.a".to_vec(), b"2".to_vec());
        assert_eq!(state.get(b"wasm.a"), Some(b"2".to_vec()));
        assert_eq!(state.get(b"a"), None);
        assert_eq!(state.entries().len(), 1);
        assert_eq!(FilterState::default().get(b"wasm.a"), None);
    }
}
