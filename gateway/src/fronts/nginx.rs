//! Prints the configuration of nginx.
//!
//! The path is forwarded byte for byte, also where the mount is removed: `proxy_pass` with a path would decode it. The files in
//! `envoy/fronts/` are this text.

use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns the whole `nginx.conf`.
pub(super) fn text(site: &Site) -> String {
    let mut text = Text::new("    ");
    let commands = if site.needs_no_privileges() {
        [
            "nginx -p FOLDER -t -c FILE      (checks this file)",
            "nginx -p FOLDER -c FILE         (or copy what is inside `http` to a file in /etc/nginx/conf.d)",
        ]
    } else {
        [
            "nginx -t -c FILE      (checks this file)",
            "nginx -c FILE         (or copy what is inside `http` to a file in /etc/nginx/conf.d)",
        ]
    };
    site.heading(
        &mut text,
        "nginx in front of the FluxLit gateway, as `fluxlit-gateway config --for nginx` prints it.",
        &commands,
    );
    text.line("worker_processes auto;");
    let files = site
        .needs_no_privileges()
        .then(|| format!("nginx-{}", site.listen.port()));
    if let Some(files) = &files {
        text.note("These ports need no privileges, so nginx can be started by any user: its files are in the folder of the option `-p`.");
        text.line(format!("pid {files}.pid;"))
            .line("error_log stderr;");
    }
    text.blank();
    text.open("events {");
    text.note("Each open page needs two connections: one from the browser, one to the gateway.");
    text.line("worker_connections 8192;").close("}").blank();
    text.open("http {");
    if let Some(files) = files {
        text.note("For a log of requests, name a file, or let the gateway write one: FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG=true.");
        text.line("access_log off;");
        for kind in ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"] {
            text.line(format!("{kind}_temp_path {files}-{kind};"));
        }
        text.blank();
    }
    variables(site, &mut text);
    redirect_to_https(site, &mut text);
    server(site, &mut text);
    text.close("}");
    text.finish()
}

/// Writes the variables and the upstream, which belong outside of a server.
fn variables(site: &Site, text: &mut Text) {
    text.note(
        "Forwards the upgrade of a WebSocket; without it, the page says \"Please wait\" for ever.",
    );
    text.open("map $http_upgrade $connection_upgrade {")
        .line("default upgrade;")
        .line("\"\"      \"\";")
        .close("}")
        .blank();
    if let Some(hsts) = &site.hsts {
        text.note("Only for responses that have none, such as nginx's own errors: it must never be sent twice.");
        text.open("map $upstream_http_strict_transport_security $hsts_if_absent {")
            .line(format!("\"\"      \"{hsts}\";"))
            .line("default \"\";")
            .close("}")
            .blank();
    }
    if site.is_stripped {
        text.note(
            "The path without the mount, byte for byte: `proxy_pass` with a path would decode %2F.",
        );
        text.open("map $request_uri $path_of_app {")
            .line("default \"\";")
            .line(format!(
                "\"~^{}(?<rest>/.*)$\" $rest;",
                site.mount_pattern()
            ))
            .close("}")
            .blank();
    }
    if !site.behind.is_empty() {
        text.note(
            "[!] Only these addresses may name the client: any other could choose its own address.",
        );
        for network in &site.behind {
            text.line(format!("set_real_ip_from {network};"));
        }
        text.line("real_ip_header X-Forwarded-For;");
        text.line("real_ip_recursive on;");
        text.open("geo $realip_remote_addr $is_from_hop {")
            .line("default 0;");
        for network in &site.behind {
            text.line(format!("{network} 1;"));
        }
        text.close("}");
        text.note("[!] The scheme that the hop reports; that of any other sender is ignored.");
        text.open("map $is_from_hop:$http_x_forwarded_proto $client_scheme {")
            .line("default $scheme;")
            .line("1:https https;")
            .line("1:http  http;")
            .close("}")
            .blank();
    }
    text.open("upstream gateway {");
    text.note("Open-source nginx learns of a failure from requests only. This is the only server, so it is never taken out.");
    text.line(format!("server {} max_fails=0;", site.gateway()))
        .line("keepalive 16;");
    text.note("Shorter than the gateway keeps an idle connection, so that none is used while it is being closed.");
    text.line(format!("keepalive_timeout {}s;", site.keep_alive))
        .close("}")
        .blank();
}

/// Writes the server that redirects http to https.
fn redirect_to_https(site: &Site, text: &mut Text) {
    let (Some(listen), Some(origin)) = (site.listen_http, site.https_origin()) else {
        return;
    };
    text.open("server {")
        .line(format!("listen {listen};"))
        .line(format!(
            "server_name {};",
            site.host.as_deref().unwrap_or("_")
        ));
    text.note("[!] A fixed name: with $host, a forged Host would choose where browsers go.");
    text.line(format!("return 308 {origin}$request_uri;"))
        .close("}")
        .blank();
}

