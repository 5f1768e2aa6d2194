//! Derives from the settings what every front has to know about the app and the gateway.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fluxlit_policy::Peer;
use serde_json::{Map, Value};

use crate::fronts::front::Front;
use crate::fronts::text::Text;
use crate::settings::Settings;

/// What the settings of the gateway do not say about the front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontOptions {
    /// The address that the front listens on: by default the public port, on every address.
    pub listen: Option<SocketAddr>,
    /// The address on which it redirects from http to https: by default port 80, if it listens on port 443.
    pub listen_http: Option<SocketAddr>,
    /// The files with which the front terminates TLS.
    pub tls: Option<FrontTls>,
    /// Addresses and networks of a proxy or load balancer in front of this front, whose forwarded headers are believed.
    pub behind: Vec<String>,
    /// `host:port` of the gateway as the front reaches it: by default the address that the gateway listens on.
    pub upstream: Option<String>,
    /// The image of the gateway and the app, for Kubernetes.
    pub image: String,
    /// The filter: a file for Envoy, and the URL of an image for Istio and Envoy Gateway.
    pub filter: Option<String>,
    /// The path of Traefik's dynamic file, which its static file names.
    pub dynamic_file: Option<String>,
}

/// The files with which a front terminates TLS, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontTls {
    /// The certificate, followed by those of its issuers.
    pub certificate: String,
    /// The key; `None` for the usual place beside the certificate. HAProxy reads it from the file of the certificate, or from
    /// the file with `.key` appended to its name.
    pub key: Option<String>,
}

impl FrontTls {
    /// Returns the file of the key.
    fn key(&self, front: Front) -> String {
        self.key.clone().unwrap_or_else(|| {
            if front == Front::Haproxy {
                return self.certificate.clone();
            }
            let (folder, name) = match self.certificate.rfind('/') {
                Some(end) => self.certificate.split_at(end.saturating_add(1)),
                None => ("", self.certificate.as_str()),
            };
            match name.rsplit_once('.') {
                // As Certbot names them.
                Some(("fullchain", "pem")) => format!("{folder}privkey.pem"),
                Some((stem, "pem" | "crt" | "cer")) => format!("{folder}{stem}.key"),
                _ => format!("{folder}{name}.key"),
            }
        })
    }
}

impl Default for FrontOptions {
    fn default() -> Self {
        Self {
            listen: None,
            listen_http: None,
            tls: None,
            behind: Vec::new(),
            upstream: None,
            image: DEFAULT_IMAGE.to_owned(),
            filter: None,
            dynamic_file: None,
        }
    }
}

/// The reason why no configuration can be printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// The gateway listens on any port.
    #[error(
        "FLUXLIT_GATEWAY_PORT=0 takes another port at every start, which a front cannot know; set a port such as 8000, or \
         name the address with --upstream"
    )]
    AnyPort,
    /// The gateway terminates TLS.
    #[error(
        "FLUXLIT_TLS_CERTIFICATE is set, so the gateway expects TLS, and the printed fronts connect to it without; unset \
         FLUXLIT_TLS_CERTIFICATE and FLUXLIT_TLS_KEY, and give the certificate to the front with --certificate and --key"
    )]
    GatewayTls,
    /// The public URL has another path than the mount.
    #[error(
        "the path of FLUXLIT_PUBLIC_BASE_URL, `{public}`, is not FLUXLIT_ROOT_PATH, `{mount}`; a front can remove a path but \
         not replace it, so set both to the same path, or only the first"
    )]
    Paths {
        /// The path of the public URL.
        public: String,
        /// The mount.
        mount: String,
    },
    /// An option has an invalid value.
    #[error("{option} `{value}` is invalid: expected {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
}

