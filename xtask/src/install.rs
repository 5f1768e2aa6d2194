//! Installs packages once, also when several steps or several commands want the same ones at the same time.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::setup::find;
use crate::steps::{root, run, step, target};

/// Does the work that fills a folder, unless it was done before with the same `wanted`, a text that changes when something
/// else is wanted. Only one process and one thread at a time does it; the others wait for its result.
///
/// `name` is the name of the lock: one for each folder.
pub(crate) fn once(
    description: &str,
    name: &str,
    folder: &Path,
    wanted: &str,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Written last, so that an interrupted installation is repeated.
    let installed = folder.join("installed.txt");
    let is_installed = || std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted);
    if is_installed() {
        return Ok(());
    }
    // The lock ends with the file, so with the process.
    let _lock = lock(description, name)?;
    if is_installed() {
        return Ok(());
    }
    step(description, || {
        work()?;
        std::fs::write(&installed, wanted)
            .with_context(|| format!("cannot write {}", installed.display()))
    })
}

/// Installs the packages of a file of requirements into a virtual environment; returns its `bin` folder.
pub(crate) fn venv(description: &str, folder: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let venv = target().join(folder);
    let bin = venv.join("bin");
    let requirements = root().join("xtask").join(requirements);
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let description = format!("installing {description} under target/{folder}");
    once(&description, folder, &venv, &wanted, || {
        let pip = pip()?;
        create_venv(&venv, &["--without-pip"])?;
        run(Command::new(pip)
            .arg("--python")
            .arg(bin.join("python"))
            .args(QUIET_INSTALL)
            .arg("--requirement")
            .arg(&requirements))
    })?;
    Ok(bin)
}

/// Installs pip into a virtual environment; returns the executable. It serves all others, because it takes longer to install than
/// most of what they have.
pub(crate) fn pip() -> anyhow::Result<PathBuf> {
    let venv = target().join("python-pip");
    let pip = venv.join("bin/pip");
    let description = "installing pip under target/python-pip";
    once(description, "python-pip", &venv, PIP, || {
        create_venv(&venv, &[])?;
        // That of an older Python does not know the option `--python`.
        run(Command::new(&pip).args(QUIET_INSTALL).arg(PIP))
    })?;
    Ok(pip)
}

fn create_venv(folder: &Path, options: &[&str]) -> anyhow::Result<()> {
    let python = find("python3").context(
        "python3 is needed (3.10 or newer, with venv): install it, or use `cargo xtask up --embedded`, which does not need it",
    )?;
    run(Command::new(python)
        .args(["-m", "venv", "--clear"])
        .args(options)
        .arg(folder))
}

const QUIET_INSTALL: [&str; 3] = ["install", "--quiet", "--disable-pip-version-check"];

const PIP: &str = "pip==25.3";

/// Locks a name; waits while another command or another thread has it.
pub(crate) fn lock(description: &str, name: &str) -> anyhow::Result<File> {
    let locks = target().join("locks");
    let path = locks.join(name);
    let cannot_lock = || format!("cannot lock {}", path.display());
    std::fs::create_dir_all(&locks).with_context(cannot_lock)?;
    let file = File::create(&path).with_context(cannot_lock)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => step(
            &format!("{description}: waiting for another command"),
            || file.lock().with_context(cannot_lock),
        )?,
        Err(TryLockError::Error(error)) => return Err(error).with_context(cannot_lock),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// As many threads as steps can want the same packages at a time.
    #[test]
    fn the_work_is_done_once_for_each_wanted_text() {
        let folder = tempfile::tempdir().unwrap();
        let (running, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let install = |wanted: &str| {
            once("a test", "install-test", folder.path(), wanted, || {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                std::thread::yield_now();
                done.fetch_add(1, Ordering::SeqCst);
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        };
        for (round, wanted) in ["1.0", "1.1"].into_iter().enumerate() {
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| install(wanted));
                }
            });
            assert_eq!(done.load(Ordering::SeqCst), round + 1);
        }
    }

    #[test]
    fn an_installation_that_failed_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let install = |result: anyhow::Result<()>| {
            once("a test", "install-test-2", folder.path(), "", || result)
        };
        assert!(install(Err(anyhow::anyhow!("interrupted"))).is_err());
        let mut was_repeated = false;
        once("a test", "install-test-2", folder.path(), "", || {
            was_repeated = true;
            Ok(())
        })
        .unwrap();
        assert!(was_repeated);
    }
}
