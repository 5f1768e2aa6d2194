//! Prints the two configuration files of Traefik: the static one, and the dynamic one that it names.
//!
//! Traefik drops `X-Forwarded-*` of untrusted clients by itself. It appends the address of a hop to `X-Forwarded-For`, so the
//! gateway has to trust that hop too. It has no limit on bodies that does not buffer them, so that limit is the gateway's.

use crate::fronts::configuration::ConfigurationFile;
use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns both files.
pub(super) fn files(site: &Site) -> Vec<ConfigurationFile> {
    vec![
        ConfigurationFile {
            suffix: "",
            text: static_file(site),
        },
        ConfigurationFile {
            suffix: DYNAMIC,
            text: dynamic_file(site),
        },
    ]
}

fn static_file(site: &Site) -> String {
    let mut text = Text::new("  ");
    site.heading(
        &mut text,
        "Traefik in front of the FluxLit gateway, as `fluxlit-gateway config --for traefik` prints it: the static file.\n\
         The dynamic file follows it; `--output traefik.yml` writes both.",
        &["traefik --configFile=traefik.yml      (from the folder of both files)"],
    );
    text.open("entryPoints:");
    entry_point(site, &mut text);
    if let Some(listen) = site.listen_http {
        text.open("http:")
            .line(format!("address: \"{listen}\""))
            .close("");
    }
    text.close("").blank();
    text.open("providers:");
    text.open("file:");
    text.line(format!(
        "filename: {}",
        site.dynamic_file
            .as_deref()
            .unwrap_or("traefik-dynamic.yml")
    ))
    .close("")
    .close("");
    text.finish()
}

fn entry_point(site: &Site, text: &mut Text) {
    text.open("edge:");
    text.line(format!("address: \"{}\"", site.listen));
    if !site.behind.is_empty() {
        text.note(
            "[!] Only these addresses may name the client: any other could choose its own address.",
        );
        text.open("forwardedHeaders:").open("trustedIPs:");
        for network in &site.behind {
            text.line(format!("- \"{network}\""));
        }
        text.close("").close("");
    }
    text.open("transport:").open("respondingTimeouts:");
    text.note("Of a whole request with its body: the default, 60s, cuts off a large upload.");
    text.line("readTimeout: 3600s")
        .close("")
        .close("")
        .close("");
}

fn dynamic_file(site: &Site) -> String {
    let mut text = Text::new("  ");
    text.note("The dynamic file of Traefik, which the static file names.")
        .blank();
    text.open("http:").open("routers:").open("app:");
    text.note("Whole segments: a path that only begins with the same letters is another app.");
    text.line(format!("rule: \"{}\"", rule(site)));
    text.line("entryPoints: [edge]");
    text.line(format!("middlewares: [{}]", middlewares(site).join(", ")));
    text.line("service: gateway");
    if site.tls.is_some() {
        text.line("tls: {}");
    }
    text.close("");
    if let (Some(_), Some(_)) = (site.listen_http, site.https_origin()) {
        text.open("redirect-to-https:")
            .line("rule: \"PathPrefix(`/`)\"")
            .line("entryPoints: [http]")
            .line("middlewares: [redirect-to-https]")
            .line("service: noop@internal")
            .close("");
    }
    text.close("").blank();
    middleware_definitions(site, &mut text);
    services(site, &mut text);
    text.close("");
    if let Some((certificate, key)) = &site.tls {
        text.blank().open("tls:").open("certificates:");
        text.line(format!("- certFile: {certificate}"));
        text.line(format!("  keyFile: {key}"));
        text.close("").open("options:").open("default:");
        text.line("minVersion: VersionTLS12");
        text.close("").close("").close("");
    }
    text.finish()
}

fn rule(site: &Site) -> String {
    let host = site.host.as_ref().map(|host| format!("Host(`{host}`)"));
    let mount = &site.mount;
    let path = if mount.is_empty() {
        "PathPrefix(`/`)".to_owned()
    } else {
        format!("(Path(`{mount}`) || PathPrefix(`{mount}/`))")
    };
    host.into_iter()
        .chain([path])
        .collect::<Vec<_>>()
        .join(" && ")
}

