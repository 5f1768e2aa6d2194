//! Compares the tables of the tests with the list of checks. Those of an app are compared in `system/tests/doctor_inside.rs`.

use std::collections::BTreeSet;

use fluxlit_doctor::{Check, FLUXLIT, LINT, PROBE, Status};

use crate::{fluxlit_rows, lint, probe};

/// Checks whose failing case needs more than a scripted front, with the test that has it.
const FAILING_ELSEWHERE: [(&str, &str); 2] = [
    (
        "P24",
        "assets: a_response_is_buffered_if_only_the_front_delays_its_head",
    ),
    ("F05", "system: the_counters_of_another_envoy_do_not_move"),
];

/// Checks whose passing case needs more than a scripted front, with the test that has it.
const PASSING_ELSEWHERE: [(&str, &str); 2] = [
    (
        "P24",
        "assets: a_response_is_buffered_if_only_the_front_delays_its_head",
    ),
    ("F05", "system: the_dump_of_a_running_envoy_is_linted"),
];

#[track_caller]
fn compare(catalogue: &[Check], tested: impl Iterator<Item = &'static str>, case: &str) {
    let tested: BTreeSet<&str> = tested.collect();
    for check in catalogue {
        assert!(tested.contains(check.id), "{} has no {case} case", check.id);
    }
}

#[test]
fn each_check_of_an_edge_and_of_a_configuration_fails_in_a_test() {
    let elsewhere = || FAILING_ELSEWHERE.iter().map(|(id, _)| *id);
    let probed = probe::failing();
    let probed = probed.iter().map(|row| row.check).chain(elsewhere());
    compare(&PROBE, probed, "failing");
    let linted = lint::failing().into_iter().chain(elsewhere());
    compare(&LINT, linted, "failing");
}

#[test]
fn each_check_of_an_edge_and_of_a_configuration_passes_in_a_test() {
    let elsewhere = || PASSING_ELSEWHERE.iter().map(|(id, _)| *id);
    let probed = probe::passing();
    let probed = probed.iter().flat_map(|pass| pass.checks.iter().copied());
    compare(&PROBE, probed.chain(elsewhere()), "passing");
    let linted = lint::passing().into_iter().chain(elsewhere());
    compare(&LINT, linted, "passing");
}

#[test]
fn each_check_of_fluxlit_fails_in_a_test_and_passes_in_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = fluxlit_rows::rows(folder.path());
    let with = |is_wanted: fn(Status) -> bool| {
        let rows = rows.iter().filter(move |row| is_wanted(row.status));
        rows.map(|row| row.check)
    };
    compare(&FLUXLIT, with(|status| status >= Status::Warn), "failing");
    compare(&FLUXLIT, with(|status| status == Status::Pass), "passing");
}
