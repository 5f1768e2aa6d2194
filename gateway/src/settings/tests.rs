//! Tests the settings as a whole: the places they are read from, their meanings, and how they fit together.

use fluxlit_policy::{Action, Edit, Header, Peer, Request, Response};

use super::*;

fn read(app: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().expect("a folder");
    read_in(folder.path(), app, environment)
}

/// Reads the settings in a folder that may have files.
fn read_in(
    folder: &std::path::Path,
    app: Option<&str>,
    environment: &[(&str, &str)],
) -> Result<Settings, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let app = app.map(|script| App::script(script.to_owned(), 8501, StreamlitFiles::default()));
    let sources = Sources::read(Vec::new(), None, folder, environment);
    Settings::read(app, sources).map_err(|errors| errors.to_string())
}

fn texts(settings: &Settings) -> Vec<String> {
    settings.warnings.iter().map(ToString::to_string).collect()
}

const UP: (&str, &str) = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501");

/// Its upload response allows `http://localhost:PORT` as an origin, whatever its address is.
#[test]
fn streamlit_calls_itself_localhost() {
    let policy = read(None, &[UP]).unwrap().policy;
    let exchange = policy
        .request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: true,
            method: b"PUT",
            target: b"/_stcore/upload_file/a/b",
            host: Some(b"app.example"),
            headers: &[],
        })
        .exchange;
    let allowed: Header<'_> = (
        b"access-control-allow-origin",
        b"http://localhost:8501/apps/my-app",
    );
    let response = Response {
        status: 204,
        headers: &[allowed],
    };
    let edits = policy.response(&exchange, &response).edits;
    let public = b"https://app.example".to_vec();
    let want = Edit::Set("access-control-allow-origin", &public);
    assert!(edits.iter().eq([want]), "{edits:?}");
}

#[test]
fn nothing_to_serve_is_an_error_with_a_hint() {
    let error = read(None, &[]).unwrap_err();
    assert!(
        error.contains("FLUXLIT_STREAMLIT_UPSTREAM=http://host:port"),
        "{error}"
    );
}

#[test]
fn all_errors_are_reported_together() {
    let error = read(
        None,
        &[
            UP,
            ("FLUXLIT_GATEWAY_PORT", "http"),
            ("FLUXLIT_TRUST_PROXY", "maybe"),
            ("FLUXLIT_ROOT_PATH", "/a/../b"),
            ("FLUXLIT_GRACE_PERIOD_S", "-1"),
        ],
    )
    .unwrap_err();
    for text in [
        "FLUXLIT_GATEWAY_PORT: `http`",
        "FLUXLIT_TRUST_PROXY: `maybe`",
        "E12",
        "FLUXLIT_GRACE_PERIOD_S: `-1`",
    ] {
        assert!(error.contains(text), "{text} is missing in {error}");
    }
}

#[test]
fn trust_without_a_list_is_an_error() {
    let error = read(None, &[UP, ("FLUXLIT_TRUST_PROXY", "1")]).unwrap_err();
    assert!(error.contains("E01"), "{error}");
}

#[test]
fn an_upstream_path_must_be_the_mount() {
    let error = read(
        None,
        &[
            ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501/other"),
            ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
        ],
    )
    .unwrap_err();
    assert!(
        error.contains("`/other`") && error.contains("`/apps/my-app`"),
        "{error}"
    );
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let settings = read(None, &[UP, ("FLUXLIT_ROOTPATH", "/x")]).unwrap();
    assert_eq!(
        texts(&settings),
        [
            "FLUXLIT_ROOTPATH is not a variable of the gateway or of FluxLit 0.13.2, so it has no effect on them: did you \
             mean FLUXLIT_ROOT_PATH?"
        ]
    );
}