/// Returns the names of the middlewares, in order.
fn middlewares(site: &Site) -> Vec<&'static str> {
    let mut names = Vec::new();
    // First, so that the redirect has it too.
    if site.hsts.is_some() {
        names.push("hsts");
    }
    if site.is_stripped {
        if site.redirects_bare_mount {
            names.push("bare-mount");
        }
        names.push("remove-mount");
    }
    // After the mount is removed: that sets X-Forwarded-Prefix.
    names.push("headers");
    names
}

fn middleware_definitions(site: &Site, text: &mut Text) {
    text.open("middlewares:");
    let mount = &site.mount;
    if let (Some(_), Some(origin)) = (site.listen_http, site.https_origin()) {
        text.note("[!] A fixed name: with that of the request, a forged Host would choose where browsers go.");
        text.open("redirect-to-https:").open("redirectRegex:");
        text.line("regex: \"^https?://[^/]+(.*)$\"")
            .line(format!("replacement: \"{origin}${{1}}\""))
            .line("permanent: true")
            .close("")
            .close("");
    }
    if site.is_stripped {
        if site.redirects_bare_mount {
            text.note("The gateway cannot redirect the bare mount itself, because the mount is removed before the request reaches it.");
            text.open("bare-mount:").open("redirectRegex:");
            text.line(format!(
                "regex: \"^(https?://[^/]+{})(\\\\?.*)?$\"",
                mount.replace('.', "\\\\.")
            ))
            .line(match &site.origin {
                Some(origin) => format!("replacement: \"{origin}{mount}/${{2}}\""),
                None => "replacement: \"${1}/${2}\"".to_owned(),
            })
            .line("permanent: true")
            .close("")
            .close("");
        }
        text.open("remove-mount:").open("stripPrefix:");
        text.line(format!("prefixes: [\"{mount}\"]"))
            .close("")
            .close("");
    }
    if let Some(hsts) = &site.hsts {
        text.note("Replaces the gateway's line by the same one, so that it is never sent twice.");
        text.open("hsts:")
            .open("headers:")
            .open("customResponseHeaders:")
            .line(format!("Strict-Transport-Security: \"{hsts}\""))
            .close("")
            .close("")
            .close("");
    }
    text.open("headers:")
        .open("headers:")
        .open("customRequestHeaders:");
    text.note("[!] Removed: the gateway would believe them. If Traefik itself sets one of them, for example after a login,\ndelete its line here.");
    for name in &site.removed_headers {
        // Traefik sets this one itself.
        if name != "X-Forwarded-Port" {
            text.line(format!("{name}: \"\""));
        }
    }
    text.close("");
    text.close("").close("").close("").blank();
}

fn services(site: &Site, text: &mut Text) {
    text.open("services:")
        .open("gateway:")
        .open("loadBalancer:");
    text.note("Streamlit compares Host with the Origin.");
    text.line("passHostHeader: true");
    text.line("servers:");
    text.line(format!("- url: \"http://{}\"", site.gateway()));
    text.note("Takes the gateway out while it drains or its app is not ready.");
    text.open("healthCheck:")
        .line(format!("path: {}", site.readiness))
        .line(format!("hostname: {}", site.health_host()))
        .line("interval: 5s")
        .close("");
    text.note("Streams downloads and slow pages.");
    text.open("responseForwarding:")
        .line("flushInterval: -1ms")
        .close("");
    text.line("serversTransport: gateway")
        .close("")
        .close("")
        .close("")
        .blank();
    text.open("serversTransports:")
        .open("gateway:")
        .open("forwardingTimeouts:");
    text.line("dialTimeout: 5s");
    text.note("The gateway gives up first, and says why. WebSockets have no limit here; Streamlit sends a ping every 30 seconds.");
    text.line(format!("responseHeaderTimeout: {}s", site.idle));
    text.note("Shorter than the gateway keeps an idle connection, so that none is used while it is being closed.");
    text.line(format!("idleConnTimeout: {}s", site.keep_alive));
    text.close("").close("").close("");
}

/// What is appended to the name of the static file.
const DYNAMIC: &str = "-dynamic";
