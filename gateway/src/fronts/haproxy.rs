//! Prints the configuration of HAProxy.

use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns the whole `haproxy.cfg`.
pub(super) fn text(site: &Site) -> String {
    let mut text = Text::new("    ");
    site.heading(
        &mut text,
        "HAProxy in front of the FluxLit gateway, as `fluxlit-gateway config --for haproxy` prints it.",
        &[
            "haproxy -c -f FILE      (checks this file)",
            "haproxy -f FILE",
        ],
    );
    text.open("global");
    text.note("The head of a request must fit into a buffer. The gateway's own limit, and room for what is added.");
    text.line(format!(
        "tune.bufsize {}",
        site.head_bytes.saturating_add(HEAD_ROOM)
    ))
    .line(format!(
        "tune.http.maxhdr {}",
        site.fields.saturating_add(FIELD_ROOM)
    ));
    if site.tls.is_some() {
        text.line("ssl-default-bind-options ssl-min-ver TLSv1.2");
    }
    text.close("").blank();
    text.open("defaults")
        .line("mode http")
        .line("timeout connect 5s")
        .line(format!("timeout http-request {}s", site.head_read))
        .line("timeout http-keep-alive 75s");
    text.note("The gateway gives up first, and says why.");
    text.line(format!("timeout client {}s", site.idle))
        .line(format!("timeout server {}s", site.idle));
    text.note("For WebSockets. Streamlit sends a ping every 30 seconds.");
    text.line(format!("timeout tunnel {}s", site.idle))
        .close("")
        .blank();
    frontend(site, &mut text);
    backend(site, &mut text);
    text.finish()
}

fn frontend(site: &Site, text: &mut Text) {
    text.open("frontend edge");
    if let Some((certificate, _)) = &site.tls {
        text.note(format!("The certificate, those of its issuers and the key, in one file; the key may be in {certificate}.key instead."));
        text.line(format!(
            "bind {} ssl crt {certificate} alpn h2,http/1.1",
            site.listen
        ));
    } else {
        text.line(format!("bind {}", site.listen));
    }
    if let (Some(listen), Some(origin)) = (site.listen_http, site.https_origin()) {
        text.line(format!("bind {listen}"));
        text.note("[!] A fixed name: with the Host of the request, a forged one would choose where browsers go.");
        text.line(format!(
            "http-request redirect prefix {origin} code 308 unless {{ ssl_fc }}"
        ));
    }
    text.blank();
    if site.behind.is_empty() {
        text.note("[!] The gateway believes these headers, so they are replaced: appending would forward what the client claims.");
        text.line("http-request set-header X-Forwarded-Proto https if { ssl_fc }")
            .line("http-request set-header X-Forwarded-Proto http unless { ssl_fc }");
    } else {
        text.note(
            "[!] Only these addresses may name the client: any other could choose its own address.",
        );
        text.line(format!("acl is_from_hop src {}", site.behind.join(" ")));
        text.line("http-request set-var(txn.hop) bool(true) if is_from_hop");
        text.line("acl is_hop var(txn.hop) -m bool");
        text.line("http-request set-src req.hdr_ip(x-forwarded-for,-1) if is_hop { req.hdr(x-forwarded-for) -m found }");
        text.note("[!] The scheme that the hop reports; that of any other sender is ignored.");
        text.line("http-request set-header X-Forwarded-Proto https if !is_hop { ssl_fc }")
            .line("http-request set-header X-Forwarded-Proto http if !is_hop !{ ssl_fc }");
    }
    text.line("http-request set-header X-Forwarded-For %[src]")
        .line("http-request set-header X-Forwarded-Host %[req.hdr(host)]");
    if let Some(name) = &site.client_header {
        text.line(format!("http-request set-header {name} %[src]"));
    }
    text.note("[!] Removed. If HAProxy itself sets one of them, for example after a login, set it after these lines.");
    for name in &site.removed_headers {
        text.line(format!("http-request del-header {name}"));
    }
    text.blank();
    if site.body_bytes > 0 {
        text.note("The gateway's own limit, in bytes; the gateway applies it to bodies of unknown length.");
        text.line(format!(
            "http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {} }}",
            site.body_bytes.min(MAX_INTEGER)
        ));
    }
    if !site.mount.is_empty() {
        mount(site, text);
    }
    if let Some(hsts) = &site.hsts {
        text.blank();
        text.note("Only for responses that have none, such as HAProxy's own errors: it must never be sent twice.");
        text.line(format!(
            "http-after-response set-header Strict-Transport-Security \"{hsts}\" if {{ ssl_fc }} !{{ res.hdr(strict-transport-security) -m found }}"
        ));
    }
    text.line("default_backend gateway").close("").blank();
}

fn mount(site: &Site, text: &mut Text) {
    let mount = &site.mount;
    text.note("Whole segments: a path that only begins with the same letters is another app.");
    text.line(format!("acl is_bare_mount path {mount}"))
        .line(format!("acl is_below_mount path_beg {mount}/"));
    if site.is_stripped {
        if site.redirects_bare_mount {
            text.note("The gateway cannot redirect the bare mount itself, because the mount is removed before the request reaches it.");
            text.line(format!(
                "http-request redirect location {mount}/?%[query] code 308 if is_bare_mount {{ query,length gt 0 }}"
            ))
            .line(format!(
                "http-request redirect location {mount}/ code 308 if is_bare_mount"
            ));
        }
        text.line("http-request return status 404 content-type text/plain string \"Not found\" unless is_below_mount");
        text.line(format!(
            "http-request replace-path {}(/.*) \\1",
            site.mount_pattern()
        ));
    } else {
        text.line("http-request return status 404 content-type text/plain string \"Not found\" unless is_bare_mount or is_below_mount");
    }
}

fn backend(site: &Site, text: &mut Text) {
    text.open("backend gateway");
    text.note("Takes the gateway out while it drains or its app is not ready.");
    text.line("option httpchk")
        .line(format!(
            "http-check send meth GET uri {} ver HTTP/1.1 hdr Host {}",
            site.readiness,
            site.health_host()
        ))
        .line("http-check expect status 200");
    text.note("Shorter than the gateway keeps an idle connection, so that none is used while it is being closed.");
    text.line(format!(
        "server gateway {} check inter 5s pool-purge-delay {}s",
        site.gateway(),
        site.keep_alive
    ))
    .close("");
}

/// Bytes of a buffer beside the head of a request: `tune.maxrewrite` is half of it at most.
const HEAD_ROOM: usize = 16_384;

/// Header lines that HAProxy counts beside those of the client.
const FIELD_ROOM: usize = 28;

/// The largest number that HAProxy compares.
const MAX_INTEGER: u64 = i64::MAX as u64;
