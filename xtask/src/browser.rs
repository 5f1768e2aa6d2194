//! Tests an app in real browsers, in different deployments.
//!
//! The steps are always those of `envoy/browser/app.test.mjs`; only the programs in front of the app and the browsers differ.

use std::any::Any;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::{Bootstrap, Front, Gateway, MOUNT, Stack, Streamlit};
use fluxlit_support::certificate::{Authority, CertificateFiles};
use fluxlit_support::client::get;
use fluxlit_support::container::Container;
use fluxlit_support::port::{free_port, local};

use crate::containers::{APP_IMAGE, Containers};
use crate::setup;
use crate::steps::{root, target};
use crate::test::{Outcome, Prerequisites};

/// A browser to test with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Browser {
    Chromium,
    Firefox,
    /// The engine of Safari.
    Webkit,
}

impl Browser {
    const ALL: [Self; 3] = [Self::Chromium, Self::Firefox, Self::Webkit];

    /// Returns the variables that name the browser and its programs to the test files.
    fn variables(self) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
        let programs = match self {
            Self::Chromium => vec![("CHROMIUM", setup::chromium()?)],
            Self::Firefox => setup::firefox()?,
            Self::Webkit => setup::webkit()?,
        };
        Ok([("BROWSER", self.name().into())]
            .into_iter()
            .chain(programs)
            .collect())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::Webkit => "webkit",
        }
    }
}

/// An app with the programs in front of it. They stop when it is dropped, the front first.
struct Deployment {
    port: u16,
    mount: &'static str,
    tls: Option<Tls>,
    /// The port of a front that withdraws Strict-Transport-Security.
    withdrawn: Option<u16>,
    /// In the order in which they stop.
    _processes: Vec<Box<dyn Any>>,
}

/// The TLS of a front.
struct Tls {
    authority: PathBuf,
    files: CertificateFiles,
    /// The newest version of HTTP that the front has, as ALPN names it.
    protocol: &'static str,
}

impl Tls {
    fn create(folder: &Path, protocol: &'static str) -> anyhow::Result<Self> {
        let created = Authority::create()?;
        let authority = folder.join("authority.pem");
        std::fs::write(&authority, &created.pem)?;
        let files = created.sign_server(&["127.0.0.1", HOST])?.write(folder)?;
        Ok(Self {
            authority,
            files,
            protocol,
        })
    }
}

impl Deployment {
    /// Returns an app over http. `processes`: in the order in which they stop.
    fn plain(port: u16, mount: &'static str, processes: Vec<Box<dyn Any>>) -> Self {
        Self {
            port,
            mount,
            tls: None,
            withdrawn: None,
            _processes: processes,
        }
    }

    /// Returns the variables for the test files.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("APP_PORT", self.port.to_string()),
            ("APP_MOUNT", self.mount.to_owned()),
        ];
        match &self.tls {
            None => variables.push(("APP_SCHEME", "http".to_owned())),
            Some(tls) => variables.extend([
                ("APP_SCHEME", "https".to_owned()),
                ("APP_PROTOCOL", tls.protocol.to_owned()),
                ("TRUSTED", tls.authority.display().to_string()),
                ("CERTIFICATE", tls.files.certificate.display().to_string()),
            ]),
        }
        variables.extend(
            self.withdrawn
                .map(|port| ("APP_WITHDRAWN_PORT", port.to_string())),
        );
        variables
    }
}

/// The app of a deployment, its address, and the folder for its logs.
struct Scenario<'a> {
    app: PathBuf,
    listen: SocketAddr,
    folder: &'a Path,
}

/// Tests the demo behind Envoy, and takes its screenshot. With the variable `FLUXLIT_WRITE`, that of Chromium becomes the one of the
/// README.
pub(crate) fn demo(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let outcome = browse(prerequisites, "demo", &["demo.test.mjs"], &[], |folder| {
        let mut scenario = scenario(folder)?;
        scenario.app = root().join("demo/app.py");
        behind_envoy(prerequisites, &scenario, None)
    })?;
    if std::env::var_os("FLUXLIT_WRITE").is_some()
        && prerequisites.browsers.contains(&Browser::Chromium)
    {
        let taken = target().join("artifacts/app-chromium.png");
        std::fs::copy(taken, root().join("docs/screenshot.png"))
            .context("cannot write the screenshot")?;
    }
    Ok(outcome)
}

