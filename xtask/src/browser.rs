//! What does a person see of the app, in a real browser, through whatever stands in front of it?
//!
//! The same steps each time, `envoy/browser/app.test.mjs`; only the way to the app differs.

use std::any::Any;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::{Bootstrap, Certificate, Front, Gateway, MOUNT, Stack, Streamlit, free_port};

use crate::setup;
use crate::steps::{root, target};
use crate::test::{Outcome, Prepared};

/// A way to an app. It ends when it is dropped, what is in front first.
struct Way {
    scheme: &'static str,
    port: u16,
    mount: &'static str,
    /// In the order in which they end.
    _processes: Vec<Box<dyn Any>>,
}

/// What a way leads to, where it begins, and where its logs go.
struct Stage<'a> {
    app: PathBuf,
    listen: SocketAddr,
    folder: &'a Path,
}

/// The demo behind Envoy, and its picture.
pub(crate) fn demo(prepared: &Prepared) -> anyhow::Result<Outcome> {
    browse("demo", "demo.test.mjs", |folder| {
        let mut stage = stage(folder)?;
        stage.app = root().join("demo/app.py");
        envoy_way(prepared, &stage)
    })
}

/// Envoy with the shipped bootstrap, taking the mount off; Streamlit knows its path.
pub(crate) fn envoy(prepared: &Prepared) -> anyhow::Result<Outcome> {
    browse("envoy", STEPS, |folder| {
        envoy_way(prepared, &stage(folder)?)
    })
}

/// The gateway alone, the app at the root.
pub(crate) fn at_root(prepared: &Prepared) -> anyhow::Result<Outcome> {
    browse("root", STEPS, |folder| {
        alone(prepared, &prepared.parts.streamlit, "", &stage(folder)?)
    })
}

/// The gateway alone, the app under a path that Streamlit knows.
pub(crate) fn at_mount(prepared: &Prepared) -> anyhow::Result<Outcome> {
    browse("mount", STEPS, |folder| {
        alone(prepared, &prepared.parts.streamlit, MOUNT, &stage(folder)?)
    })
}

/// The gateway alone with TLS, which brings HTTP/2 and WebSockets over it.
pub(crate) fn tls(prepared: &Prepared) -> anyhow::Result<Outcome> {
    browse("tls", STEPS, |folder| {
        let certificate = Certificate::create(folder, &["127.0.0.1", "app.example.test"])?;
        let settings = [
            (
                "FLUXLIT_STREAMLIT_COMMAND",
                prepared.parts.streamlit.as_os_str(),
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
            &prepared.parts.gateway,
            Some(&stage(folder)?.app),
            settings,
            folder,
        )?
        .with_certificate(certificate.certificate);
        wait(&gateway, MOUNT, folder)?;
        Ok(Way {
            scheme: "https",
            port: gateway.address.port(),
            mount: MOUNT,
            _processes: vec![Box::new(gateway)],
        })
    })
}

/// A Streamlit of the Tornado generation behind the gateway.
pub(crate) fn older(prepared: &Prepared) -> anyhow::Result<Outcome> {
    let streamlit = setup::older_streamlit()?;
    browse("older", STEPS, |folder| {
        alone(prepared, &streamlit, MOUNT, &stage(folder)?)
    })
}

/// nginx passing the path on; Streamlit knows it.
pub(crate) fn nginx_full(prepared: &Prepared) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
    };
    browse("nginx-full", STEPS, |folder| {
        behind(prepared, Front::NginxFull, &nginx, MOUNT, &stage(folder)?)
    })
}

/// nginx taking the mount off; Streamlit knows nothing of it.
pub(crate) fn nginx_stripped(prepared: &Prepared) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
    };
    browse("nginx-stripped", STEPS, |folder| {
        behind(prepared, Front::NginxStripped, &nginx, "", &stage(folder)?)
    })
}

/// Caddy taking the mount off; Streamlit knows it.
pub(crate) fn caddy(prepared: &Prepared) -> anyhow::Result<Outcome> {
    let caddy = setup::caddy()?;
    browse("caddy", STEPS, |folder| {
        behind(prepared, Front::Caddy, &caddy, MOUNT, &stage(folder)?)
    })
}

