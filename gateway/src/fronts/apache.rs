//! Prints the configuration of Apache httpd.
//!
//! WebSockets need `upgrade=websocket`, which version 2.4.47 introduced.

use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns the whole configuration, which can be used alone or as a site of an existing one.
pub(super) fn text(site: &Site) -> String {
    let mut text = Text::new("    ");
    let commands = if site.needs_no_privileges() {
        [
            "apache2 -d FOLDER -t -f FILE            (checks this file; on some systems the program is httpd)",
            "apache2 -d FOLDER -DFOREGROUND -f FILE  (alone; or a2ensite, without the `Listen` lines that are in ports.conf already)",
        ]
    } else {
        [
            "apache2 -t -f FILE            (checks this file; on some systems the program is httpd)",
            "apache2 -DFOREGROUND -f FILE  (alone; or a2ensite, without the `Listen` lines that are in ports.conf already)",
        ]
    };
    site.heading(
        &mut text,
        "Apache httpd (2.4.47 or later) in front of the FluxLit gateway, as `fluxlit-gateway config --for apache` prints it.",
        &commands,
    );
    modules(site, &mut text);
    text.line(format!("Listen {}", site.listen));
    if let (Some(listen), Some(origin)) = (site.listen_http, site.https_origin()) {
        text.line(format!("Listen {listen}")).blank();
        text.open(format!("<VirtualHost *:{}>", listen.port()));
        server_name(site, &mut text);
        text.note("[!] A fixed name: with that of the request, a forged Host would choose where browsers go.");
        text.line(format!("Redirect 308 \"/\" \"{origin}/\""))
            .close("</VirtualHost>");
    }
    text.blank();
    text.open(format!("<VirtualHost *:{}>", site.listen.port()));
    server_name(site, &mut text);
    if let Some((certificate, key)) = &site.tls {
        text.line("SSLEngine on")
            .line(format!("SSLCertificateFile {certificate}"))
            .line(format!("SSLCertificateKeyFile {key}"))
            .line("SSLProtocol -all +TLSv1.2 +TLSv1.3");
    }
    text.blank();
    limits(site, &mut text);
    headers(site, &mut text);
    proxy(site, &mut text);
    text.close("</VirtualHost>");
    text.finish()
}

/// Loads what is not loaded yet.
fn modules(site: &Site, text: &mut Text) {
    text.note(
        "Change the folder if modules are elsewhere. What is loaded already is not loaded again.",
    );
    text.line("Define FLUXLIT_MODULES /usr/lib/apache2/modules");
    text.open("<IfModule !mpm_event_module>")
        .open("<IfModule !mpm_worker_module>")
        .open("<IfModule !mpm_prefork_module>")
        .line("LoadModule mpm_event_module ${FLUXLIT_MODULES}/mod_mpm_event.so")
        .line("User www-data")
        .line("Group www-data");
    if site.needs_no_privileges() {
        let files = format!("apache-{}", site.listen.port());
        text.note("These ports need no privileges, so Apache can be started by any user: its files are in the folder of the option `-d`.");
        text.line("DefaultRuntimeDir .")
            .line(format!("PidFile {files}.pid"))
            .line(format!("ErrorLog {files}.log"));
    } else {
        text.line("PidFile /run/apache2-fluxlit.pid")
            .line("ErrorLog /var/log/apache2/error.log");
    }
    text.line("ServerName localhost");
    text.note("Each open page occupies a thread for its WebSocket.");
    text.line("ServerLimit 40")
        .line("ThreadsPerChild 25")
        .line("MaxRequestWorkers 1000")
        .close("</IfModule>")
        .close("</IfModule>")
        .close("</IfModule>");
    let tls = site.tls.as_ref().map(|_| {
        [
            ("socache_shmcb_module", "mod_socache_shmcb"),
            ("ssl_module", "mod_ssl"),
        ]
    });
    let hop = (!site.behind.is_empty()).then_some(("remoteip_module", "mod_remoteip"));
    for (module, file) in [
        ("alias_module", "mod_alias"),
        ("authz_core_module", "mod_authz_core"),
        ("headers_module", "mod_headers"),
        ("proxy_module", "mod_proxy"),
        ("proxy_http_module", "mod_proxy_http"),
        ("reqtimeout_module", "mod_reqtimeout"),
        ("rewrite_module", "mod_rewrite"),
        ("setenvif_module", "mod_setenvif"),
    ]
    .into_iter()
    .chain(tls.into_iter().flatten())
    .chain(hop)
    {
        text.open(format!("<IfModule !{module}>"))
            .line(format!(
                "LoadModule {module} ${{FLUXLIT_MODULES}}/{file}.so"
            ))
            .close("</IfModule>");
    }
    text.blank();
}

fn server_name(site: &Site, text: &mut Text) {
    text.line(format!(
        "ServerName {}",
        site.host.as_deref().unwrap_or("localhost")
    ));
}

