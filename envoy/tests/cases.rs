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

use fluxlit_cases::{CaseFile, Host};
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