/// What every front has to know.
#[derive(Debug)]
pub(super) struct Site {
    /// The path under which browsers see the app, without a slash at its end; empty at the root of the host.
    pub(super) mount: String,
    /// True if the front removes the mount from the path.
    pub(super) is_stripped: bool,
    /// True if browsers use https.
    pub(super) is_https: bool,
    /// The public host without port; `None` if it is not known.
    pub(super) host: Option<String>,
    /// The public port, if it is not the usual one of the scheme.
    pub(super) port: Option<u16>,
    /// The public scheme, host and port.
    pub(super) origin: Option<String>,
    /// The host of the gateway as the front reaches it; IPv6 in brackets.
    pub(super) gateway_host: String,
    /// The port of the gateway.
    pub(super) gateway_port: u16,
    /// The address that the front listens on.
    pub(super) listen: SocketAddr,
    /// The address on which the front redirects from http to https.
    pub(super) listen_http: Option<SocketAddr>,
    /// The certificate and the key, if the front terminates TLS.
    pub(super) tls: Option<(String, String)>,
    /// True if the file names a key that was not given.
    pub(super) is_key_assumed: bool,
    /// The networks of the hop in front of the front; empty if clients connect to the front.
    pub(super) behind: Vec<String>,
    /// Maximum bytes of a request's body; 0 for no limit.
    pub(super) body_bytes: u64,
    /// Maximum bytes of a request's head.
    pub(super) head_bytes: usize,
    /// Maximum field lines of a request.
    pub(super) fields: usize,
    /// Seconds without a byte in either direction: longer than the gateway needs to give up, and than two pings.
    pub(super) idle: u64,
    /// Seconds until a request's head must be complete.
    pub(super) head_read: u64,
    /// Seconds that an idle connection to the gateway is kept: shorter than the gateway keeps it.
    pub(super) keep_alive: u64,
    /// The path of the readiness check, as the gateway receives it.
    pub(super) readiness: String,
    /// The `Strict-Transport-Security` of responses over https; `None` if there is none.
    pub(super) hsts: Option<String>,
    /// Headers that the gateway reads from this front, and that this front does not set.
    pub(super) removed_headers: Vec<String>,
    /// A header in which the gateway reads the client's address.
    pub(super) client_header: Option<String>,
    /// True if the mount without its trailing slash is redirected.
    pub(super) redirects_bare_mount: bool,
    /// The plugin configuration of the filter.
    pub(super) plugin: Map<String, Value>,
    /// The settings that the gateway needs, each with its value.
    pub(super) gateway_settings: Vec<(&'static str, String)>,
    /// The settings of the policy as they are written, by variable.
    pub(super) environment: Vec<(String, String)>,
    /// Seconds that the gateway needs to stop.
    pub(super) stop: u64,
    /// The image of the gateway.
    pub(super) image: String,
    /// The filter.
    pub(super) filter: Option<String>,
    /// The path of Traefik's dynamic file.
    pub(super) dynamic_file: Option<String>,
    /// What the operator should change or know.
    pub(super) warnings: Vec<String>,
}

impl Site {
    /// Derives the facts for a front.
    ///
    /// # Errors
    ///
    /// If no front can be configured for the settings.
    pub(super) fn new(
        front: Front,
        settings: &Settings,
        options: &FrontOptions,
    ) -> Result<Self, FrontError> {
        if settings.tls.is_some() && front != Front::Kubernetes {
            return Err(FrontError::GatewayTls);
        }
        check_options(options)?;
        let rules = &settings.rules;
        let public = rules
            .get("public_base_url")
            .and_then(Value::as_str)
            .and_then(|text| url::Url::parse(text.trim()).ok());
        let (mount, removes_public_path) = mount(settings.policy.mount(), public.as_ref())?;
        let shape = rules.get("root_path_shape").and_then(Value::as_str);
        // An Ingress cannot remove a part of the path.
        let can_strip = front != Front::Kubernetes;
        let is_stripped =
            can_strip && !mount.is_empty() && (removes_public_path || shape == Some("stripped"));
        let is_https = public.as_ref().is_some_and(|url| url.scheme() == "https");
        let host = public
            .as_ref()
            .and_then(url::Url::host_str)
            .map(str::to_owned);
        let origin = public
            .as_ref()
            .map(|url| url.origin().ascii_serialization());
        let (gateway_host, gateway_port) = gateway(settings.listen, options)?;
        // What browsers connect to, unless another hop is in between.
        let is_public = options.behind.is_empty() && is_https == options.tls.is_some();
        let public_port = public.as_ref().filter(|_| is_public);
        let port = public_port
            .and_then(url::Url::port_or_known_default)
            .unwrap_or(match &options.tls {
                Some(_) => HTTPS_PORT,
                None => HTTP_PORT,
            });
        let listen = options.listen.unwrap_or_else(|| every_address(port));
        let listen_http = options.listen_http.or_else(|| {
            let has_usual_port = options.tls.is_some() && listen.port() == HTTPS_PORT;
            has_usual_port.then(|| SocketAddr::new(listen.ip(), HTTP_PORT))
        });
        let limits = &settings.limits;
        let mount_for_gateway = if is_stripped { "" } else { &mount };
        let hsts = host
            .as_deref()
            .filter(|_| is_https && options.tls.is_some());
        let mut site = Self {
            is_stripped,
            is_https,
            readiness: format!("{mount_for_gateway}{}/readyz", settings.api.sub_app.path()),
            hsts: hsts
                .and_then(|host| settings.policy.hsts_line(host))
                .map(str::to_owned),
            host,
            port: public.as_ref().and_then(url::Url::port),
            origin,
            gateway_host,
            gateway_port,
            listen,
            listen_http: listen_http.filter(|_| options.tls.is_some()),
            tls: options
                .tls
                .as_ref()
                .map(|tls| (tls.certificate.clone(), tls.key(front))),
            is_key_assumed: front != Front::Haproxy
                && !is_in_cluster(front)
                && options.tls.as_ref().is_some_and(|tls| tls.key.is_none()),
            behind: options.behind.clone(),
            body_bytes: limits.body_bytes,
            head_bytes: limits.head_bytes,
            fields: limits.fields,
            idle: MIN_IDLE.max(settings.read_timeout.as_secs().saturating_add(MARGIN)),
            head_read: limits.head_read.as_secs().max(1),
            keep_alive: (limits.keep_alive.as_secs().saturating_mul(4) / 5).max(1),
            removed_headers: removed_headers(rules),
            client_header: rules
                .get("client_ip_header")
                .and_then(Value::as_str)
                .map(str::to_owned),
            redirects_bare_mount: rules.get("redirect_bare_mount") != Some(&Value::Bool(false)),
            plugin: plugin(rules, &mount, is_stripped, &options.behind),
            gateway_settings: Vec::new(),
            environment: environment(rules),
            stop: settings
                .drain_delay
                .max(DRAIN_DELAY)
                // Of the requests in progress, and then of the app.
                .saturating_add(settings.grace_period.saturating_mul(2))
                .as_secs()
                .saturating_add(STOP_MARGIN),
            image: options.image.clone(),
            filter: options.filter.clone(),
            dynamic_file: options.dynamic_file.clone(),
            warnings: Vec::new(),
            mount,
        };
        let peers = site.peers(front, rules);
        site.warnings = site.doubts(front, settings, removes_public_path, &peers);
        site.gateway_settings = site.needed(settings, peers);
        Ok(site)
    }