fn server(site: &Site, text: &mut Text) {
    text.open("server {");
    if let Some((certificate, key)) = &site.tls {
        text.line(format!("listen {} ssl;", site.listen))
            .line(format!("ssl_certificate {certificate};"))
            .line(format!("ssl_certificate_key {key};"))
            .line("ssl_protocols TLSv1.2 TLSv1.3;");
    } else {
        text.line(format!("listen {};", site.listen));
    }
    text.line(format!(
        "server_name {};",
        site.host.as_deref().unwrap_or("_")
    ));
    text.blank();
    text.note("The gateway's own limits, so that nginx refuses nothing that the gateway accepts. 0: no limit.");
    text.line(format!("client_max_body_size {};", site.body_bytes))
        .line(format!(
            "large_client_header_buffers 4 {}k;",
            site.head_bytes.div_ceil(1024)
        ))
        .line(format!("client_header_timeout {}s;", site.head_read));
    if site.hsts.is_some() {
        text.blank();
        text.note("`always` includes errors.");
        text.line("add_header Strict-Transport-Security $hsts_if_absent always;");
    }
    text.blank();
    if site.mount.is_empty() {
        text.open("location / {");
        proxy(site, text);
        text.close("}").close("}");
        return;
    }
    if site.is_stripped {
        bare_mount(site, text);
        text.open(format!("location ^~ {}/ {{", site.mount));
    } else {
        text.note("Whole segments: a path that only begins with the same letters is another app.");
        text.open(format!("location ~ ^{}(/|$) {{", site.mount_pattern()));
    }
    proxy(site, text);
    text.close("}").blank();
    text.open("location / {").line("return 404;").close("}");
    text.close("}");
}

/// Writes the redirect that the gateway cannot make, because the mount is removed before the request reaches it.
fn bare_mount(site: &Site, text: &mut Text) {
    if !site.redirects_bare_mount {
        return;
    }
    text.note("The gateway cannot redirect the bare mount itself, because the mount is removed before the request reaches it.");
    text.open(format!("location = {} {{", site.mount));
    text.note("Otherwise nginx would add its own port, which may differ from the public port.");
    text.line("absolute_redirect off;")
        .line(format!("return 308 {}/$is_args$args;", site.mount))
        .close("}")
        .blank();
}

fn proxy(site: &Site, text: &mut Text) {
    if site.is_stripped {
        text.line("proxy_pass http://gateway$path_of_app;");
    } else {
        text.note("Without a path here, nginx forwards the path byte for byte.");
        text.line("proxy_pass http://gateway;");
    }
    text.note("The gateway's redirects are right already.");
    text.line("proxy_redirect off;").blank();
    text.note("$http_host, not $host: Streamlit compares it with the Origin, including the port.");
    text.line("proxy_set_header Host $http_host;");
    text.note("[!] The gateway believes these headers, so they are replaced: appending would forward what the client claims.");
    let scheme = if site.behind.is_empty() {
        "$scheme"
    } else {
        "$client_scheme"
    };
    text.line("proxy_set_header X-Forwarded-For $remote_addr;")
        .line(format!("proxy_set_header X-Forwarded-Proto {scheme};"))
        .line("proxy_set_header X-Forwarded-Host $http_host;");
    if let Some(name) = &site.client_header {
        text.line(format!("proxy_set_header {name} $remote_addr;"));
    }
    text.note("[!] Removed. If nginx itself sets one of them, for example after a login, replace \"\" by its value.");
    for name in &site.removed_headers {
        text.line(format!("proxy_set_header {name} \"\";"));
    }
    text.blank();
    text.note("Streamlit's page uses a WebSocket, with a ping every 30 seconds. The gateway gives up first, and says why.");
    text.line("proxy_http_version 1.1;")
        .line("proxy_set_header Upgrade $http_upgrade;")
        .line("proxy_set_header Connection $connection_upgrade;")
        .line("proxy_connect_timeout 5s;")
        .line(format!("proxy_read_timeout {}s;", site.idle))
        .line(format!("proxy_send_timeout {}s;", site.idle))
        .blank();
    text.note("Streams uploads, downloads and slow pages.");
    text.line("proxy_request_buffering off;")
        .line("proxy_buffering off;");
    text.note("A login sets several long cookies in one response.");
    text.line("proxy_buffer_size 32k;")
        .line("proxy_buffers 8 32k;");
}
