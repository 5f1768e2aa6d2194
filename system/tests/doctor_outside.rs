//! Creates the usual problems of Streamlit behind a proxy with real proxies, and checks that `fluxlit-gateway doctor --probe`
//! names the hop that is wrong and what to write there.
//!
//! The problems are in `doctor_outside/problems.yaml`; `docs/doctor-problems.md` shows the same. The variable
//! `FLUXLIT_TEST_DOCTOR` limits a run to problems and fronts: `8,12,haproxy`. `FLUXLIT_WRITE=1` writes the page.

#[path = "doctor_outside/edit.rs"]
mod edit;
#[path = "doctor_outside/hint.rs"]
mod hint;
#[path = "doctor_outside/page.rs"]
mod page;
#[path = "doctor_outside/probe.rs"]
mod probe;
#[path = "doctor_outside/stack.rs"]
mod stack;
#[path = "doctor_outside/table.rs"]
mod table;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use fluxlit_support::certificate::Certificate;
use fluxlit_system::front::Program;
use fluxlit_system::generated::check_page;
use hint::Hint;
use probe::{Found, probe, probe_while_reloading};
use stack::{HOST, MOUNT, Parts, Stack};
use table::{Case, Expected, Problem};

#[test]
fn the_page_shows_the_table() {
    check_page(
        "doctor-problems.md",
        "system/tests/doctor_outside/problems.yaml",
        &page::text(&table::problems()),
    );
}

#[test]
fn the_doctor_names_the_wrong_hop_and_the_cure() {
    let problems = table::problems();
    let parts = Parts::start();
    let jobs = jobs(&problems, &Wanted::read());
    let next = AtomicUsize::new(0);
    let run_next = || {
        let mut failures = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = std::panic::catch_unwind(|| job.run(&parts)).unwrap_or_else(said);
            if let Err(failure) = result {
                let failure = format!("── {}\n{failure}", job.name());
                // The other cases take some time.
                eprintln!("{failure}");
                failures.push(failure);
            }
        }
        failures
    };
    // The fronts mostly wait, so several are probed at the same time.
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(run_next)).collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended
            .flat_map(|failures| failures.expect("no panic"))
            .collect()
    });
    assert!(
        failures.is_empty(),
        "{} failures\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// A certificate without an authority lacks several things, and each hides the next one.
#[test]
fn the_command_of_the_hint_makes_a_certificate_that_is_accepted() {
    let mut parts = Parts::start();
    let nginx = |parts: &Parts| Stack::start(Program::Nginx, &Case::default(), parts, &[]);
    let mut stack = nginx(&parts).expect("nginx starts");
    let other = tempfile::tempdir().expect("a folder");
    stack.certificate = Certificate::create_files(other.path(), &[HOST])
        .expect("a certificate")
        .certificate;
    let found = probe(&stack, &["--only", "P01"]).expect("a report");
    assert_eq!(found[0].status, "FAIL", "{found:#?}");
    let command = found[0].hint.split('`').nth(1).expect("a command");
    let status = Command::new("sh")
        .args(["-c", command])
        .current_dir(other.path())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl runs").success(), "{command}");
    parts.set_certificate(other.path().join("cert.pem"), other.path().join("key.pem"));
    let stack = nginx(&parts).expect("nginx starts");
    let found = probe(&stack, &["--only", "P01"]).expect("a report");
    assert_eq!(found[0].status, "PASS", "{found:#?}");
}

/// A front with the printed configuration, or with a case of a problem.
struct Job<'a> {
    program: Program,
    case: Option<(&'a Problem, &'a Case)>,
}

impl Job<'_> {
    fn name(&self) -> String {
        match self.case {
            None => format!("{:?}, healthy", self.program),
            Some((problem, _)) => {
                format!("{:?}, {}. {}", self.program, problem.row, problem.title)
            }
        }
    }

    fn run(&self, parts: &Parts) -> Result<(), String> {
        match self.case {
            None => healthy(self.program, parts),
            Some((_, case)) => verify(self.program, case, parts),
        }
    }

    /// How long a WebSocket is held, in seconds.
    fn hold(&self) -> u8 {
        self.case.map_or(0, |(_, case)| case.hold)
    }
}

/// Returns what is to be done, the longest first.
fn jobs<'a>(problems: &'a [Problem], wanted: &Wanted) -> Vec<Job<'a>> {
    let fronts = || {
        let fronts = table::FRONTS.into_iter();
        fronts.filter(|program| wanted.has_front(*program))
    };
    let healthy = fronts().filter(|_| wanted.has_row(0));
    let mut jobs: Vec<Job<'a>> = healthy
        .map(|program| Job {
            program,
            case: None,
        })
        .collect();
    for problem in problems.iter().filter(|it| wanted.has_row(it.row)) {
        for case in &problem.cases {
            let fronts = fronts().filter(|program| case.fronts.contains(program));
            jobs.extend(fronts.map(|program| Job {
                program,
                case: Some((problem, case)),
            }));
        }
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.hold()));
    jobs
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the form of what `catch_unwind` returns"
)]
fn said(panic: Box<dyn std::any::Any + Send>) -> Result<(), String> {
    let text = panic.downcast_ref::<String>().cloned();
    Err(text.unwrap_or_else(|| "it panicked".to_owned()))
}

/// Nothing is found behind a front with the printed configuration.
fn healthy(program: Program, parts: &Parts) -> Result<(), String> {
    let stack = Stack::start(program, &Case::default(), parts, &[])?;
    let found = probe(&stack, &["--hold", "5"])?;
    silent(&found)
}