    /// Returns `host:port` of the gateway.
    pub(super) fn gateway(&self) -> String {
        format!("{}:{}", self.gateway_host, self.gateway_port)
    }

    /// Returns the host for health checks, which the gateway accepts.
    pub(super) fn health_host(&self) -> &str {
        self.host.as_deref().unwrap_or("localhost")
    }

    /// Returns the public URL, for the command that verifies it.
    pub(super) fn public_url(&self) -> String {
        let origin = self.origin.clone().unwrap_or_else(|| {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://localhost:{}", self.listen.port())
        });
        format!("{origin}{}/", self.mount)
    }

    /// Returns the public origin to which http is redirected.
    pub(super) fn https_origin(&self) -> Option<&str> {
        self.origin.as_deref().filter(|_| self.is_https)
    }

    /// Returns true if any user may listen on the ports of the front.
    pub(super) fn needs_no_privileges(&self) -> bool {
        let ports = [Some(self.listen), self.listen_http];
        ports
            .into_iter()
            .flatten()
            .all(|listen| listen.port() >= 1024)
    }

    /// Returns true if the front is behind a hop that terminates TLS.
    pub(super) fn tls_ends_in_front(&self) -> bool {
        !self.behind.is_empty() && self.tls.is_none()
    }

    /// Returns the mount as a regular expression: its only special character is the dot.
    pub(super) fn mount_pattern(&self) -> String {
        self.mount.replace('.', r"\.")
    }

