//! Starts FluxLit and the gateway, and FluxLit's scripts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fluxlit_support::client::get;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::process::Process;
use fluxlit_support::wait::{wait_for, wait_until};
use fluxlit_system::{Mark, named};
use rustix::process::{Pid, Signal, kill_process};

use crate::examples::Example;

/// For what must happen, on a machine that does other things as well.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// The program that serves an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    FluxLit,
    Gateway,
    /// The gateway's `dev`.
    Development,
}

/// A running program. Dropping it ends all of its processes, also those that FluxLit leaves.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) mark: Mark,
    process: Process,
    folder: PathBuf,
    temporary: tempfile::TempDir,
}

impl Server {
    /// Starts an example, and waits until it is ready.
    pub(crate) fn start(program: Program, example: &Example) -> Self {
        let folder = copy_of_sources();
        let place = folder.path().join(example.folder);
        if let [command, arguments @ ..] = example.prepare {
            let mut command = Command::new(bin().join(command));
            command
                .args(arguments)
                .current_dir(&place)
                .env("PYTHONPATH", ".");
            let output = command.output().expect("the command runs");
            assert!(output.status.success(), "{}", text(&output));
        }
        let ready = format!("{}/api/readyz", example.mount);
        let packages = example.packages.map(named);
        let packages = packages
            .as_ref()
            .map(|packages| packages.to_str().expect("UTF-8"));
        let packages = packages.map(|packages| ("PYTHONPATH", packages));
        let environment: Vec<_> = example
            .environment
            .iter()
            .copied()
            .chain(packages)
            .collect();
        Self::begin(
            program,
            folder,
            &place,
            example.target,
            &environment,
            &ready,
        )
    }

    /// Starts an app in this folder, and waits until `ready` responds with 200.
    pub(crate) fn start_in(
        program: Program,
        place: &Path,
        target: &str,
        environment: &[(&str, &str)],
        ready: &str,
    ) -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        Self::begin(program, temporary, place, target, environment, ready)
    }

    fn begin(
        program: Program,
        temporary: tempfile::TempDir,
        place: &Path,
        target: &str,
        environment: &[(&str, &str)],
        ready: &str,
    ) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mark = Mark::new(&NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        let address = local(free_port().expect("a port"));
        let (executable, action) = match program {
            Program::FluxLit => (bin().join("fluxlit"), "run"),
            Program::Gateway => (named("FLUXLIT_TEST_GATEWAY"), "run"),
            Program::Development => (named("FLUXLIT_TEST_GATEWAY"), "dev"),
        };
        let log = std::fs::File::create(temporary.path().join("log")).expect("a file");
        let mut command = command(&executable, place);
        command
            .arg(action)
            .args((!target.is_empty()).then_some(target))
            .args(["--port", &address.port().to_string(), "--no-pidfile"])
            .envs(environment.iter().copied())
            .env(Mark::VARIABLE, mark.value())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        let process = Process::start(command).expect("the program starts");
        let mut server = Self {
            address,
            mark,
            process,
            folder: place.to_owned(),
            temporary,
        };
        server.wait_until_ready(ready);
        server
    }

    /// Runs a script of FluxLit that serves an app until it is ended, in which `fluxlit` is the gateway.
    pub(crate) fn of_script(name: &str, ready: &str) -> Self {
        let temporary = copy_of_sources();
        let mark = Mark::new(name);
        let address = local(free_port().expect("a port"));
        let log = std::fs::File::create(temporary.path().join("log")).expect("a file");
        let mut command = script_in(temporary.path(), name);
        command
            .env("PORT", address.port().to_string())
            .env(Mark::VARIABLE, mark.value())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        let mut server = Self {
            address,
            mark,
            process: Process::start(command).expect("bash starts"),
            folder: temporary.path().to_owned(),
            temporary,
        };
        server.wait_until_ready(ready);
        server
    }

    fn wait_until_ready(&mut self, ready: &str) {
        let is_ready = wait_until(LIMIT, || {
            let runs = matches!(self.process.ended(), Ok(None));
            assert!(runs, "it has ended: {}", self.log());
            get(self.address, ready, None).is_ok_and(|response| response.status == 200)
        });
        assert!(is_ready, "it is not ready: {}", self.log());
    }

    /// Asks the program to end; returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let id = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(id.expect("an id"), Signal::TERM).expect("it runs");
        let ended = wait_for(LIMIT, || self.process.ended().expect("a child"));
        ended.and_then(|status| status.code())
    }

    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.temporary.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Kills the program, without a chance to end what it has started.
    pub(crate) fn kill(&self) {
        kill(self.process.id());
    }

    /// Runs the gateway in the same folder, on the same port; returns its exit code and what it has written.
    pub(crate) fn run_again(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run_in(&self.folder, arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.end();
        for found in self.mark.processes() {
            kill(found.id);
        }
    }
}

