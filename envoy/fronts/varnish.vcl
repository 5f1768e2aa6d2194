# Varnish 7 in front of the FluxLit gateway: it passes everything on and caches nothing.
#
#   varnishd -C -f FILE          (checks this file)
#   varnishd -F -f FILE -a :8080 -p http_req_size=65536 -p http_req_hdr_len=32768 \
#     -p workspace_client=262144 -p workspace_backend=262144 -p pipe_timeout=300
#
# The gateway needs these settings:
#   FLUXLIT_ROOT_PATH=/apps/my-app
#   FLUXLIT_ROOT_PATH_SHAPE=full
#   FLUXLIT_TRUST_PROXY=true
#   FLUXLIT_FORWARDED_ALLOW_IPS=127.0.0.1
#
# Change: the host and port of the gateway, its path, the public host, the size of uploads, and the addresses in `hop`.
# Varnish does not terminate TLS: put a proxy in front of it that does, such as nginx, and list its address in `hop`.
#
# [!] marks a security-relevant line; its comment says what a wrong value would allow.
vcl 4.1;

import std;

backend gateway {
    .host = "127.0.0.1";
    .port = "8000";
    .host_header = "portal.example.com";
    .connect_timeout = 5s;
    # The gateway gives up first, and says why.
    .first_byte_timeout = 300s;
    .between_bytes_timeout = 300s;
    # Takes the gateway out while it drains or its app is not ready.
    .probe = {
        .url = "/apps/my-app/api/readyz";
        .interval = 5s;
        .timeout = 2s;
        .window = 2;
        .threshold = 1;
    }
}

# [!] The proxies in front of Varnish, whose forwarded headers are believed; whoever else is listed could choose its address.
acl hop {
    "127.0.0.1";
}

sub vcl_recv {
    if (req.url !~ "^/apps/my-app([/?]|$)") {
        return (synth(404));
    }
    # [!] The gateway believes these headers, so what clients say is replaced.
    if (client.ip !~ hop) {
        set req.http.X-Forwarded-For = client.ip;
        set req.http.X-Forwarded-Proto = "http";
        set req.http.X-Forwarded-Host = req.http.Host;
        # [!] A user that only a login in front of Varnish may name: the headers of FLUXLIT_TRUSTED_PASS_HEADERS.
        unset req.http.X-Auth-Email;
    } else {
        # Varnish has appended the address of the hop to what the hop has sent.
        set req.http.X-Forwarded-For = regsub(req.http.X-Forwarded-For, ", [^,]*$", "");
    }
    unset req.http.Forwarded;
    unset req.http.X-Forwarded-Port;
    unset req.http.X-Forwarded-Prefix;
    # The gateway's own limit. Varnish would read the whole upload before it forwards the gateway's response.
    if (std.integer(req.http.Content-Length, 0) > 268435456) {
        return (synth(413));
    }
    # Streamlit's page uses a WebSocket, with a ping every 30 seconds.
    if (req.http.Upgrade ~ "(?i)^websocket$") {
        return (pipe);
    }
    return (pass);
}

sub vcl_pipe {
    set bereq.http.Upgrade = req.http.Upgrade;
    set bereq.http.Connection = req.http.Connection;
}
