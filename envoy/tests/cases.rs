//! Every case in all three hosts: the policy called directly, the filter under wasmtime, the filter in real Envoy.
//!
//! A case fails where a host misses its expectation, and where two hosts differ in anything but their own transport.

#[path = "support/host.rs"]
mod host;
#[path = "../../policy/tests/it/native.rs"]
mod native;
#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;

use std::path::Path;

use fluxlit_cases::{
    Answer, Case, CaseFile, Downstream, Exchange, Expect, Host, HttpVersion, Outcome, Peer, Request,
};
use host::EnvoyHost;

#[test]
fn every_case_is_the_same_everywhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    let files = CaseFile::load_folder(&folder).expect("the cases can be read");
    let all = || files.iter().flat_map(|(_, file)| &file.cases);
    let envoy = EnvoyHost::start(all());
    let filter =
        host_test::Filter::load(&support::parts().module).expect("the filter can be loaded");
    let (mut failures, mut runs) = (Vec::new(), 0);
    for (path, file) in &files {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        for case in &file.cases {
            let outcomes: Vec<_> = [Host::Policy, Host::Wasm, Host::Envoy]
                .into_iter()
                .filter(|host| case.runs_in(*host))
                .map(|host| {
                    let outcome = match host {
                        Host::Policy => native::run(case),
                        Host::Wasm => {
                            host_test::cases::run(&filter, case).expect("the filter runs")
                        }
                        Host::Envoy => envoy.run(case),
                    };
                    (host, outcome)
                })
                .collect();
            for (host, reason) in &case.except {
                println!("{file_name}: {} is not run in {host}: {reason}", case.name);
            }
            runs += outcomes.len();
            let mut lines = Vec::new();
            for (host, outcome) in &outcomes {
                lines.extend(
                    outcome
                        .misses(case)
                        .into_iter()
                        .map(|miss| format!("{host}: {miss}")),
                );
            }
            for pair in outcomes.windows(2) {
                let [(one, first), (two, second)] = pair else {
                    continue;
                };
                lines.extend(
                    first
                        .differences(second)
                        .into_iter()
                        .map(|difference| format!("{one} / {two} differ: {difference}")),
                );
            }
            if !lines.is_empty() {
                failures.push(format!(
                    "{file_name}: {}: {}\n    {}",
                    case.name,
                    case.why,
                    lines.join("\n    ")
                ));
            }
        }
    }
    println!("{} cases, {runs} runs", all().count());
    assert!(
        failures.is_empty(),
        "{} cases fail\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A trap takes the worker's whole VM down, so no byte that a client or an upstream may send must cause one.
#[test]
fn no_byte_traps_the_filter() {
    let filter =
        host_test::Filter::load(&support::parts().module).expect("the filter can be loaded");
    let governed = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-forwarded-client-cert",
        "x-forwarded-user",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "client-ip",
        "x-cluster-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "fastly-client-ip",
        "fly-client-ip",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-appengine-user-ip",
        "x-originating-ip",
        "x-remote-ip",
        "x-remote-addr",
        "x-proxyuser-ip",
        "x-original-forwarded-for",
        "x-original-for",
        "x-envoy-external-address",
        "front-end-https",
        "x-url-scheme",
        "x-scheme",
        "x-proxied-https",
        "x-original-proto",
        "x-host",
        "x-original-host",
        "x-http-host-override",
        "x-original-url",
        "x-original-uri",
        "x-original-method",
        "x-original-path",
        "x-rewrite-url",
        "x-envoy-original-path",
        "x-envoy-original-url",
        "x-script-name",
        "script-name",
        "path-info",
        "x-ingress-path",
        "x-original-prefix",
        "remote-user",
        "x-remote-user",
        "x-auth-request-user",
        "x-ssl-client-verify",
        "ssl-client-verify",
        "x-client-cert",
        "proxy",
        "connection",
        "content-type",
        "upgrade",
    ];
    let answered = [
        "location",
        "content-location",
        "refresh",
        "set-cookie",
        "strict-transport-security",
    ];
    let config = |source: &str| {
        let text = format!(
            r#"{{"root_path": "/a", "hsts": true, "security_headers": true, "trust_proxy": true,
                "forwarded_allow_ips": "10.0.0.0/8", "forwarded_source": "{source}"}}"#
        );
        serde_json::from_str(&text).expect("a configuration")
    };
    for byte in 0..=u8::MAX {
        let character = char::from(byte);
        for (value, source) in [
            (character.to_string(), "x-forwarded"),
            (
                format!("for=\"{character}\", 10.0.0.1:{character}, [{character}"),
                "forwarded",
            ),
            (
                format!("/{character}; Path=/{character}; url='{character}"),
                "x-forwarded",
            ),
        ] {
            let lines = |names: &[&str]| -> Vec<(String, String)> {
                names
                    .iter()
                    .map(|&name| (name.to_owned(), value.clone()))
                    .collect()
            };
            let case = Case {
                name: format!("byte {byte:#04x} in {value:?}"),
                why: String::new(),
                source: None,
                config: config(source),
                expect: Expect::Served(vec![Exchange {
                    request: Request {
                        peer: Peer::Ip("10.0.0.1".parse().expect("an address")),
                        tls: true,
                        http: HttpVersion::Http2,
                        method: "GET".to_owned(),
                        target: format!("/a/{value}"),
                        host: Some(value.clone()),
                        headers: lines(&governed)
                            .into_iter()
                            .chain([
                                (format!("x-forwarded-{character}"), value.clone()),
                                (format!("{character}_real_ip"), value.clone()),
                                (character.to_string(), value.clone()),
                            ])
                            .collect(),
                        body: String::new(),
                        trailers: lines(&governed),
                    },
                    upstream: None,
                    answer: Answer {
                        status: 200,
                        headers: lines(&answered),
                        body: String::new(),
                    },
                    downstream: Downstream::default(),
                }]),
                except: std::collections::BTreeMap::new(),
            };
            let hidden = Case {
                expect: match &case.expect {
                    Expect::Served(exchanges) => Expect::Served(
                        exchanges
                            .iter()
                            .cloned()
                            .map(|mut exchange| {
                                // A request that is forwarded, so that the response and the trailers are read, too.
                                "/a/x".clone_into(&mut exchange.request.target);
                                exchange.request.host = Some("app.example".to_owned());
                                exchange
                            })
                            .collect(),
                    ),
                    refused => refused.clone(),
                },
                ..case.clone()
            };
            for case in [case, hidden] {
                let outcome = host_test::cases::run(&filter, &case);
                assert!(
                    matches!(outcome, Ok(Outcome::Served(_))),
                    "{}: {outcome:?}",
                    case.name
                );
            }
        }
    }
}