fn verify(program: Program, case: &Case, parts: &Parts) -> Result<(), String> {
    let (edits, mend) = (&case.edit, &case.mend);
    match &case.expected {
        Expected::None(_) => Ok(()),
        Expected::Prevented { checks, .. } => {
            let stack = Stack::start(program, case, parts, edits)?;
            if case.has_odd_octets {
                stack.send_odd_octets()?;
            }
            let found = probe_case(&stack, case, &checks.join(","), case.hold)?;
            silent(&found)?;
            let is_checked = |check: &String| {
                found
                    .iter()
                    .any(|found| found.check == *check && found.status == "PASS")
            };
            match checks.iter().find(|check| !is_checked(check)) {
                Some(check) => Err(format!("{check} did not run: {found:#?}")),
                None => Ok(()),
            }
        }
        Expected::Found {
            check,
            says,
            cure,
            silent: others,
            unaffected,
            is_alone,
        } => {
            let stack = Stack::start(program, case, parts, edits)?;
            let checks = [std::slice::from_ref(check), unaffected].concat().join(",");
            let selected = if *is_alone { ALL } else { &checks };
            let found = probe_case(&stack, case, selected, case.hold)?;
            let is_other = |found: &&Found| found.is_problem() && found.check != *check;
            let others_found: Vec<&Found> = found.iter().filter(is_other).collect();
            if *is_alone && !others_found.is_empty() {
                return Err(format!("only {check} should be found: {others_found:#?}"));
            }
            let is_unaffected = |name: &String| {
                let found: Vec<&Found> = found.iter().filter(|it| it.check == *name).collect();
                !found.is_empty() && found.iter().all(|it| it.status == "PASS")
            };
            if let Some(name) = unaffected.iter().find(|name| !is_unaffected(name)) {
                return Err(format!("{name} should pass: {found:#?}"));
            }
            let has_cure = |hint: &str| cure.as_ref().is_none_or(|cure| contains(hint, cure));
            let matching = |found: &&Found| {
                found.is_problem() && contains(&found.finding, says) && has_cure(&found.hint)
            };
            let Some(matching) = found.iter().find(matching) else {
                return Err(format!("expected: {says}\ncure: {cure:?}\n{found:#?}"));
            };
            let mut edits = [&edits[..], mend].concat();
            if cure.is_none() {
                let mended = if mend.is_empty() {
                    edits.clear();
                    stack.printed.clone()
                } else {
                    stack.mended(mend)?
                };
                let hint = Hint::read(&stack.place(&matching.hint));
                hint.separates(&stack.texts, &mended)?;
                if mended == stack.printed && case.is_plain() {
                    // Nothing is found in that one.
                    return Ok(());
                }
            } else if mend.is_empty() {
                return Ok(());
            }
            drop(stack);
            let healthy = Case {
                status: None,
                closes: false,
                ..case.clone()
            };
            let stack = Stack::start(program, &healthy, parts, &edits)?;
            // Each limit that the table sets is shorter.
            let hold = case.reload.map_or(Case::default().hold, |_| case.hold);
            let checks = [std::slice::from_ref(check), others].concat().join(",");
            let selected = if *is_alone { ALL } else { &checks };
            silent(&probe_case(&stack, case, selected, hold)?)
                .map_err(|found| format!("mended: {found}"))
        }
    }
}

/// Probes the front as the case says. `hold`: how long a WebSocket is held, in seconds.
fn probe_case(stack: &Stack, case: &Case, checks: &str, hold: u8) -> Result<Vec<Found>, String> {
    let hold = hold.to_string();
    let cookies = stack.folder().join("cookies");
    let cookies = cookies.to_str().ok_or("a path that is no text")?;
    let mut arguments = vec!["--hold", &hold];
    if checks != ALL {
        arguments.extend(["--only", checks]);
    }
    if !case.cookies.is_empty() {
        std::fs::write(cookies, &case.cookies).map_err(|error| error.to_string())?;
        arguments.extend(["--cookie-file", cookies]);
    }
    let direct = stack.place(&format!("http://127.0.0.1:8000{MOUNT}"));
    if case.has_direct {
        arguments.extend(["--direct", &direct]);
    }
    match case.reload {
        None => probe(stack, &arguments),
        Some(how) => probe_while_reloading(stack, &arguments, how),
    }
}

fn silent(found: &[Found]) -> Result<(), String> {
    let problems: Vec<&Found> = found.iter().filter(|found| found.is_problem()).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!("nothing should be found: {problems:#?}"))
    }
}

/// Returns true if the parts of `wanted` between `…` are in `text`, in this order.
fn contains(text: &str, wanted: &str) -> bool {
    let mut rest = text;
    wanted
        .split('…')
        .all(|part| match rest.split_once(part.trim()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
}

/// The problems and fronts that `FLUXLIT_TEST_DOCTOR` selects.
struct Wanted {
    rows: Vec<u8>,
    fronts: Vec<String>,
}

impl Wanted {
    fn read() -> Self {
        let text = std::env::var("FLUXLIT_TEST_DOCTOR").unwrap_or_default();
        let words = || text.split(',').filter(|word| !word.is_empty());
        Self {
            rows: words().filter_map(|word| word.parse().ok()).collect(),
            fronts: words()
                .filter(|word| word.parse::<u8>().is_err())
                .map(str::to_owned)
                .collect(),
        }
    }

    /// 0: the healthy stack.
    fn has_row(&self, row: u8) -> bool {
        self.rows.is_empty() || self.rows.contains(&row)
    }

    fn has_front(&self, program: Program) -> bool {
        self.fronts.is_empty() || self.fronts.iter().any(|front| front == program.front())
    }
}

/// The folder of the table.
fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctor_outside"))
}

/// Stands for all checks.
const ALL: &str = "";

/// How many fronts run at the same time.
const AT_ONCE: usize = 6;
