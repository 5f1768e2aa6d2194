//! Runs a program under callgrind, and reads the counts of its busiest thread.
//!
//! Callgrind counts instructions and calls of functions, and prints every system call. It hides the kernel's code for
//! reading the clock from the program (vDSO), so each reading is printed as a system call, and counted separately.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_support::process::Process;
use fluxlit_support::wait::wait_for;

use crate::setup;

/// What a thread has done.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Counted {
    pub(in crate::bench) instructions: u64,
    /// Without those that read the clock.
    pub(in crate::bench) system_calls: u64,
    pub(in crate::bench) clock_readings: u64,
    /// Calls that allocate memory.
    pub(in crate::bench) allocations: u64,
}

/// A program that runs under callgrind until this is dropped.
pub(in crate::bench) struct Callgrind {
    process: Process,
    folder: PathBuf,
    /// Number of files that were written.
    parts: u32,
    /// How far the list of system calls was read.
    traced: u64,
}

/// Returns why nothing can be counted on this machine, if that is so.
pub(in crate::bench) fn obstacle() -> Option<String> {
    let missing = ["valgrind", "vgdb"]
        .into_iter()
        .find(|program| setup::find(program).is_none())?;
    Some(format!(
        "{missing} is needed: install it (Debian: apt install valgrind)"
    ))
}

impl Callgrind {
    /// Starts a program. Its output and callgrind's files are in `folder`.
    pub(in crate::bench) fn start(program: &Command, folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--separate-threads=yes"])
            // The start is neither counted nor slowed down.
            .arg("--instr-atstart=no")
            .arg("--trace-syscalls=yes")
            .arg(format!("--log-file={}", folder.join(TRACE).display()))
            .arg(format!(
                "--callgrind-out-file={}",
                folder.join(COUNTS).display()
            ))
            .arg(program.get_program())
            .args(program.get_args())
            .envs(
                program
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("stdout"))?)
            .stderr(File::create(folder.join("stderr"))?);
        Ok(Self {
            process: Process::start(command).context("cannot run valgrind")?,
            folder: folder.to_owned(),
            parts: 0,
            traced: 0,
        })
    }

    /// Fails if the program has ended.
    pub(in crate::bench) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.process.ended()?;
        ensure!(
            ended.is_none(),
            "the program has ended; see {}",
            self.folder.display()
        );
        Ok(())
    }

    /// Returns the folder in `/proc` of the thread with this name; without a name, of the first thread.
    pub(in crate::bench) fn thread(&self, name: Option<&str>) -> anyhow::Result<PathBuf> {
        let tasks = Path::new("/proc")
            .join(self.process.id().to_string())
            .join("task");
        let Some(name) = name else {
            return Ok(tasks.join(self.process.id().to_string()));
        };
        for task in std::fs::read_dir(&tasks)?.flatten() {
            let path = task.path();
            if std::fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim() == name) {
                return Ok(path);
            }
        }
        anyhow::bail!("no thread of the program is called {name}")
    }

    /// Counts from now on.
    pub(in crate::bench) fn zero(&mut self) -> anyhow::Result<()> {
        self.tell("instrumentation on")?;
        self.tell("zero")?;
        self.traced = std::fs::metadata(self.folder.join(TRACE))?.len();
        Ok(())
    }

    /// Returns the counts since the last call of this or [`Callgrind::zero`].
    pub(in crate::bench) fn take(&mut self) -> anyhow::Result<Counted> {
        self.check()?;
        let mut traced = String::new();
        let mut trace = File::open(self.folder.join(TRACE))?;
        trace.seek(SeekFrom::Start(self.traced))?;
        trace.read_to_string(&mut traced)?;
        self.traced += traced.len() as u64;
        self.parts += 1;
        self.tell("dump")?;
        let written = (1..=MAX_THREADS).filter_map(|thread| {
            let name = format!("{COUNTS}.{}-{thread:02}", self.parts);
            Some((
                thread,
                std::fs::read_to_string(self.folder.join(name)).ok()?,
            ))
        });
        let profiles = written.map(|(thread, text)| Ok((Profile::read(&text)?, thread)));
        let profiles = profiles.collect::<anyhow::Result<Vec<_>>>()?;
        let (profile, thread) = profiles
            .into_iter()
            .max_by_key(|(profile, _)| profile.instructions)
            .context("callgrind has written no counts")?;
        let calls = Calls::read(&traced, thread);
        Ok(Counted {
            instructions: profile.instructions,
            system_calls: calls.others,
            clock_readings: calls.clock,
            allocations: profile.allocations,
        })
    }

    /// Sends a command to callgrind and waits until it was carried out.
    fn tell(&mut self, command: &str) -> anyhow::Result<()> {
        self.check()?;
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(format!("--pid={}", self.process.id()))
            .args(command.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.folder.join("vgdb"))?);
        let mut vgdb = Process::start(vgdb).context("cannot run vgdb")?;
        let ended = wait_for(LIMIT, || vgdb.ended().transpose())
            .with_context(|| format!("callgrind has not carried out `{command}` in time"))??;
        ensure!(
            ended.success(),
            "vgdb {command} failed ({ended}); see {}",
            self.folder.display()
        );
        Ok(())
    }
}

