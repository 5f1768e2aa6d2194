//! Tests an app in a real browser, in different deployments.
//!
//! The steps are always those of `envoy/browser/app.test.mjs`; only the programs in front of the app differ.

use std::any::Any;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::{Bootstrap, Front, Gateway, MOUNT, Stack, Streamlit};
use fluxlit_support::certificate::Certificate;
use fluxlit_support::port::{free_port, local};

use crate::setup;
use crate::steps::{root, target};
use crate::test::{Outcome, Prerequisites};

/// An app with the programs in front of it. They stop when it is dropped, the front first.
struct Deployment {
    scheme: &'static str,
    port: u16,
    mount: &'static str,
    /// In the order in which they stop.
    _processes: Vec<Box<dyn Any>>,
}

/// The app of a deployment, its address, and the folder for its logs.
struct Scenario<'a> {
    app: PathBuf,
    listen: SocketAddr,
    folder: &'a Path,
}

/// Tests the demo behind Envoy, and takes its screenshot.
pub(crate) fn demo(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    browse("demo", "demo.test.mjs", |folder| {
        let mut scenario = scenario(folder)?;
        scenario.app = root().join("demo/app.py");
        behind_envoy(prerequisites, &scenario)
    })
}

/// Tests Envoy with the shipped bootstrap, which removes the mount; Streamlit knows its path.
pub(crate) fn envoy(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    browse("envoy", STEPS, |folder| {
        behind_envoy(prerequisites, &scenario(folder)?)
    })
}

/// Tests the gateway alone, with the app at the root.
pub(crate) fn at_root(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    browse("root", STEPS, |folder| {
        gateway_alone(
            prerequisites,
            &prerequisites.parts.streamlit,
            "",
            &scenario(folder)?,
        )
    })
}

/// Tests the gateway alone, with the app under a path that Streamlit knows.
pub(crate) fn at_mount(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    browse("mount", STEPS, |folder| {
        gateway_alone(
            prerequisites,
            &prerequisites.parts.streamlit,
            MOUNT,
            &scenario(folder)?,
        )
    })
}

/// Tests the gateway alone with TLS, which enables HTTP/2 and WebSockets over HTTP/2.
pub(crate) fn tls(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    browse("tls", STEPS, |folder| {
        let certificate = Certificate::create_files(folder, &["127.0.0.1", "app.example.test"])?;
        let settings = [
            (
                "FLUXLIT_STREAMLIT_COMMAND",
                prerequisites.parts.streamlit.as_os_str(),
            ),
            ("FLUXLIT_ROOT_PATH", MOUNT.as_ref()),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full".as_ref()),
            (
                "FLUXLIT_TLS_CERTIFICATE",
                certificate.certificate.as_os_str(),
            ),
            ("FLUXLIT_TLS_KEY", certificate.key.as_os_str()),
        ];
        let gateway = Gateway::start(
            &prerequisites.parts.gateway,
            Some(&scenario(folder)?.app),
            settings,
            folder,
        )?
        .with_certificate(certificate.certificate);
        wait(&gateway, MOUNT, folder)?;
        Ok(Deployment {
            scheme: "https",
            port: gateway.address.port(),
            mount: MOUNT,
            _processes: vec![Box::new(gateway)],
        })
    })
}

/// Tests an older Streamlit, which uses Tornado, behind the gateway.
pub(crate) fn older(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let streamlit = setup::older_streamlit()?;
    browse("older", STEPS, |folder| {
        gateway_alone(prerequisites, &streamlit, MOUNT, &scenario(folder)?)
    })
}

/// Tests nginx forwarding the path unchanged; Streamlit knows its path.
pub(crate) fn nginx_full(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
    };
    browse("nginx-full", STEPS, |folder| {
        behind_proxy(
            prerequisites,
            Front::NginxFull,
            &nginx,
            MOUNT,
            &scenario(folder)?,
        )
    })
}

/// Tests nginx removing the mount; Streamlit does not know it.
pub(crate) fn nginx_stripped(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
    };
    browse("nginx-stripped", STEPS, |folder| {
        behind_proxy(
            prerequisites,
            Front::NginxStripped,
            &nginx,
            "",
            &scenario(folder)?,
        )
    })
}

