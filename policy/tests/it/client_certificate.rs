//! Tests `X-Forwarded-Client-Cert`, which Envoy's connection manager sets or removes itself, and nothing in front of the
//! gateway does.

use fluxlit_policy::{Defaults, Header, Policy};

use crate::support::{forward, get, texts};

/// Returns true if the field is removed from a request of this peer.
fn is_removed(defaults: Defaults, settings: &str, peer: &str, name: &str) -> bool {
    let settings =
        format!(r#"{{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8"{settings}}}"#);
    let policy = Policy::from_json(settings.as_bytes(), defaults).expect("valid settings");
    let headers: [Header<'_>; 1] = [(name.as_bytes(), b"Hash=0")];
    let decision = policy.request(&get(peer, "/", &headers));
    let edits = texts(&forward(&decision).edits);
    edits.contains(&format!("remove {name}"))
}

#[test]
fn the_filter_leaves_the_field_to_envoy() {
    let name = "x-forwarded-client-cert";
    for peer in ["192.0.2.1", "10.0.0.1"] {
        assert!(!is_removed(Defaults::FILTER, "", peer, name), "{peer}");
    }
    let listed = r#", "strip_headers": ["x-forwarded-client-cert"]"#;
    assert!(is_removed(Defaults::FILTER, listed, "10.0.0.1", name));
}

#[test]
fn the_gateway_treats_the_field_as_an_identity() {
    let name = "x-forwarded-client-cert";
    let passing = r#", "trusted_pass_headers": ["x-forwarded-client-cert"]"#;
    assert!(is_removed(Defaults::GATEWAY, "", "10.0.0.1", name));
    assert!(is_removed(Defaults::GATEWAY, passing, "192.0.2.1", name));
    assert!(!is_removed(Defaults::GATEWAY, passing, "10.0.0.1", name));
}

#[test]
fn nobody_passes_the_field_with_underscores() {
    let name = "x_forwarded_client_cert";
    let passing = r#", "trusted_pass_headers": ["x-forwarded-client-cert"]"#;
    for defaults in [Defaults::FILTER, Defaults::GATEWAY] {
        assert!(is_removed(defaults, passing, "10.0.0.1", name));
    }
}
