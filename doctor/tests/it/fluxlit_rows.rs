//! Compares the checks under FluxLit's names with the statuses that FluxLit 0.13.2 gives.

use fluxlit_doctor::app::invalid_settings;
use fluxlit_doctor::fluxlit::{Facts, Shadow};
use fluxlit_doctor::{CheckSelection, Status};

#[track_caller]
fn check(name: &str, facts: &Facts, status: Status, says: &str) {
    let selection = CheckSelection::new(&[name.to_owned()], &[]).expect("a check");
    let findings = invalid_settings(&[], facts, &selection);
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.status, status, "{}", finding.finding);
    assert!(finding.finding.contains(says), "{}", finding.finding);
    assert_eq!(finding.hint.is_some(), status >= Status::Warn);
}

#[test]
fn statuses_are_those_of_fluxlit() {
    let facts = Facts::default();
    let trusting = |list: &str| Facts {
        trusts_proxy: true,
        forwarded_allow_ips: list.to_owned(),
        ..Facts::default()
    };
    check(
        "forwarded_allow_ips",
        &facts,
        Status::Skipped,
        "trust_proxy is off",
    );
    check(
        "forwarded_allow_ips",
        &trusting("10.0.0.7"),
        Status::Pass,
        "10.0.0.7",
    );
    check(
        "forwarded_allow_ips",
        &trusting("*"),
        Status::Warn,
        "broad (*)",
    );
    // FluxLit passes this one.
    check(
        "forwarded_allow_ips",
        &trusting("10.0.0.7, 0.0.0.0/0"),
        Status::Warn,
        "broad",
    );
    // FluxLit warns, and trusts everybody; the gateway refuses to start.
    check(
        "forwarded_allow_ips",
        &trusting(""),
        Status::Fail,
        "is not set",
    );

    let mounted = |trusts_proxy, url: &str| Facts {
        trusts_proxy,
        mount: "/apps/my-app".to_owned(),
        public_base_url: url.to_owned(),
        ..Facts::default()
    };
    check("proxy_headers", &facts, Status::Skipped, "no mount");
    check(
        "proxy_headers",
        &mounted(true, ""),
        Status::Pass,
        "trust_proxy is on",
    );
    check(
        "proxy_headers",
        &mounted(false, ""),
        Status::Warn,
        "trust_proxy is off",
    );

    check("public_base_url", &facts, Status::Skipped, "not set");
    for (url, status, says) in [
        (
            "https://portal.example.com/apps/my-app",
            Status::Pass,
            "portal",
        ),
        (
            "https://portal.example.com/apps/my-app/",
            Status::Pass,
            "portal",
        ),
        ("https://portal.example.com", Status::Pass, "portal"),
        ("https://portal.example.com/other", Status::Warn, "`/other`"),
        (
            "portal.example.com/apps",
            Status::Fail,
            "not an absolute URL",
        ),
    ] {
        check("public_base_url", &mounted(true, url), status, says);
    }

    let listing = |names: &[&str]| Facts {
        forwarded_headers: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Facts::default()
    };
    let name = "gateway_forward_rejected_names";
    check(name, &facts, Status::Skipped, "is not set");
    check(name, &listing(&["X-Tenant"]), Status::Pass, "none");
    check(
        name,
        &listing(&["Cookie", "x-tenant", " AUTHORIZATION", "cookie"]),
        Status::Warn,
        ": authorization, cookie",
    );
}

#[test]
fn a_module_that_is_found_twice_shadows_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    std::fs::create_dir_all(two.join("app")).expect("folders");
    std::fs::create_dir_all(&one).expect("a folder");
    let facts = |target: &str| Facts {
        target: Some(target.to_owned()),
        // The same folder twice is one place.
        import_paths: vec![one.clone(), two.clone(), one.clone()],
        ..Facts::default()
    };
    let name = "import_shadowing";
    check(name, &Facts::default(), Status::Skipped, "no app is named");
    check(
        name,
        &facts("app:app"),
        Status::Pass,
        "no top-level file or package",
    );
    std::fs::write(one.join("app.py"), "").expect("a file");
    check(name, &facts("app:app"), Status::Pass, "one/app.py");
    std::fs::write(two.join("app/__init__.py"), "").expect("a file");
    check(name, &facts("app:app"), Status::Warn, "several places");
    // A file, or a module in a package, has one place.
    for target in ["package.app:app", "./app.py:app", "app.py"] {
        check(name, &facts(target), Status::Pass, "hides another module");
    }
}

#[test]
fn a_file_next_to_the_app_hides_a_package() {
    let facts = |target: &str| Facts {
        target: Some(target.to_owned()),
        shadows: vec![Shadow {
            name: "fastapi".to_owned(),
            file: "/app/fastapi.py".into(),
            hidden: "/venv/fastapi/__init__.py".into(),
        }],
        ..Facts::default()
    };
    let says = "`import fastapi` finds /app/fastapi.py instead of /venv/fastapi/__init__.py";
    for target in ["app:app", "./app.py:app", "app.py"] {
        check("import_shadowing", &facts(target), Status::Warn, says);
    }
}