#[test]
fn variables_of_a_kubernetes_service_are_not_settings() {
    let settings = read(
        None,
        &[
            UP,
            ("FLUXLIT_GATEWAY_PORT", "tcp://10.0.0.11:80"),
            ("FLUXLIT_GATEWAY_PORT_80_TCP", "tcp://10.0.0.11:80"),
            ("FLUXLIT_GATEWAY_PORT_80_TCP_ADDR", "10.0.0.11"),
            ("FLUXLIT_GATEWAY_PORT_80_TCP_PORT", "80"),
            ("FLUXLIT_GATEWAY_PORT_80_TCP_PROTO", "tcp"),
            ("FLUXLIT_GATEWAY_SERVICE_HOST", "10.0.0.11"),
            ("FLUXLIT_GATEWAY_SERVICE_PORT", "80"),
            ("FLUXLIT_GATEWAY_SERVICE_PORT_HTTP", "80"),
            ("FLUXLIT_GATEWAY_HOST", "::1"),
        ],
    )
    .unwrap();
    assert_eq!(settings.listen, "[::1]:8000".parse().unwrap());
    let warnings = texts(&settings);
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(
        warning.contains("`fluxlit-gateway`") && warning.contains("enableServiceLinks: false"),
        "{warning}"
    );
    // Other values are still errors.
    let error = read(None, &[UP, ("FLUXLIT_GATEWAY_PORT", "http://a:80")]).unwrap_err();
    assert!(error.contains("FLUXLIT_GATEWAY_PORT"), "{error}");
}

#[test]
fn fluxlit_s_name_of_the_grace_period_counts_if_ours_is_not_set() {
    const OURS: (&str, &str) = ("FLUXLIT_GRACE_PERIOD_S", "1");
    const FLUXLIT: (&str, &str) = ("FLUXLIT_UVICORN_GRACEFUL_SHUTDOWN_TIMEOUT_S", "2");
    let table = [
        (&[UP][..], 10, 0),
        (&[UP, FLUXLIT], 2, 0),
        (&[UP, FLUXLIT, OURS], 1, 1),
    ];
    for (environment, seconds, warnings) in table {
        let settings = read(None, environment).unwrap();
        assert_eq!(settings.grace_period, Duration::from_secs(seconds));
        assert_eq!(settings.warnings.len(), warnings);
    }
}

