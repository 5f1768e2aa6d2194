//! Kills the gateway and its child processes, one or several at once, at random moments: no process and no file may be left,
//! and the next start works.
//!
//! The grace period is far longer than the test waits, so that what ends only with it counts as left.
//!
//! The seed is printed, and `FLUXLIT_TEST_SEED` repeats a run. All processes of a round have a variable in their environment
//! by which they are found, wherever they are in the process tree.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fluxlit_support::client::get;
use fluxlit_support::port::{free_ports, local};
use fluxlit_support::wait::{wait_for, wait_until};
use fluxlit_system::{Found, Mark, named};
use rustix::process::{Pid, Signal, kill_process};

/// When a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// While the gateway and the app start.
    Start,
    /// While the app is served.
    Serving,
    /// After a child was killed, while it is restarted.
    Restart,
    /// After SIGTERM.
    Drain,
}

/// Which processes are killed, at the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Gateway,
    /// The outer one of the two processes between the gateway and a program.
    Guard,
    /// The inner one.
    Launcher,
    /// A program, or one of its own processes.
    Program,
    GatewayAndGuards,
    GatewayAndLaunchers,
    GatewayGuardsAndProgram,
    GatewayLaunchersAndProgram,
}

const PHASES: [Phase; 4] = [Phase::Start, Phase::Serving, Phase::Restart, Phase::Drain];
const VICTIMS: [Victim; 8] = [
    Victim::Gateway,
    Victim::Guard,
    Victim::Launcher,
    Victim::Program,
    Victim::GatewayAndGuards,
    Victim::GatewayAndLaunchers,
    Victim::GatewayGuardsAndProgram,
    Victim::GatewayLaunchersAndProgram,
];

/// The number of moments.
const ROUNDS: u64 = 100;

/// Gateways that run at the same time, each on a port of its own.
const LANES: u64 = 4;

/// For what must happen, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(120);

/// How long the gateway lets the app stop, in seconds.
const GRACE_PERIOD: &str = "900";

#[test]
fn a_kill_at_any_moment_leaves_nothing_and_the_next_start_works() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = std::env::var("FLUXLIT_TEST_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| now.expect("a time").as_secs());
    println!("FLUXLIT_TEST_SEED={seed}");
    let ports = free_ports(usize::try_from(LANES).expect("a number")).expect("ports");
    std::thread::scope(|scope| {
        for (lane, port) in (0..LANES).zip(ports) {
            scope.spawn(move || {
                let mut lane = Lane::new(lane, port, App::Light);
                let mut random = Random(seed ^ lane.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                for round in (lane.number..ROUNDS).step_by(usize::try_from(LANES).expect("few")) {
                    // Every pair of phase and victim is tried; only the moment is random.
                    let pair = usize::try_from(round / LANES + lane.number * 8).expect("few");
                    let phase = PHASES[pair % PHASES.len()];
                    let victim = VICTIMS[pair / PHASES.len() % VICTIMS.len()];
                    lane.round(
                        &format!("seed {seed}, round {round}: {victim:?} in {phase:?}"),
                        phase,
                        victim,
                        &mut random,
                    );
                }
                lane.last_start_works();
            });
        }
    });
}

/// A program that has no output any more behaves in its own way, so this is tried with the real one as well.
#[test]
fn a_real_streamlit_ends_with_a_killed_gateway() {
    let ports = free_ports(1).expect("a port");
    let mut lane = Lane::new(LANES, ports[0], App::Streamlit);
    for victim in [
        Victim::Gateway,
        Victim::GatewayAndGuards,
        Victim::GatewayAndLaunchers,
    ] {
        let name = format!("{victim:?}");
        lane.round(&name, Phase::Serving, victim, &mut Random(1));
    }
}

/// What a gateway serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum App {
    /// A program that starts fast, in place of Streamlit and of uvicorn.
    Light,
    /// The real Streamlit, without an API.
    Streamlit,
}