/// Tests Caddy removing the mount; Streamlit knows its path.
pub(crate) fn caddy(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let caddy = setup::caddy()?;
    browse("caddy", STEPS, |folder| {
        behind_proxy(
            prerequisites,
            Front::Caddy,
            &caddy,
            MOUNT,
            &scenario(folder)?,
        )
    })
}

/// Tests a login at an identity provider in three deployments: the gateway alone, a proxy that removes the mount, and
/// Envoy.
///
/// Streamlit knows its path in all of them, because it sends the login URL to the page in a message that no proxy can
/// rewrite.
pub(crate) fn login(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
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
            behind_envoy(prerequisites, scenario)
        }),
    ];
    for (name, set_up) in deployments {
        let provider = free_port()?;
        let outcome = browse_with(
            name,
            "login.test.mjs",
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
redirect_uri = "http://app.example.test:{port}{MOUNT}/oauth2callback"
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

/// Starts Envoy, and the gateway, which starts Streamlit.
fn behind_envoy(
    prerequisites: &Prerequisites,
    scenario: &Scenario<'_>,
) -> anyhow::Result<Deployment> {
    let Scenario {
        app,
        listen,
        folder,
    } = scenario;
    let stack = Stack::start(
        &prerequisites.parts,
        app,
        Bootstrap::shipped(),
        *listen,
        folder,
    )?;
    ensure!(
        stack.wait_until_ready(START_LIMIT),
        "the app did not start; see {}",
        folder.display()
    );
    Ok(Deployment {
        scheme: "http",
        port: listen.port(),
        mount: MOUNT,
        _processes: vec![Box::new(stack)],
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
    Ok(Deployment {
        scheme: "http",
        port: listen.port(),
        mount,
        _processes: vec![Box::new(gateway)],
    })
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
    Ok(Deployment {
        scheme: "http",
        port: listen.port(),
        mount: MOUNT,
        _processes: vec![Box::new(front), Box::new(gateway), Box::new(streamlit)],
    })
}

/// Sets up a deployment and runs a test file against it in a browser.
fn browse(
    name: &str,
    file: &str,
    set_up: impl FnOnce(&Path) -> anyhow::Result<Deployment>,
) -> anyhow::Result<Outcome> {
    browse_with(name, file, &[], set_up)
}

/// Sets up a deployment and runs a test file against it in a browser, with variables for the test file.
fn browse_with(
    name: &str,
    file: &str,
    variables: &[(&str, String)],
    set_up: impl FnOnce(&Path) -> anyhow::Result<Deployment>,
) -> anyhow::Result<Outcome> {
    let chromium = std::env::var_os("CHROMIUM")
        .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !chromium.exists() {
        return Ok(Outcome::Skipped(format!(
            "there is no browser at {}; install Chromium or set CHROMIUM to its path",
            chromium.display()
        )));
    }
    if setup::find("npm").is_none() {
        return Ok(Outcome::Skipped("npm is not installed".to_owned()));
    }
    let tests = setup::playwright()?;
    let artifacts = target().join("artifacts");
    std::fs::create_dir_all(&artifacts)?;
    let folder = target().join("test-browser").join(name);
    std::fs::create_dir_all(&folder)?;
    let deployment = set_up(&folder)?;
    let output = Command::new("node")
        .args(["--test", "--test-reporter=spec"])
        .arg(tests.join(file))
        .env("CHROMIUM", &chromium)
        .env("APP_SCHEME", deployment.scheme)
        .env("APP_PORT", deployment.port.to_string())
        .env("APP_MOUNT", deployment.mount)
        .env("APP_DEPLOYMENT", name)
        .env("ARTIFACTS", &artifacts)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .context("cannot run node")?;
    // In one call, so that it does not interleave with the output of steps that run in parallel.
    print!(
        "\n{name}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.status.success(),
        "the browser test failed; the logs are in {}",
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

const START_LIMIT: Duration = Duration::from_secs(60);