#[test]
fn the_headers_of_streamlit_s_user_are_protected() {
    const OPTION: &str = TRUSTED_USER_HEADERS;
    let mapping = (OPTION, r#"{"X-Login": "email"}"#);
    let pass = ("FLUXLIT_TRUSTED_PASS_HEADERS", "x-login");
    for (environment, count, warnings) in [
        (&[][..], 0, 0),
        (&[mapping], 1, 1),
        (&[mapping, pass], 1, 0),
    ] {
        let settings = read(Some("app.py"), environment).unwrap();
        assert_eq!(settings.trusted_user_headers.len(), count);
        assert_eq!(settings.warnings.len(), warnings, "{:?}", settings.warnings);
    }
    // A Streamlit that runs already has settings of its own.
    let settings = read(None, &[UP, mapping]).unwrap();
    assert_eq!(settings.trusted_user_headers.len(), 0);
    for (value, text) in [
        (r#"{"Host": "email"}"#, "\"Host\""),
        (r#"{"X-Real-IP": "email"}"#, "\"X-Real-IP\""),
        (r#"{"a b": "email"}"#, "\"a b\""),
        (r#"{"": "email"}"#, "server.trustedUserHeaders"),
        ("x", "`x`"),
    ] {
        let error = read(Some("app.py"), &[(OPTION, value)]).unwrap_err();
        assert!(error.contains(text), "{text} is missing in {error}");
    }
}

/// Writes files into a new folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

#[test]
fn the_documented_file_is_valid() {
    let text = include_str!("../../../docs/gateway.md");
    let (_, text) = text.split_once("```toml\n").expect("an example");
    let (text, _) = text.split_once("```").expect("its end");
    let folder = folder(&[("fluxlit.toml", text)]);
    let settings = read_in(folder.path(), None, &[UP]).expect("settings");
    assert_eq!(settings.policy.mount(), "/apps/my-app");
    assert!(settings.rules.len() > 3);
}

#[test]
fn the_place_that_takes_precedence_is_the_origin() {
    const NAME: &str = "FLUXLIT_ROOT_PATH";
    let folder = folder(&[
        (".env", "# settings\nFLUXLIT_ROOT_PATH=/dot-env\n"),
        ("fluxlit.toml", "\nroot_path = \"/file\"\n"),
    ]);
    let without = tempfile::tempdir().expect("a folder");
    let flag = Flag {
        name: "--root-path",
        variable: NAME,
        value: "/flag".to_owned(),
    };
    let variable = (NAME, "/environment");
    for (flags, environment, place, mount, origin) in [
        (
            vec![flag],
            &[UP, variable][..],
            &folder,
            "/flag",
            "--root-path",
        ),
        (
            vec![],
            &[UP, variable],
            &folder,
            "/environment",
            "environment",
        ),
        (vec![], &[UP], &folder, "/dot-env", ".env:2"),
        (vec![], &[UP], &without, "", "default"),
    ] {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let sources = Sources::read(flags, None, place.path(), environment);
        let settings = Settings::read(None, sources).expect("settings");
        assert_eq!(settings.policy.mount(), mount);
        let setting = settings.table.iter().find(|setting| setting.name == NAME);
        let found = setting.expect("it is listed").origin.to_string();
        assert!(found.ends_with(origin), "{found} instead of {origin}");
    }
    std::fs::remove_file(folder.path().join(".env")).expect("a file");
    let settings = read_in(folder.path(), None, &[UP]).expect("settings");
    assert_eq!(settings.policy.mount(), "/file");
    // FluxLit's names have no case.
    let lower = ("fluxlit_root_path", "/lower");
    let settings = read_in(folder.path(), None, &[UP, lower]).expect("settings");
    assert_eq!(settings.policy.mount(), "/lower");
    let settings = read_in(folder.path(), None, &[UP, lower, variable]).expect("settings");
    assert_eq!(settings.policy.mount(), "/environment");
}

#[test]
fn faults_of_all_places_are_reported_together_with_their_lines() {
    let folder = folder(&[
        (".env", "FLUXLIT_GRACE_PERIOD_S=x\nno statement\n"),
        (
            "fluxlit.toml",
            "gateway_port = \"x\"\nroot_path = \"/a b\"\nrootpath = \"/a\"\nhsts = =\n",
        ),
    ]);
    let variables = [
        UP,
        ("FLUXLIT_TRUST_PROXY", "1"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "localhost"),
        ("FLUXLIT_STREAMLIT_UPSTREAM_FILE", "upstream.json"),
    ];
    let errors = read_in(folder.path(), None, &variables).unwrap_err();
    let errors = errors.replace(&format!("{}/", folder.path().display()), "");
    for expected in [
        ".env:1: FLUXLIT_GRACE_PERIOD_S: `x` is not",
        ".env:2: not `NAME=value`",
        "fluxlit.toml:1: gateway_port: `x` is not",
        "(FLUXLIT_ROOT_PATH is from fluxlit.toml:2)",
        "fluxlit.toml:3: `rootpath` is not a setting of the gateway or of FluxLit: did you mean `root_path`?",
        "fluxlit.toml:4: not valid TOML",
        "(FLUXLIT_FORWARDED_ALLOW_IPS is from the environment)",
        "FLUXLIT_STREAMLIT_UPSTREAM_FILE: the upstream is not read from a file",
    ] {
        assert!(
            errors.contains(expected),
            "{expected} is missing in {errors}"
        );
    }
}

#[test]
fn variables_of_fluxlit_have_their_meaning() {
    let read = |environment: &[(&str, &str)]| {
        let environment = [&[UP], environment].concat();
        read(None, &environment)
    };
    let settings = read(&[("FLUXLIT_STREAMLIT_PUBLIC_PATH", "/p")]).unwrap();
    assert_eq!(settings.policy.mount(), "/p");
    let settings = read(&[
        ("FLUXLIT_STREAMLIT_PUBLIC_PATH", "/p"),
        ("FLUXLIT_ROOT_PATH", " "),
    ]);
    assert_eq!(settings.unwrap().policy.mount(), "/p");
    let settings = read(&[
        ("FLUXLIT_STREAMLIT_PUBLIC_PATH", "/p"),
        ("FLUXLIT_ROOT_PATH", "/r"),
    ])
    .unwrap();
    assert_eq!(settings.policy.mount(), "/r");
    assert_eq!(
        texts(&settings),
        ["FLUXLIT_STREAMLIT_PUBLIC_PATH is not used, because FLUXLIT_ROOT_PATH is set"]
    );

    // FluxLit adds the mount to an origin.
    for (url, want) in [
        ("https://a.example", "https://a.example/m"),
        ("https://a.example/", "https://a.example/m"),
        ("https://a.example/p", "https://a.example/p"),
    ] {
        for name in ["FLUXLIT_PUBLIC_BASE_URL", "PUBLIC_BASE_URL"] {
            let settings = read(&[(name, url), ("FLUXLIT_ROOT_PATH", "/m/")]).unwrap();
            assert_eq!(settings.rules["public_base_url"], want, "{name}={url}");
        }
    }
    let both = [
        ("FLUXLIT_PUBLIC_BASE_URL", "https://a.example"),
        ("PUBLIC_BASE_URL", "https://b.example"),
    ];
    let settings = read(&both).unwrap();
    assert_eq!(settings.rules["public_base_url"], "https://a.example");
    assert_eq!(settings.warnings.len(), 1);
    let strict = [&both[..], &[("FLUXLIT_STRICT_PUBLIC_BASE_URL", "1")]].concat();
    let error = read(&strict).unwrap_err();
    assert!(
        error.starts_with("PUBLIC_BASE_URL: `https://b.example`"),
        "{error}"
    );
    let blank = read(&[("FLUXLIT_PUBLIC_BASE_URL", "")]).unwrap();
    assert_eq!(blank.rules.get("public_base_url"), None);

    let settings = read(&[("FLUXLIT_ENABLE_SECURITY_HEADERS", "1")]).unwrap();
    assert_eq!(settings.rules["security_headers"], true);
    assert_eq!(settings.rules["hsts"], "fluxlit");
    let settings = read(&[
        ("FLUXLIT_ENABLE_SECURITY_HEADERS", "1"),
        ("FLUXLIT_HSTS", "false"),
    ]);
    assert_eq!(settings.unwrap().rules["hsts"], false);

    let connections = ("FLUXLIT_GATEWAY_HTTPX_MAX_CONNECTIONS", "7");
    assert_eq!(read(&[connections]).unwrap().limits.concurrent, 7);
    let requests = ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "9");
    assert_eq!(read(&[connections, requests]).unwrap().limits.concurrent, 9);
    let none = ("FLUXLIT_GATEWAY_HTTPX_MAX_CONNECTIONS", "0");
    assert_eq!(read(&[none]).unwrap().limits.concurrent, 1024);

    let settings = read(&[("FLUXLIT_DEBUG", "1")]).unwrap();
    assert!(settings.observe.access_log && settings.observe.debug);
    assert_eq!(
        settings.observe.log_directives(),
        "info,fluxlit_gateway=debug"
    );
    let settings = read(&[("FLUXLIT_LOG_LEVEL", "CRITICAL"), ("FLUXLIT_DEBUG", "1")]).unwrap();
    assert_eq!(settings.observe.log_directives(), "error");
    let settings = read(&[("FLUXLIT_URL_SESSION_QUERY_PARAM", "sid")]).unwrap();
    assert_eq!(settings.observe.redacted_parameters(), ["sid"]);

    let path = "FLUXLIT_GATEWAY_PROMETHEUS_METRICS_PATH";
    let settings = read(&[(path, "/metrics")]).unwrap();
    assert_eq!(settings.observe.metrics_path, "/metrics");
    for (value, text) in [
        ("metrics", "is not a path"),
        ("/api/metrics", "choose one that is not below"),
    ] {
        let error = read(&[(path, value)]).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_variable_without_effect_has_a_warning_with_the_reason() {
    for name in [
        "FLUXLIT_GATEWAY_HTTPX_MAX_KEEPALIVE_CONNECTIONS",
        "FLUXLIT_GATEWAY_WS_CLOSE_TIMEOUT_S",
        "FLUXLIT_GATEWAY_WS_MAX_MESSAGE_BYTES",
        "FLUXLIT_GATEWAY_WS_PING_INTERVAL_S",
        "FLUXLIT_GATEWAY_WS_PING_TIMEOUT_S",
        "FLUXLIT_INTERNAL_API_BASE",
        "FLUXLIT_PEER_FILTER_STATE_KEY",
        "FLUXLIT_PIDFILE",
        "FLUXLIT_STREAMLIT_HOST",
        "FLUXLIT_STREAMLIT_PORT",
    ] {
        let settings = read(None, &[UP, (name, "1")]).unwrap();
        let warnings = texts(&settings);
        let start = format!("{name} has no effect: ");
        assert!(
            warnings.len() == 1 && warnings[0].starts_with(&start),
            "{warnings:?}"
        );
    }
    let quiet = [
        UP,
        ("FLUXLIT_NO_PIDFILE", "1"),
        ("FLUXLIT_APP", "app:app"),
        ("FLUXLIT_TITLE", "x"),
        ("FLUXLIT_JWT_HS256_SECRET", "hunter2"),
        ("OTHER", "1"),
    ];
    let settings = read(None, &quiet).unwrap();
    assert_eq!(texts(&settings), [""; 0]);
    let secret = settings
        .table
        .iter()
        .find(|setting| setting.name.ends_with("SECRET"));
    assert_eq!(secret.unwrap().value, "[REDACTED]");
}

#[test]
fn with_strict_startup_a_warning_is_an_error() {
    let strict = ("FLUXLIT_STRICT_STARTUP", "1");
    assert!(read(None, &[UP, strict]).is_ok());
    let error = read(None, &[UP, strict, ("FLUXLIT_PIDFILE", "x")]).unwrap_err();
    assert!(
        error.starts_with("FLUXLIT_PIDFILE has no effect"),
        "{error}"
    );
}

#[test]
fn cookies_for_the_whole_host_are_advised_against_even_with_strict_startup() {
    let strict = ("FLUXLIT_STRICT_STARTUP", "1");
    let mount = ("FLUXLIT_ROOT_PATH", "/apps/my-app");
    let with_base = (UP.0, "http://127.0.0.1:8501/apps/my-app");
    for (app, environment, is_advised) in [
        (Some("app.py"), &[mount, strict][..], true),
        (None, &[mount, with_base], true),
        // The policy restricts the cookies of an app that does not know its mount.
        (None, &[mount, UP], false),
        (
            None,
            &[mount, with_base, ("FLUXLIT_UPSTREAM_PATH", "stripped")],
            false,
        ),
        (Some("app.py"), &[strict], false),
        (
            Some("app.py"),
            &[mount, ("FLUXLIT_COOKIE_PATH", "confine")],
            false,
        ),
        (
            Some("app.py"),
            &[mount, ("FLUXLIT_COOKIE_PATH", "mount")],
            false,
        ),
    ] {
        let settings = read(app, environment).expect("valid settings");
        let codes: Vec<&str> = settings.advice.iter().map(|advice| advice.code).collect();
        let expected: &[&str] = if is_advised { &["cookies_shared"] } else { &[] };
        assert_eq!(codes, expected, "{environment:?}");
        assert_eq!(texts(&settings), [""; 0], "{environment:?}");
        for advice in settings.advice {
            let text = advice.to_string();
            assert!(text.contains("FLUXLIT_COOKIE_PATH=confine"), "{text}");
            assert!(text.contains("/apps/my-app"), "{text}");
        }
    }
}

#[test]
fn headers_that_name_the_user_are_not_forwarded_from_anyone() {
    let name = "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT";
    for value in [
        "traceparent, X-Request-ID",
        "[\"authorization\", \"cookie\"]",
        "",
    ] {
        let settings = read(None, &[UP, (name, value)]).unwrap();
        assert_eq!(texts(&settings), [""; 0], "{value}");
    }
    for value in ["x-forwarded-user", "[\"X-Real-IP\"]", "a, Remote_User"] {
        let error = read(None, &[UP, (name, value)]).unwrap_err();
        assert!(error.contains("any client could choose"), "{error}");
    }
    let pass = ("FLUXLIT_TRUSTED_PASS_HEADERS", "X-Forwarded-User");
    assert!(read(None, &[UP, pass, (name, "x-forwarded-user")]).is_ok());
    let settings = read(None, &[UP, (name, "x-forwarded-for")]).unwrap();
    assert_eq!(settings.warnings[0].code, "gateway_forward_blocked_names");
    assert!(read(None, &[UP, (name, "[1]")]).is_err());
}

#[test]
fn arguments_for_streamlit_cannot_undo_what_the_gateway_sets() {
    let name = "FLUXLIT_STREAMLIT_RUN_CLI_ARGS";
    let settings = read(Some("app.py"), &[(name, r#"["--theme.base", "light"]"#)]).unwrap();
    assert_eq!(settings.streamlit_arguments, ["--theme.base", "light"]);
    for option in [
        "--server.port",
        "--server.address=::",
        "--server.baseUrlPath",
        "--server.trustedUserHeaders",
    ] {
        let error = read(Some("app.py"), &[(name, &format!("[\"{option}\", \"1\"]"))]).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
    for value in [
        r#"["--server.enableXsrfProtection", "false"]"#,
        r#"["--server.enableCORS=false"]"#,
    ] {
        let settings = read(Some("app.py"), &[(name, value)]).unwrap();
        assert_eq!(settings.warnings[0].code, "streamlit_protection_off");
    }
}

#[test]
fn the_app_gets_what_it_does_not_inherit() {
    let folder = folder(&[
        (
            ".env",
            "FLUXLIT_TITLE=My App\nFLUXLIT_JWT_AUDIENCE=env\nFLUXLIT_HSTS=true\nDATABASE=x\n",
        ),
        (
            "fluxlit.toml",
            "root_path = \"/m\"\ndebug = true\ncors_allow_origins = [\"https://a\"]\njwt_audience = \"file\"\n\
             title = \"file\"\ntrusted_pass_headers = [\"x-login\"]\n",
        ),
    ]);
    let settings = read_in(
        folder.path(),
        Some("app.py"),
        &[
            ("FLUXLIT_JWT_ISSUER", "inherited"),
            ("fluxlit_jwt_audience", "other case"),
            ("FLUXLIT_GATEWAY_PORT", "tcp://10.0.0.11:80"),
            ("FLUXLIT_GATEWAY_SERVICE_HOST", "10.0.0.11"),
        ],
    )
    .unwrap();
    let mut environment = settings.child_environment;
    environment.sort();
    let expected = [
        ("FLUXLIT_CORS_ALLOW_ORIGINS", r#"["https://a"]"#),
        ("FLUXLIT_DEBUG", "true"),
        // FluxLit would not start with what Kubernetes sets.
        ("FLUXLIT_GATEWAY_PORT", "8000"),
        ("FLUXLIT_JWT_AUDIENCE", "other case"),
        ("FLUXLIT_ROOT_PATH", "/m"),
        ("FLUXLIT_TITLE", "My App"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(environment, expected);
}

#[test]
fn the_target_is_named_by_a_variable_or_by_the_file() {
    let with = folder(&[("pyproject.toml", "[tool.fluxlit]\ntarget = \"main:app\"\n")]);
    let without = folder(&[]);
    let variable = ("FLUXLIT_APP", "other:app");
    for (place, environment, expected) in [
        (&with, &[][..], Some("main:app")),
        (&with, &[variable], Some("other:app")),
        (&without, &[], None),
    ] {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let sources = Sources::read(Vec::new(), None, place.path(), environment);
        let target = sources.target().map(|(target, _)| target);
        assert_eq!(target.as_deref(), expected);
    }
}

#[test]
fn several_mounts_have_one_streamlit() {
    let mounts = r#"[{"root_path": "/a"}, {"root_path": "/b", "hosts": ["b.example"]}]"#;
    assert!(read(None, &[UP, ("FLUXLIT_MOUNTS", mounts)]).is_ok());
    let same_host = r#"[{"root_path": "/a"}, {"root_path": "/b"}]"#;
    let error = read(None, &[UP, ("FLUXLIT_MOUNTS", same_host)]).unwrap_err();
    assert!(error.contains("root_path_shape"), "{error}");
    let full = mounts.replace(r#""/a""#, r#""/a", "root_path_shape": "full""#);
    let full = full.replace(r#""/b""#, r#""/b", "root_path_shape": "full""#);
    let settings = read(None, &[UP, ("FLUXLIT_MOUNTS", &full)]).unwrap();
    let sent = |host: &str, target: &str| {
        let decision = settings.policy.request(&Request {
            peer: Peer::Unknown,
            identity: None,
            is_reentry: false,
            tls: true,
            method: b"GET",
            target: target.as_bytes(),
            host: Some(host.as_bytes()),
            headers: &[],
        });
        match decision.action {
            Action::Forward(forward) => {
                Ok(String::from_utf8(forward.stripped_target().to_vec()).unwrap())
            }
            Action::Reply(reply) => Err(reply.reason),
        }
    };
    assert_eq!(sent("x.example", "/a/page"), Ok("/page".to_owned()));
    assert_eq!(sent("b.example", "/b/page"), Ok("/page".to_owned()));
    assert!(sent("x.example", "/b/page").is_err());
    for (value, text) in [
        (
            r#"[{"root_path": "/a", "upstream_path": "full"}]"#,
            "mounts[0].upstream_path",
        ),
        (r#"[{"root_path": "/a", "no": 1}]"#, "E15"),
    ] {
        let error = read(None, &[UP, ("FLUXLIT_MOUNTS", value)]).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
    let with_path = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501/a");
    assert!(read(None, &[with_path, ("FLUXLIT_MOUNTS", &full)]).is_err());
}

#[test]
fn trusted_identities_need_certificates_that_can_be_verified() {
    let identity = ("FLUXLIT_TRUSTED_IDENTITIES", "spiffe://a/b");
    let trust = ("FLUXLIT_TRUST_PROXY", "1");
    let certificate = ("FLUXLIT_TLS_CERTIFICATE", "c.pem");
    let key = ("FLUXLIT_TLS_KEY", "k.pem");
    let ca = ("FLUXLIT_TLS_CLIENT_CA", "ca.pem");
    let settings = read(None, &[UP, trust, identity, certificate, key, ca]).unwrap();
    assert!(settings.policy.needs_identity());
    assert_eq!(settings.tls.unwrap().client_ca, Some("ca.pem".into()));
    for environment in [
        &[UP, trust, identity][..],
        &[UP, trust, identity, certificate, key],
    ] {
        let error = read(None, environment).unwrap_err();
        assert!(error.contains("FLUXLIT_TLS_CLIENT_CA"), "{error}");
    }
    let error = read(None, &[UP, ca]).unwrap_err();
    assert!(error.contains("FLUXLIT_TLS_CERTIFICATE is not"), "{error}");
}

#[test]
fn a_script_and_an_upstream_exclude_each_other() {
    let error = read(Some("app.py"), &[UP]).unwrap_err();
    assert!(error.contains("`http://127.0.0.1:8501`"), "{error}");
}

#[test]
fn a_password_in_a_public_url_is_not_shown() {
    for variables in [
        &[
            UP,
            ("FLUXLIT_PUBLIC_BASE_URL", "https://u:hunter2@a.example/m"),
        ][..],
        &[
            UP,
            ("FLUXLIT_PUBLIC_BASE_URL", "https://u:hunter2@a.example/m"),
            ("PUBLIC_BASE_URL", "https://u:hunter2@b.example/m"),
            ("FLUXLIT_STRICT_PUBLIC_BASE_URL", "true"),
        ],
    ] {
        let errors = read(None, variables).expect_err("a user is refused");
        assert!(errors.contains("[REDACTED]@a.example"), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn warnings_are_reported_beside_errors() {
    let wrong = [
        UP,
        ("FLUXLIT_GATEWAY_PORT", "abc"),
        ("FLUXLIT_ROOTPATH", "/y"),
    ];
    let errors = read(None, &wrong).expect_err("an error");
    let lines: Vec<&str> = errors.lines().collect();
    let [error, warning] = lines[..] else {
        panic!("{lines:?}");
    };
    assert!(error.starts_with("FLUXLIT_GATEWAY_PORT: `abc`"), "{error}");
    assert!(warning.starts_with("warning: "), "{warning}");
    assert!(warning.contains("FLUXLIT_ROOT_PATH"), "{warning}");
    let strict = [
        UP,
        ("FLUXLIT_ROOT_PATH", "/a?b"),
        ("FLUXLIT_ROOTPATH", "/y"),
        ("FLUXLIT_STRICT_STARTUP", "true"),
    ];
    let errors = read(None, &strict).expect_err("two errors");
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(!errors.contains("warning: "), "{errors}");
}
