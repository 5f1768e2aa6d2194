//! Builds the images of `deploy/images` with buildah, in a storage of their own under `target/containers`.
//!
//! No public registry is needed: the base is a Debian that debootstrap installs, where the published files name an image by
//! its digest. Everything else is the published file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::install::lock;
use crate::setup::{self, debian};
use crate::steps::{quietly, root, run, step, target};

/// The names of the images in the storage.
pub(crate) const GATEWAY_IMAGE: &str = "localhost/fluxlit-gateway:test";
pub(crate) const APP_IMAGE: &str = "localhost/fluxlit-app:test";
pub(crate) const CADDY_IMAGE: &str = "localhost/caddy:test";
pub(crate) const TRAEFIK_IMAGE: &str = "localhost/traefik:test";
pub(crate) const BASE_IMAGE: &str = "localhost/fluxlit-base:bookworm";

/// The settings of podman and buildah for this repository.
pub(crate) struct Containers {
    folder: PathBuf,
    /// Two runs would remove each other's containers. The lock ends with the file.
    _lock: File,
}

impl Containers {
    /// Finds the programs and writes their settings.
    pub(crate) fn find() -> anyhow::Result<Self> {
        for (program, package) in PROGRAMS {
            debian(program, package)?;
        }
        ensure!(
            rustix::process::geteuid().is_root(),
            "containers are run as root here: debootstrap and limits of memory need it"
        );
        let folder = target().join("containers");
        std::fs::create_dir_all(&folder).context("cannot write under target/")?;
        let folder = folder.canonicalize()?;
        std::fs::write(folder.join("containers.conf"), CONTAINERS_CONF)?;
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
            folder.display()
        );
        std::fs::write(folder.join("storage.conf"), storage)?;
        let lock = lock("the containers of this repository", "containers")?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// The variables with which podman and buildah use this storage.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("CONTAINERS_CONF", self.folder.join("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf")),
        ]
    }

    /// Builds the image of the gateway from a static executable, and the image of the example app. Returns the executable as it
    /// is in the images, without debug information.
    pub(crate) fn build_images(&self, gateway: &Path) -> anyhow::Result<PathBuf> {
        self.base()?;
        let images = root().join("deploy/images");
        let context = self.folder.join("gateway");
        std::fs::create_dir_all(&context)?;
        // Debug information would make the image ten times as large.
        let executable = context.join("fluxlit-gateway");
        run(Command::new("strip")
            .arg("-o")
            .arg(&executable)
            .arg(gateway))?;
        step("building the image of the gateway", || {
            quietly(
                self.build(GATEWAY_IMAGE, &images.join("gateway/Containerfile"))
                    .arg(&context),
            )
        })?;
        step("building the image of the example app", || {
            let mut build = self.build(APP_IMAGE, &images.join("app/Containerfile"));
            build
                .args(["--network", "host"])
                .args(["--build-arg", &format!("BASE={BASE_IMAGE}")])
                .args(["--build-arg", &format!("GATEWAY={GATEWAY_IMAGE}")]);
            // The base has no certificates, and pip may need the settings of this machine.
            for file in [
                "/etc/ssl/certs",
                "/usr/local/share/ca-certificates",
                "/etc/pip.conf",
            ] {
                if Path::new(file).exists() {
                    build.arg("--volume").arg(format!("{file}:{file}:ro"));
                }
            }
            quietly(build.arg(images.join("app")))
        })?;
        Ok(executable)
    }

    /// Builds the images of Caddy and Traefik from static executables. The base has nginx.
    pub(crate) fn build_fronts(&self) -> anyhow::Result<()> {
        for (image, name, executable) in [
            (CADDY_IMAGE, "caddy", setup::caddy()?),
            (TRAEFIK_IMAGE, "traefik", setup::traefik()?),
        ] {
            let context = self.folder.join(name);
            std::fs::create_dir_all(&context)?;
            std::fs::copy(executable, context.join(name))?;
            let file = context.join("Containerfile");
            std::fs::write(
                &file,
                format!("FROM scratch\nCOPY {name} /usr/bin/{name}\n"),
            )?;
            quietly(self.build(image, &file).arg(&context))?;
        }
        Ok(())
    }

    /// Returns the command that builds an image from a file; the context is still missing.
    fn build(&self, image: &str, file: &Path) -> Command {
        let mut buildah = Command::new("buildah");
        buildah
            .envs(self.variables())
            // Layers that did not change are kept; without the time, equal files give equal layers.
            .args(["build", "--quiet", "--isolation", "chroot", "--layers"])
            .args(["--timestamp", "0", "--format", "docker"])
            .args(["--tag", image, "--file"])
            .arg(file);
        buildah
    }

    /// Installs a Debian with Python and nginx, unless the storage has it.
    fn base(&self) -> anyhow::Result<()> {
        let exists = Command::new("podman")
            .envs(self.variables())
            .args(["image", "exists", BASE_IMAGE])
            .status()
            .context("cannot run podman")?;
        if exists.success() {
            return Ok(());
        }
        step("installing a Debian as the base of the images", || {
            let folder = self.folder.join("base");
            if folder.exists() {
                // It was interrupted.
                std::fs::remove_dir_all(&folder)?;
            }
            quietly(
                Command::new("debootstrap")
                    .args([
                        "--variant=minbase",
                        "--include=python3,python3-venv,nginx-light",
                    ])
                    .arg("bookworm")
                    .arg(&folder),
            )?;
            let mut tar = Command::new("tar")
                .arg("-C")
                .arg(&folder)
                .args(["--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists"])
                .args(["-c", "."])
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot run tar")?;
            let archive = tar.stdout.take().context("tar has no output")?;
            quietly(
                Command::new("podman")
                    .envs(self.variables())
                    .args(["import", "--quiet", "-", BASE_IMAGE])
                    .stdin(archive),
            )?;
            ensure!(tar.wait()?.success(), "tar failed");
            std::fs::remove_dir_all(&folder)?;
            Ok(())
        })
    }
}

const PROGRAMS: [(&str, &str); 8] = [
    ("buildah", "buildah"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("debootstrap", "debootstrap"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("strip", "binutils"),
    // netavark calls it, and its package does not depend on it.
    ("iptables", "iptables"),
];

/// runc and cgroupfs work without systemd. The network is the one that the values of the Helm chart trust. A container must not ask for more open files than the machine allows.
const CONTAINERS_CONF: &str = "\
[containers]
default_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]
[network]
network_backend = \"netavark\"
default_subnet = \"10.244.0.0/24\"
[engine]
runtime = \"runc\"
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
";
