//! Compares the checks under FluxLit's names with the statuses that FluxLit 0.13.2 gives.

use std::path::Path;

use fluxlit_doctor::app::invalid_settings;
use fluxlit_doctor::fluxlit::{Facts, Shadow};
use fluxlit_doctor::{CheckSelection, Status};

/// What a check says of these facts.
pub(crate) struct Row {
    pub(crate) check: &'static str,
    facts: Facts,
    pub(crate) status: Status,
    says: &'static str,
}

/// Returns the table. Modules that are looked for are files in `folder`.
pub(crate) fn rows(folder: &Path) -> Vec<Row> {
    [
        forwarded_allow_ips(),
        proxy_headers(),
        public_base_url(),
        rejected_names(),
        import_shadowing(folder),
    ]
    .concat()
    .into_iter()
    .map(|(check, facts, status, says)| Row {
        check,
        facts,
        status,
        says,
    })
    .collect()
}

type Entry = (&'static str, Facts, Status, &'static str);

fn forwarded_allow_ips() -> Vec<Entry> {
    let trusting = |list: &str| Facts {
        trusts_proxy: true,
        forwarded_allow_ips: list.to_owned(),
        ..Facts::default()
    };
    let check = "forwarded_allow_ips";
    vec![
        (
            check,
            Facts::default(),
            Status::Skipped,
            "trust_proxy is off",
        ),
        (check, trusting("10.0.0.7"), Status::Pass, "10.0.0.7"),
        (check, trusting("*"), Status::Warn, "broad (*)"),
        // FluxLit passes this one.
        (
            check,
            trusting("10.0.0.7, 0.0.0.0/0"),
            Status::Warn,
            "broad",
        ),
        // FluxLit warns, and trusts everybody; the gateway refuses to start.
        (check, trusting(""), Status::Fail, "is not set"),
    ]
}

fn mounted(trusts_proxy: bool, url: &str) -> Facts {
    Facts {
        trusts_proxy,
        mount: "/apps/my-app".to_owned(),
        public_base_url: url.to_owned(),
        ..Facts::default()
    }
}

fn proxy_headers() -> Vec<Entry> {
    let check = "proxy_headers";
    vec![
        (check, Facts::default(), Status::Skipped, "no mount"),
        (check, mounted(true, ""), Status::Pass, "trust_proxy is on"),
        (
            check,
            mounted(false, ""),
            Status::Warn,
            "trust_proxy is off",
        ),
    ]
}

fn public_base_url() -> Vec<Entry> {
    let check = "public_base_url";
    let with = |url: &str| mounted(true, url);
    let (own, other) = (
        "https://portal.example.com",
        "https://portal.example.com/other",
    );
    let (right, slash) = (format!("{own}/apps/my-app"), format!("{own}/apps/my-app/"));
    vec![
        (check, Facts::default(), Status::Skipped, "not set"),
        (check, with(&right), Status::Pass, "portal"),
        (check, with(&slash), Status::Pass, "portal"),
        (check, with(own), Status::Pass, "portal"),
        (check, with(other), Status::Warn, "`/other`"),
        (
            check,
            with("portal.example.com/apps"),
            Status::Fail,
            "not an absolute URL",
        ),
    ]
}

fn rejected_names() -> Vec<Entry> {
    let listing = |names: &[&str]| Facts {
        forwarded_headers: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Facts::default()
    };
    let check = "gateway_forward_rejected_names";
    let rejected = listing(&["Cookie", "x-tenant", " AUTHORIZATION", "cookie"]);
    vec![
        (check, Facts::default(), Status::Skipped, "is not set"),
        (check, listing(&["X-Tenant"]), Status::Pass, "none"),
        (check, rejected, Status::Warn, ": authorization, cookie"),
    ]
}

/// A module that is found twice shadows another.
fn import_shadowing(folder: &Path) -> Vec<Entry> {
    let [none, one, two] = ["none", "one", "two"].map(|name| folder.join(name));
    for module in [
        none.join("other.py"),
        one.join("app.py"),
        two.join("app/__init__.py"),
    ] {
        let parent = module.parent().expect("a folder");
        std::fs::create_dir_all(parent).expect("folders");
        std::fs::write(&module, "").expect("a file");
    }
    let facts = |target: &str, paths: &[&Path]| Facts {
        target: Some(target.to_owned()),
        import_paths: paths.iter().map(|path| path.to_path_buf()).collect(),
        ..Facts::default()
    };
    // A file next to the app hides a package.
    let beside = |target: &str| Facts {
        target: Some(target.to_owned()),
        shadows: vec![Shadow {
            name: "fastapi".to_owned(),
            file: "/app/fastapi.py".into(),
            hidden: "/venv/fastapi/__init__.py".into(),
        }],
        ..Facts::default()
    };
    let hides = "`import fastapi` finds /app/fastapi.py instead of /venv/fastapi/__init__.py";
    let alone = "hides another module";
    let all = [&*one, &*two, &*one];
    let check = "import_shadowing";
    let nowhere = "no top-level file or package";
    vec![
        (check, Facts::default(), Status::Skipped, "no app is named"),
        (check, facts("app:app", &[&none]), Status::Pass, nowhere),
        // The same folder twice is one place.
        (
            check,
            facts("app:app", &[&one, &none, &one]),
            Status::Pass,
            "one/app.py",
        ),
        (
            check,
            facts("app:app", &all),
            Status::Warn,
            "several places",
        ),
        // A file, or a module in a package, has one place.
        (check, facts("package.app:app", &all), Status::Pass, alone),
        (check, facts("./app.py:app", &all), Status::Pass, alone),
        (check, facts("app.py", &all), Status::Pass, alone),
        (check, beside("app:app"), Status::Warn, hides),
        (check, beside("./app.py:app"), Status::Warn, hides),
        (check, beside("app.py"), Status::Warn, hides),
    ]
}

#[test]
fn invalid_settings_are_reported_with_their_warnings() {
    let folder = tempfile::tempdir().expect("a folder");
    let facts = &rows(folder.path())[0].facts;
    let selection = CheckSelection::new(&["D01".to_owned(), "D02".to_owned()], &[]);
    let (error, warning) = (["an error".to_owned()], ["a warning".to_owned()]);
    let findings = invalid_settings(&error, &warning, facts, &selection.expect("checks"));
    let found: Vec<_> = findings
        .iter()
        .map(|finding| (finding.check.id, finding.status, finding.finding.as_str()))
        .collect();
    let expected = [
        ("D01", Status::Fail, "an error"),
        ("D01", Status::Warn, "a warning"),
        ("D02", Status::Skipped, "the settings are invalid; see D01"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn statuses_are_those_of_fluxlit() {
    let folder = tempfile::tempdir().expect("a folder");
    for row in rows(folder.path()) {
        let name = format!("{} {:?}", row.check, row.facts);
        let selection = CheckSelection::new(&[row.check.to_owned()], &[]).expect("a check");
        let findings = invalid_settings(&[], &[], &row.facts, &selection);
        let [finding] = findings.as_slice() else {
            panic!("{name}: {findings:?}");
        };
        assert_eq!(finding.status, row.status, "{name}: {}", finding.finding);
        assert!(
            finding.finding.contains(row.says),
            "{name}: {}",
            finding.finding
        );
        assert_eq!(finding.hint.is_some(), row.status >= Status::Warn, "{name}");
    }
}
