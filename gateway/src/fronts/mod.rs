//! Prints complete configurations for the proxy in front of the gateway, which agree with the gateway's settings.
//!
//! [`Site`] derives from the settings what every front has to know: the mount and who removes it, the public host, the
//! address of the gateway, the limits, the timeouts, the headers that clients must not choose. Each front has one module that
//! writes these facts in the words of its program. All of it is pure: nothing is read, nothing is written, and the same
//! settings give the same text.
//!
//! All fronts follow the same rules:
//!
//! - The gateway believes this front, so every forwarded header that it reads is replaced or removed, never appended to.
//! - `Host` stays as the client sent it, because Streamlit compares it with `Origin`.
//! - No limit is stricter than the gateway's, and no timeout shorter, so that errors come from the gateway, with a reason.
//! - No idle limit is shorter than two of Streamlit's pings.
//! - The front adds `Strict-Transport-Security` only to responses that have none, such as its own errors.

mod apache;
mod caddy;
mod configuration;
mod envoy;
mod envoy_gateway;
mod front;
mod haproxy;
mod istio;
mod kubernetes;
mod nginx;
mod site;
mod text;
mod traefik;

pub use crate::fronts::configuration::{Configuration, ConfigurationFile};
pub use crate::fronts::front::Front;
use crate::fronts::site::Site;
pub use crate::fronts::site::{FrontError, FrontOptions, FrontTls};
use crate::settings::Settings;

