//! Runs every case in all four hosts: the policy called directly, the filter under wasmtime, the filter in real Envoy, the dynamic
//! module in real Envoy.
//!
//! A case fails if the result of a host does not match its expectation, or if two hosts differ in anything but their own
//! transport.

#[path = "cases/envoy_host.rs"]
mod envoy_host;
#[path = "../../policy/tests/it/native.rs"]
mod native;
#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;

use std::path::{Path, PathBuf};

use envoy_host::EnvoyHost;
use fluxlit_cases::{
    Answer, Case, CaseFile, Config, ExchangeOutcome, Outcome, Peer, Request, Version,
};
use host_test::case_file::{self, Ending, Runner, Schedule};

/// A host: the name by which a case can except it, the name that failures show, and how it runs a case.
struct Host<'a> {
    exception: &'static str,
    name: &'static str,
    run: &'a dyn Fn(&Case) -> Outcome,
}

/// The policy, called directly.
const POLICY: Host<'static> = Host {
    exception: "policy",
    name: "policy",
    run: &native::run,
};

#[test]
fn every_case_has_the_same_result_everywhere() {
    let files = case_files();
    let envoy = EnvoyHost::start(support::parts().module, all(&files));
    let filter =
        host_test::Filter::load(&support::parts().module).expect("the filter can be loaded");
    let runner = Runner::new(filter);
    compare(
        &files,
        &[
            POLICY,
            Host {
                exception: "wasm",
                name: "wasm",
                run: &|case| in_wasmtime(&runner, case),
            },
            Host {
                exception: "envoy",
                name: "envoy",
                run: &|case| envoy.run(case),
            },
        ],
    );
}

/// The same without wasmtime, for an Envoy that is not the newest.
#[test]
fn every_case_has_the_same_result_in_another_envoy() {
    let files = case_files();
    let envoy = EnvoyHost::start(support::parts().module, all(&files));
    compare(
        &files,
        &[
            POLICY,
            Host {
                exception: "envoy",
                name: "envoy",
                run: &|case| envoy.run(case),
            },
        ],
    );
}

/// What Envoy does before any filter runs does not depend on the filter, so the exceptions are the same.
#[test]
fn every_case_has_the_same_result_in_the_dynamic_module() {
    let files = case_files();
    let module = EnvoyHost::start(support::named("FLUXLIT_TEST_MODULE"), all(&files));
    compare(
        &files,
        &[
            POLICY,
            Host {
                exception: "envoy",
                name: "module",
                run: &|case| module.run(case),
            },
        ],
    );
}

fn case_files() -> Vec<(PathBuf, Vec<Case>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    CaseFile::load_folder(&folder)
        .expect("the cases can be read")
        .into_iter()
        .map(|(path, file)| (path, file.into_cases()))
        .collect()
}

fn all(files: &[(PathBuf, Vec<Case>)]) -> impl Iterator<Item = &Case> {
    files.iter().flat_map(|(_, cases)| cases)
}

#[track_caller]
fn compare(files: &[(PathBuf, Vec<Case>)], hosts: &[Host<'_>]) {
    let (mut failures, mut runs) = (Vec::new(), 0);
    for (path, cases) in files {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        for case in cases {
            let outcomes: Vec<_> = hosts
                .iter()
                .filter(|host| case.runs_in(host.exception))
                .map(|host| (host.name, (host.run)(case)))
                .collect();
            for (host, reason) in &case.except {
                println!("{file_name}: {} is not run in {host}: {reason}", case.name);
            }
            runs += outcomes.len();
            let mut lines = Vec::new();
            for (host, outcome) in &outcomes {
                lines.extend(
                    outcome
                        .mismatches(case)
                        .into_iter()
                        .map(|mismatch| format!("{host}: {mismatch}")),
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
    println!("{} cases, {runs} runs", all(files).count());
    assert!(
        failures.is_empty(),
        "{} cases fail\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Runs a case in the filter under wasmtime.
fn in_wasmtime(runner: &Runner, case: &Case) -> Outcome {
    let file = CaseFile::default();
    let ran = runner
        .run(Path::new(""), &file, case, Schedule::default())
        .expect("the case names no other module");
    match ran.ending {
        Ending::Refused(message) => Outcome::Refused(message),
        Ending::Served(outcomes) => {
            let served = outcomes.into_iter().map(|outcome| {
                for filter in &outcome.filters {
                    let name = &case.name;
                    assert_eq!(filter.failure, None, "{name}: {:?}", filter.logs);
                    assert!(filter.paused.is_empty(), "{name}: {:?}", filter.logs);
                }
                let downstream = outcome.downstream.as_ref();
                ExchangeOutcome {
                    upstream: outcome.upstream.as_ref().map(case_file::received),
                    downstream: case_file::reply(downstream.expect("no reset")),
                }
            });
            Outcome::Served(served.collect())
        }
    }
}

/// A trap ends the VM of the whole worker, so no byte that a client or an upstream can send may cause one.
#[test]
fn no_byte_traps_the_filter() {
    let filter =
        host_test::Filter::load(&support::parts().module).expect("the filter can be loaded");
    let request_fields = [
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
        "x-forwarded",
        "vendor-client-ip",
        "cloudfront-viewer-address",
        "vendor-forwarded-proto",
        "cf-visitor",
        "https",
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
    let response_fields = [
        "location",
        "content-location",
        "refresh",
        "set-cookie",
        "strict-transport-security",
    ];
    let runner = Runner::new(filter);
    let config = |source: &str| -> Config {
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
                config: Some(config(source)),
                request: Some(Request {
                    peer: Peer::Ip("10.0.0.1".parse().expect("an address")),
                    tls: true,
                    http: Version::Http2,
                    target: format!("/a/{value}"),
                    host: Some(value.clone()),
                    headers: lines(&request_fields)
                        .into_iter()
                        .chain([
                            (format!("x-forwarded-{character}"), value.clone()),
                            (format!("{character}_real_ip"), value.clone()),
                            (character.to_string(), value.clone()),
                        ])
                        .collect(),
                    trailers: lines(&request_fields),
                    ..Request::default()
                }),
                answer: Some(Answer {
                    headers: lines(&response_fields),
                    ..Answer::default()
                }),
                ..Case::default()
            };
            // A request that is forwarded, so that the filter reads the response and the trailers as well.
            let mut forwarded = case.clone();
            if let Some(request) = &mut forwarded.request {
                "/a/x".clone_into(&mut request.target);
                request.host = Some("app.example".to_owned());
            }
            for case in [case, forwarded] {
                let outcome = in_wasmtime(&runner, &case);
                let is_served = matches!(outcome, Outcome::Served(_));
                assert!(is_served, "{}: {outcome:?}", case.name);
            }
        }
    }
}