    /// Writes the comment at the beginning of every file.
    pub(super) fn heading(&self, text: &mut Text, title: &str, commands: &[&str]) {
        text.note(title).note("");
        for command in commands {
            text.note(format!("  {command}"));
        }
        text.note(format!(
            "  fluxlit-gateway doctor --probe {}      (verifies the whole path once it runs)",
            self.public_url()
        ));
        if let Some((_, key)) = self.tls.as_ref().filter(|_| self.is_key_assumed) {
            text.note("").note(format!(
                "{key} is where the key of the certificate usually is: change it if it is elsewhere."
            ));
        }
        text.note("").note("The gateway needs these settings:");
        for (name, value) in &self.gateway_settings {
            text.note(format!("  {name}={value}"));
        }
        text.note(
            "\n[!] marks a security-relevant line; its comment says what a wrong value would allow.",
        )
        .blank();
    }

    /// Returns the settings that the gateway needs for this front.
    fn needed(&self, settings: &Settings, peers: String) -> Vec<(&'static str, String)> {
        let mut needed = Vec::new();
        let root = if self.is_stripped && settings.policy.mount().is_empty() {
            ""
        } else {
            self.mount.as_str()
        };
        if !root.is_empty() {
            let shape = if self.is_stripped { "stripped" } else { "full" };
            needed.push(("FLUXLIT_ROOT_PATH", root.to_owned()));
            needed.push(("FLUXLIT_ROOT_PATH_SHAPE", shape.to_owned()));
        }
        if let Some(origin) = &self.origin {
            needed.push(("FLUXLIT_PUBLIC_BASE_URL", format!("{origin}{}", self.mount)));
        }
        needed.push(("FLUXLIT_TRUST_PROXY", "true".to_owned()));
        needed.push(("FLUXLIT_FORWARDED_ALLOW_IPS", peers));
        needed
    }