/// The counts of a thread in a file of callgrind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Profile {
    instructions: u64,
    /// Calls of the functions in [`ALLOCATORS`].
    allocations: u64,
}

impl Profile {
    /// Reads the format that callgrind's manual describes. The name of a function is written once, with a number that stands
    /// for it from then on.
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut profile = Self::default();
        let mut names = HashMap::new();
        let mut called = None;
        let mut has_summary = false;
        for line in text.lines() {
            if let Some(count) = line.strip_prefix("summary: ") {
                profile.instructions = count.parse().context("a summary is not a number")?;
                has_summary = true;
            } else if let Some(function) = line
                .strip_prefix("fn=")
                .or_else(|| line.strip_prefix("cfn="))
            {
                let (number, name) = function.split_once(' ').unwrap_or((function, ""));
                if !name.is_empty() {
                    names.insert(number, name);
                }
                called = line
                    .starts_with('c')
                    .then(|| names.get(number).copied().unwrap_or_default());
            } else if let Some(calls) = line.strip_prefix("calls=") {
                let count = calls.split(' ').next().unwrap_or_default();
                let count: u64 = count.parse().context("a number of calls is not a number")?;
                // A recursive call has the depth after the name.
                let name = called.unwrap_or_default().split('\'').next();
                if name.is_some_and(|name| ALLOCATORS.contains(&name)) {
                    profile.allocations += count;
                }
            }
        }
        ensure!(has_summary, "a file of callgrind has no summary");
        Ok(profile)
    }
}

/// Numbers of system calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    /// Those that read the clock.
    clock: u64,
    others: u64,
}

impl Calls {
    /// Counts the calls of one thread in valgrind's list.
    fn read(trace: &str, thread: u32) -> Self {
        let mut calls = Self::default();
        for line in trace.lines() {
            // SYSCALL[PROCESS,THREAD](NUMBER) sys_NAME ( ARGUMENTS ... or, when a call that had to wait returns: ... RESULT
            let Some((_, call)) = line.split_once("SYSCALL[") else {
                continue;
            };
            let Some((ids, call)) = call.split_once("](") else {
                continue;
            };
            let is_own = ids
                .split(',')
                .nth(1)
                .is_some_and(|id| id.trim().parse() == Ok(thread));
            let name = call.split_once(") ").map_or("", |(_, name)| name);
            if !is_own || !name.starts_with("sys_") {
                continue;
            }
            if CLOCK.iter().any(|clock| name.starts_with(clock)) {
                calls.clock += 1;
            } else {
                calls.others += 1;
            }
        }
        calls
    }
}

/// The functions that allocate memory: those of C libraries, and those that Rust calls in mimalloc.
const ALLOCATORS: [&str; 8] = [
    "aligned_alloc",
    "calloc",
    "malloc",
    "mi_malloc_aligned",
    "mi_realloc_aligned",
    "mi_zalloc_aligned",
    "posix_memalign",
    "realloc",
];

/// The system calls that read the clock.
const CLOCK: [&str; 3] = ["sys_clock_gettime", "sys_gettimeofday", "sys_time "];

/// File of the system calls, in the folder of the program.
const TRACE: &str = "system-calls";

/// File of the counts; callgrind adds a number for each part and thread.
const COUNTS: &str = "counts";

/// The number of threads to look for.
const MAX_THREADS: u32 = 32;

/// How long callgrind may take to carry out a command.
const LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_and_allocations_of_a_thread_are_read() {
        let text = "# callgrind format\nthread: 2\nevents: Ir\nsummary: 58493\n\n\
            fn=(1) main\n1 5\ncfn=(2) malloc\ncalls=3 10\n1 30\ncfn=(3) free\ncalls=3 10\n1 30\n\
            fn=(2)\n1 5\ncfn=(4) calloc'2\ncalls=1 0\n1 1\n\
            fn=(3)\ncfn=(2)\ncalls=2 0\n1 1\n\ntotals: 58576\n";
        let profile = Profile::read(text).unwrap();
        let expected = Profile {
            instructions: 58_493,
            allocations: 6,
        };
        assert_eq!(profile, expected);
        assert!(Profile::read("").is_err());
    }

    #[test]
    fn system_calls_of_a_thread_are_counted_once() {
        let trace = "SYSCALL[27772,1](228) sys_clock_gettime( 1, 0x1f )[sync] --> Success(0x0) \n\
            SYSCALL[27772,2](228) sys_clock_gettime( 1, 0x1f )[sync] --> Success(0x0) \n\
            SYSCALL[27772,2](45) sys_recvfrom ( 7, 0x4, 1024, 0, 0x0, 0x0 ) --> [async] ... \n\
            SYSCALL[27772,2](45) ... [async] --> Success(0x4f) \n\
            SYSCALL[27772,2](96) sys_gettimeofday ( 0x1f, 0x0 )[sync] --> Success(0x0) \n\
            ==27772== other output\n\
            SYSCALL[27772,2]( 20) sys_writev ( 7, 0x1f, 2 ) --> [async] ... \n";
        let (clock, others) = (2, 2);
        assert_eq!(Calls::read(trace, 2), Calls { clock, others });
        assert_eq!(Calls::read(trace, 3), Calls::default());
    }
}
