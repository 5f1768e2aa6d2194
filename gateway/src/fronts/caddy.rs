//! Prints the configuration of Caddy.
//!
//! By default Caddy keeps `Host`, replaces `X-Forwarded-*` of clients that are not trusted, and forwards WebSockets. With an
//! https URL and no certificate it obtains one itself.

use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns the whole Caddyfile.
pub(super) fn text(site: &Site) -> String {
    let mut text = Text::new("\t");
    site.heading(
        &mut text,
        "Caddy in front of the FluxLit gateway, as `fluxlit-gateway config --for caddy` prints it.",
        &[
            "caddy validate --adapter caddyfile --config FILE      (checks this file)",
            "caddy run --adapter caddyfile --config FILE",
        ],
    );
    options(site, &mut text);
    redirect_to_https(site, &mut text);
    text.open(format!("{} {{", address(site)));
    if !site.listen.ip().is_unspecified() {
        text.line(format!("bind {}", site.listen.ip()));
    }
    if let Some((certificate, key)) = &site.tls {
        text.line(format!("tls {certificate} {key}"));
    }
    if let Some(hsts) = &site.hsts {
        text.note("`?`: only for responses that have none, because it must never be sent twice.");
        text.line(format!("header ?Strict-Transport-Security \"{hsts}\""));
    }
    app(site, &mut text);
    if let Some(hsts) = &site.hsts {
        text.blank().note(
            "Caddy's own errors, such as 502, get none of the fields that are set elsewhere.",
        );
        text.open("handle_errors {")
            .line(format!("header Strict-Transport-Security \"{hsts}\""))
            .line("respond \"{err.status_code} {err.status_text}\" {err.status_code}")
            .close("}");
    }
    text.close("}");
    text.finish()
}

/// Writes the global options.
fn options(site: &Site, text: &mut Text) {
    let mut block = Text::new("\t");
    if site.tls.is_some() {
        block.note("The redirect from http is below, if there is one.");
        block.line("auto_https disable_redirects");
    } else if !obtains_certificate(site) {
        block.line("auto_https off");
    }
    block.open("servers {");
    if !site.behind.is_empty() {
        block.note(
            "[!] Only these addresses may name the client: any other could choose its own address.",
        );
        block.line(format!("trusted_proxies static {}", site.behind.join(" ")));
        block.line("trusted_proxies_strict");
    }
    block.open("timeouts {");
    block.note(
        "Of the head of a request. A large upload may take longer, so its body has no such limit.",
    );
    block
        .line(format!("read_header {}s", site.head_read))
        .close("}");
    block.close("}");
    text.open("{").lines(block.finish()).close("}").blank();
}

/// Returns true if Caddy obtains a certificate for the public host.
fn obtains_certificate(site: &Site) -> bool {
    site.is_https && site.tls.is_none() && site.behind.is_empty()
}

/// Returns the address of the site.
fn address(site: &Site) -> String {
    let host = site.host.as_deref().unwrap_or_default();
    if obtains_certificate(site) {
        return host.to_owned();
    }
    let scheme = if site.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{host}:{}", site.listen.port())
}

fn redirect_to_https(site: &Site, text: &mut Text) {
    let (Some(listen), Some(origin)) = (site.listen_http, site.https_origin()) else {
        return;
    };
    let host = site.host.as_deref().unwrap_or_default();
    text.open(format!("http://{host}:{} {{", listen.port()));
    if !listen.ip().is_unspecified() {
        text.line(format!("bind {}", listen.ip()));
    }
    text.note("[!] A fixed name: with {host}, a forged Host would choose where browsers go.");
    text.line(format!("redir {origin}{{uri}} 308"))
        .close("}")
        .blank();
}

fn app(site: &Site, text: &mut Text) {
    let mount = &site.mount;
    if mount.is_empty() {
        text.blank().open("handle {");
        proxy(site, text);
        text.close("}");
        return;
    }
    text.blank();
    if site.is_stripped {
        if site.redirects_bare_mount {
            text.note("The gateway cannot redirect the bare mount itself, because the mount is removed before the request reaches it.");
            text.line(format!("@bare_mount path {mount}"));
            text.open("@bare_mount_with_query {")
                .line(format!("path {mount}"))
                .line("expression `{query} != \"\"`")
                .close("}");
            text.line(format!(
                "redir @bare_mount_with_query {mount}/?{{query}} 308"
            ))
            .line(format!("redir @bare_mount {mount}/ 308"));
        }
        text.open(format!("handle_path {mount}/* {{"));
    } else {
        text.note("Whole segments: a path that only begins with the same letters is another app.");
        text.line(format!("@app path {mount} {mount}/*"));
        text.open("handle @app {");
    }
    proxy(site, text);
    text.close("}");
    text.open("handle {").line("respond 404").close("}");
}

fn proxy(site: &Site, text: &mut Text) {
    if site.body_bytes > 0 {
        text.note("The gateway's own limit, in bytes.");
        text.open("request_body {")
            .line(format!("max_size {}", site.body_bytes))
            .close("}");
    }
    text.open(format!("reverse_proxy {} {{", site.gateway()));
    text.note("[!] The gateway believes this header, so it is replaced: appending would forward what the client claims.");
    text.line("header_up X-Forwarded-For {client_ip}");
    if let Some(name) = &site.client_header {
        text.line(format!("header_up {name} {{client_ip}}"));
    }
    text.note("[!] Removed. If Caddy itself sets one of them, for example after a login, name its value instead.");
    for name in &site.removed_headers {
        text.line(format!("header_up -{name}"));
    }
    text.note("Takes the gateway out while it drains or its app is not ready.");
    text.line(format!("health_uri {}", site.readiness))
        .line("health_interval 5s");
    text.note("It is the only upstream, so one lost response takes nothing out.");
    text.line("health_fails 2");
    text.open("health_headers {")
        .line(format!("Host {}", site.health_host()))
        .close("}");
    text.note("Streams downloads and slow pages.");
    text.line("flush_interval -1");
    text.note("A reload of Caddy closes WebSockets only after this time: each closed one is a page that reconnects.");
    text.line("stream_close_delay 1h");
    text.open("transport http {").line("dial_timeout 5s");
    text.note("The gateway gives up first, and says why. WebSockets have no limit here; Streamlit sends a ping every 30 seconds.");
    text.line(format!("response_header_timeout {}s", site.idle));
    text.note("Shorter than the gateway keeps an idle connection, so that none is used while it is being closed.");
    text.line(format!("keepalive {}s", site.keep_alive));
    text.close("}").close("}");
}
