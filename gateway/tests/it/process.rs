//! Tests the start and stop of the gateway and of the app's process. A shell script takes the place of Streamlit, because
//! only the handling of processes is tested.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fluxlit_support::wait::wait_for;

use crate::support::{Gateway, command, held};

/// Creates a script that writes its process id and those of two children, one of which leaves the process group, to a file
/// and then waits forever.
fn script(folder: &Path) -> String {
    let notes = folder.join("ids");
    executable(
        &folder.join("streamlit"),
        &format!(
            "printf '%s\\n' \"$@\" > {}\nsleep 1000 & one=$!\n\
             setsid sh -c 'echo $$ > {n}.daemon; exec sleep 1000' &\n\
             while [ ! -s {n}.daemon ]; do sleep 0.01; done\n\
             echo $$ $one $(cat {n}.daemon) > {n}.new\nmv {n}.new {n}\nwait\n",
            folder.join("arguments").display(),
            n = notes.display()
        ),
    )
}

/// Creates a shell script, and returns its path.
fn executable(path: &Path, text: &str) -> String {
    std::fs::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A gateway with a script in place of Streamlit, in a folder of its own.
struct Started {
    folder: tempfile::TempDir,
    gateway: Gateway,
}

impl Started {
    /// Starts a gateway with this text of the script, in which `DIR` stands for the folder.
    fn with(text: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_str().unwrap();
        let command = executable(
            &folder.path().join("streamlit"),
            &text.replace("DIR", directory),
        );
        Self::start(folder, &command, settings)
    }

    /// Starts a gateway with the script of [`script`].
    fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = script(folder.path());
        Self::start(folder, &command, settings)
    }

    fn start(folder: tempfile::TempDir, command: &str, settings: &[(&str, &str)]) -> Self {
        let app = folder.path().join("app.py");
        std::fs::write(&app, "").unwrap();
        let settings: Vec<(&str, &str)> = [("FLUXLIT_STREAMLIT_COMMAND", command)]
            .into_iter()
            .chain(settings.iter().copied())
            .collect();
        let gateway = Gateway::start(&settings, &[app.to_str().unwrap()]);
        Self { folder, gateway }
    }

    /// Waits until the script has written a file, and returns its words.
    fn words(&self, name: &str) -> Vec<String> {
        let path = self.folder.path().join(name);
        let written = || std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'));
        assert!(soon(written), "the script has written {name}");
        let text = std::fs::read_to_string(&path).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Returns the process between the gateway and the script.
    fn launcher(&self) -> String {
        let children = children_of(self.gateway.child.id());
        assert_eq!(children.len(), 1, "{children:?}");
        children[0].clone()
    }
}

/// Waits for a condition longer than the loaded machine needs.
fn soon(condition: impl FnMut() -> bool) -> bool {
    fluxlit_support::wait::wait_until(std::time::Duration::from_secs(60), condition)
}

/// Runs a gateway that ends by itself; returns its exit code, and what it has written to standard error.
fn ending(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

fn children_of(id: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = entries.map(|entry| entry.file_name().into_string().unwrap());
    let parent = |id: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields = stat.rsplit(')').next()?;
        fields.split_whitespace().nth(1)?.parse().ok()
    };
    ids.filter(|child| parent(child) == Some(id)).collect()
}

fn kill(id: &str) {
    let id = rustix::process::Pid::from_raw(id.parse().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}

fn none_runs(ids: &[String]) -> bool {
    soon(|| !ids.iter().any(|id| runs(id)))
}

fn runs(id: &str) -> bool {
    // A zombie still has a directory.
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

/// FluxLit's defect 3.
#[test]
fn sigterm_ends_the_app_and_its_children() {
    let mut started = Started::new(&[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
    let ids = started.words("ids");
    assert!(ids.len() == 3 && ids.iter().all(|id| runs(id)), "{ids:?}");
    let arguments = started.words("arguments").join(" ");
    assert!(
        arguments.contains("--server.baseUrlPath apps/my-app"),
        "{arguments}"
    );
    assert!(
        !arguments.contains("enableXsrfProtection"),
        "Streamlit's protections stay on"
    );
    started.gateway.terminate();
    assert_eq!(started.gateway.exit_code(), Some(0));
    let left: Vec<&String> = ids.iter().filter(|id| runs(id)).collect();
    assert!(left.is_empty(), "{left:?} still run");
}

/// Also those that have left the process group: see [`script`].
#[test]
fn a_killed_gateway_leaves_no_process() {
    let mut started = Started::new(&[]);
    let mut ids = started.words("ids");
    ids.push(started.launcher());
    started.gateway.child.kill().unwrap();
    assert!(none_runs(&ids), "{ids:?} still run");
}

/// Its output still has a reader, or each of its lines would be an error; and one that reads, or it would wait at the end of the
/// pipe's 64 KiB.
#[test]
fn an_app_that_writes_while_it_stops_ends_with_a_killed_gateway() {
    for is_guard_killed in [false, true] {
        let mut started = Started::with(
            "trap '' PIPE\nstop() {\n  i=0\n  while [ $i -lt 20000 ]; do echo stopping || return; i=$((i+1)); done\n  exit\n}\n\
             trap stop TERM\necho $$ > DIR/ids\nwhile :; do sleep 0.1; done\n",
            &[("FLUXLIT_GRACE_PERIOD_S", "600")],
        );
        let ids = started.words("ids");
        // Not able to react to the end of the guard.
        started.gateway.signal(rustix::process::Signal::STOP);
        if is_guard_killed {
            kill(&started.launcher());
        }
        started.gateway.child.kill().unwrap();
        assert!(none_runs(&ids), "{ids:?} still run; {is_guard_killed}");
    }
}

/// As the allocator of a static executable does, the process above the gateway switches huge pages off for all of its children.
#[test]
fn an_app_can_have_huge_pages() {
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let started = Started::with(
        "grep THP_enabled /proc/self/status > DIR/new\nmv DIR/new DIR/pages\nexec sleep 1000\n",
        &[],
    );
    assert_eq!(started.words("pages"), ["THP_enabled:", "1"]);
}

#[test]
fn a_killed_launcher_leaves_no_process_and_the_app_is_restarted() {
    let mut started = Started::new(&[]);
    let ids = started.words("ids");
    std::fs::remove_file(started.folder.path().join("ids")).unwrap();
    std::fs::remove_file(started.folder.path().join("ids.daemon")).unwrap();
    kill(&started.launcher());
    assert!(none_runs(&ids), "{ids:?} still run");
    let restarted = started.words("ids");
    assert!(restarted.iter().all(|id| runs(id)), "{restarted:?}");
    started.gateway.terminate();
    assert_eq!(started.gateway.exit_code(), Some(0));
    assert!(none_runs(&restarted), "{restarted:?} still run");
}

/// The same holds for the program itself.
#[test]
fn a_killed_app_leaves_no_process_and_is_restarted() {
    let started = Started::new(&[]);
    let ids = started.words("ids");
    std::fs::remove_file(started.folder.path().join("ids")).unwrap();
    std::fs::remove_file(started.folder.path().join("ids.daemon")).unwrap();
    kill(&ids[0]);
    assert!(none_runs(&ids), "{ids:?} still run");
    let restarted = started.words("ids");
    assert!(restarted.iter().all(|id| runs(id)), "{restarted:?}");
    assert!(
        soon(|| started
            .gateway
            .log()
            .contains("Streamlit has ended by signal 9")),
        "{}",
        started.gateway.log()
    );
}

#[test]
fn an_app_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let mut started = Started::with(
        "trap '' TERM\necho $$ > DIR/ids\nwhile :; do sleep 0.1; done\n",
        &[("FLUXLIT_GRACE_PERIOD_S", "0.5")],
    );
    let ids = started.words("ids");
    started.gateway.terminate();
    assert_eq!(started.gateway.exit_code(), Some(0));
    assert!(!runs(&ids[0]));
}

#[test]
fn a_second_signal_ends_the_gateway_and_the_app_at_once() {
    let mut started = Started::with(
        "trap 'echo > DIR/asked' TERM\necho $$ > DIR/ids\nwhile :; do sleep 0.1; done\n",
        &[("FLUXLIT_GRACE_PERIOD_S", "3600")],
    );
    let ids = started.words("ids");
    started.gateway.terminate();
    assert!(soon(|| started.folder.path().join("asked").exists()));
    let interrupt = rustix::process::Signal::INT;
    assert_eq!(started.gateway.exit_code_after(interrupt), Some(1));
    assert!(none_runs(&ids), "{ids:?} still run");
}

/// A script in place of Python notes the arguments and variables of uvicorn, and describes a FluxLit app.
#[test]
fn the_api_and_the_pages_of_an_app_get_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let note = "for word in \"$@\"; do echo \"$word\"; done > DIR/$1.new\n\
                env | grep -E '^(FLUXLIT|PYTHON)' | sort >> DIR/$1.new\nmv DIR/$1.new DIR/$1\nexec sleep 1000\n";
    let python = executable(
        &folder.path().join("python"),
        &format!(
            "if [ \"$1\" = -c ]; then\n  echo \"$4\"'{{\"entry\": \"DIR/entry.py\", \"api_mount_path\": \"/v1\", \
             \"root_path\": \"\", \"streamlit_arguments\": [\"--theme.base\", \"dark\"]}}'\n  exit\nfi\nshift\n{note}"
        )
        .replace("DIR", directory),
    );
    let gateway = Gateway::start(
        &[("FLUXLIT_PYTHON", &python), ("FLUXLIT_JWT_ISSUER", "me")],
        &["./sub/main.py:site", "--workers", "3"],
    );
    let noted = |name: &str| {
        let path = folder.path().join(name);
        assert!(soon(|| path.is_file()), "{}", gateway.log());
        std::fs::read_to_string(path).unwrap().replace('\n', " ")
    };
    let (api, pages) = (noted("uvicorn"), noted("streamlit"));
    for text in [
        "uvicorn main:site.api --app-dir ./sub --host 127.0.0.1 --port ",
        " --root-path /v1 --proxy-headers --forwarded-allow-ips 127.0.0.1 --log-level info --no-access-log \
         --timeout-graceful-shutdown 10 --workers 3 ",
        " FLUXLIT_API_PREFIX=/v1 FLUXLIT_APP=./sub/main.py:site ",
        " FLUXLIT_JWT_ISSUER=me ",
        " FLUXLIT_STREAMLIT_UPSTREAM=http://127.0.0.1:",
        " PYTHONUNBUFFERED=1 ",
    ] {
        assert!(api.contains(text), "`{text}` is missing in {api}");
    }
    for text in [
        &format!("streamlit run {directory}/entry.py --server.address 127.0.0.1 --server.port "),
        " --theme.base dark ",
        " FLUXLIT_APP=./sub/main.py:site ",
        " FLUXLIT_INTERNAL_API_BASE=http://127.0.0.1:",
        " FLUXLIT_JWT_ISSUER=me ",
    ] {
        assert!(pages.contains(text), "`{text}` is missing in {pages}");
    }
}

/// The test listens in place of the script, on the port that the gateway has given it.
#[test]
fn readiness_goes_down_when_the_end_of_the_app_is_known() {
    let started = Started::new(&[]);
    let ids = started.words("ids");
    let arguments = started.words("arguments");
    let port = arguments.iter().position(|word| word == "--server.port");
    let port: u16 = arguments[port.unwrap() + 1].parse().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let runs = Arc::new(AtomicBool::new(true));
    let is_running = Arc::clone(&runs);
    let server = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if !is_running.load(Ordering::SeqCst) {
                return;
            }
            let mut stream = std::io::BufReader::new(stream.unwrap());
            crate::support::head(&mut stream);
            let healthy = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            crate::support::write(&mut stream, healthy);
        }
    });
    let readiness = || started.gateway.get("/api/readyz");
    assert!(soon(|| readiness().starts_with("HTTP/1.1 200")));
    runs.store(false, Ordering::SeqCst);
    // It accepts one more connection before it ends.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)));
    server.join().unwrap();
    kill(&ids[0]);
    let known = "Streamlit has ended by signal 9";
    assert!(soon(|| started.gateway.log().contains(known)));
    let answer = readiness();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let page = started.gateway.get("/");
    assert!(page.starts_with("HTTP/1.1 503"), "{page}");
}

