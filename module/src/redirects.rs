//! Recognizes the second pass of a request that Envoy has redirected internally.
//!
//! In the second pass the headers are those that the first pass has written, so they must not be decided again. What a module
//! stores in the filter state does not survive the redirect, and no attribute tells of it. But Envoy destroys the stream of
//! the first pass and makes that of the second in one function call of the worker, and before it does, its router writes
//! `:path` and `x-envoy-original-url` into the headers of the first. So, on each thread:
//!
//! 1. a stream that ends without a response is remembered if its `x-envoy-original-url` is not the one that this module had
//!    handed on. No client can change the headers of a request that it has sent, so only the router has done it;
//! 2. the next new stream on this thread gets what was remembered, and uses it only if it is the same request: its connection,
//!    its pseudo-headers and each header that the policy governs must be equal.
//!
//! The comparison is needed because Envoy makes no filters for a second pass that its overload manager refuses. Then the next
//! stream is another request, which its client may have made to look like the second pass. If all governed headers are
//! equal, they are those that the policy has decided for this connection, so nothing false is believed. A filter in front of
//! this one must therefore change no governed header in the second pass; if one does, the request is decided again.

use std::cell::{Cell, RefCell};

/// What identifies a request over its passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The number that Envoy has given to the connection.
    pub(crate) connection: u64,
    /// `x-envoy-original-url`.
    pub(crate) original_url: Vec<u8>,
    /// The pseudo-headers, and the headers that the policy governs, in order.
    pub(crate) governed: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An earlier pass of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EarlierPass {
    /// The configuration of the filter, because a chain can have several.
    pub(crate) configuration: u64,
    /// The request as the router has changed it.
    pub(crate) identity: Identity,
    /// What was stored as the client.
    pub(crate) client: Vec<u8>,
}

thread_local! {
    static ENDED: RefCell<Vec<EarlierPass>> = const { RefCell::new(Vec::new()) };
    static IS_EMPTY: Cell<bool> = const { Cell::new(true) };
}

/// Remembers a pass that ends with an internal redirect.
pub(crate) fn remember(pass: EarlierPass) {
    IS_EMPTY.set(false);
    ENDED.with_borrow_mut(|ended| {
        ended.retain(|other| {
            other.configuration != pass.configuration && other.identity == pass.identity
        });
        ended.push(pass);
    });
}

/// Returns the pass of this configuration that has ended just now, and forgets it.
pub(crate) fn take(configuration: u64) -> Option<EarlierPass> {
    if IS_EMPTY.get() {
        return None;
    }
    ENDED.with_borrow_mut(|ended| {
        let place = ended
            .iter()
            .position(|pass| pass.configuration == configuration);
        let pass = place.map(|place| ended.swap_remove(place));
        IS_EMPTY.set(ended.is_empty());
        pass
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(configuration: u64, connection: u64) -> EarlierPass {
        EarlierPass {
            configuration,
            identity: Identity {
                connection,
                original_url: b"http://a.example/old".to_vec(),
                governed: vec![(b":path".to_vec(), b"/new".to_vec())],
            },
            client: b"192.0.2.1".to_vec(),
        }
    }

    #[test]
    fn a_pass_is_returned_once() {
        remember(pass(1, 7));
        assert_eq!(take(2), None);
        assert_eq!(take(1), Some(pass(1, 7)));
        assert_eq!(take(1), None);
    }

    #[test]
    fn each_filter_of_a_chain_has_its_own() {
        remember(pass(1, 7));
        remember(pass(2, 7));
        assert_eq!(take(1), Some(pass(1, 7)));
        assert_eq!(take(2), Some(pass(2, 7)));
    }

    #[test]
    fn a_new_redirect_replaces_those_that_were_not_taken() {
        remember(pass(1, 7));
        remember(pass(2, 8));
        assert_eq!(take(1), None);
        assert_eq!(take(2), Some(pass(2, 8)));
    }
}
