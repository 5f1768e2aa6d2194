//! Prints the bootstrap of an Envoy edge listener with the filter: the shipped one, with the values of this site.
//!
//! The text is `envoy/bootstrap.yaml` with its comments. Only values are replaced, so whatever that file guarantees, such as
//! the guard on its routes, the printed one guarantees too.

use serde_json::{Map, Value};

use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns the whole bootstrap.
pub(super) fn text(site: &Site) -> String {
    let mut heading = Text::new("  ");
    site.heading(
        &mut heading,
        "Envoy with the FluxLit Edge filter in front of the gateway, as `fluxlit-gateway config --for envoy` prints it.",
        &[
            "envoy -c FILE --mode validate      (checks this file and the configuration of the filter)",
            "envoy -c FILE                      (from the folder that contains the filter)",
        ],
    );
    let (_, body) = BOOTSTRAP.split_once("\nadmin:\n").unwrap_or_default();
    let mut body = format!("admin:\n{body}");
    let mut edit = |from: &str, to: &str| body = replace_once(&body, from, to);
    edit(
        "socket_address: {address: 127.0.0.1, port_value: 10000}",
        &socket(&site.listen.ip().to_string(), site.listen.port()),
    );
    edit("      # Use 0.0.0.0 to serve other machines.\n", "");
    edit(
        "stream_idle_timeout: 300s",
        &format!("stream_idle_timeout: {}s", site.idle),
    );
    edit(
        "request_headers_timeout: 10s",
        &format!("request_headers_timeout: {}s", site.head_read),
    );
    edit(
        "max_headers_count: 100",
        &format!("max_headers_count: {}", site.fields),
    );
    edit(
        "max_request_headers_kb: 60",
        &format!("max_request_headers_kb: {}", site.head_bytes.div_ceil(1024)),
    );
    if let Some(filter) = &site.filter {
        edit(
            "{filename: fluxlit_filter.wasm}",
            &format!("{{filename: {filter}}}"),
        );
    }
    edit(
        "                # The same text as plugin-config.json.\n",
        "",
    );
    edit(
        shipped_plugin(),
        &indented(&json(&site.plugin), "                    "),
    );
    if site.tls_ends_in_front() {
        edit(
            "          # [!] With false, Envoy would use the last X-Forwarded-For element of any client as the remote address, in\n          \
             # access logs, RBAC and rate limits.\n          use_remote_address: true\n",
            "          # TLS is terminated in front of this listener: with true, Envoy would overwrite the scheme that the hop reports\n          \
             # before the filter runs. The filter knows the peer all the same, because the listener records it. Envoy's own\n          \
             # remote address, in access logs, RBAC and rate limits, is then what the header says.\n          \
             use_remote_address: false\n",
        );
    }
    edit(
        "socket_address: {address: 127.0.0.1, port_value: 8000}",
        &socket(
            site.gateway_host.trim_matches(['[', ']']),
            site.gateway_port,
        ),
    );
    edit("    connect_timeout: 2s\n", &cluster(site));
    if let Some((certificate, key)) = &site.tls {
        let tls = Tls::shipped();
        let socket = replace_once(
            tls.transport_socket,
            "filename: certificate.pem",
            &format!("filename: {certificate}"),
        );
        let socket = replace_once(&socket, "filename: key.pem", &format!("filename: {key}"));
        edit(
            "    filter_chains:\n    - filters:\n",
            &format!(
                "    filter_chains:\n    - {}      filters:\n",
                indented(&socket, "      ").trim_start()
            ),
        );
        if let Some(hsts) = &site.hsts {
            let replies = replace_once(
                tls.local_reply_config,
                "value: max-age=31536000",
                &format!("value: \"{hsts}\""),
            );
            edit(
                "          stat_prefix: edge\n",
                &format!(
                    "          stat_prefix: edge\n{}",
                    indented(&replies, "          ")
                ),
            );
        }
    }
    edit(
        "\n  clusters:\n",
        &format!("\n{}  clusters:\n", redirect_listener(site)),
    );
    format!("{}{body}", heading.finish())
}