/// A login at an identity provider, on three ways: the gateway alone; a proxy that takes the mount off; Envoy. Streamlit
/// knows its path each time: it names the place for logins itself, in a message to the page that no proxy can mend.
pub(crate) fn login(prepared: &Prepared) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
    };
    let streamlit = &prepared.parts.streamlit;
    type SetUp<'a> = &'a dyn Fn(&Stage<'_>) -> anyhow::Result<Way>;
    let ways: [(&str, SetUp<'_>); 3] = [
        ("login-alone", &|stage| {
            alone(prepared, streamlit, MOUNT, stage)
        }),
        ("login-stripped", &|stage| {
            behind(prepared, Front::NginxStripped, &nginx, MOUNT, stage)
        }),
        ("login-envoy", &|stage| envoy_way(prepared, stage)),
    ];
    for (name, set_up) in ways {
        let provider = free_port()?;
        let outcome = browse_with(
            name,
            "login.test.mjs",
            &[("APP_PROVIDER_PORT", provider.to_string())],
            |folder| {
                let mut stage = stage(folder)?;
                stage.app = login_app(&stage, provider)?;
                set_up(&stage)
            },
        )?;
        if let Outcome::Skipped(_) = outcome {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Passed)
}

/// Puts the app of the login test beside the secrets that tell it where its provider is, and where itself.
fn login_app(stage: &Stage<'_>, provider: u16) -> anyhow::Result<PathBuf> {
    let folder = stage.folder.join("app");
    std::fs::create_dir_all(folder.join(".streamlit"))?;
    let script = folder.join("main.py");
    std::fs::copy(root().join("envoy/browser/login/main.py"), &script)?;
    let port = stage.listen.port();
    let secrets = format!(
        r#"[auth]
redirect_uri = "http://app.example.test:{port}{MOUNT}/oauth2callback"
cookie_secret = "of this test alone"
client_id = "app"
client_secret = "of this test alone"
server_metadata_url = "http://127.0.0.1:{provider}/.well-known/openid-configuration"
"#
    );
    std::fs::write(folder.join(".streamlit/secrets.toml"), secrets)?;
    Ok(script)
}

/// The app of the browser test on a free port.
fn stage(folder: &Path) -> anyhow::Result<Stage<'_>> {
    Ok(Stage {
        app: root().join("envoy/browser/app/main.py"),
        listen: local(free_port()?),
        folder,
    })
}

/// Envoy, the gateway and the Streamlit that it starts.
fn envoy_way(prepared: &Prepared, stage: &Stage<'_>) -> anyhow::Result<Way> {
    let Stage {
        app,
        listen,
        folder,
    } = stage;
    let stack = Stack::start(&prepared.parts, app, Bootstrap::shipped(), *listen, folder)?;
    ensure!(
        stack.wait_until_ready(START_LIMIT),
        "the app did not start; see {}",
        folder.display()
    );
    Ok(Way {
        scheme: "http",
        port: listen.port(),
        mount: MOUNT,
        _processes: vec![Box::new(stack)],
    })
}

/// The gateway and the Streamlit that it starts.
fn alone(
    prepared: &Prepared,
    streamlit: &Path,
    mount: &'static str,
    stage: &Stage<'_>,
) -> anyhow::Result<Way> {
    let Stage {
        app,
        listen,
        folder,
    } = stage;
    let port = listen.port().to_string();
    let settings: [(&str, &OsStr); 4] = [
        ("FLUXLIT_STREAMLIT_COMMAND", streamlit.as_os_str()),
        ("FLUXLIT_ROOT_PATH", mount.as_ref()),
        ("FLUXLIT_ROOT_PATH_SHAPE", "full".as_ref()),
        ("FLUXLIT_GATEWAY_PORT", port.as_ref()),
    ];
    let gateway = Gateway::start(&prepared.parts.gateway, Some(app), settings, folder)?;
    wait(&gateway, mount, folder)?;
    Ok(Way {
        scheme: "http",
        port: listen.port(),
        mount,
        _processes: vec![Box::new(gateway)],
    })
}

/// A proxy, the gateway, and a Streamlit that runs by itself, published under `base`.
fn behind(
    prepared: &Prepared,
    front: Front,
    executable: &Path,
    base: &str,
    stage: &Stage<'_>,
) -> anyhow::Result<Way> {
    let Stage {
        app,
        listen,
        folder,
    } = stage;
    let streamlit = Streamlit::start(&prepared.parts.streamlit, app, base, &[], folder)?;
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
    let gateway = Gateway::start(&prepared.parts.gateway, None, settings, folder)?;
    let arrives = if front.is_stripping() { "" } else { MOUNT };
    wait(&gateway, arrives, folder)?;
    let front = front.start(executable, *listen, gateway.address, folder)?;
    Ok(Way {
        scheme: "http",
        port: listen.port(),
        mount: MOUNT,
        _processes: vec![Box::new(front), Box::new(gateway), Box::new(streamlit)],
    })
}

/// Sets a way up and runs a test file in a browser on it.
fn browse(
    name: &str,
    file: &str,
    set_up: impl FnOnce(&Path) -> anyhow::Result<Way>,
) -> anyhow::Result<Outcome> {
    browse_with(name, file, &[], set_up)
}

/// The same, with variables that the test file reads.
fn browse_with(
    name: &str,
    file: &str,
    variables: &[(&str, String)],
    set_up: impl FnOnce(&Path) -> anyhow::Result<Way>,
) -> anyhow::Result<Outcome> {
    let chromium = std::env::var_os("CHROMIUM")
        .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !chromium.exists() {
        return Ok(Outcome::Skipped(format!(
            "there is no browser at {}; install Chromium or name it with CHROMIUM",
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
    let way = set_up(&folder)?;
    let output = Command::new("node")
        .args(["--test", "--test-reporter=spec"])
        .arg(tests.join(file))
        .env("CHROMIUM", &chromium)
        .env("APP_SCHEME", way.scheme)
        .env("APP_PORT", way.port.to_string())
        .env("APP_MOUNT", way.mount)
        .env("APP_WAY", name)
        .env("ARTIFACTS", &artifacts)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .context("cannot run node")?;
    // In one piece: other steps may run beside this one.
    print!(
        "\n{name}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.status.success(),
        "the browser has seen something wrong; the logs are in {}",
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

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

const STEPS: &str = "app.test.mjs";

const START_LIMIT: Duration = Duration::from_secs(60);
