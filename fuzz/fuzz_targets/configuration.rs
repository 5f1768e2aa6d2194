//! Fuzzes plugin configurations: each is either rejected with error codes, or gives a policy that serves requests.
#![no_main]

use fluxlit_policy::{Defaults, Peer, Policy, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for defaults in [Defaults::FILTER, Defaults::GATEWAY] {
        match Policy::from_json(bytes, defaults) {
            Ok(policy) => {
                policy.request(&Request {
                    peer: Peer::Unknown,
                    identity: None,
                    is_reentry: false,
                    tls: false,
                    method: b"GET",
                    target: b"/a/b",
                    host: Some(b"app.example"),
                    headers: &[(b"x-forwarded-for", b"6.6.6.6")],
                });
            }
            Err(errors) => {
                assert!(!errors.errors().is_empty());
                assert!(errors.to_string().starts_with('E'));
            }
        }
    }
});