/// A script in place of Python sends the signal to the gateway, three processes above it.
#[test]
fn sighup_while_the_app_is_imported_does_not_end_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let python = executable(
        &folder.path().join("python"),
        "[ \"$1\" = -c ] || exec sleep 1000\n\
         parent() { awk '/^PPid/ {print $2}' /proc/$1/status; }\n\
         kill -HUP $(parent $(parent $PPID))\n\
         echo \"$4\"'{\"entry\": \"entry.py\", \"api_mount_path\": \"/api\", \"root_path\": \"\", \"streamlit_arguments\": []}'\n",
    );
    let mut gateway = Gateway::start(&[("FLUXLIT_PYTHON", &python)], &["app:app"]);
    assert!(
        soon(|| gateway.log().contains("the settings were reloaded")),
        "{}",
        gateway.log()
    );
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
}

/// FluxLit's defect 29.
#[test]
fn an_app_that_ends_is_restarted() {
    let started = Started::with("echo x >> DIR/starts\n", &[]);
    let starts = started.folder.path().join("starts");
    assert!(soon(
        || std::fs::read_to_string(&starts).is_ok_and(|text| text.lines().count() >= 2)
    ));
    assert!(
        started
            .gateway
            .get("/api/readyz")
            .starts_with("HTTP/1.1 503"),
        "the gateway stays up"
    );
}