/// Tests Envoy over https with the shipped bootstrap, which removes the mount; Streamlit knows its path.
pub(crate) fn envoy(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    browse(prerequisites, "envoy", &[STEPS, HSTS], &[], |folder| {
        let tls = Tls::create(folder, "h2")?;
        behind_envoy(prerequisites, &scenario(folder)?, Some(tls))
    })
}

/// Tests nginx over https, as the gateway's program prints its configuration; Streamlit knows its path.
pub(crate) fn nginx_https(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(without_nginx());
    };
    browse(
        prerequisites,
        "nginx-https",
        &[STEPS, HSTS],
        &[],
        |folder| behind_nginx_over_tls(prerequisites, &nginx, &scenario(folder)?),
    )
}

/// Tests Envoy over https in Firefox.
pub(crate) fn firefox(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    envoy(&prerequisites.with_browsers(&[Browser::Firefox]))
}

/// Tests nginx over https in WebKit.
pub(crate) fn webkit(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    nginx_https(&prerequisites.with_browsers(&[Browser::Webkit]))
}

/// Tests every deployment in every browser.
pub(crate) fn all(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let prerequisites = prerequisites.with_browsers(&Browser::ALL);
    let deployments = [
        demo,
        envoy,
        nginx_https,
        nginx_full,
        nginx_stripped,
        caddy,
        at_root,
        at_mount,
        tls,
        older,
        login,
    ];
    let mut failures = Vec::new();
    for test in deployments {
        match test(&prerequisites) {
            Ok(Outcome::Passed) => {}
            Ok(skipped) => return Ok(skipped),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(Outcome::Passed)
}

/// Tests the gateway alone, with the app at the root.
pub(crate) fn at_root(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    alone(prerequisites, "root", &prerequisites.parts.streamlit, "")
}

/// Tests the gateway alone, with the app under a path that Streamlit knows.
pub(crate) fn at_mount(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    alone(
        prerequisites,
        "mount",
        &prerequisites.parts.streamlit,
        MOUNT,
    )
}

/// Tests an older Streamlit, which uses Tornado, behind the gateway.
pub(crate) fn older(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    alone(prerequisites, "older", &setup::older_streamlit()?, MOUNT)
}

fn alone(
    prerequisites: &Prerequisites,
    name: &str,
    streamlit: &Path,
    mount: &'static str,
) -> anyhow::Result<Outcome> {
    browse(prerequisites, name, &[STEPS], &[], |folder| {
        gateway_alone(prerequisites, streamlit, mount, &scenario(folder)?)
    })
}

/// Tests the image of the app with another app mounted into it, in a container without any privilege.
pub(crate) fn image(
    prerequisites: &Prerequisites,
    containers: &Containers,
) -> anyhow::Result<Outcome> {
    browse(prerequisites, "image", &[STEPS], &[], |folder| {
        let Scenario { app, listen, .. } = scenario(folder)?;
        let script = app.file_name().context("the app has no name")?;
        let scripts = app.parent().context("the app has no folder")?;
        let options = [
            "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=256m".to_owned(),
            format!("--volume={}:/scripts:ro", scripts.display()),
            format!("--env=FLUXLIT_ROOT_PATH={MOUNT}"),
            "--env=FLUXLIT_ROOT_PATH_SHAPE=full".to_owned(),
            "--env=FLUXLIT_GATEWAY_HOST=127.0.0.1".to_owned(),
            format!("--env=FLUXLIT_GATEWAY_PORT={}", listen.port()),
        ];
        let script = format!("/scripts/{}", script.to_string_lossy());
        let container = Container::start_with(
            &containers.variables(),
            APP_IMAGE,
            &options,
            &["run", &script],
        );
        let ready = format!("{MOUNT}/api/readyz");
        container.wait_until("ready", || {
            get(listen, &ready, None).is_ok_and(|response| response.status == 200)
        });
        Ok(Deployment::plain(
            listen.port(),
            MOUNT,
            vec![Box::new(container)],
        ))
    })
}

/// Tests the gateway alone with TLS, which enables HTTP/2 and WebSockets over HTTP/2.
pub(crate) fn tls(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    browse(prerequisites, "tls", &[STEPS], &[], |folder| {
        let tls = Tls::create(folder, "h2")?;
        let settings = [
            (
                "FLUXLIT_STREAMLIT_COMMAND",
                prerequisites.parts.streamlit.as_os_str(),
            ),
            ("FLUXLIT_ROOT_PATH", MOUNT.as_ref()),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full".as_ref()),
            ("FLUXLIT_TLS_CERTIFICATE", tls.files.certificate.as_os_str()),
            ("FLUXLIT_TLS_KEY", tls.files.key.as_os_str()),
        ];
        let gateway = Gateway::start(
            &prerequisites.parts.gateway,
            Some(&scenario(folder)?.app),
            settings,
            folder,
        )?
        .with_certificate(tls.authority.clone());
        wait(&gateway, MOUNT, folder)?;
        let port = gateway.address.port();
        Ok(Deployment {
            tls: Some(tls),
            ..Deployment::plain(port, MOUNT, vec![Box::new(gateway)])
        })
    })
}

/// Tests nginx forwarding the path unchanged; Streamlit knows its path.
pub(crate) fn nginx_full(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    match setup::nginx() {
        Some(nginx) => proxied(prerequisites, "nginx-full", Front::NginxFull, &nginx, MOUNT),
        None => Ok(without_nginx()),
    }
}

/// Tests nginx removing the mount; Streamlit does not know it.
pub(crate) fn nginx_stripped(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    match setup::nginx() {
        Some(nginx) => proxied(
            prerequisites,
            "nginx-stripped",
            Front::NginxStripped,
            &nginx,
            "",
        ),
        None => Ok(without_nginx()),
    }
}

/// Tests Caddy removing the mount; Streamlit knows its path.
pub(crate) fn caddy(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    proxied(
        prerequisites,
        "caddy",
        Front::Caddy,
        &setup::caddy()?,
        MOUNT,
    )
}

fn proxied(
    prerequisites: &Prerequisites,
    name: &str,
    front: Front,
    executable: &Path,
    base: &str,
) -> anyhow::Result<Outcome> {
    browse(prerequisites, name, &[STEPS], &[], |folder| {
        behind_proxy(prerequisites, front, executable, base, &scenario(folder)?)
    })
}

fn without_nginx() -> Outcome {
    Outcome::Skipped("nginx is not installed".to_owned())
}

/// Tests a login at an identity provider in three deployments: the gateway alone, a proxy that removes the mount, and
/// Envoy.
///
/// Streamlit knows its path in all of them, because it sends the login URL to the page in a message that no proxy can
/// rewrite.
pub(crate) fn login(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(without_nginx());
    };
    let streamlit = &prerequisites.parts.streamlit;
    type SetUp<'a> = &'a dyn Fn(&Scenario<'_>) -> anyhow::Result<Deployment>;
    let deployments: [(&str, SetUp<'_>); 3] = [
        ("login-alone", &|scenario| {
            gateway_alone(prerequisites, streamlit, MOUNT, scenario)
        }),
        ("login-stripped", &|scenario| {
            behind_proxy(prerequisites, Front::NginxStripped, &nginx, MOUNT, scenario)
        }),
        ("login-envoy", &|scenario| {
            behind_envoy(prerequisites, scenario, None)
        }),
    ];
    for (name, set_up) in deployments {
        let provider = free_port()?;
        let outcome = browse(
            prerequisites,
            name,
            &["login.test.mjs"],
            &[("APP_PROVIDER_PORT", provider.to_string())],
            |folder| {
                let mut scenario = scenario(folder)?;
                scenario.app = login_app(&scenario, provider)?;
                set_up(&scenario)
            },
        )?;
        if let Outcome::Skipped(_) = outcome {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Passed)
}

/// Copies the app of the login test, and writes its `secrets.toml` with the URLs of the provider and of the app.
fn login_app(scenario: &Scenario<'_>, provider: u16) -> anyhow::Result<PathBuf> {
    let folder = scenario.folder.join("app");
    std::fs::create_dir_all(folder.join(".streamlit"))?;
    let script = folder.join("main.py");
    std::fs::copy(root().join("envoy/browser/login/main.py"), &script)?;
    let port = scenario.listen.port();
    let secrets = format!(
        r#"[auth]
redirect_uri = "http://{HOST}:{port}{MOUNT}/oauth2callback"
cookie_secret = "only for this test"
client_id = "app"
client_secret = "only for this test"
server_metadata_url = "http://127.0.0.1:{provider}/.well-known/openid-configuration"
"#
    );
    std::fs::write(folder.join(".streamlit/secrets.toml"), secrets)?;
    Ok(script)
}

/// Returns the scenario with the app of the browser test, on a free port.
fn scenario(folder: &Path) -> anyhow::Result<Scenario<'_>> {
    Ok(Scenario {
        app: root().join("envoy/browser/app/main.py"),
        listen: local(free_port()?),
        folder,
    })
}

/// Starts Envoy, and the gateway, which starts Streamlit; with TLS, also a second Envoy in front of the same gateway, which
/// withdraws Strict-Transport-Security.
fn behind_envoy(
    prerequisites: &Prerequisites,
    scenario: &Scenario<'_>,
    tls: Option<Tls>,
) -> anyhow::Result<Deployment> {
    let Scenario {
        app,
        listen,
        folder,
    } = scenario;
    let parts = &prerequisites.parts;
    let bootstrap = || match &tls {
        Some(tls) => Bootstrap::shipped().with_tls(&tls.files.certificate, &tls.files.key),
        None => Bootstrap::shipped(),
    };
    let stack = Stack::start(parts, app, bootstrap(), *listen, folder)?;
    let mut withdrawn = None;
    let mut processes: Vec<Box<dyn Any>> = Vec::new();
    if tls.is_some() {
        let mut config: serde_json::Value = serde_json::from_str(fluxlit_envoy::plugin_config())?;
        config["hsts"] = serde_json::json!({"mode": "gateway", "max_age": 0});
        let address = local(free_port()?);
        let own = folder.join("withdrawn");
        std::fs::create_dir_all(&own)?;
        let second = bootstrap()
            .with_plugin_config(&config.to_string())
            .with_module(&parts.module)
            .listening_on(address)
            .forwarding_to(stack.gateway_address)
            .start(&parts.envoy, &own, &["--concurrency", "1"])?;
        processes.push(Box::new(second));
        withdrawn = Some(address.port());
    }
    ensure!(
        stack.wait_until_ready(START_LIMIT),
        "the app did not start; see {}",
        folder.display()
    );
    processes.push(Box::new(stack));
    Ok(Deployment {
        tls,
        withdrawn,
        ..Deployment::plain(listen.port(), MOUNT, processes)
    })
}

/// Starts nginx with TLS, a gateway that sends Strict-Transport-Security, and a separate Streamlit; then the same nginx and
/// gateway once more, to withdraw it.
fn behind_nginx_over_tls(
    prerequisites: &Prerequisites,
    nginx: &Path,
    scenario: &Scenario<'_>,
) -> anyhow::Result<Deployment> {
    let Scenario {
        app,
        listen,
        folder,
    } = scenario;
    let tls = Tls::create(folder, "http/1.1")?;
    let streamlit = Streamlit::start(&prerequisites.parts.streamlit, app, MOUNT, &[], folder)?;
    let withdrawn = local(free_port()?);
    let mut processes: Vec<Box<dyn Any>> = Vec::new();
    for (address, hsts, name) in [
        (*listen, "true", "honoured"),
        (
            withdrawn,
            r#"{"mode": "gateway", "max_age": 0}"#,
            "withdrawn",
        ),
    ] {
        let own = folder.join(name);
        std::fs::create_dir_all(&own)?;
        let upstream = streamlit.url();
        let settings = [
            ("FLUXLIT_STREAMLIT_UPSTREAM", upstream.as_str()),
            ("FLUXLIT_ROOT_PATH", MOUNT),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
            ("FLUXLIT_TRUST_PROXY", "1"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
            ("FLUXLIT_HSTS", hsts),
        ];
        let executable = &prerequisites.parts.gateway;
        let gateway = Gateway::start(executable, None, settings, &own)?;
        wait(&gateway, MOUNT, &own)?;
        let printed = Command::new(executable)
            .args(["config", "--for", "nginx"])
            .args(["--listen", &address.to_string()])
            .args(["--upstream", &gateway.address.to_string()])
            .arg("--certificate")
            .arg(&tls.files.certificate)
            .arg("--key")
            .arg(&tls.files.key)
            .envs(settings)
            .output()
            .context("cannot run the gateway's program")?;
        ensure!(
            printed.status.success(),
            "{}",
            String::from_utf8_lossy(&printed.stderr)
        );
        let text = String::from_utf8_lossy(&printed.stdout);
        let front = Front::NginxFull.start_printed(nginx, &text, address, &own)?;
        processes.extend([Box::new(front) as Box<dyn Any>, Box::new(gateway)]);
    }
    processes.push(Box::new(streamlit));
    Ok(Deployment {
        tls: Some(tls),
        withdrawn: Some(withdrawn.port()),
        ..Deployment::plain(listen.port(), MOUNT, processes)
    })
}

/// Starts the gateway, which starts Streamlit.
fn gateway_alone(
    prerequisites: &Prerequisites,
    streamlit: &Path,
    mount: &'static str,
    scenario: &Scenario<'_>,
) -> anyhow::Result<Deployment> {
    let Scenario {
        app,
        listen,
        folder,
    } = scenario;
    let port = listen.port().to_string();
    let settings: [(&str, &OsStr); 4] = [
        ("FLUXLIT_STREAMLIT_COMMAND", streamlit.as_os_str()),
        ("FLUXLIT_ROOT_PATH", mount.as_ref()),
        ("FLUXLIT_ROOT_PATH_SHAPE", "full".as_ref()),
        ("FLUXLIT_GATEWAY_PORT", port.as_ref()),
    ];
    let gateway = Gateway::start(&prerequisites.parts.gateway, Some(app), settings, folder)?;
    wait(&gateway, mount, folder)?;
    Ok(Deployment::plain(
        listen.port(),
        mount,
        vec![Box::new(gateway)],
    ))
}

/// Starts a proxy, the gateway, and a separate Streamlit with the base path `base`.
fn behind_proxy(
    prerequisites: &Prerequisites,
    front: Front,
    executable: &Path,
    base: &str,
    scenario: &Scenario<'_>,
) -> anyhow::Result<Deployment> {
    let Scenario {
        app,
        listen,
        folder,
    } = scenario;
    let streamlit = Streamlit::start(&prerequisites.parts.streamlit, app, base, &[], folder)?;
    let upstream = streamlit.url();
    let settings = [
        ("FLUXLIT_STREAMLIT_UPSTREAM", upstream.as_str()),
        ("FLUXLIT_ROOT_PATH", MOUNT),
        (
            "FLUXLIT_ROOT_PATH_SHAPE",
            if front.is_stripping() {
                "stripped"
            } else {
                "full"
            },
        ),
        ("FLUXLIT_TRUST_PROXY", "1"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];
    let gateway = Gateway::start(&prerequisites.parts.gateway, None, settings, folder)?;
    let mount = if front.is_stripping() { "" } else { MOUNT };
    wait(&gateway, mount, folder)?;
    let front = front.start(executable, *listen, gateway.address, folder)?;
    let processes: Vec<Box<dyn Any>> =
        vec![Box::new(front), Box::new(gateway), Box::new(streamlit)];
    Ok(Deployment::plain(listen.port(), MOUNT, processes))
}

/// Sets up a deployment and runs test files against it in each browser, with variables for the test files.
fn browse(
    prerequisites: &Prerequisites,
    name: &str,
    files: &[&str],
    variables: &[(&str, String)],
    set_up: impl FnOnce(&Path) -> anyhow::Result<Deployment>,
) -> anyhow::Result<Outcome> {
    let mut browsers = Vec::new();
    for browser in &prerequisites.browsers {
        match browser.variables() {
            Ok(programs) => browsers.push((browser.name(), programs)),
            Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
        }
    }
    if setup::find("npm").is_none() {
        return Ok(Outcome::Skipped("npm is not installed".to_owned()));
    }
    let tests = setup::playwright()?;
    let artifacts = target().join("artifacts");
    std::fs::create_dir_all(&artifacts)?;
    let folder = target().join("test-browser").join(format!(
        "{name}-{}",
        browsers
            .iter()
            .map(|(browser, _)| *browser)
            .collect::<Vec<_>>()
            .join("-")
    ));
    std::fs::create_dir_all(&folder)?;
    let deployment = set_up(&folder)?;
    let mut failed = Vec::new();
    for (browser, programs) in browsers {
        let output = Command::new("node")
            .args(["--test", "--test-reporter=spec", "--test-concurrency=1"])
            .args(files.iter().map(|file| tests.join(file)))
            .envs(programs)
            .envs(deployment.variables())
            .env("APP_DEPLOYMENT", name)
            .env("ARTIFACTS", &artifacts)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .output()
            .context("cannot run node")?;
        // In one call, so that it does not interleave with the output of steps that run in parallel.
        print!(
            "\n{name} in {browser}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if !output.status.success() {
            failed.push(browser);
        }
    }
    ensure!(
        failed.is_empty(),
        "{name} failed in {}; the logs are in {}",
        failed.join(", "),
        folder.display()
    );
    Ok(Outcome::Passed)
}

fn wait(gateway: &Gateway, mount: &str, folder: &Path) -> anyhow::Result<()> {
    ensure!(
        gateway.wait_until_ready(mount, START_LIMIT),
        "the app did not start; see {}",
        folder.display()
    );
    Ok(())
}

const STEPS: &str = "app.test.mjs";

const HSTS: &str = "hsts.test.mjs";

/// The host name of the app, as in `envoy/browser/browser.mjs`.
const HOST: &str = "app.example.test";

const START_LIMIT: Duration = Duration::from_secs(60);
