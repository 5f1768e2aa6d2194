//! Fuzzes requests for the decision record: none that was made without the key is accepted, and stored guards of any form
//! answer nothing twice.
#![no_main]

use std::sync::LazyLock;

use fluxlit_policy::{
    Defaults, Hop, PROBE_FIELD, PROBE_PATH, Peer, Policy, Probe, ProbeGuard, ProbeOutcome, Request,
};
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let settings = br#"{"probe_key": "a key that the fuzzer cannot guess"}"#;
    Policy::from_json(settings, Defaults::FILTER).expect("a configuration")
});

fuzz_target!(|bytes: &[u8]| {
    for hop in Hop::ALL {
        let found = POLICY.probe(
            &Request {
                peer: Peer::Unknown,
                identity: None,
                is_reentry: false,
                tls: false,
                method: b"GET",
                target: PROBE_PATH.as_bytes(),
                host: Some(b"app.example"),
                headers: &[(PROBE_FIELD.as_bytes(), bytes)],
            },
            *hop,
        );
        assert!(found.is_none_or(|found| found == Err(ProbeOutcome::Invalid)));
    }
    const NOW: u64 = 1_790_000_000;
    let mut guard = ProbeGuard::from_bytes(bytes, NOW);
    let probe = Probe::new(Hop::Filter, "a", NOW, [7; 16]).expect("a host");
    let first = guard.admit(&probe, NOW);
    let mut stored = ProbeGuard::from_bytes(&guard.to_bytes(), NOW);
    assert_eq!(stored, guard, "a guard is read as it was written");
    let second = stored.admit(&probe, NOW);
    assert!(first != ProbeOutcome::Answered || second == ProbeOutcome::Replayed);
});