/// The test itself listens on the ports of Streamlit and of the API.
#[test]
fn an_app_that_is_started_is_live_once_it_has_been_ready() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.py");
    std::fs::write(&app, "").unwrap();
    let command = executable(
        &folder.path().join("program"),
        &"name=streamlit\n[ \"$1\" = -m ] && name=api\n\
          while [ $# -gt 0 ]; do\n  case $1 in --port|--server.port) echo $2 > DIR/$name;; esac\n  shift\ndone\n\
          exec sleep 1000\n"
            .replace("DIR", folder.path().to_str().unwrap()),
    );
    let settings = [
        ("FLUXLIT_STREAMLIT_COMMAND", command.as_str()),
        ("FLUXLIT_PYTHON", &command),
        ("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0"),
    ];
    let arguments = [app.to_str().unwrap(), "--api", "main:app"];
    let gateway = Gateway::start(&settings, &arguments);
    let listen = |name: &str| {
        let path = folder.path().join(name);
        let port = || std::fs::read_to_string(&path).ok()?.trim().parse().ok();
        let port: u16 = wait_for(std::time::Duration::from_secs(60), port).expect("a port");
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap()
    };
    let status = |path: &str| gateway.get(path)[9..12].to_owned();

    let streamlit = listen("streamlit");
    assert_eq!(status("/api/healthz"), "503");
    let is_well = Arc::new(AtomicBool::new(true));
    let answers_ok = Arc::clone(&is_well);
    std::thread::spawn(move || {
        for mut stream in streamlit.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let code = if answers_ok.load(Ordering::Relaxed) {
                200
            } else {
                500
            };
            let _ = write!(stream, "HTTP/1.1 {code} x\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let is_ready = soon(|| gateway.log().contains("Streamlit is ready"));
    assert!(is_ready, "{}", gateway.log());
    let reply = gateway.get("/api/healthz");
    assert!(
        reply.starts_with("HTTP/1.1 503")
            && reply.contains("\"status\":\"starting\"")
            && reply.contains("the API at "),
        "{reply}"
    );
    let mut operator = crate::client::Client::new(gateway.admin.expect("an address"));
    operator.send("GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let reply = operator.rest();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");

    let _api = listen("api");
    assert!(soon(|| status("/api/healthz") == "200"));
    is_well.store(false, Ordering::Relaxed);
    assert!(soon(|| status("/api/readyz") == "503"));
    assert_eq!(status("/api/healthz"), "200");
}

#[test]
fn an_app_that_ends_again_and_again_ends_the_gateway_with_its_last_lines_and_advice() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.py");
    std::fs::write(&app, "").unwrap();
    let streamlit = executable(
        &folder.path().join("streamlit"),
        "echo x >> starts\necho \"ModuleNotFoundError: No module named 'pandas'\" >&2\nexit 1\n",
    );
    let (code, said) = ending(
        command(
            &[("FLUXLIT_STREAMLIT_COMMAND", &streamlit)],
            &[app.to_str().unwrap()],
        )
        .current_dir(folder.path()),
    );
    assert_eq!(code, Some(1), "{said}");
    let (_, error) = said.split_once("\nerror: ").expect("an error");
    for text in [
        "Streamlit has ended 5 times in a row, the last time with exit code 1; its last lines were:",
        "\n  ModuleNotFoundError: No module named 'pandas'\n",
        "hint: `",
        "has no module `pandas`: install it there",
    ] {
        assert!(error.contains(text), "`{text}` is missing in {said}");
    }
    let starts = std::fs::read_to_string(folder.path().join("starts")).unwrap();
    assert_eq!(starts.lines().count(), 5);
}

/// A script in place of uvicorn, which ends.
#[test]
fn an_api_that_cannot_be_imported_is_not_started_again() {
    for (line, code, starts) in [
        (
            "ERROR:    Error loading ASGI app. Could not import module \"nosuch\".",
            3,
            1,
        ),
        // With several processes.
        (
            "ERROR:    Error loading ASGI app. Attribute \"app\" not found in module \"nosuch\".",
            0,
            1,
        ),
        ("ModuleNotFoundError: No module named 'sqlmodel'", 1, 1),
        // What it needs may be there soon.
        ("ERROR:    Application startup failed. Exiting.", 3, 5),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app.py"), "").unwrap();
        let streamlit = executable(&folder.path().join("streamlit"), "exec sleep 1000\n");
        let python = executable(
            &folder.path().join("python"),
            &format!("echo x >> starts\ncat line >&2\nexit {code}\n"),
        );
        std::fs::write(folder.path().join("line"), format!("{line}\n")).unwrap();
        let (exit_code, said) = ending(
            command(
                &[
                    ("FLUXLIT_STREAMLIT_COMMAND", &streamlit),
                    ("FLUXLIT_PYTHON", &python),
                ],
                &["app.py", "--api", "nosuch:app"],
            )
            .current_dir(folder.path()),
        );
        assert_eq!(exit_code, Some(1), "{said}");
        let ended = match starts {
            1 => format!("error: the API has ended with exit code {code} at its first start"),
            _ => format!(
                "error: the API has ended {starts} times in a row, the last time with exit code {code}"
            ),
        };
        assert!(said.contains(&ended) && said.contains(line), "{said}");
        let started = std::fs::read_to_string(folder.path().join("starts")).unwrap();
        assert_eq!(started.lines().count(), starts, "{said}");
    }
}

/// A script in place of Python says what the gateway's own script finds.
#[test]
fn a_target_that_is_no_app_is_an_error_with_a_hint() {
    for (found, expected) in [
        (
            r#"{"module": "ok", "attribute": "nope", "kind": null, "is_callable": false, "apps": ["ok:app"]}"#,
            "error: the module `ok` has no `nope`\n\nhint: its FluxLit apps: `ok:app`; name one of them\n",
        ),
        (
            r#"{"module": "api", "attribute": "app", "kind": "FastAPI", "is_callable": true, "apps": []}"#,
            "error: `api:app` is no FluxLit app: its class is `FastAPI`\n\nhint: an ASGI application is served as the API of a \
             Streamlit script: `fluxlit-gateway run SCRIPT.py --api api:app`\n",
        ),
        (
            r#"{"module": "app.py", "attribute": "x", "kind": "int", "is_callable": false, "apps": []}"#,
            "hint: it has no FluxLit app: ",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let python = executable(
            &folder.path().join("python"),
            &format!("echo \"$4\"'{found}'\nexit 1\n"),
        );
        let (code, said) = ending(&mut command(&[("FLUXLIT_PYTHON", &python)], &["ok:nope"]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn every_line_of_the_app_is_logged_whole_and_with_its_name() {
    let started = Started::with(
        "i=0\nwhile [ $i -lt 1500 ]; do echo \"out $i\"; echo \"err $i\" >&2; i=$((i+1)); done\nprintf 'the last one'\n\
         sleep 1000\n",
        &[],
    );
    // What has no end yet is written when the app has ended.
    assert!(
        soon(|| started.gateway.log().contains("[streamlit] err 1499\n")),
        "{}",
        started.gateway.log()
    );
    let log = started.gateway.log();
    let lines: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("[streamlit] "))
        .collect();
    let expected: Vec<String> = (0..1500)
        .flat_map(|number| [format!("out {number}"), format!("err {number}")])
        .collect();
    assert_eq!(lines, expected);
    started.gateway.terminate();
    assert!(
        soon(|| started.gateway.log().contains("[streamlit] the last one\n")),
        "{}",
        started.gateway.log()
    );
}

/// FluxLit's defect 30.
#[test]
fn requests_in_flight_finish_and_new_connections_are_refused() {
    let (address, arrival, release) = held();
    let mut gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    arrival.recv().unwrap();
    gateway.terminate();
    assert!(gateway.drops_new_connections());
    release.send(()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"),
        "{answer}"
    );
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn wrong_settings_exit_with_2_and_report_all_errors() {
    let (code, said) = ending(&mut command(
        &[
            ("FLUXLIT_STREAMLIT_UPSTREAM", "ftp://x"),
            ("FLUXLIT_TRUST_PROXY", "1"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "localhost"),
        ],
        &[],
    ));
    assert_eq!(code, Some(2), "{said}");
    for text in ["FLUXLIT_STREAMLIT_UPSTREAM: `ftp://x`", "E06"] {
        assert!(said.contains(text), "`{text}` is missing in {said}");
    }
}

#[test]
fn command_line_and_environment_take_precedence_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
            .args(["config", "--streamlit-upstream", "http://127.0.0.1:8501"])
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let usual = folder.path().join("fluxlit.toml");
    std::fs::write(
        &usual,
        "target = \"app:app\"\nlog_level = \"info\"\nroot_path = \"/apps/my-app\"\ngateway_port = 8080\ntrust_proxy = true\nforwarded_allow_ips = [\"10.0.0.0/8\", \"192.0.2.1\"]\n",
    )
    .unwrap();
    let (code, said) = config(&["--port", "8081"], &[("FLUXLIT_ROOT_PATH", "/other")]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "FLUXLIT_GATEWAY_PORT=8081  # --port",
        "FLUXLIT_ROOT_PATH=/other  # environment",
        "FLUXLIT_FORWARDED_ALLOW_IPS=10.0.0.0/8,192.0.2.1  # fluxlit.toml:6",
    ] {
        assert!(said.contains(line), "`{line}` is missing in {said}");
    }

    let other = folder.path().join("other.toml");
    std::fs::write(&other, "no_such = 1\ngateway_port = \"x\"\n").unwrap();
    for (code, said) in [
        config(&["--settings-file", "other.toml"], &[]),
        config(&[], &[("FLUXLIT_SETTINGS_FILE", "other.toml")]),
    ] {
        assert_eq!(code, Some(2), "{said}");
        for text in [
            "other.toml:1: `no_such` is not a setting of the gateway",
            "other.toml:2: gateway_port: `x`",
        ] {
            assert!(said.contains(text), "`{text}` is missing in {said}");
        }
    }
    let (code, said) = config(&["--settings-file", "absent.toml"], &[]);
    assert!(
        code == Some(2) && said.contains("cannot read absent.toml"),
        "{said}"
    );
}

/// The members that scripts read from `fluxlit config --json` are there.
#[test]
fn config_prints_json_for_scripts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("pyproject.toml"),
        "[tool.fluxlit]\nroot_path = \"/apps/my-app\"\njwt_hs256_secret = \"hunter2\"\n",
    )
    .unwrap();
    std::fs::write(folder.path().join(".env"), "FLUXLIT_TITLE=My App\n").unwrap();
    let config = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
            .args(["config", "--streamlit-upstream", "http://127.0.0.1:8501"])
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, err)
    };
    let (code, out, err) = config(
        &["--json", "--port", "8080"],
        &[
            ("FLUXLIT_PUBLIC_BASE_URL", "https://portal.example.com"),
            ("FLUXLIT_API_UPSTREAM", "http://127.0.0.1:9000"),
        ],
    );
    assert_eq!(code, Some(0), "{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    for (pointer, expected) in [
        ("/target", serde_json::json!("http://127.0.0.1:8501")),
        (
            "/binding",
            serde_json::json!({"host": "127.0.0.1", "port": 8080, "log_level": "info"}),
        ),
        (
            "/project_file",
            serde_json::json!({"path": "pyproject.toml", "root_path": "/apps/my-app", "jwt_hs256_secret": "[REDACTED]"}),
        ),
        (
            "/computed/public_mount_path",
            serde_json::json!("/apps/my-app"),
        ),
        (
            "/computed/public_base_url",
            serde_json::json!("https://portal.example.com/apps/my-app"),
        ),
        (
            "/computed/derived_internal_api_base",
            serde_json::json!("http://127.0.0.1:8080/api"),
        ),
        ("/computed/trust", serde_json::json!({"is_on": false})),
        ("/settings/root_path", serde_json::json!("/apps/my-app")),
        (
            "/settings/gateway_ws_open_timeout_s",
            serde_json::json!(30.0),
        ),
        ("/settings/trust_proxy", serde_json::Value::Null),
        (
            "/settings/jwt_hs256_secret",
            serde_json::json!("[REDACTED]"),
        ),
        ("/warnings", serde_json::json!([])),
    ] {
        assert_eq!(json.pointer(pointer), Some(&expected), "{pointer} in {out}");
    }
    let origin = |name: &str| {
        let all = json["origins"].as_array().unwrap();
        all.iter()
            .find(|setting| setting["name"] == name)
            .unwrap()
            .clone()
    };
    for (name, expected) in [
        (
            "FLUXLIT_GATEWAY_PORT",
            serde_json::json!({"name": "FLUXLIT_GATEWAY_PORT", "value": 8080, "default": 8000,
                "origin": {"source": "command_line", "flag": "--port"}}),
        ),
        (
            "FLUXLIT_ROOT_PATH",
            serde_json::json!({"name": "FLUXLIT_ROOT_PATH", "value": "/apps/my-app", "default": null,
                "origin": {"source": "file", "path": "pyproject.toml", "line": 2, "key": "root_path"}}),
        ),
        (
            "FLUXLIT_TITLE",
            serde_json::json!({"name": "FLUXLIT_TITLE", "value": "My App", "default": null,
                "origin": {"source": "dot_env", "path": ".env", "line": 1, "variable": "FLUXLIT_TITLE"}}),
        ),
        (
            "FLUXLIT_API_UPSTREAM",
            serde_json::json!({"name": "FLUXLIT_API_UPSTREAM", "value": "http://127.0.0.1:9000", "default": null,
                "origin": {"source": "environment", "variable": "FLUXLIT_API_UPSTREAM"}}),
        ),
        (
            "FLUXLIT_GRACE_PERIOD_S",
            serde_json::json!({"name": "FLUXLIT_GRACE_PERIOD_S", "value": 10.0, "default": 10.0,
                "origin": {"source": "default"}}),
        ),
    ] {
        assert_eq!(origin(name), expected);
    }
    let names = json["computed"]["child_environment"].as_array().unwrap();
    let is_listed = |name: &str| names.iter().any(|listed| listed == name);
    assert!(
        is_listed("FLUXLIT_TITLE") && is_listed("FLUXLIT_JWT_HS256_SECRET"),
        "{out}"
    );
    assert!(!format!("{out}{err}").contains("hunter2"));

    // A warning is a failure for scripts that ask for it.
    let unknown = [("FLUXLIT_ROOTPATH", "/x")];
    for (arguments, environment, expected) in [
        (&["--json"][..], &unknown[..], 0),
        (&["--json", "--strict"], &unknown, 1),
        (&["--strict"], &unknown, 1),
        (&["--strict"], &[], 0),
        (&["--port", "x"], &[], 2),
    ] {
        let (code, out, err) = config(arguments, environment);
        assert_eq!(code, Some(expected), "{arguments:?}: {out}{err}");
        assert!(!out.contains("hunter2"));
        if !environment.is_empty() {
            let is_warned = format!("{out}{err}").contains("did you mean FLUXLIT_ROOT_PATH?");
            assert!(is_warned, "{out}{err}");
        }
    }
}

/// Streamlit takes its user from headers, and the gateway does not start it if any client could send them.
#[test]
fn a_header_of_streamlit_s_user_that_cannot_be_protected_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (home, project, app) = (
        folder.path().join("home"),
        folder.path().join("project"),
        folder.path().join("app"),
    );
    for place in [&home, &project, &app] {
        std::fs::create_dir_all(place.join(".streamlit")).unwrap();
    }
    let script = app.join("app.py");
    std::fs::write(&script, "").unwrap();
    let run = || {
        ending(
            Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
                .arg("config")
                .arg(&script)
                .current_dir(&project)
                .env_clear()
                .env("HOME", &home),
        )
    };
    assert_eq!(run().0, Some(0));
    for place in [&home, &project, &app] {
        let file = place.join(".streamlit/config.toml");
        for (text, expected) in [
            (
                "[server.trustedUserHeaders]\nX-Real-IP = \"email\"\n",
                "server.trustedUserHeaders \"X-Real-IP\"",
            ),
            (
                "[server.trustedUserHeaders]\n\"a b\" = \"email\"\n",
                "server.trustedUserHeaders \"a b\"",
            ),
            ("[server]\ntrustedUserHeaders = 1\n", "is `1`"),
            ("[server\n", "config.toml is not valid TOML"),
        ] {
            std::fs::write(&file, text).unwrap();
            let (code, said) = run();
            assert_eq!(code, Some(2), "{text}: {said}");
            assert!(said.contains(expected), "{expected} is missing in {said}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_missing_streamlit_has_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.py");
    std::fs::write(&app, "").unwrap();
    let (code, said) = ending(&mut command(
        &[("FLUXLIT_STREAMLIT_COMMAND", "no-such-streamlit")],
        &[app.to_str().unwrap()],
    ));
    assert_eq!(code, Some(1), "{said}");
    let expected = "error: cannot start `no-such-streamlit`, because there is no such program: install Streamlit (pip install \
                    streamlit), or set FLUXLIT_STREAMLIT_COMMAND to the path of its executable\n";
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn a_missing_python_has_a_hint() {
    let python = ("FLUXLIT_PYTHON", "no-such-python");
    let api = "because there is no such program: install Python, or set FLUXLIT_PYTHON to a Python that has Streamlit and uvicorn\n";
    let app = "because there is no such program: install Python, or set FLUXLIT_PYTHON to one that has FluxLit\n";
    for (arguments, expected) in [
        (&["app.py", "--api", "api:app"][..], api),
        (&["app:app"], app),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app.py"), "").unwrap();
        let streamlit = executable(&folder.path().join("streamlit"), "exec sleep 1000\n");
        let settings = [python, ("FLUXLIT_STREAMLIT_COMMAND", &streamlit)];
        let (code, said) = ending(command(&settings, arguments).current_dir(folder.path()));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.ends_with(expected), "{said}");
    }
}

#[test]
fn a_fluxlit_app_that_is_named_as_a_script_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let text = "from fluxlit import FluxLit\nsite = FluxLit()\n";
    for (script, named) in [
        ("main.py", "`main:site`"),
        ("my-app.py", "`my-app.py:site`"),
        ("sub/main.py", "`sub/main.py:site`"),
    ] {
        std::fs::create_dir_all(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join(script), text).unwrap();
        let run = |strict: &str| {
            ending(
                Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
                    .args(["config", script])
                    .env_clear()
                    .env("FLUXLIT_STRICT_STARTUP", strict)
                    .current_dir(folder.path()),
            )
        };
        for strict in ["0", "1"] {
            let (code, said) = run(strict);
            assert_eq!(code, Some(0), "{said}");
            let warning = format!("warning: {script} looks like a FluxLit app");
            assert!(said.starts_with(&warning), "{said}");
            assert!(said.contains(named), "{said}");
        }
        std::fs::write(folder.path().join(script), "import streamlit\n").unwrap();
        assert_eq!(run("0"), (Some(0), String::new()));
    }
}

/// FluxLit repeats the path as it is written in the environment.
#[test]
fn a_path_without_a_slash_in_front_is_the_same_path() {
    let folder = tempfile::tempdir().unwrap();
    let python = executable(
        &folder.path().join("python"),
        "echo \"$4\"'{\"entry\": \"entry.py\", \"api_mount_path\": \"/api\", \"root_path\": \"'$FLUXLIT_ROOT_PATH'\", \
         \"streamlit_arguments\": []}'\n",
    );
    for path in ["apps/my-app", "/apps/my-app/", "/apps/my-app"] {
        let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
            .args(["config", "app:app", "--root-path", path])
            .env("FLUXLIT_PYTHON", &python)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {said}");
        let printed = String::from_utf8_lossy(&output.stdout);
        let mount = "# public_mount_path: /apps/my-app\n";
        assert!(printed.contains(mount), "{path}: {printed}");
    }
}
