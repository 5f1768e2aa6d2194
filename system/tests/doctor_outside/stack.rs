//! Starts a front with a changed configuration, the gateway and Streamlit behind it.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use fluxlit_cases::latin1;
use fluxlit_envoy::{Gateway, Streamlit};
use fluxlit_support::certificate::{Certificate, CertificateFiles};
use fluxlit_support::client::{connect_from, exchange, get};
use fluxlit_support::port::{free_ports, local};
use fluxlit_support::upstream::serve;
use fluxlit_support::wait::wait_until;
use fluxlit_system::front::{Front, Program, Reload};
use fluxlit_system::named;
use fluxlit_system::printed::print;
use fluxlit_system::visitor::Visitor;

use crate::edit::Edit;
use crate::table::{Behind, Case};

pub(crate) const HOST: &str = "portal.example.com";
pub(crate) const MOUNT: &str = "/apps/my-app";

/// What the stacks share.
pub(crate) struct Parts {
    folder: tempfile::TempDir,
    certificate: CertificateFiles,
    streamlit: Streamlit,
    second: OnceLock<(Streamlit, Gateway)>,
    older: OnceLock<Streamlit>,
    /// Another app at the root of its host.
    root: OnceLock<Streamlit>,
}

/// A running front. Dropping it ends the processes.
pub(crate) struct Stack {
    /// Where a client connects to for https; the connection comes from another address than those that are trusted.
    pub(crate) https: SocketAddr,
    /// The same for http.
    pub(crate) http: SocketAddr,
    pub(crate) certificate: PathBuf,
    /// The file with the probe key.
    pub(crate) token: PathBuf,
    visitor: Visitor,
    front: Front,
    /// The files of the front.
    files: Vec<PathBuf>,
    /// Their text as printed, and with the changes.
    pub(crate) printed: Vec<String>,
    pub(crate) texts: Vec<String>,
    /// The addresses of the table, each with that of this stack.
    places: Vec<(String, String)>,
    /// Its decision records are limited in number, so it is not shared.
    gateway: Option<Gateway>,
    folder: tempfile::TempDir,
}

impl Parts {
    /// Starts Streamlit and the gateway.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let certificate = Certificate::create_files(path, &[HOST]).expect("a certificate");
        write_both(path, &certificate);
        std::fs::write(path.join("token"), KEY).expect("a file");
        let streamlit = streamlit("FLUXLIT_TEST_STREAMLIT", MOUNT, path);
        Self {
            certificate,
            streamlit,
            second: OnceLock::new(),
            older: OnceLock::new(),
            root: OnceLock::new(),
            folder,
        }
    }

    /// Takes another certificate for the fronts that are started from now on.
    pub(crate) fn set_certificate(&mut self, certificate: PathBuf, key: PathBuf) {
        self.certificate = CertificateFiles { certificate, key };
        write_both(self.folder.path(), &self.certificate);
    }

    fn second(&self) -> &(Streamlit, Gateway) {
        self.second.get_or_init(|| {
            let folder = self.folder.path().join("second");
            std::fs::create_dir(&folder).expect("a folder");
            let streamlit = streamlit("FLUXLIT_TEST_STREAMLIT", MOUNT, &folder);
            let gateway = gateway(&settings(streamlit.url()), &folder);
            (streamlit, gateway)
        })
    }

    fn older(&self) -> &Streamlit {
        let folder = self.folder.path().join("older");
        self.older
            .get_or_init(|| streamlit("FLUXLIT_TEST_STREAMLIT_OLDER", MOUNT, &folder))
    }

    fn root(&self) -> &Streamlit {
        let folder = self.folder.path().join("root");
        self.root
            .get_or_init(|| streamlit("FLUXLIT_TEST_STREAMLIT", "", &folder))
    }
}