/// Returns the plugin configuration as text.
pub(super) fn json(plugin: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(plugin).unwrap_or_default() + "\n"
}

/// Returns the text with every line that is not empty indented.
pub(super) fn indented(text: &str, indentation: &str) -> String {
    text.lines()
        .map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("{indentation}{line}\n"),
        })
        .collect()
}

/// Replaces what occurs exactly once in a shipped file; the tests notice when it no longer does.
pub(super) fn replace_once(text: &str, from: &str, to: &str) -> String {
    debug_assert_eq!(text.matches(from).count(), 1, "{from:?} in {text}");
    text.replacen(from, to, 1)
}

/// Returns an address of Envoy.
fn socket(host: &str, port: u16) -> String {
    format!("socket_address: {{address: \"{host}\", port_value: {port}}}")
}

/// Returns the part of the cluster that the shipped file lacks.
fn cluster(site: &Site) -> String {
    let is_name = site
        .gateway_host
        .trim_matches(['[', ']'])
        .parse::<std::net::IpAddr>()
        .is_err();
    let kind = if is_name {
        "    type: STRICT_DNS\n"
    } else {
        ""
    };
    format!(
        "    connect_timeout: 2s\n{kind}    \
         # Takes the gateway out while it drains or its app is not ready.\n    \
         health_checks:\n    \
         - timeout: 2s\n      \
         interval: 5s\n      \
         no_traffic_interval: 5s\n      \
         unhealthy_threshold: 2\n      \
         healthy_threshold: 1\n      \
         http_health_check: {{path: \"{}\", host: \"{}\"}}\n",
        site.readiness,
        site.health_host()
    )
}

/// Returns the listener that redirects http to https; it forwards nothing.
fn redirect_listener(site: &Site) -> String {
    let (Some(listen), Some(_), Some(host)) = (site.listen_http, site.https_origin(), &site.host)
    else {
        return String::new();
    };
    let port = site
        .port
        .map(|port| format!(", port_redirect: {port}"))
        .unwrap_or_default();
    let listener = format!(
        r#"- name: redirect-to-https
  address:
    {}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: redirect
        use_remote_address: true
        request_headers_timeout: {}s
        route_config:
          virtual_hosts:
          - name: redirect
            domains: ["*"]
            routes:
            # [!] A fixed name: without it, a forged Host would choose where browsers go.
            - match: {{prefix: /}}
              redirect: {{scheme_redirect: https, host_redirect: "{host}"{port}, response_code: PERMANENT_REDIRECT}}
        http_filters:
        - name: envoy.filters.http.router
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#,
        socket(&listen.ip().to_string(), listen.port()),
        site.head_read,
    );
    format!("{}\n", indented(&listener, "  "))
}

/// The two parts of `envoy/tls.yaml`.
struct Tls {
    transport_socket: &'static str,
    local_reply_config: &'static str,
}

impl Tls {
    fn shipped() -> Self {
        let from = |start: &str| {
            TLS.find(start)
                .and_then(|at| TLS.get(at..))
                .unwrap_or_default()
        };
        let socket = from("transport_socket:");
        Self {
            transport_socket: socket
                .split_once("\n\n")
                .map_or(socket, |(socket, _)| socket),
            local_reply_config: from("local_reply_config:"),
        }
    }
}

/// Returns the plugin configuration in the shipped bootstrap, with its indentation.
fn shipped_plugin() -> &'static str {
    let start = BOOTSTRAP
        .find("                    {\n")
        .unwrap_or_default();
    let rest = BOOTSTRAP.get(start..).unwrap_or_default();
    let end = rest.find("\n                    }\n").unwrap_or_default();
    rest.get(..end.saturating_add("\n                    }\n".len()))
        .unwrap_or_default()
}

const BOOTSTRAP: &str = include_str!("../../../envoy/bootstrap.yaml");
const TLS: &str = include_str!("../../../envoy/tls.yaml");