    /// Returns the addresses that the gateway has to trust: that of this front and, if the front appends to
    /// X-Forwarded-For, those of the hop in front of it.
    fn peers(&self, front: Front, rules: &Map<String, Value>) -> String {
        let in_cluster = is_in_cluster(front);
        let written = rules.get("forwarded_allow_ips").and_then(Value::as_str);
        let is_elsewhere = in_cluster || !self.is_local();
        if let Some(written) = written.filter(|written| is_elsewhere && !is_loopback(written)) {
            return written.to_owned();
        }
        let own = match () {
            _ if in_cluster => POD_NETWORK,
            _ if self.gateway_host == "[::1]" => "::1",
            _ if self.is_local() => "127.0.0.1",
            _ => "ADDRESS-OF-THIS-FRONT",
        };
        let appends = front == Front::Traefik;
        std::iter::once(own)
            .chain(self.behind.iter().map(String::as_str).filter(|_| appends))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn is_local(&self) -> bool {
        let host = self.gateway_host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Returns what does not agree between the settings and this front.
    fn doubts(
        &self,
        front: Front,
        settings: &Settings,
        removes_public_path: bool,
        peers: &str,
    ) -> Vec<String> {
        let mut doubts = Vec::new();
        let rules = &settings.rules;
        let is_on = |name: &str| rules.get(name) == Some(&Value::Bool(true));
        let in_cluster = is_in_cluster(front);
        let loopback: IpAddr = if self.gateway_host == "[::1]" {
            std::net::Ipv6Addr::LOCALHOST.into()
        } else {
            std::net::Ipv4Addr::LOCALHOST.into()
        };
        let list = rules.get("forwarded_allow_ips").and_then(Value::as_str);
        let is_trusted = if self.is_local() && !in_cluster {
            settings.policy.trusts(Peer::Ip(loopback))
        } else {
            is_on("trust_proxy") && !list.is_none_or(is_loopback)
        };
        if !is_trusted {
            doubts.push(format!(
                "the gateway does not trust this front, so the client's address and scheme would be wrong: set \
                 FLUXLIT_TRUST_PROXY=true and FLUXLIT_FORWARDED_ALLOW_IPS={peers}"
            ));
        }
        let shape = rules.get("root_path_shape").and_then(Value::as_str);
        let wanted = if self.is_stripped { "stripped" } else { "full" };
        // The manifests for Kubernetes set it.
        let is_set = front == Front::Kubernetes || shape == Some(wanted);
        if !self.mount.is_empty() && !removes_public_path && !is_set {
            doubts.push(format!(
                "FLUXLIT_ROOT_PATH_SHAPE is {}: set {wanted}, because this front always sends the path {} the mount",
                shape.unwrap_or("auto"),
                if self.is_stripped { "without" } else { "with" }
            ));
        }
        if self.origin.is_none() {
            doubts.push(
                "FLUXLIT_PUBLIC_BASE_URL is not set, so the printed file accepts every host: set the URL under which \
                 browsers know the app, such as https://portal.example.com/apps/my-app"
                    .to_owned(),
            );
        }
        let obtains_certificates = front == Front::Caddy || in_cluster;
        if self.is_https && self.tls.is_none() && self.behind.is_empty() && !obtains_certificates {
            doubts.push(
                "FLUXLIT_PUBLIC_BASE_URL is https, but the printed front does not terminate TLS: name the certificate with \
                 --certificate and --key, or the proxy that terminates TLS in front of this one with --behind"
                    .to_owned(),
            );
        }
        if let Some((certificate, key)) = &self.tls {
            let is_elsewhere = *key != *certificate && *key != format!("{certificate}.key");
            if front == Front::Haproxy && is_elsewhere {
                doubts.push(format!(
                    "HAProxy reads the key from the file of the certificate or from `{certificate}.key`, not from `{key}`: join \
                     them, as in `cat cert.pem key.pem > both.pem`, and name that file with --certificate"
                ));
            } else if self.is_key_assumed {
                doubts.push(format!(
                    "--key is not given, so the printed file names `{key}`: change that if the key is elsewhere"
                ));
            }
        }
        if rules.get("forwarded_source").and_then(Value::as_str) == Some("forwarded") {
            doubts.push(
                "FLUXLIT_FORWARDED_SOURCE is forwarded, but the printed front sends X-Forwarded-*: set x-forwarded"
                    .to_owned(),
            );
        }
        let has_filter = matches!(front, Front::Envoy | Front::EnvoyGateway | Front::Istio);
        if has_filter && settings.policy.answers_probes() {
            doubts.push(
                "the gateway has a probe key, and the printed configuration of the filter has none, because it is a secret: \
                 write the same key there as probe_key, or `doctor --probe` finds that the filter does not answer"
                    .to_owned(),
            );
        }
        let idle = settings.limits.websocket_idle.as_secs();
        if (1..TWO_PINGS).contains(&idle) {
            doubts.push(format!(
                "FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S is {idle}, shorter than two of Streamlit's pings: set at least {TWO_PINGS}"
            ));
        }
        doubts
    }
}

/// Returns true if front and gateway run in a Kubernetes cluster.
fn is_in_cluster(front: Front) -> bool {
    matches!(
        front,
        Front::Istio | Front::EnvoyGateway | Front::Kubernetes
    )
}

/// Returns true if a trust list has only addresses of the same machine.
fn is_loopback(list: &str) -> bool {
    list.split(',').all(|item| {
        let address = item.trim().split('/').next().unwrap_or_default();
        address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    })
}

/// Checks the options that are copied into the files.
fn check_options(options: &FrontOptions) -> Result<(), FrontError> {
    let error = |option, value: &str, expected| FrontError::Option {
        option,
        value: value.to_owned(),
        expected,
    };
    let certificate = options
        .tls
        .iter()
        .map(|tls| ("--certificate", &tls.certificate));
    let key = options.tls.iter().filter_map(|tls| tls.key.as_ref());
    let files = certificate.chain(key.map(|key| ("--key", key)));
    let filter = options.filter.iter().map(|filter| ("--filter", filter));
    let output = options.dynamic_file.iter().map(|file| ("--output", file));
    for (option, file) in files
        .chain(filter)
        .chain(output)
        .chain([("--image", &options.image)])
    {
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~/:@+,=%".contains(&octet);
        if file.is_empty() || !file.bytes().all(is_plain) {
            let expected = "a name of letters, digits and -._~/:@+,=%";
            return Err(error(option, file, expected));
        }
    }
    for network in &options.behind {
        let (address, length) = network.split_once('/').unwrap_or((network, "0"));
        let max = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => 0,
        };
        let is_length = length.parse::<u8>().is_ok_and(|length| length <= max);
        if max == 0 || !is_length {
            let expected = "an address or a network, such as 10.0.0.0/8";
            return Err(error("--behind", network, expected));
        }
    }
    Ok(())
}

/// Returns the path that browsers see, and whether only the public URL names it, so that the front has to remove it.
fn mount(mount: &str, public: Option<&url::Url>) -> Result<(String, bool), FrontError> {
    let Some(path) = public.map(|url| url.path().trim_end_matches('/')) else {
        return Ok((mount.to_owned(), false));
    };
    if path == mount || path.is_empty() {
        Ok((mount.to_owned(), false))
    } else if mount.is_empty() {
        Ok((path.to_owned(), true))
    } else {
        Err(FrontError::Paths {
            public: path.to_owned(),
            mount: mount.to_owned(),
        })
    }
}

/// Returns host and port of the gateway, as the front reaches it.
fn gateway(listen: SocketAddr, options: &FrontOptions) -> Result<(String, u16), FrontError> {
    if let Some(upstream) = &options.upstream {
        let invalid = || FrontError::Option {
            option: "--upstream",
            value: upstream.clone(),
            expected: "a host and a port, such as 127.0.0.1:8000",
        };
        let (host, port) = upstream.rsplit_once(':').ok_or_else(invalid)?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(invalid)?;
        let is_name = !host.is_empty()
            && host
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet));
        let is_ipv6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        return if is_name || is_ipv6 {
            Ok((host.to_owned(), port))
        } else {
            Err(invalid())
        };
    }
    if listen.port() == 0 {
        return Err(FrontError::AnyPort);
    }
    let host = match listen.ip() {
        // The gateway listens on every address, so the front reaches it on this one too.
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Ok((host, listen.port()))
}

/// Returns the headers that the gateway would believe, and that this front does not set: a client must not choose them.
fn removed_headers(rules: &Map<String, Value>) -> Vec<String> {
    let passed = rules.get("trusted_pass_headers").and_then(Value::as_array);
    let passed = passed.into_iter().flatten().filter_map(Value::as_str);
    ["Forwarded", "X-Forwarded-Port", "X-Forwarded-Prefix"]
        .into_iter()
        .chain(passed)
        .filter(|name| {
            let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
            !name.is_empty() && name.bytes().all(is_plain)
        })
        .map(str::to_owned)
        .collect()
}

/// Returns the plugin configuration of the filter: the gateway's rules, with its trust replaced by that of the listener.
fn plugin(
    rules: &Map<String, Value>,
    mount: &str,
    is_stripped: bool,
    behind: &[String],
) -> Map<String, Value> {
    let mut plugin = Map::new();
    if !mount.is_empty() {
        plugin.insert("root_path".to_owned(), mount.into());
        if !is_stripped {
            plugin.insert("upstream_path".to_owned(), "full".into());
        }
        plugin.insert("outside_mount".to_owned(), "reject".into());
    }
    for (name, value) in rules {
        if !GATEWAY_ALONE.contains(&name.as_str()) && !is_secret(name) {
            plugin.insert(name.clone(), value.clone());
        }
    }
    if let Some(Value::Array(mounts)) = plugin.get_mut("mounts") {
        for mount in mounts.iter_mut().filter_map(Value::as_object_mut) {
            mount.retain(|name, _| !GATEWAY_ALONE.contains(&name.as_str()) || name == "root_path");
        }
        plugin.insert("upstream_path".to_owned(), "full".into());
        plugin.insert("outside_mount".to_owned(), "reject".into());
    }
    if !behind.is_empty() {
        plugin.insert("trust_proxy".to_owned(), true.into());
        plugin.insert("forwarded_allow_ips".to_owned(), behind.into());
    }
    plugin.insert("peer_filter_state_key".to_owned(), "fluxlit.peer".into());
    plugin
}

/// Returns the settings of the policy as variables.
fn environment(rules: &Map<String, Value>) -> Vec<(String, String)> {
    rules
        .iter()
        .filter(|(name, _)| !NEEDED.contains(&name.as_str()) && !is_secret(name))
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(items) if items.iter().all(Value::is_string) => items
                    .iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(","),
                value => value.to_string(),
            };
            (format!("FLUXLIT_{}", name.to_ascii_uppercase()), text)
        })
        .collect()
}

