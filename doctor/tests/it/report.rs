//! Compares the forms of a report.

use fluxlit_doctor::{
    APP, CheckSelection, FLUXLIT, Finding, Report, Status, UnknownCheck, progress,
};

fn report(findings: Vec<Finding>) -> Report {
    Report {
        target: "app.py".to_owned(),
        findings,
        is_strict: false,
        is_lenient: false,
    }
}

fn findings() -> Vec<Finding> {
    vec![
        Finding::pass(&APP[0], "the settings are valid"),
        Finding::warn(&APP[4], "CORS protection is off")
            .hint("remove it")
            .evidence("status", "101"),
        Finding::skipped(&FLUXLIT[1], "the app has no mount"),
    ]
}

#[test]
fn the_text_has_one_line_for_each_finding() {
    let text = report(findings()).text(false);
    assert_eq!(
        text,
        "warn  D05 ws-origin     CORS protection is off\n\
         \x20                       status: 101\n\
         \x20                       hint: remove it\n\
         \x20                       see docs/doctor.md#d05-ws-origin\n\
         ok    D01 trust-config  the settings are valid\n\
         skip  proxy_headers     skipped (because the app has no mount)\n\
         \n\
         app.py: 1 passed, 1 warnings, 0 failed, 1 skipped\n"
    );
    assert!(
        report(findings())
            .text(true)
            .contains("\u{1b}[33mwarn\u{1b}[0m")
    );
}

#[test]
fn a_check_that_has_ended_is_one_line_with_the_worst() {
    for (findings, line) in [
        (
            vec![Finding::pass(&APP[0], "valid")],
            "ok    D01 trust-config",
        ),
        (
            vec![
                Finding::fail(&APP[4], "no origin is checked"),
                Finding::skipped(&APP[4], "no page"),
            ],
            "fail  D05 ws-origin: no origin is checked",
        ),
    ] {
        assert_eq!(progress(&findings).as_deref(), Some(line));
    }
    assert_eq!(progress(&[]), None);
}

/// One failure is not hidden by what is skipped because of it.
#[test]
fn checks_that_are_skipped_for_the_same_reason_are_one_line() {
    let findings = vec![
        Finding::skipped(&APP[0], "TLS fails"),
        Finding::skipped(&APP[1], "the app has no mount"),
        Finding::skipped(&APP[2], "TLS fails"),
        Finding::fail(&APP[3], "no certificate"),
    ];
    assert_eq!(
        report(findings.clone()).text(false),
        "fail  D04 base-vs-mount  no certificate\n\
         skip  2 checks           skipped (because TLS fails): D01, D03\n\
         skip  D02 generation     skipped (because the app has no mount)\n\
         \n\
         app.py: 0 passed, 0 warnings, 1 failed, 3 skipped\n"
    );
    let json = report(findings).json();
    assert_eq!(json["checks"].as_array().expect("checks").len(), 4);
}

#[test]
fn a_report_in_which_nothing_was_checked_has_failed() {
    let report = report(vec![Finding::skipped(&APP[0], "the app has no mount")]);
    assert!(report.has_failed());
    assert_eq!(report.json()["status"], "fail");
    assert!(
        report
            .text(false)
            .ends_with("1 skipped: nothing could be checked\n")
    );
}

#[test]
fn the_json_can_be_read_like_that_of_fluxlit() {
    let json = report(findings()).json();
    assert_eq!(json["status"], "warn");
    assert_eq!(json["target"], "app.py");
    assert_eq!(json["warnings_only"], false);
    assert_eq!(json["checks"][2]["name"], "proxy_headers");
    assert_eq!(json["checks"][2]["status"], "SKIPPED");
    assert_eq!(json["checks"][1]["id"], "D05");
    assert_eq!(json["checks"][1]["status"], "WARN");
    assert_eq!(json["checks"][1]["detail"], "CORS protection is off");
    assert_eq!(json["checks"][1]["evidence"]["status"], "101");
}

#[test]
fn junit_counts_skipped_checks_and_failures() {
    let strict = Report {
        is_strict: true,
        ..report(findings())
    };
    for (report, counts) in [
        (
            report(findings()),
            "tests=\"3\" skipped=\"1\" errors=\"0\" failures=\"0\"",
        ),
        (
            strict,
            "tests=\"3\" skipped=\"1\" errors=\"0\" failures=\"1\"",
        ),
    ] {
        let xml = report.junit().expect("XML");
        assert!(xml.contains(counts), "{xml}");
    }
}

#[test]
fn the_options_decide_what_a_failure_is() {
    for (status, is_strict, is_lenient, has_failed) in [
        (Status::Pass, true, false, false),
        (Status::Skipped, false, false, true),
        (Status::Skipped, false, true, false),
        (Status::Warn, false, false, false),
        (Status::Warn, true, false, true),
        (Status::Fail, false, false, true),
        (Status::Fail, false, true, false),
    ] {
        let finding = Finding {
            status,
            ..Finding::pass(&APP[0], "x")
        };
        let report = Report {
            is_strict,
            is_lenient,
            ..report(vec![finding])
        };
        assert_eq!(
            report.has_failed(),
            has_failed,
            "{status:?} {is_strict} {is_lenient}"
        );
    }
}

#[test]
fn checks_are_selected_by_id_or_name() {
    let selection = |only: &[&str], skip: &[&str]| {
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        CheckSelection::new(&owned(only), &owned(skip))
    };
    let included = |selection: CheckSelection| {
        let included = APP.iter().filter(|check| selection.includes(check));
        included.map(|check| check.id).collect::<Vec<_>>()
    };
    assert_eq!(
        included(selection(&["d05", "WS-HEADERS"], &[]).unwrap()),
        ["D05", "D07"]
    );
    assert_eq!(
        included(selection(&["D05", "D07"], &["D07"]).unwrap()),
        ["D05"]
    );
    assert_eq!(included(selection(&[], &[]).unwrap()).len(), APP.len());
    let error: UnknownCheck = selection(&["D99"], &[]).unwrap_err();
    assert!(error.to_string().starts_with("`D99` is no check"));
}
