//! Checks that every configuration file of the repository is read by a test, or by a program that a test runs.
//!
//! [`CLAIMS`] says for each file who reads it and where that is written. The check parses every file, fails on a file that no
//! claim covers, and fails on a claim that is not true any more: its pattern matches nothing, its evidence has moved, or the
//! test that it ends at is not run. What a test checks about a file is not seen here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::steps::{repository_files, root};

/// Some configuration files, and who reads them.
struct Claim {
    /// A pattern of git: `*` is a part of one name, `**` is any folder.
    files: &'static str,
    /// Leads from the files to a test or to a command of `cargo xtask`, which comes last.
    evidence: &'static [Evidence],
}

/// A place that shows that a file is read.
enum Evidence {
    /// The source file has the name of each claimed file in it; or its stem, in quotes.
    Names(&'static str),
    /// The source file has this text in it, which is a part of each claimed path: the name of a folder that is read as a whole.
    Reads(&'static str, &'static str),
    /// The file of this name, in the same folder, refers to each claimed file.
    Beside(&'static str),
    /// The source file has this text in it: the call of a function or a program that reads what came before.
    Then(&'static str, &'static str),
}

use Evidence::{Beside, Names, Reads, Then};

/// Every configuration file, by who reads it.
const CLAIMS: &[Claim] = &[
    // Cargo and its tools.
    claim(
        ".cargo/config.toml",
        &[Then(".ci/run", "cargo xtask check")],
    ),
    claim(
        "rust-toolchain.toml",
        &[Then(".ci/run", "cargo xtask check")],
    ),
    claim("Cargo.toml", LOCK_FILES),
    claim("Cargo.lock", LOCK_FILES),
    claim("*/Cargo.toml", LOCK_FILES),
    claim("fuzz/Cargo.lock", &[Reads(CHECK, "fuzz")]),
    claim(
        "envoy/bench/empty-filter/Cargo.*",
        &[Reads(CHECK, "envoy/bench/empty-filter")],
    ),
    claim("host-test/example/Cargo.toml", LOCK_FILES),
    claim("clippy.toml", &[Then(CHECK, "\"clippy\"")]),
    claim("deny.toml", &[Then(CHECK, "cargo_deny()")]),
    claim("docs/book.toml", &[Names("xtask/src/site.rs")]),
    claim(
        ".github/workflows/*.yml",
        &[Reads("xtask/src/workflows.rs", ".github/workflows")],
    ),
    // The policy and the test host.
    claim(
        "cases/*.json",
        &[Reads("policy/tests/it/cases.rs", "cases")],
    ),
    claim("policy/schema.json", &[Names("policy/src/config.rs")]),
    claim(
        "host-test/cases.schema.json",
        &[Names("cases/src/schema.rs")],
    ),
    claim(
        "host-test/example/tests/cases.json",
        &[Names("host-test/example/tests/private_paths.rs")],
    ),
    claim(
        "host-test/tests/higress/*.json",
        &[Reads(STEPS, "host-test/tests/higress")],
    ),
    // Envoy, Istio and the proxies in front.
    claim("envoy/bootstrap.yaml", &[Names("envoy/tests/manifests.rs")]),
    claim(
        "envoy/several-apps.yaml",
        &[
            Names("envoy/src/bootstrap.rs"),
            Then("envoy/tests/edge.rs", "with_several_apps("),
        ],
    ),
    claim(
        "envoy/sidecar.yaml",
        &[
            Names("envoy/src/bootstrap.rs"),
            Then("envoy/tests/edge.rs", "Bootstrap::sidecar()"),
        ],
    ),
    claim("envoy/module.yaml", &[Names("envoy/tests/manifests.rs")]),
    claim(
        "envoy/plugin-config.json",
        &[Names("envoy/tests/manifests.rs")],
    ),
    claim("envoy/rbac-guard.yaml", &[Names("envoy/tests/guard.rs")]),
    claim(
        "envoy/connection-facts.yaml",
        &[
            Names("envoy/src/bootstrap.rs"),
            Then("envoy/tests/guard.rs", "with_connection_facts("),
        ],
    ),
    claim(
        "envoy/tls.yaml",
        &[
            Names("envoy/src/bootstrap.rs"),
            Then("envoy/tests/filter.rs", "with_tls("),
        ],
    ),
    claim(
        "envoy/tracing.yaml",
        &[
            Names("envoy/src/bootstrap.rs"),
            Then("system/tests/traces.rs", "with_tracing("),
        ],
    ),
    claim(
        "envoy/dynamic/*.yaml",
        &[
            Names("system/tests/replicas/fleet.rs"),
            Then("system/tests/replicas.rs", "Edge::start("),
        ],
    ),
    claim(
        "envoy/control-planes/*.yaml",
        &[
            Names("envoy/src/control_plane.rs"),
            Then("envoy/tests/attacks.rs", "Form::Made("),
        ],
    ),
    claim("envoy/istio/*.yaml", &[Names("envoy/tests/manifests.rs")]),
    claim("envoy/fronts/Caddyfile", PRINTED_FRONTS),
    claim("envoy/fronts/*.conf", PRINTED_FRONTS),
    claim(
        "envoy/fronts/varnish.vcl",
        &[
            Names("system/tests/smoke/edge.rs"),
            Then("system/tests/smoke.rs", "Edge::start("),
        ],
    ),
    claim(
        "envoy/crds/*.json",
        &[Reads("system/tests/kubernetes.rs", "envoy/crds")],
    ),
    claim(
        "envoy/bench/header_mutation.json",
        &[Names("xtask/src/bench/filter/variants.rs")],
    ),
    claim(
        "envoy/browser/package*.json",
        &[Reads("xtask/src/setup.rs", "envoy/browser")],
    ),
    // The gateway, the doctor, and what they are compared with.
    claim(
        "gateway/tests/public_urls.json",
        &[Names("gateway/src/public_url.rs")],
    ),
    claim(
        "system/tests/fluxlit/differences.json",
        &[Names("system/tests/fluxlit/main.rs")],
    ),
    claim(
        "system/tests/doctor_outside/problems.yaml",
        &[
            Names("system/tests/doctor_outside/table.rs"),
            Then("system/tests/doctor_outside.rs", "table::"),
        ],
    ),
    claim(
        "xtask/equivalent-mutants.json",
        &[Names("xtask/src/mutants.rs")],
    ),
    claim(
        "xtask/gateway-cost.json",
        &[Names("xtask/src/bench/gateway/cost/mod.rs")],
    ),
    // The deployment kit.
    claim(
        "deploy/images/*/Containerfile",
        &[Names("xtask/src/containers.rs")],
    ),
    claim("deploy/compose/*.conf", &[Names(COMPOSE)]),
    claim("deploy/compose/*.yaml", &[Names(COMPOSE)]),
    claim("deploy/compose/traefik*.yml", &[Names(COMPOSE)]),
    claim("deploy/compose/Caddyfile", &[Names(COMPOSE)]),
    claim(
        "deploy/compose/services/app.yaml",
        &[Names("deploy/compose/https.yaml"), Names(COMPOSE)],
    ),
    claim(
        "deploy/compose/services/nginx.yaml",
        &[
            Names("deploy/compose/https.yaml"),
            Then(COMPOSE, "\"https\""),
        ],
    ),
    claim(
        "deploy/compose/services/caddy.yaml",
        &[
            Names("deploy/compose/caddy.yaml"),
            Then(COMPOSE, "\"caddy\""),
        ],
    ),
    claim(
        "deploy/compose/services/traefik.yaml",
        &[
            Names("deploy/compose/traefik.yaml"),
            Then(COMPOSE, "\"traefik\""),
        ],
    ),
    claim("deploy/helm/fluxlit-edge/Chart.yaml", CHART),
    claim("deploy/helm/fluxlit-edge/values*", CHART),
    claim("deploy/helm/fluxlit-edge/templates/**", CHART),
    claim(
        "deploy/helm/fluxlit-edge/files/rules.yaml",
        &[Names(MONITORING)],
    ),
    claim(
        "deploy/helm/fluxlit-edge/files/dashboards/*.json",
        &[Reads(MONITORING, "helm/fluxlit-edge/files/dashboards")],
    ),
    claim(
        "deploy/helm/values/*.yaml",
        &[Reads("system/tests/kubernetes.rs", "helm/values")],
    ),
    claim("deploy/kubernetes/overlays/*/kustomization.yaml", OVERLAYS),
    claim(
        "deploy/kubernetes/components/site/kustomization.yaml",
        &[
            Reads(
                "deploy/kubernetes/overlays/ingress/kustomization.yaml",
                "components/site",
            ),
            Reads("system/tests/kubernetes/overlays.rs", "kubernetes"),
        ],
    ),
    claim(
        "deploy/kubernetes/base/kustomization.yaml",
        &[
            Then(
                "deploy/kubernetes/overlays/ingress/kustomization.yaml",
                "../../base",
            ),
            Reads("system/tests/kubernetes/overlays.rs", "kubernetes"),
        ],
    ),
    claim(
        "deploy/kubernetes/**/[!k]*.yaml",
        &[
            Beside("kustomization.yaml"),
            Reads("system/tests/kubernetes/overlays.rs", "kubernetes"),
        ],
    ),
    claim("deploy/monitoring/*.y*ml", &[Names(MONITORING)]),
];

/// Who reads the configurations that the gateway prints for its own tests.
const PRINTED_FRONTS: &[Evidence] = &[
    Names("envoy/src/front.rs"),
    Then("xtask/src/browser.rs", "Front::"),
];

const CHECK: &str = "xtask/src/check.rs";
const STEPS: &str = "xtask/src/test.rs";
const COMPOSE: &str = "system/tests/compose.rs";
const MONITORING: &str = "system/tests/monitoring.rs";
const LOCK_FILES: &[Evidence] = &[Then(CHECK, "\"metadata\", \"--locked\"")];
const CHART: &[Evidence] = &[Reads("system/tests/kubernetes.rs", "helm/fluxlit-edge")];
const OVERLAYS: &[Evidence] = &[Reads("system/tests/kubernetes/overlays.rs", "overlays")];

/// Says who reads the files that a pattern matches.
const fn claim(files: &'static str, evidence: &'static [Evidence]) -> Claim {
    Claim { files, evidence }
}

/// Checks every configuration file that git tracks or would add.
pub(crate) fn check() -> anyhow::Result<()> {
    let files = list(&KINDS)?;
    let claimed: Vec<Vec<String>> = CLAIMS
        .iter()
        .map(|claim| list(&[claim.files]))
        .collect::<anyhow::Result<_>>()?;
    let mut faults = faults(&files, CLAIMS, &claimed, &|path| {
        std::fs::read_to_string(root().join(path)).ok()
    });
    for file in &files {
        let text = std::fs::read_to_string(root().join(file))
            .with_context(|| format!("cannot read {file}"))?;
        if let Err(fault) = parse(file, &text) {
            faults.push(format!("{file}: {fault}"));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Lists the files that match one of these patterns.
fn list(patterns: &[&str]) -> anyhow::Result<Vec<String>> {
    let patterns: Vec<String> = patterns
        .iter()
        .map(|pattern| format!(":(glob){pattern}"))
        .collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    Ok(repository_files(&patterns)?.into_iter().collect())
}

/// Returns what is wrong with the claims, and the files that none of them covers.
///
/// `claimed` has the files of each claim, and `source` returns the text of a source file.
fn faults(
    files: &[String],
    claims: &[Claim],
    claimed: &[Vec<String>],
    source: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut readers: BTreeMap<&str, usize> = files.iter().map(|file| (&**file, 0)).collect();
    for (claim, claimed) in claims.iter().zip(claimed) {
        let pattern = claim.files;
        if claimed.is_empty() {
            faults.push(format!("{pattern}: the claim matches no file: delete it"));
        }
        for file in claimed {
            if let Some(count) = readers.get_mut(&**file) {
                *count += 1;
            }
        }
        for evidence in claim.evidence {
            faults.extend(
                refute(evidence, claimed, source)
                    .into_iter()
                    .map(|fault| format!("{pattern}: {fault}")),
            );
        }
        let last = claim.evidence.last().map_or("", Evidence::file);
        if let Err(fault) = ends_at_a_test(last, source) {
            faults.push(format!("{pattern}: {fault}"));
        }
    }
    for (file, count) in readers {
        match count {
            0 => faults.push(format!(
                "{file}: no test reads this file: write one, and claim the file in xtask/src/configuration_files.rs"
            )),
            1 => {}
            _ => faults.push(format!("{file}: {count} claims match this file")),
        }
    }
    faults
}

impl Evidence {
    /// Returns the file that the evidence is in, from the root of the repository; empty if it depends on the claimed file.
    fn file(&self) -> &str {
        match self {
            Names(file) | Reads(file, _) | Then(file, _) => file,
            Beside(_) => "",
        }
    }
}

/// Returns why the evidence does not hold.
fn refute(
    evidence: &Evidence,
    claimed: &[String],
    source: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let text = |file: &str| source(file).ok_or_else(|| vec![format!("{file} does not exist")]);
    let result = match evidence {
        Names(file) => text(file).map(|text| {
            let unnamed = claimed.iter().filter(|path| !is_named(path, &text));
            unnamed
                .map(|path| format!("{file} does not name {path}"))
                .collect()
        }),
        Reads(file, folder) => text(file).map(|text| {
            let other = claimed.iter().filter(|path| !path.contains(folder));
            let mut faults: Vec<String> = other
                .map(|path| format!("{path} is not in `{folder}`"))
                .collect();
            if !text.contains(folder) {
                faults.push(format!("{file} does not name `{folder}`"));
            }
            faults
        }),
        Beside(name) => Ok(claimed
            .iter()
            .filter(|path| {
                let other = Path::new(path).with_file_name(name);
                source(&other.to_string_lossy()).is_none_or(|text| !is_named(path, &text))
            })
            .map(|path| format!("the {name} in its folder does not name {path}"))
            .collect()),
        Then(file, wanted) => text(file).map(|text| {
            let missing = !text.contains(wanted);
            Vec::from_iter(missing.then(|| format!("{file} has no `{wanted}`")))
        }),
    };
    result.unwrap_or_else(|fault| fault)
}

/// Returns true if the text has the name of the file, or its stem in quotes.
fn is_named(path: &str, text: &str) -> bool {
    let path = Path::new(path);
    let [Some(name), Some(stem)] = [path.file_name(), path.file_stem()] else {
        return false;
    };
    text.contains(&*name.to_string_lossy())
        || text.contains(&format!("\"{}\"", stem.to_string_lossy()))
}

/// Checks that a source file is a test that runs, or a part of `cargo xtask` or of continuous integration.
fn ends_at_a_test(file: &str, source: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    if file.starts_with("xtask/src/") || file.starts_with(".ci/") {
        return Ok(());
    }
    if !source(file).is_some_and(|text| text.contains("#[test]")) {
        return Err(format!("the evidence ends at `{file}`, which has no test"));
    }
    // Cargo runs the tests of the other packages without being told their names.
    let Some((_, test)) = file
        .split_once('/')
        .filter(|(package, _)| ["envoy", "system"].contains(package))
    else {
        return Ok(());
    };
    let test = test.trim_start_matches("tests/");
    let test = test.split(['/', '.']).next().unwrap_or_default();
    let steps = source(STEPS).unwrap_or_default();
    if steps.contains(&format!("\"{test}\"")) {
        Ok(())
    } else {
        Err(format!("no step of {STEPS} runs the test `{test}`"))
    }
}

/// Checks that a file can be parsed, if there is a parser for its kind. Templates of Helm are no YAML yet, and case files may
/// have comments, so the tests that read them do it.
fn parse(file: &str, text: &str) -> Result<(), String> {
    let extension = Path::new(file).extension().unwrap_or_default();
    match &*extension.to_string_lossy() {
        "json" if !text.contains("cases.schema.json\"") => serde_json::from_str::<Value>(text)
            .map(drop)
            .map_err(|error| error.to_string()),
        "toml" | "lock" => toml::from_str::<toml::Table>(text)
            .map(drop)
            .map_err(|error| error.to_string()),
        "yaml" | "yml" if !file.contains("/templates/") => {
            serde_saphyr::from_multiple::<Value>(text)
                .map(drop)
                .map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

/// Patterns of the files that have to be claimed.
const KINDS: [&str; 15] = [
    "**/*.cfg",
    "**/*.conf",
    "**/*.ini",
    "**/*.json",
    "**/*.lock",
    "**/*.properties",
    "**/*.toml",
    "**/*.tpl",
    "**/*.vcl",
    "**/*.xml",
    "**/*.yaml",
    "**/*.yml",
    "**/Caddyfile",
    "**/Containerfile",
    "**/Dockerfile",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Files, by path and text.
    const FILES: [(&str, &str); 7] = [
        ("app/a.yaml", ""),
        ("app/b.yaml", ""),
        ("app/all.txt", "a.yaml, b.yaml"),
        ("system/tests/one.rs", "#[test] fn reads() { a.yaml; app }"),
        ("system/tests/lost.rs", "#[test] fn reads() { a.yaml }"),
        ("system/src/lib.rs", "include_str!(a.yaml)"),
        (STEPS, "run(\"one\")"),
    ];

    fn source(path: &str) -> Option<String> {
        let found = FILES.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned())
    }

    /// Claims `claimed` with this evidence, in a repository with the file `app/a.yaml`.
    #[track_caller]
    fn check(claimed: &[&str], evidence: &'static [Evidence], expected: &[&str]) {
        let files = ["app/a.yaml".to_owned()];
        let claimed: Vec<String> = claimed.iter().map(|file| (*file).to_owned()).collect();
        let found = faults(&files, &[claim("PATTERN", evidence)], &[claimed], &source);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_a_running_test_names_is_read() {
        check(&["app/a.yaml"], &[Names("system/tests/one.rs")], &[]);
        check(&["app/a.yaml"], &[Reads("system/tests/one.rs", "app")], &[]);
        check(
            &["app/a.yaml", "app/b.yaml"],
            &[Beside("all.txt"), Reads("system/tests/one.rs", "app")],
            &[],
        );
        check(
            &["app/a.yaml"],
            &[
                Names("system/src/lib.rs"),
                Then("system/tests/one.rs", "fn reads()"),
            ],
            &[],
        );
    }

    #[test]
    fn a_file_without_a_claim_is_a_fault() {
        check(
            &["app/b.yaml"],
            &[Reads("system/tests/one.rs", "app")],
            &[
                "app/a.yaml: no test reads this file: write one, and claim the file in xtask/src/configuration_files.rs",
            ],
        );
    }

    #[test]
    fn a_claim_without_a_file_is_a_fault() {
        let files = [];
        let claims = [claim("PATTERN", &[Reads("system/tests/one.rs", "app")])];
        assert_eq!(
            faults(&files, &claims, &[vec![]], &source),
            ["PATTERN: the claim matches no file: delete it"]
        );
    }

    #[test]
    fn evidence_that_has_moved_is_a_fault() {
        check(
            &["app/a.yaml"],
            &[Names("system/tests/two.rs"), Names("system/tests/one.rs")],
            &["PATTERN: system/tests/two.rs does not exist"],
        );
        check(
            &["app/a.yaml"],
            &[Reads("system/tests/one.rs", "elsewhere")],
            &[
                "PATTERN: app/a.yaml is not in `elsewhere`",
                "PATTERN: system/tests/one.rs does not name `elsewhere`",
            ],
        );
        check(
            &["app/a.yaml"],
            &[
                Names("system/src/lib.rs"),
                Then("system/tests/one.rs", "other()"),
            ],
            &["PATTERN: system/tests/one.rs has no `other()`"],
        );
        check(
            &["app/a.yaml"],
            &[Beside("none.txt"), Names("system/tests/one.rs")],
            &["PATTERN: the none.txt in its folder does not name app/a.yaml"],
        );
    }

    #[test]
    fn a_test_that_does_not_run_is_a_fault() {
        check(
            &["app/a.yaml"],
            &[Names("system/tests/lost.rs")],
            &["PATTERN: no step of xtask/src/test.rs runs the test `lost`"],
        );
        check(
            &["app/a.yaml"],
            &[Names("system/src/lib.rs")],
            &["PATTERN: the evidence ends at `system/src/lib.rs`, which has no test"],
        );
    }

    #[test]
    fn two_claims_for_a_file_are_a_fault() {
        let files = ["app/a.yaml".to_owned()];
        let evidence = &[Reads("system/tests/one.rs", "app")];
        let claims = [claim("ONE", evidence), claim("TWO", evidence)];
        let claimed = [files.to_vec(), files.to_vec()];
        assert_eq!(
            faults(&files, &claims, &claimed, &source),
            ["app/a.yaml: 2 claims match this file"]
        );
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_a_fault() {
        for (file, text) in [
            ("a.json", "{,}"),
            ("a.toml", "a = "),
            ("a.yaml", "a: [1"),
            ("a.yaml", "a: 1\na: 2"),
        ] {
            assert!(parse(file, text).is_err(), "{file}: {text}");
        }
        assert_eq!(parse("a.yaml", "a: 1\n---\nb: 2"), Ok(()));
        assert_eq!(
            parse("chart/templates/a.yaml", "{{- if .Values.a }}"),
            Ok(())
        );
    }
}
