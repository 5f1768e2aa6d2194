//! Runs a container as the documentation of the images advises: nothing that it does not need.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use crate::wait::wait_until;

/// A running container. Dropping it removes it if [`Container::start`] has started it.
#[derive(Debug)]
pub struct Container {
    id: String,
    is_own: bool,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Container {
    /// Refers to a container that something else has started, by its name.
    #[must_use]
    pub fn existing(name: &str) -> Self {
        Self {
            id: name.to_owned(),
            is_own: false,
            variables: Vec::new(),
        }
    }

    /// Starts an image on the network of the host with a read-only root file system, without capabilities, and with limits.
    ///
    /// # Panics
    ///
    /// If podman cannot start it.
    #[must_use]
    pub fn start(image: &str, options: &[String], arguments: &[&str]) -> Self {
        Self::start_with(&[], image, options, arguments)
    }

    /// Starts an image as [`Self::start`] does, with variables for podman.
    ///
    /// # Panics
    ///
    /// If podman cannot start it.
    #[must_use]
    pub fn start_with(
        variables: &[(&'static str, PathBuf)],
        image: &str,
        options: &[String],
        arguments: &[&str],
    ) -> Self {
        let output = output(
            podman(variables)
                .args(["run", "--detach", "--network", "host"])
                .args(HARDENED)
                .args(options)
                .arg(image)
                .args(arguments),
        );
        assert!(output.status.success(), "{image}: {output:?}");
        Self {
            id: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            is_own: true,
            variables: variables.to_vec(),
        }
    }

    fn podman(&self) -> Command {
        podman(&self.variables)
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    ///
    /// If it does not within three minutes, with the log of the container.
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(LIMIT, condition), "{what}: {}", self.log());
    }

    /// Returns what the container has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let output = output(self.podman().arg("logs").arg(&self.id));
        let streams = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&streams).into_owned()
    }

    /// Returns a part of `podman inspect`, as a Go template prints it.
    #[must_use]
    pub fn inspect(&self, template: &str) -> String {
        let mut podman = self.podman();
        podman.args(["inspect", "--format", template]).arg(&self.id);
        String::from_utf8_lossy(&output(&mut podman).stdout)
            .trim()
            .to_owned()
    }

    /// Runs the health check of the image once; returns true if it succeeds.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let mut podman = self.podman();
        output(podman.args(["healthcheck", "run"]).arg(&self.id))
            .status
            .success()
    }

    /// Sends SIGTERM to the first process.
    pub fn terminate(&self) {
        let mut podman = self.podman();
        let output = output(podman.args(["kill", "--signal", "TERM"]).arg(&self.id));
        assert!(output.status.success(), "{output:?}");
    }

    /// Sends SIGTERM, and SIGKILL if the container has not ended three minutes later. It is not started again, whatever its
    /// restart policy says.
    pub fn stop(&self) {
        let mut podman = self.podman();
        let output = output(podman.args(["stop", "--time", "180"]).arg(&self.id));
        assert!(output.status.success(), "{output:?}");
    }

    /// Waits until the container ends, and returns its exit code.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[must_use]
    pub fn exit_code(&self) -> String {
        self.wait_until("the container does not end", || {
            self.inspect("{{.State.Status}}") == "exited"
        });
        self.inspect("{{.State.ExitCode}}")
    }

    /// Checks in the kernel that the first process is confined: it is not root, has no capability and cannot get one, is
    /// restricted to the usual system calls, and cannot write to its root file system.
    ///
    /// # Panics
    ///
    /// If one of it is not so.
    pub fn check_confinement(&self) {
        for (name, wanted) in [
            ("Uid:", "Uid: 65532 65532 65532 65532"),
            ("CapEff:", "CapEff: 0000000000000000"),
            ("CapBnd:", "CapBnd: 0000000000000000"),
            ("NoNewPrivs:", "NoNewPrivs: 1"),
            ("Seccomp:", "Seccomp: 2"),
        ] {
            assert_eq!(self.process_status(name), wanted, "{}", self.id);
        }
        let id = self.inspect("{{.State.Pid}}");
        let mounts = std::fs::read_to_string(format!("/proc/{id}/mounts")).unwrap_or_default();
        let root = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some("/"));
        let options = root.and_then(|line| line.split(' ').nth(3));
        let is_read_only = options.is_some_and(|all| all.split(',').any(|option| option == "ro"));
        assert!(is_read_only, "{}: {root:?}", self.id);
    }

    /// Returns a line of `/proc/PID/status` of the first process, such as that of `CapEff`.
    #[must_use]
    pub fn process_status(&self, name: &str) -> String {
        let id = self.inspect("{{.State.Pid}}");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        words.join(" ")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.is_own {
            return;
        }
        // Nothing can be done about a failure here, and the next start does not depend on it.
        let _ = output(
            self.podman()
                .args(["rm", "--force", "--time", "0"])
                .arg(&self.id),
        );
    }
}

/// Removes the containers that an earlier run has left, because it was killed: a new one could not have the same name.
///
/// # Panics
///
/// If podman cannot remove one.
pub fn remove_all() {
    let output = output(Command::new("podman").args(["rm", "--all", "--force", "--time", "0"]));
    assert!(output.status.success(), "{output:?}");
}

fn podman(variables: &[(&'static str, PathBuf)]) -> Command {
    let mut podman = Command::new("podman");
    podman.envs(variables.iter().map(|(name, value)| (name, value)));
    podman
}

/// Runs a command and returns its output.
///
/// # Panics
///
/// If it cannot be run.
#[must_use]
pub fn output(command: &mut Command) -> Output {
    let result = command.output();
    result.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The options that the documentation of the images advises.
const HARDENED: [&str; 6] = [
    "--read-only",
    // Without it, podman mounts writable folders that other engines do not.
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--memory=1g",
    "--pids-limit=128",
];

/// For a start on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(180);