fn limits(site: &Site, text: &mut Text) {
    text.note("The gateway's own limits, so that Apache refuses nothing that the gateway accepts. 0: no limit.");
    if site.body_bytes > 0 {
        text.line("RewriteEngine On")
            .line(format!(
                "RewriteCond expr \"%{{HTTP:Content-Length}} -gt {}\"",
                site.body_bytes
            ))
            .line("RewriteRule \"^\" \"-\" [R=413,L]");
    }
    text.line(format!("LimitRequestBody {}", site.body_bytes))
        .line(format!("LimitRequestFieldSize {}", site.head_bytes))
        .line(format!("LimitRequestFields {}", site.fields))
        .line("LimitRequestLine 16384");
    text.note("A head must arrive in time; an upload may take long.");
    text.line(format!(
        "RequestReadTimeout header={} body=0",
        site.head_read
    ));
    text.note("%2F in a path is the gateway's to judge.");
    text.line("AllowEncodedSlashes NoDecode").blank();
}

fn headers(site: &Site, text: &mut Text) {
    let scheme = if site.behind.is_empty() {
        "RequestHeader set X-Forwarded-Proto \"expr=%{REQUEST_SCHEME}\""
    } else {
        text.note(
            "[!] Only these addresses may name the client: any other could choose its own address.",
        );
        text.line("RemoteIPHeader X-Forwarded-For");
        let mut condition = Vec::new();
        for network in &site.behind {
            text.line(format!("RemoteIPTrustedProxy {network}"));
            condition.push(format!("%{{CONN_REMOTE_ADDR}} -ipmatch '{network}'"));
        }
        text.note("[!] The scheme that the hop reports; that of any other sender is replaced.");
        text.line(format!(
            "RequestHeader set X-Forwarded-Proto \"expr=%{{REQUEST_SCHEME}}\" \"expr=!({})\"",
            condition.join(" || ")
        ));
        ""
    };
    text.note("Streamlit compares Host with the Origin.");
    text.line("ProxyPreserveHost On");
    text.note("[!] The gateway believes these headers, so they are replaced: Apache's own way would append to what the client claims.");
    text.line("ProxyAddHeaders Off");
    if !scheme.is_empty() {
        text.line(scheme);
    }
    text.line("RequestHeader set X-Forwarded-For \"expr=%{REMOTE_ADDR}\"")
        .line("RequestHeader set X-Forwarded-Host \"expr=%{HTTP_HOST}\"");
    if let Some(name) = &site.client_header {
        text.line(format!(
            "RequestHeader set {name} \"expr=%{{REMOTE_ADDR}}\""
        ));
    }
    text.note("[!] Removed. If Apache itself sets one of them, for example after a login, set it after these lines.");
    for name in &site.removed_headers {
        text.line(format!("RequestHeader unset {name}"));
    }
    if let Some(hsts) = &site.hsts {
        text.note("Only for responses that have none, such as Apache's own errors: it must never be sent twice.");
        text.line(format!(
            "Header always set Strict-Transport-Security \"{hsts}\" \"expr=-z resp('Strict-Transport-Security')\""
        ));
    }
    text.blank();
}

fn proxy(site: &Site, text: &mut Text) {
    let mount = &site.mount;
    if site.is_stripped && site.redirects_bare_mount {
        text.note("The gateway cannot redirect the bare mount itself, because the mount is removed before the request reaches it.");
        let origin = site.origin.as_deref().unwrap_or_default();
        text.line(format!(
            "RedirectMatch 308 \"^{}$\" \"{origin}{mount}/\"",
            site.mount_pattern()
        ));
    }
    if !mount.is_empty() {
        text.note("Everything else. Whole segments: a path that only begins with the same letters is another app.");
        text.line(format!(
            "RedirectMatch 404 \"^/(?!{}(/|$))\"",
            site.mount_pattern().trim_start_matches('/')
        ));
    }
    let (from, to) = match (mount.as_str(), site.is_stripped) {
        ("", _) => ("/".to_owned(), "/".to_owned()),
        (mount, true) => (format!("{mount}/"), "/".to_owned()),
        (mount, false) => (mount.to_owned(), mount.to_owned()),
    };
    text.note("upgrade: forwards WebSockets. nocanon: the path byte for byte. flushpackets: streams downloads and slow pages.\n\
               timeout: the gateway gives up first, and says why; Streamlit sends a ping every 30 seconds.\n\
               ttl: shorter than the gateway keeps an idle connection, so that none is used while it is being closed.");
    text.line(format!(
        "ProxyPass \"{from}\" \"http://{}{to}\" nocanon upgrade=websocket flushpackets=on connectiontimeout=5 timeout={} ttl={} retry=0",
        site.gateway(),
        site.idle,
        site.keep_alive
    ));
    text.line(format!("ProxyTimeout {}", site.idle));
}