/// Returns true for settings that are never printed.
fn is_secret(name: &str) -> bool {
    name.contains("secret") || (name.ends_with("_key") && name != "peer_filter_state_key")
}

fn every_address(port: u16) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port))
}

/// The rules that differ between the gateway and a filter in front of it: the filter sees the clients, the gateway sees the
/// filter.
const GATEWAY_ALONE: [&str; 14] = [
    "client_ip_header",
    "forwarded_allow_ips",
    "forwarded_source",
    "peer_filter_state_key",
    "prefix_from_header",
    "root_path",
    "root_path_shape",
    "trust_any_peer",
    "trust_proxy",
    "trusted_hops",
    "trusted_identities",
    "upstream_authorities",
    "upstream_host",
    "upstream_path",
];

/// The rules that [`Site::needed`] sets.
const NEEDED: [&str; 6] = [
    "forwarded_allow_ips",
    "public_base_url",
    "root_path",
    "root_path_shape",
    "trust_any_peer",
    "trust_proxy",
];

/// The image in the printed manifests, to be changed.
const DEFAULT_IMAGE: &str = "registry.example.com/my-team/my-app:1.0.0";

/// A network of pods, to be changed: which one it is depends on the cluster.
pub(super) const POD_NETWORK: &str = "10.244.0.0/16";

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Seconds. Streamlit sends a ping every 30 seconds; ten of them may be lost or late.
const MIN_IDLE: u64 = 300;

/// Seconds in which Streamlit sends two pings.
const TWO_PINGS: u64 = 60;

/// How long the manifests for Kubernetes let the gateway accept connections after the signal to stop: the cluster needs as
/// long to stop sending them.
pub(super) const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// Seconds for what is left to do when the app has ended: the last lines of the log, the last spans.
const STOP_MARGIN: u64 = 10;

/// Seconds by which the front waits longer than the gateway.
const MARGIN: u64 = 30;