impl Stack {
    /// Starts a front with the printed configuration and these changes.
    ///
    /// # Errors
    ///
    /// If a change does not fit, or the front does not start.
    pub(crate) fn start(
        program: Program,
        case: &Case,
        parts: &Parts,
        edits: &[Edit],
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path();
        let mut settings = settings(parts.streamlit.url());
        if case.reload.is_some() {
            // For the number of open WebSockets.
            let metrics = "FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS";
            settings.push((metrics, "true".to_owned()));
            settings.push(("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0".to_owned()));
        }
        for (name, value) in &case.settings {
            settings.retain(|(known, _)| *known != name.as_str());
            // The test ends soon, and there are few.
            settings.push((name.clone().leak(), value.clone()));
        }
        let gateway = matches!(case.behind, Behind::Gateway | Behind::TwoGateways)
            .then(|| gateway(&settings, path));
        let first = gateway
            .as_ref()
            .map_or(parts.streamlit.address, |gateway| gateway.address);
        let second = match case.behind {
            Behind::TwoGateways => parts.second().1.address,
            Behind::TwoVersions => parts.older().address,
            Behind::Gateway | Behind::Streamlit => first,
        };
        let ports = free_ports(3).map_err(|error| error.to_string())?;
        let [listen, listen_http, spare] = ports[..] else {
            return Err("three ports".to_owned());
        };
        let (listen, listen_http, spare) = (local(listen), local(listen_http), local(spare));
        let file = path.join(program.file_name());
        let options = options(program, parts, [listen, listen_http, first]);
        print(program.front(), &settings, &options, &file);

        let has_root = edits.iter().any(|edit| edit.mentions(ROOT));
        let root = has_root.then(|| parts.root().address.to_string());
        let mut places: Vec<(String, String)> = root
            .map(|root| (ROOT.to_owned(), root))
            .into_iter()
            .collect();
        for (port, address) in [
            (8000, first),
            (8001, second),
            (8501, parts.streamlit.address),
            (9000, spare),
            (443, listen),
        ] {
            places.push((format!("127.0.0.1:{port}"), address.to_string()));
        }
        for (port, address) in [(8000, first), (8001, second), (9000, spare)] {
            places.push((
                format!("port_value: {port}"),
                format!("port_value: {}", address.port()),
            ));
        }
        let certificate = parts.certificate.certificate.display().to_string();
        places.push((AUTHORITY.to_owned(), certificate));
        let files = [Some(file.clone()), dynamic_file(program, path)];
        let files: Vec<PathBuf> = files.into_iter().flatten().collect();
        let read = |file| std::fs::read_to_string(file).map_err(|error| error.to_string());
        let mut texts = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if matches!(case.behind, Behind::Streamlit | Behind::TwoVersions) {
            // The front asks Streamlit instead of the gateway whether it is ready.
            for text in &mut texts {
                *text = text.replace("/api/readyz", "/_stcore/health");
            }
        }
        if program == Program::Envoy {
            // A printed file has no secrets.
            let key =
                format!("\"probe_key\": \"{KEY}\",\n                      \"public_base_url\"");
            texts = texts
                .iter()
                .map(|text| text.replacen("\"public_base_url\"", &key, 1))
                .collect();
        }
        let printed = texts.clone();
        for edit in edits {
            edit.apply(&mut texts, |text| placed(&places, text))?;
        }
        for (file, text) in files.iter().zip(&texts) {
            std::fs::write(file, text).map_err(|error| error.to_string())?;
        }
        // Envoy checks its file when it starts.
        if program != Program::Envoy
            && let Some(Err(output)) = program.check(&file)
        {
            return Err(format!("rejected: {output}\n{}", texts.join("\n")));
        }
        let visitor = Visitor {
            from: CLIENT,
            front: listen,
            host: HOST.to_owned(),
            trusted: Some(parts.certificate.clone()),
            cookie: None,
        };
        let page = format!("{MOUNT}/");
        let front = Front::start(program, &file, || {
            if case.closes {
                return get(listen_http, "/", None).is_ok_and(|response| response.status < 400);
            }
            visitor
                .get(&page, "")
                .is_ok_and(|response| match case.status {
                    Some(status) => response.status == status,
                    None => !(502..=504).contains(&response.status),
                })
        })?;
        Ok(Self {
            https: relay(listen)?,
            http: relay(listen_http)?,
            certificate: parts.certificate.certificate.clone(),
            token: parts.folder.path().join("token"),
            visitor,
            front,
            files,
            printed,
            texts,
            places,
            gateway,
            folder,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the addresses of this stack into a text with those of the table.
    pub(crate) fn place(&self, text: &str) -> String {
        placed(&self.places, text)
    }

    /// Returns the files with further changes.
    ///
    /// # Errors
    ///
    /// If a change does not fit.
    pub(crate) fn mended(&self, edits: &[Edit]) -> Result<Vec<String>, String> {
        let mut texts = self.texts.clone();
        for edit in edits {
            edit.apply(&mut texts, |text| self.place(text))?;
        }
        Ok(texts)
    }

    /// Returns how many WebSockets are open at the gateway.
    pub(crate) fn open_websockets(&self) -> usize {
        let Some(gateway) = &self.gateway else {
            return 0;
        };
        let log = gateway.service.log();
        let address = log
            .split_once("listening for operators on http://")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        let metrics = address.and_then(|address| get(address, "/__fluxlit/metrics", None).ok());
        let metrics = metrics.map(|metrics| String::from_utf8_lossy(&metrics.body).into_owned());
        let value = metrics
            .as_deref()
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("fluxlit_gateway_websockets_active "));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Lets the front read its files again, after a change that responses show, and waits until they do.
    ///
    /// # Errors
    ///
    /// If the front does not use the changed files.
    pub(crate) fn reload(&self, how: Reload) -> Result<(), String> {
        for file in &self.files {
            let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
            std::fs::write(file, text.replace(MAX_AGE, CHANGED_MAX_AGE))
                .map_err(|error| error.to_string())?;
        }
        self.front.reload(how)?;
        // Traefik adds the field to what it forwards only.
        let pages = ["/".to_owned(), format!("{MOUNT}/")];
        let is_changed = || {
            pages.iter().any(|page| {
                let response = self.visitor.get(page, "");
                response.is_ok_and(|response| {
                    let hsts = response.values("strict-transport-security");
                    hsts.iter().any(|hsts| hsts.contains(CHANGED_MAX_AGE))
                })
            })
        };
        if wait_until(RELOAD_LIMIT, is_changed) {
            Ok(())
        } else {
            Err(format!("the front was not reloaded: {}", self.front.log()))
        }
    }

    /// Sends octets that are no UTF-8 in the path, the query and a field.
    ///
    /// # Errors
    ///
    /// If the front does not respond to one of them.
    pub(crate) fn send_odd_octets(&self) -> Result<(), String> {
        for (path, value) in [
            ("/\u{fe}", "x"),
            ("/?q=\u{ff}", "x"),
            ("/", "\u{80}\u{fe}\u{ff}"),
        ] {
            let request = format!(
                "GET {MOUNT}{path} HTTP/1.1\r\nHost: {HOST}\r\nX-Odd: {value}\r\nCookie: odd={value}\r\nX-Forwarded-For: {value}\r\nConnection: close\r\n\r\n"
            );
            let response = self.visitor.connect().and_then(|mut connection| {
                exchange(&mut connection, &latin1::bytes(&request), "GET")
            });
            let response = response.map_err(|error| format!("{path} {value}: {error}"))?;
            if response.status >= 500 {
                return Err(format!("{path} {value}: {response:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        self.front.log()
    }
}

fn write_both(folder: &Path, certificate: &CertificateFiles) {
    let pair = [&certificate.certificate, &certificate.key]
        .map(|file| std::fs::read_to_string(file).expect("the file can be read"));
    std::fs::write(folder.join(BOTH), pair.concat()).expect("a file");
}

/// Replaces each address once: an address of the stack may begin like one of the table.
fn placed(places: &[(String, String)], text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let found = places.iter().find_map(|(from, to)| {
            let after = rest.strip_prefix(from.as_str())?;
            let ends = !after.starts_with(|next: char| next.is_ascii_digit());
            ends.then_some((to, after))
        });
        rest = match found {
            Some((to, after)) => {
                result.push_str(to);
                after
            }
            None => {
                result.push(next);
                &rest[next.len_utf8()..]
            }
        };
    }
    result
}

/// Returns the settings that a printed file asks for, and those of the checks.
fn settings(upstream: String) -> Vec<(&'static str, String)> {
    let fixed = [
        ("FLUXLIT_PUBLIC_BASE_URL", format!("https://{HOST}{MOUNT}")),
        ("FLUXLIT_ROOT_PATH", MOUNT.to_owned()),
        ("FLUXLIT_ROOT_PATH_SHAPE", "full".to_owned()),
        ("FLUXLIT_TRUST_PROXY", "true".to_owned()),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1".to_owned()),
        ("FLUXLIT_HSTS", "true".to_owned()),
        ("FLUXLIT_PROBE_KEY", KEY.to_owned()),
    ];
    [vec![("FLUXLIT_STREAMLIT_UPSTREAM", upstream)], fixed.into()].concat()
}

/// Returns the options for `config --for`; the addresses are those of the front, of its http listener and of the gateway.
fn options(program: Program, parts: &Parts, addresses: [SocketAddr; 3]) -> Vec<String> {
    let [listen, listen_http, upstream] = addresses.map(|address| address.to_string());
    let both = parts.folder.path().join(BOTH);
    let certificate = match program {
        Program::Haproxy | Program::HaproxyRecent => both.display(),
        _ => parts.certificate.certificate.display(),
    };
    let filter = named("FLUXLIT_TEST_FILTER").display().to_string();
    let mut options: Vec<(&str, String)> = vec![
        ("--listen", listen),
        ("--listen-http", listen_http),
        ("--upstream", upstream),
        ("--certificate", certificate.to_string()),
        ("--key", parts.certificate.key.display().to_string()),
    ];
    if program == Program::Envoy {
        options.push(("--filter", filter));
    }
    let pairs = options.into_iter();
    pairs
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

fn dynamic_file(program: Program, folder: &Path) -> Option<PathBuf> {
    (program == Program::Traefik).then(|| folder.join("traefik-dynamic.yml"))
}

fn streamlit(variable: &str, base: &str, folder: &Path) -> Streamlit {
    std::fs::create_dir_all(folder).expect("a folder");
    let app = folder.join("app.py");
    std::fs::write(&app, "import streamlit as st\nst.write('hello')\n").expect("a file");
    Streamlit::start(&named(variable), &app, base, &[], folder).expect("Streamlit starts")
}

fn gateway(settings: &[(&'static str, String)], folder: &Path) -> Gateway {
    let settings = settings.iter().map(|(name, value)| (*name, value));
    let gateway = Gateway::start(&named("FLUXLIT_TEST_GATEWAY"), None, settings, folder)
        .expect("the gateway starts");
    let is_ready = gateway.wait_until_ready(MOUNT, Duration::from_secs(60));
    assert!(
        is_ready,
        "the gateway is not ready: {}",
        gateway.service.log()
    );
    gateway
}

/// Forwards connections from [`CLIENT`]: the doctor's own address would be the one that the gateway trusts.
fn relay(to: SocketAddr) -> Result<SocketAddr, String> {
    let relayed = serve(move |from: &mut BufReader<TcpStream>| {
        // The doctor and the front see a broken connection.
        let _ = forward(from.get_ref(), to);
    });
    relayed.map_err(|error| error.to_string())
}

fn forward(client: &TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let front = connect_from(CLIENT, to)?;
    for stream in [client, &front] {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        stream.set_nodelay(true)?;
    }
    let (from, back) = (client.try_clone()?, front.try_clone()?);
    let sending = std::thread::spawn(move || copy(&from, &back));
    copy(&front, client);
    // A join fails only if the thread panics.
    let _ = sending.join();
    Ok(())
}

/// Copies until one side ends, and ends the other.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // It may have ended already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Certificate and key in one file, for HAProxy.
const BOTH: &str = "both.pem";

/// What stands for the address of the app at the root.
const ROOT: &str = "127.0.0.1:8502";

/// What stands for a certificate of an authority that signs those of clients.
const AUTHORITY: &str = "/certificates/ca.pem";

/// What is changed when a front is reloaded.
const MAX_AGE: &str = "max-age=31536000";
const CHANGED_MAX_AGE: &str = "max-age=31536001";
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// The probe key.
const KEY: &str = "a-key-for-the-probes-of-these-tests-only";

/// The address of the client. The gateway does not trust it.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