/// Prints the configuration of a front for a gateway with these settings.
///
/// # Errors
///
/// If no front can be configured for the settings.
pub fn configuration(
    front: Front,
    settings: &Settings,
    options: &FrontOptions,
) -> Result<Configuration, FrontError> {
    let site = Site::new(front, settings, options)?;
    let one = |text| vec![ConfigurationFile { suffix: "", text }];
    let files = match front {
        Front::Apache => one(apache::text(&site)),
        Front::Caddy => one(caddy::text(&site)),
        Front::Envoy => one(envoy::text(&site)),
        Front::EnvoyGateway => one(envoy_gateway::text(&site)),
        Front::Haproxy => one(haproxy::text(&site)),
        Front::Istio => one(istio::text(&site)),
        Front::Kubernetes => one(kubernetes::text(&site)),
        Front::Nginx => one(nginx::text(&site)),
        Front::Traefik => traefik::files(&site),
    };
    let warnings = site.warnings;
    Ok(Configuration { files, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTED: [(&str, &str); 3] = [
        (
            "FLUXLIT_PUBLIC_BASE_URL",
            "https://portal.example.com/apps/my-app",
        ),
        ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
        ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
    ];
    const STRIPPED: [(&str, &str); 3] = [
        MOUNTED[0],
        MOUNTED[1],
        ("FLUXLIT_ROOT_PATH_SHAPE", "stripped"),
    ];
    const ROOT: [(&str, &str); 1] = [("FLUXLIT_PUBLIC_BASE_URL", "http://portal.example.com:8080")];
    const TRUST: [(&str, &str); 2] = [
        ("FLUXLIT_TRUST_PROXY", "true"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];

    /// Prints a configuration for these settings beside those that every row has.
    fn printed(front: Front, settings: &[(&str, &str)], options: &FrontOptions) -> Configuration {
        print(front, settings, options).unwrap_or_else(|error| panic!("{front:?}: {error}"))
    }

    fn print(
        front: Front,
        settings: &[(&str, &str)],
        options: &FrontOptions,
    ) -> Result<Configuration, FrontError> {
        let own = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501");
        let folder = tempfile::tempdir().expect("a folder");
        let variables = [&[own], settings].concat();
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let sources = crate::settings::Sources::read(Vec::new(), None, folder.path(), variables);
        let settings = Settings::read(None, sources).expect("the settings are valid");
        configuration(front, &settings, options)
    }

    fn text(front: Front, settings: &[(&str, &str)], options: &FrontOptions) -> String {
        let files = printed(front, settings, options).files;
        files.into_iter().map(|file| file.text).collect()
    }

    fn tls() -> FrontOptions {
        FrontOptions {
            tls: Some(FrontTls {
                certificate: "/etc/ssl/portal.pem".to_owned(),
                key: Some("/etc/ssl/portal.key".to_owned()),
            }),
            ..FrontOptions::default()
        }
    }

    fn certificate(name: &str) -> FrontTls {
        FrontTls {
            certificate: name.to_owned(),
            key: None,
        }
    }

    fn behind() -> FrontOptions {
        FrontOptions {
            behind: vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()],
            ..FrontOptions::default()
        }
    }

    #[test]
    fn each_front_has_the_lines_that_its_settings_need() {
        use Front::*;
        let hsts = [&MOUNTED[..], &TRUST, &[("FLUXLIT_HSTS", "true")]].concat();
        let auth = [
            &MOUNTED[..],
            &[("FLUXLIT_TRUSTED_PASS_HEADERS", "X-Auth-Email")],
        ]
        .concat();
        let cdn = [
            &MOUNTED[..],
            &[("FLUXLIT_CLIENT_IP_HEADER", "CF-Connecting-IP")],
        ]
        .concat();
        let small = [
            &MOUNTED[..],
            &[("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "12345")],
        ]
        .concat();
        let slow = [
            &MOUNTED[..],
            &[("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "900")],
        ]
        .concat();
        let none = FrontOptions::default();
        for (front, settings, options, wanted) in [
            // Who removes the mount.
            (
                Apache,
                &MOUNTED[..],
                &none,
                "ProxyPass \"/apps/my-app\" \"http://127.0.0.1:8000/apps/my-app\" nocanon upgrade=websocket",
            ),
            (
                Apache,
                &STRIPPED,
                &none,
                "ProxyPass \"/apps/my-app/\" \"http://127.0.0.1:8000/\" nocanon upgrade=websocket",
            ),
            (
                Apache,
                &STRIPPED,
                &none,
                "RedirectMatch 308 \"^/apps/my-app$\" \"https://portal.example.com/apps/my-app/\"",
            ),
            (
                Apache,
                &ROOT,
                &none,
                "ProxyPass \"/\" \"http://127.0.0.1:8000/\"",
            ),
            (
                Caddy,
                &MOUNTED,
                &none,
                "@app path /apps/my-app /apps/my-app/*",
            ),
            (Caddy, &STRIPPED, &none, "handle_path /apps/my-app/* {"),
            (
                Caddy,
                &STRIPPED,
                &none,
                "redir @bare_mount /apps/my-app/ 308",
            ),
            (
                Caddy,
                &ROOT,
                &none,
                "\thandle {\n\t\t# The gateway's own limit",
            ),
            (Envoy, &MOUNTED, &none, "\"upstream_path\": \"full\""),
            (Envoy, &STRIPPED, &none, "\"root_path\": \"/apps/my-app\""),
            (EnvoyGateway, &MOUNTED, &none, "upstream_path: \"full\""),
            (
                Haproxy,
                &MOUNTED,
                &none,
                "acl is_below_mount path_beg /apps/my-app/",
            ),
            (
                Haproxy,
                &STRIPPED,
                &none,
                "http-request replace-path /apps/my-app(/.*) \\1",
            ),
            (Istio, &MOUNTED, &none, "root_path: \"/apps/my-app\""),
            (
                Kubernetes,
                &MOUNTED,
                &none,
                "- path: /apps/my-app\n        pathType: Prefix",
            ),
            (
                Kubernetes,
                &ROOT,
                &none,
                "- path: /\n        pathType: Prefix",
            ),
            (Nginx, &MOUNTED, &none, "location ~ ^/apps/my-app(/|$) {"),
            (
                Nginx,
                &STRIPPED,
                &none,
                "\"~^/apps/my-app(?<rest>/.*)$\" $rest;",
            ),
            (
                Nginx,
                &STRIPPED,
                &none,
                "return 308 /apps/my-app/$is_args$args;",
            ),
            (
                Nginx,
                &ROOT,
                &none,
                "location / {\n            # Without a path",
            ),
            (
                Traefik,
                &MOUNTED,
                &none,
                "(Path(`/apps/my-app`) || PathPrefix(`/apps/my-app/`))",
            ),
            (Traefik, &STRIPPED, &none, "prefixes: [\"/apps/my-app\"]"),
            (
                Traefik,
                &ROOT,
                &none,
                "rule: \"Host(`portal.example.com`) && PathPrefix(`/`)\"",
            ),
            // TLS.
            (
                Apache,
                &MOUNTED,
                &tls(),
                "SSLCertificateKeyFile /etc/ssl/portal.key",
            ),
            (
                Caddy,
                &MOUNTED,
                &tls(),
                "tls /etc/ssl/portal.pem /etc/ssl/portal.key",
            ),
            // Caddy obtains the certificate.
            (Caddy, &MOUNTED, &none, "\nportal.example.com {"),
            (
                Caddy,
                &MOUNTED,
                &behind(),
                "\nhttp://portal.example.com:80 {",
            ),
            (
                Envoy,
                &MOUNTED,
                &tls(),
                "private_key: {filename: /etc/ssl/portal.key}",
            ),
            (
                Haproxy,
                &MOUNTED,
                &tls(),
                "bind 0.0.0.0:443 ssl crt /etc/ssl/portal.pem alpn h2,http/1.1",
            ),
            (Nginx, &MOUNTED, &tls(), "listen 0.0.0.0:443 ssl;"),
            (
                Traefik,
                &MOUNTED,
                &tls(),
                "- certFile: /etc/ssl/portal.pem\n      keyFile: /etc/ssl/portal.key",
            ),
            // From http to https, to a fixed host.
            (
                Apache,
                &MOUNTED,
                &tls(),
                "Redirect 308 \"/\" \"https://portal.example.com/\"",
            ),
            (
                Caddy,
                &MOUNTED,
                &tls(),
                "redir https://portal.example.com{uri} 308",
            ),
            (
                Envoy,
                &MOUNTED,
                &tls(),
                "host_redirect: \"portal.example.com\"",
            ),
            (
                Haproxy,
                &MOUNTED,
                &tls(),
                "redirect prefix https://portal.example.com code 308 unless { ssl_fc }",
            ),
            (
                Nginx,
                &MOUNTED,
                &tls(),
                "return 308 https://portal.example.com$request_uri;",
            ),
            (
                Traefik,
                &MOUNTED,
                &tls(),
                "replacement: \"https://portal.example.com${1}\"",
            ),
            // Forwarded headers are replaced, or removed.
            (
                Apache,
                &MOUNTED,
                &none,
                "RequestHeader set X-Forwarded-For \"expr=%{REMOTE_ADDR}\"",
            ),
            (
                Caddy,
                &MOUNTED,
                &none,
                "header_up X-Forwarded-For {client_ip}",
            ),
            (
                Haproxy,
                &MOUNTED,
                &none,
                "http-request set-header X-Forwarded-For %[src]",
            ),
            (
                Nginx,
                &MOUNTED,
                &none,
                "proxy_set_header X-Forwarded-For $remote_addr;",
            ),
            (
                Nginx,
                &MOUNTED,
                &none,
                "proxy_set_header X-Forwarded-Host $http_host;",
            ),
            (Apache, &auth, &none, "RequestHeader unset X-Auth-Email"),
            (Caddy, &auth, &none, "header_up -X-Auth-Email"),
            (Envoy, &auth, &none, "\"trusted_pass_headers\": ["),
            (
                Haproxy,
                &auth,
                &none,
                "http-request del-header X-Auth-Email",
            ),
            (Nginx, &auth, &none, "proxy_set_header X-Auth-Email \"\";"),
            (Traefik, &auth, &none, "X-Auth-Email: \"\""),
            (
                Apache,
                &cdn,
                &none,
                "RequestHeader set CF-Connecting-IP \"expr=%{REMOTE_ADDR}\"",
            ),
            (Caddy, &cdn, &none, "header_up CF-Connecting-IP {client_ip}"),
            (
                Haproxy,
                &cdn,
                &none,
                "http-request set-header CF-Connecting-IP %[src]",
            ),
            (
                Nginx,
                &cdn,
                &none,
                "proxy_set_header CF-Connecting-IP $remote_addr;",
            ),
            // A hop in front.
            (
                Apache,
                &MOUNTED,
                &behind(),
                "RemoteIPTrustedProxy 10.0.0.0/8",
            ),
            (
                Caddy,
                &MOUNTED,
                &behind(),
                "trusted_proxies static 10.0.0.0/8 2001:db8::/32",
            ),
            (
                Envoy,
                &MOUNTED,
                &behind(),
                "\"forwarded_allow_ips\": [\n                        \"10.0.0.0/8\",",
            ),
            (Envoy, &MOUNTED, &behind(), "use_remote_address: false"),
            (Envoy, &MOUNTED, &none, "use_remote_address: true"),
            (
                EnvoyGateway,
                &MOUNTED,
                &behind(),
                "forwarded_allow_ips: [\"10.0.0.0/8\",\"2001:db8::/32\"]",
            ),
            (
                Haproxy,
                &MOUNTED,
                &behind(),
                "acl is_from_hop src 10.0.0.0/8 2001:db8::/32",
            ),
            (
                Istio,
                &MOUNTED,
                &behind(),
                "forwarded_allow_ips: [\"10.0.0.0/8\",\"2001:db8::/32\"]",
            ),
            (
                Nginx,
                &MOUNTED,
                &behind(),
                "set_real_ip_from 2001:db8::/32;",
            ),
            (Traefik, &MOUNTED, &behind(), "- \"10.0.0.0/8\""),
            (
                Traefik,
                &MOUNTED,
                &behind(),
                "FLUXLIT_FORWARDED_ALLOW_IPS=127.0.0.1,10.0.0.0/8,2001:db8::/32",
            ),
            // The gateway's limits.
            (Apache, &small, &none, "LimitRequestBody 12345"),
            (Caddy, &small, &none, "max_size 12345"),
            (
                Haproxy,
                &small,
                &none,
                "if { req.hdr_val(content-length) gt 12345 }",
            ),
            (Kubernetes, &small, &none, "proxy-body-size: \"12345\""),
            (Nginx, &small, &none, "client_max_body_size 12345;"),
            // Longer than the gateway waits.
            (Apache, &slow, &none, "timeout=930"),
            (Caddy, &slow, &none, "response_header_timeout 930s"),
            (Envoy, &slow, &none, "stream_idle_timeout: 930s"),
            (EnvoyGateway, &slow, &none, "streamIdleTimeout: 930s"),
            (Haproxy, &slow, &none, "timeout tunnel 930s"),
            (Kubernetes, &slow, &none, "proxy-read-timeout: \"930\""),
            (Nginx, &slow, &none, "proxy_read_timeout 930s;"),
            (Traefik, &slow, &none, "responseHeaderTimeout: 930s"),
            (Nginx, &MOUNTED, &none, "proxy_read_timeout 300s;"),
            // Strict-Transport-Security, also of the front's own errors.
            (
                Apache,
                &hsts,
                &tls(),
                "Header always set Strict-Transport-Security \"max-age=31536000\" \"expr=-z resp(",
            ),
            (
                Caddy,
                &hsts,
                &tls(),
                "header ?Strict-Transport-Security \"max-age=31536000\"",
            ),
            (
                Envoy,
                &hsts,
                &tls(),
                "header: {key: strict-transport-security, value: \"max-age=31536000\"}",
            ),
            (
                Haproxy,
                &hsts,
                &tls(),
                "set-header Strict-Transport-Security \"max-age=31536000\" if { ssl_fc } !{ res.hdr(strict-transport-security) -m found }",
            ),
            (
                Nginx,
                &hsts,
                &tls(),
                "add_header Strict-Transport-Security $hsts_if_absent always;",
            ),
            (
                Traefik,
                &hsts,
                &tls(),
                "Strict-Transport-Security: \"max-age=31536000\"",
            ),
            // Health.
            (Caddy, &MOUNTED, &none, "health_uri /apps/my-app/api/readyz"),
            (Caddy, &STRIPPED, &none, "health_uri /api/readyz"),
            (
                Envoy,
                &MOUNTED,
                &none,
                "path: \"/apps/my-app/api/readyz\", host: \"portal.example.com\"",
            ),
            (
                Haproxy,
                &MOUNTED,
                &none,
                "http-check send meth GET uri /apps/my-app/api/readyz ver HTTP/1.1 hdr Host portal.example.com",
            ),
            (
                Kubernetes,
                &MOUNTED,
                &none,
                "exec: {command: [fluxlit-gateway, probe, --url, \"http://127.0.0.1:9901/readyz\"]}",
            ),
            (Traefik, &MOUNTED, &none, "path: /apps/my-app/api/readyz"),
            // Without the filter, requests are not forwarded.
            (Envoy, &MOUNTED, &none, "- key: wasm.fluxlit.client"),
            (
                EnvoyGateway,
                &MOUNTED,
                &none,
                "the-fluxlit-filter-is-not-running",
            ),
            (Istio, &MOUNTED, &none, "name: fluxlit-not-processed"),
        ] {
            let text = text(front, settings, options);
            assert!(
                text.contains(wanted),
                "{front:?}: {wanted:?} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn no_front_adds_strict_transport_security_on_its_own() {
        let off = [&MOUNTED[..], &TRUST].concat();
        let app = [&off[..], &[("FLUXLIT_HSTS", "{\"mode\": \"upstream\"}")]].concat();
        let http = [&ROOT[..], &[("FLUXLIT_HSTS", "true")]].concat();
        for front in [
            Front::Apache,
            Front::Caddy,
            Front::Envoy,
            Front::Haproxy,
            Front::Nginx,
            Front::Traefik,
        ] {
            for settings in [&off, &app, &http] {
                let text = text(front, settings, &tls()).to_ascii_lowercase();
                assert!(!text.contains("max-age"), "{front:?}\n{text}");
            }
        }
    }

    #[test]
    fn the_key_is_at_its_usual_place_unless_it_is_given() {
        for (front, name, wanted) in [
            (
                Front::Nginx,
                "/etc/ssl/portal.pem",
                "ssl_certificate_key /etc/ssl/portal.key;",
            ),
            (
                Front::Nginx,
                "portal.crt",
                "ssl_certificate_key portal.key;",
            ),
            (
                Front::Nginx,
                "/x.d/portal",
                "ssl_certificate_key /x.d/portal.key;",
            ),
            (
                Front::Apache,
                "/etc/letsencrypt/live/x/fullchain.pem",
                "SSLCertificateKeyFile /etc/letsencrypt/live/x/privkey.pem",
            ),
            (
                Front::Caddy,
                "a.pem",
                "a.key is where the key of the certificate usually is",
            ),
            (
                Front::Haproxy,
                "a.pem",
                "the key may be in a.pem.key instead",
            ),
        ] {
            let options = FrontOptions {
                tls: Some(certificate(name)),
                ..FrontOptions::default()
            };
            let text = text(front, &MOUNTED, &options);
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
    }

    /// Several apps: the filter knows their mounts, removes none of them, and the gateway does.
    #[test]
    fn the_filter_gets_several_mounts() {
        let mounts = r#"[{"root_path": "/a", "upstream_path": "stripped"}, {"root_path": "/b", "hosts": ["b.example"]}]"#;
        let text = text(
            Front::Istio,
            &[("FLUXLIT_MOUNTS", mounts)],
            &FrontOptions::default(),
        );
        for wanted in [
            r#"mounts: [{"root_path":"/a"},{"hosts":["b.example"],"root_path":"/b"}]"#,
            "upstream_path: \"full\"",
            "outside_mount: \"reject\"",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let key = "0123456789abcdef0123456789abcdef";
        let settings = [&MOUNTED[..], &[("FLUXLIT_PROBE_KEY", key)]].concat();
        for front in Front::ALL {
            let text = text(front, &settings, &FrontOptions::default());
            assert!(!text.contains(key), "{front:?}");
        }
    }

    #[test]
    fn settings_that_do_not_agree_are_named() {
        let agree = [&MOUNTED[..], &TRUST].concat();
        let only = |name| FrontOptions {
            tls: Some(certificate(name)),
            ..FrontOptions::default()
        };
        for (front, settings, options, wanted) in [
            (Front::Nginx, &agree[..], tls(), ""),
            (
                Front::Nginx,
                &MOUNTED,
                tls(),
                "FLUXLIT_FORWARDED_ALLOW_IPS=127.0.0.1",
            ),
            (
                Front::Istio,
                &agree,
                tls(),
                "FLUXLIT_FORWARDED_ALLOW_IPS=10.244.0.0/16",
            ),
            (
                Front::Nginx,
                &[agree[0], agree[1], agree[3], agree[4]],
                tls(),
                "FLUXLIT_ROOT_PATH_SHAPE is auto: set full",
            ),
            (
                Front::Nginx,
                &agree,
                FrontOptions::default(),
                "does not terminate TLS",
            ),
            (Front::Nginx, &agree, behind(), ""),
            (Front::Caddy, &agree, FrontOptions::default(), ""),
            (
                Front::Nginx,
                &agree[1..],
                FrontOptions::default(),
                "FLUXLIT_PUBLIC_BASE_URL is not set",
            ),
            (
                Front::Envoy,
                &[&agree[..], &[("FLUXLIT_PROBE_KEY", "0123456789abcdef")]].concat(),
                tls(),
                "write the same key there as probe_key",
            ),
            (
                Front::Nginx,
                &[&agree[..], &[("FLUXLIT_PROBE_KEY", "0123456789abcdef")]].concat(),
                tls(),
                "",
            ),
            (
                Front::Haproxy,
                &agree,
                tls(),
                "reads the key from the file of the certificate",
            ),
            (Front::Haproxy, &agree, only("portal.pem"), ""),
            (
                Front::Caddy,
                &agree,
                only("portal.pem"),
                "the printed file names `portal.key`",
            ),
            (
                Front::Nginx,
                &[&agree[..], &[("FLUXLIT_FORWARDED_SOURCE", "forwarded")]].concat(),
                tls(),
                "FLUXLIT_FORWARDED_SOURCE",
            ),
            (
                Front::Nginx,
                &[&agree[..], &[("FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S", "45")]].concat(),
                tls(),
                "at least 60",
            ),
        ] {
            let warnings = printed(front, settings, &options).warnings;
            let is_expected = match wanted {
                "" => warnings.is_empty(),
                wanted => matches!(&warnings[..], [warning] if warning.contains(wanted)),
            };
            assert!(is_expected, "{front:?}: {wanted:?}: {warnings:?}");
        }
    }

    #[test]
    fn what_cannot_be_configured_is_an_error() {
        let with = |change: fn(&mut FrontOptions)| {
            let mut options = FrontOptions::default();
            change(&mut options);
            options
        };
        for (settings, options, wanted) in [
            (
                &[("FLUXLIT_GATEWAY_PORT", "0")][..],
                with(|_| ()),
                "FLUXLIT_GATEWAY_PORT=0",
            ),
            (
                &[
                    ("FLUXLIT_TLS_CERTIFICATE", "c.pem"),
                    ("FLUXLIT_TLS_KEY", "k.pem"),
                ],
                with(|_| ()),
                "FLUXLIT_TLS_CERTIFICATE is set",
            ),
            (
                &[
                    ("FLUXLIT_PUBLIC_BASE_URL", "https://a.example/x"),
                    ("FLUXLIT_ROOT_PATH", "/y"),
                ],
                with(|_| ()),
                "`/x`, is not FLUXLIT_ROOT_PATH, `/y`",
            ),
            (
                &[],
                with(|options| options.behind = vec!["10.0.0.0/33".to_owned()]),
                "--behind `10.0.0.0/33`",
            ),
            (
                &[],
                with(|options| options.behind = vec!["proxy".to_owned()]),
                "--behind `proxy`",
            ),
            (
                &[],
                with(|options| options.upstream = Some("gateway".to_owned())),
                "--upstream `gateway`",
            ),
            (
                &[],
                with(|options| options.upstream = Some("a b:1".to_owned())),
                "--upstream `a b:1`",
            ),
            (
                &[],
                with(|options| options.tls = Some(certificate("a;b"))),
                "--certificate `a;b`",
            ),
            (
                &[],
                with(|options| options.image = "x\ny".to_owned()),
                "--image `x",
            ),
        ] {
            let error = print(Front::Nginx, settings, &options)
                .expect_err(wanted)
                .to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let any_port = [("FLUXLIT_GATEWAY_PORT", "0")];
        let named = with(|options| options.upstream = Some("[::1]:8000".to_owned()));
        assert!(text(Front::Nginx, &any_port, &named).contains("server [::1]:8000"));
    }

    /// `envoy/fronts/` contains what the program prints, and the browser tests run it.
    #[test]
    fn the_shipped_files_are_what_is_printed() {
        let options = FrontOptions {
            listen: Some(([127, 0, 0, 1], 10000).into()),
            ..FrontOptions::default()
        };
        for (front, settings, name, shipped) in [
            (
                Front::Nginx,
                &MOUNTED[1..],
                "nginx-full.conf",
                include_str!("../../../envoy/fronts/nginx-full.conf"),
            ),
            (
                Front::Nginx,
                &STRIPPED[1..],
                "nginx-stripped.conf",
                include_str!("../../../envoy/fronts/nginx-stripped.conf"),
            ),
            (
                Front::Caddy,
                &STRIPPED[1..],
                "Caddyfile",
                include_str!("../../../envoy/fronts/Caddyfile"),
            ),
        ] {
            let printed = text(front, &[settings, &TRUST].concat(), &options);
            assert_eq!(
                printed,
                shipped,
                "write envoy/fronts/{name} again: `fluxlit-gateway config --for {} --listen 127.0.0.1:10000` with the settings that it names",
                front.name()
            );
        }
    }
}