/// One gateway after the other, in one folder and on one port.
struct Lane {
    number: u64,
    listen: SocketAddr,
    app: App,
    folder: tempfile::TempDir,
    mark: Mark,
}

impl Drop for Lane {
    /// After a failure, there may be processes that would end late.
    fn drop(&mut self) {
        for found in self.processes() {
            let id = i32::try_from(found.id).ok().and_then(Pid::from_raw);
            // It may have ended meanwhile.
            let _ = kill_process(id.expect("an id"), Signal::KILL);
        }
    }
}

impl Victim {
    fn includes_gateway(self) -> bool {
        !matches!(self, Self::Guard | Self::Launcher | Self::Program)
    }
}

impl Lane {
    fn new(number: u64, port: u16, app: App) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let light = std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kill/light.py"),
        );
        let python = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("python3");
        let python = String::from_utf8(python.stdout).expect("UTF-8");
        let program = folder.path().join("light");
        std::fs::write(
            &program,
            format!("#!{}\n{}", python.trim(), light.expect("the program")),
        )
        .expect("a file");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a file");
        std::fs::write(folder.path().join("app.py"), "").expect("a file");
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder");
        Self {
            number,
            listen: local(port),
            app,
            mark: Mark::new(&number.to_string()),
            folder,
        }
    }

    fn round(&mut self, name: &str, phase: Phase, victim: Victim, random: &mut Random) {
        let files = self.files();
        let mut gateway = Running::start(self);
        match phase {
            Phase::Start => self.look(random.below(200)),
            Phase::Serving => {
                self.wait_until_ready(name, &mut gateway);
                self.look(random.below(16));
            }
            Phase::Restart => {
                self.wait_until_ready(name, &mut gateway);
                self.kill(Victim::Program, gateway.id(), random);
                self.look(random.below(300));
            }
            Phase::Drain => {
                self.wait_until_ready(name, &mut gateway);
                gateway.signal(Signal::TERM);
                self.look(random.below(40));
            }
        }
        let killed = self.kill(victim, gateway.id(), random);
        let status = if victim.includes_gateway() || phase == Phase::Drain {
            gateway.wait(name)
        } else {
            // The gateway goes on, and starts what was killed.
            self.wait_until_ready(name, &mut gateway);
            gateway.signal(Signal::TERM);
            gateway.wait(name)
        };
        if !victim.includes_gateway() {
            assert_eq!(status.code(), Some(0), "{name}: {}", gateway.log());
        }
        let is_alone = wait_until(LIMIT, || self.processes().is_empty());
        assert!(
            is_alone,
            "{name}: {killed:?} was killed, and {:?} are left",
            self.processes()
        );
        assert_eq!(self.files(), files, "{name}");
    }

    /// The last start after a kill, like each before, has to succeed.
    fn last_start_works(&self) {
        let mut gateway = Running::start(self);
        self.wait_until_ready("the last start", &mut gateway);
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.wait("the last start").code(), Some(0));
        assert_eq!(self.processes(), []);
    }

    fn wait_until_ready(&self, name: &str, gateway: &mut Running) {
        // A child that was killed may still be believed to be ready, so its own port is asked through the gateway.
        let is_ready = wait_until(LIMIT, || {
            let status = |path: &str| {
                get(self.listen, path, None)
                    .ok()
                    .map(|response| response.status)
            };
            assert!(
                gateway.runs(),
                "{name}: the gateway has ended: {}",
                gateway.log()
            );
            let paths: &[&str] = match self.app {
                App::Light => &["/api/readyz", "/", "/api/items"],
                App::Streamlit => &["/api/readyz", "/"],
            };
            paths.iter().all(|path| status(path) == Some(200))
        });
        assert!(is_ready, "{name}: not ready: {}", gateway.log());
    }

    /// Kills the processes that are a victim. There may be none at this moment.
    fn kill(&self, victim: Victim, gateway: u32, random: &mut Random) -> Vec<Found> {
        let (mut guards, mut launchers, mut programs) = (Vec::new(), Vec::new(), Vec::new());
        let mut victims = Vec::new();
        for found in self.processes() {
            if found.id == gateway {
                victims.extend(victim.includes_gateway().then_some(found));
            } else if found.command.contains(" --launch-child-guarded ") {
                launchers.push(found);
            } else if found.command.contains(" --launch-child ") {
                guards.push(found);
            } else {
                programs.push(found);
            }
        }
        let one = |of: Vec<Found>, random: &mut Random| {
            let chosen = random.below(of.len());
            chosen.and_then(|chosen| of.into_iter().nth(chosen))
        };
        match victim {
            Victim::Gateway => {}
            Victim::Guard => victims.extend(one(guards, random)),
            Victim::Launcher => victims.extend(one(launchers, random)),
            Victim::Program => victims.extend(one(programs, random)),
            Victim::GatewayAndGuards => victims.extend(guards),
            Victim::GatewayAndLaunchers => victims.extend(launchers),
            Victim::GatewayGuardsAndProgram => {
                victims.extend(guards);
                victims.extend(one(programs, random));
            }
            Victim::GatewayLaunchersAndProgram => {
                victims.extend(launchers);
                victims.extend(one(programs, random));
            }
        }
        // All of them are stopped first, so that none can react to the end of another.
        for signal in [Signal::STOP, Signal::KILL] {
            for victim in &victims {
                let id = i32::try_from(victim.id).ok().and_then(Pid::from_raw);
                // It may have ended meanwhile.
                let _ = kill_process(id.expect("an id"), signal);
            }
        }
        victims
    }

    /// Looks at the processes a number of times, so that a random moment has come. Nothing is expected to have happened by
    /// then.
    fn look(&self, times: Option<usize>) {
        for _ in 0..times.unwrap_or_default() {
            self.processes();
        }
    }

    fn processes(&self) -> Vec<Found> {
        self.mark.processes()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                files.push(path);
            }
        }
        files.sort();
        files
    }
}

