//! The filter, in tests that read as sentences and in a file of cases.

use std::path::Path;

use host_test::case_file::{CaseFile, Runner, Schedule};
use host_test::{Filter, Outcome, Properties, StartOptions, lines};

fn filter() -> Filter {
    let bytes = wat::parse_str(filter_with_tests::FILTER).expect("the text is right");
    Filter::from_bytes(&bytes).expect("the filter loads")
}

fn get(path: &str) -> Outcome {
    let plugin = filter().start(StartOptions::default()).expect("it starts");
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(lines(&[(":method", "GET"), (":path", path)]), true);
    stream.finish()
}

#[test]
fn what_is_private_is_forbidden() {
    let outcome = get("/private");
    assert_eq!(outcome.upstream, None);
    assert_eq!(outcome.local_reply.expect("an answer").status, 403);
}

#[test]
fn other_requests_are_marked() {
    let upstream = get("/public").upstream.expect("it goes on");
    assert_eq!(upstream.headers.get("x-checked"), Some(&b"yes"[..]));
}

#[test]
fn the_cases_are_met_under_every_schedule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases.json");
    let file = CaseFile::load(&path).expect("the file is right");
    let runner = Runner::new(filter());
    for case in &file.cases {
        for schedule in Schedule::ALL {
            let mismatches = runner
                .mismatches(&path, &file, case, schedule)
                .expect("it runs");
            assert!(
                mismatches.is_empty(),
                "{} ({schedule}): {mismatches:?}",
                case.name
            );
        }
    }
}
