//! Checks each way to publish the app that the documentation describes, with real programs: fronts, forms of the path, http
//! and https, logins.
//!
//! `docs/smoke.md` shows the shapes and the checks. `FLUXLIT_TEST_SHAPES` selects shapes, `FLUXLIT_WRITE=1` writes the page.

#[path = "smoke/edge.rs"]
mod edge;
#[path = "smoke/login.rs"]
mod login;
#[path = "smoke/page.rs"]
mod page;
#[path = "smoke/parts.rs"]
mod parts;
#[path = "smoke/shape.rs"]
mod shape;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use edge::Edge;
use fluxlit_support::service::end_of;
use fluxlit_system::front::VARNISH_PARAMETERS;
use fluxlit_system::generated::check_page;
use fluxlit_system::published::Published;
use page::LOGIN;
use parts::Parts;
use shape::{Form, Shape};

#[test]
fn the_page_shows_the_shapes() {
    check_page("smoke.md", "system/tests/smoke", &page::text());
}

/// CI runs half of the shapes.
#[test]
fn half_of_the_shapes_has_each_form_over_http_and_over_https() {
    let half = Shape::half();
    for form in Form::ALL {
        for is_https in [false, true] {
            let has = |shape: &Shape| shape.form == form && shape.is_https == is_https;
            assert!(half.iter().any(has), "{} {is_https}", form.name());
        }
    }
    for shape in Shape::all() {
        let has = |other: &&Shape| other.front == shape.front;
        assert!(half.iter().any(|other| has(&other)), "{}", shape.name());
    }
}

#[test]
fn the_file_of_varnish_names_its_parameters() {
    for parameter in VARNISH_PARAMETERS {
        assert!(
            edge::VARNISH.contains(&format!("-p {parameter}")),
            "{parameter}"
        );
    }
}

#[test]
fn every_shape_publishes_the_app() {
    let shapes = Shape::selected();
    let parts = Parts::start();
    let rows = run(&shapes, &parts);

    let mut table = format!("{:<34}", "");
    for (check, _) in Published::CHECKS {
        let _ = write!(table, "{check:<18}");
    }
    table.push_str(LOGIN);
    let mut failures = String::new();
    for (shape, row) in shapes.iter().zip(&rows) {
        let name = shape.name();
        let _ = write!(table, "\n{name:<34}");
        for result in &row.results {
            let mark = match result {
                None => "–",
                Some(Ok(())) => "ok",
                Some(Err(_)) => "FAILED",
            };
            let _ = write!(table, "{mark:<18}");
        }
        let _ = write!(failures, "{}", row.failures(&name));
    }
    println!("{table}");
    assert!(failures.is_empty(), "\n{failures}");
}

/// What the checks of a shape have found, in the order of the columns; `None` where a check does not apply.
struct Row {
    results: Vec<Option<Result<(), String>>>,
    /// What has gone wrong before the checks, or the log of the front.
    log: String,
}

impl Row {
    fn of(shape: Shape, parts: &Parts) -> Self {
        let edge = match Edge::start(shape, parts) {
            Ok(edge) => edge,
            Err(error) => {
                let not_run = || Some(Err("it did not start, see below".to_owned()));
                let mut results: Vec<_> = Published::CHECKS.iter().map(|_| not_run()).collect();
                results.push(shape.front.has_login().then(not_run).flatten());
                return Self {
                    results,
                    log: error,
                };
            }
        };
        let mut results: Vec<_> = Published::CHECKS
            .iter()
            .map(|(_, check)| Some(check(&edge.published)))
            .collect();
        results.push(shape.front.has_login().then(|| edge.check_login()));
        Self {
            results,
            log: edge.log(),
        }
    }

    fn failures(&self, name: &str) -> String {
        let names = Published::CHECKS.iter().map(|(check, _)| *check);
        let mut failures = String::new();
        for (check, result) in names.chain([LOGIN]).zip(&self.results) {
            if let Some(Err(found)) = result {
                let _ = writeln!(failures, "{name}: {check}: {found}");
            }
        }
        if !failures.is_empty() {
            let _ = writeln!(failures, "{}", end_of(&self.log));
        }
        failures
    }
}

/// Runs the shapes, several at a time because they mostly wait; returns their rows in the order of the shapes.
fn run(shapes: &[Shape], parts: &Parts) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let run_next = || {
        let mut rows = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(shape) = shapes.get(index) else {
                return rows;
            };
            rows.push((index, Row::of(*shape, parts)));
            eprintln!("{} of {}: {}", index + 1, shapes.len(), shape.name());
        }
    };
    let mut rows: Vec<(usize, Row)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(run_next)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.flat_map(|rows| rows.expect("no panic")).collect()
    });
    rows.sort_unstable_by_key(|(index, _)| *index);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The number of shapes that run at the same time.
const AT_A_TIME: usize = 4;