/// A gateway that was started.
struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    fn start(lane: &Lane) -> Self {
        let folder = lane.folder.path();
        let (streamlit, api) = match lane.app {
            App::Light => (folder.join("light"), &["--api", "app:app"][..]),
            App::Streamlit => (named("FLUXLIT_TEST_STREAMLIT"), &[][..]),
        };
        let mut child = Command::new(named("FLUXLIT_TEST_GATEWAY"))
            .args(["run", "app.py"])
            .args(api)
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", folder.join("tmp"))
            .env("HOME", folder)
            .env(Mark::VARIABLE, lane.mark.value())
            .env("FLUXLIT_GATEWAY_PORT", lane.listen.port().to_string())
            .env("FLUXLIT_GATEWAY_WORKERS", "1")
            .env("FLUXLIT_GRACE_PERIOD_S", GRACE_PERIOD)
            .env("FLUXLIT_STREAMLIT_COMMAND", &streamlit)
            .env("FLUXLIT_PYTHON", &streamlit)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let log = Arc::<Mutex<String>>::default();
        let (kept, lines) = (
            Arc::clone(&log),
            BufReader::new(child.stderr.take().expect("a log")),
        );
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut kept = kept.lock().expect("no panic");
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self { child, log }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("an id"), signal).expect("the gateway runs");
    }

    fn wait(&mut self, name: &str) -> ExitStatus {
        wait_for(LIMIT, || self.child.try_wait().expect("a child"))
            .unwrap_or_else(|| panic!("{name}: the gateway does not end: {}", self.log()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A generator of the xorshift family; its quality does not matter here.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`, unless that is zero.
    fn below(&mut self, limit: usize) -> Option<usize> {
        let limit = u64::try_from(limit).ok()?;
        usize::try_from(self.next().checked_rem(limit)?).ok()
    }
}