/// Runs the gateway to its end; returns its exit code and what it has written.
pub(crate) fn run_in(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(&named("FLUXLIT_TEST_GATEWAY"), folder)
        .arg("run")
        .args(arguments)
        .env("FLUXLIT_GATEWAY_PORT", "0")
        .output()
        .expect("the gateway runs");
    (output.status.code(), text(&output))
}

/// Runs a script of FluxLit to its end, in which `fluxlit` is the gateway; returns its exit code and what it has written.
pub(crate) fn script(name: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = copy_of_sources();
    let output = script_in(folder.path(), name)
        .envs(environment.iter().copied())
        .output()
        .expect("bash runs");
    (output.status.code(), text(&output))
}

/// Returns the command of a script, which is not changed, in a copy of the sources.
fn script_in(folder: &Path, name: &str) -> Command {
    let programs = folder.join("programs");
    std::fs::create_dir(&programs).expect("a folder");
    std::os::unix::fs::symlink(named("FLUXLIT_TEST_GATEWAY"), programs.join("fluxlit"))
        .expect("a link");
    let port = || free_port().expect("a port").to_string();
    let path =
        std::env::join_paths([programs, bin()].into_iter().chain(folders())).expect("a path");
    let mut command = command(Path::new("bash"), folder);
    command
        .arg(folder.join("scripts").join(name))
        .env("PATH", path)
        .env("PORT", port())
        .env("UPSTREAM_PORT", port())
        .env("FLUXLIT_SMOKE_PORT", port());
    command
}

/// Runs the doctor; FluxLit's Python is not in the path, but the one of the app. Returns the exit code and what it has written.
pub(crate) fn doctor_in(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let path = std::env::join_paths(folders()).expect("a path");
    let output = command(&named("FLUXLIT_TEST_GATEWAY"), folder)
        .arg("doctor")
        .args(arguments)
        .env("PATH", path)
        .env("FLUXLIT_PYTHON", bin().join("python"))
        .env("FLUXLIT_STREAMLIT_COMMAND", bin().join("streamlit"))
        .output()
        .expect("the doctor runs");
    (output.status.code(), text(&output))
}

/// Runs the gateway's program; returns its exit code and what it has written.
pub(crate) fn gateway(arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(&named("FLUXLIT_TEST_GATEWAY"), Path::new("."))
        .args(arguments)
        .output()
        .expect("the gateway runs");
    (output.status.code(), text(&output))
}

/// Returns the names of the commands in FluxLit's help.
pub(crate) fn commands_of_fluxlit() -> Vec<String> {
    let help = help_of_fluxlit(&["--help"]);
    let (_, commands) = help
        .split_once("─ Commands ")
        .expect("the list of commands");
    let rows = commands.lines().filter_map(|line| line.strip_prefix("│ "));
    // The lines that continue a description begin with spaces.
    let names = rows.filter_map(|row| row.split(' ').next());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the options in the help of one of FluxLit's commands.
pub(crate) fn options_of_fluxlit(command: &str) -> Vec<String> {
    let help = help_of_fluxlit(&[command, "--help"]);
    let words = help.split(|letter: char| letter.is_whitespace() || letter == ',' || letter == '│');
    let mut options: Vec<String> = words
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(|word| word.trim_end_matches([':', '.', ')']).to_owned())
        .collect();
    options.sort();
    options.dedup();
    options
}

fn help_of_fluxlit(arguments: &[&str]) -> String {
    let output = command(&bin().join("fluxlit"), Path::new("."))
        .args(arguments)
        // Wide enough for every option in one line.
        .env("COLUMNS", "200")
        .env("NO_COLOR", "1")
        .output()
        .expect("FluxLit runs");
    text(&output)
}

pub(crate) fn kill(id: u32) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    // It may have ended meanwhile.
    let _ = kill_process(id.expect("an id"), Signal::KILL);
}

/// Returns the command of a program with FluxLit's Python first in the path.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::join_paths(std::iter::once(bin()).chain(folders())).expect("a path");
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// The folder of FluxLit's programs.
fn bin() -> PathBuf {
    named("FLUXLIT_TEST_FLUXLIT_BIN")
}

/// Copies the examples and scripts, which write into their folders.
fn copy_of_sources() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for part in ["examples", "scripts"] {
        let status = Command::new("cp")
            .arg("-r")
            .arg(named("FLUXLIT_TEST_FLUXLIT_SOURCES").join(part))
            .arg(folder.path())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{part} is copied"
        );
    }
    folder
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}
