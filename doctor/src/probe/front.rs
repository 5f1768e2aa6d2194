//! Recognizes which hop has answered, by its `Server` field and by the form of its error pages.

use crate::client::Response;

/// A program that answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    Gateway,
    Streamlit,
    Nginx,
    Envoy,
    Istio,
    Traefik,
    Caddy,
    HaProxy,
    Apache,
    LoadBalancer,
    Cdn,
    Unknown,
}

impl Hop {
    /// Recognizes the hop that has made a response. A response that was passed on counts as made by the hop behind.
    pub(crate) fn of(response: &Response) -> Self {
        let text = response.text();
        let page = |part: &str| text.contains(part);
        if is_of_gateway(response) {
            return Self::Gateway;
        }
        // Go's server answers requests that it cannot read before any configuration applies.
        let is_of_go = text.starts_with(&format!("{} ", response.status))
            || text.starts_with("Unsupported transfer encoding");
        if response.status >= 400
            && is_of_go
            && response.first("content-type").starts_with("text/plain")
        {
            return Self::Traefik;
        }
        let by_page = [
            ("<center>nginx", Self::Nginx),
            ("<center>openresty", Self::Nginx),
            ("upstream connect error or disconnect", Self::Envoy),
            ("no healthy upstream", Self::Envoy),
            ("upstream request timeout", Self::Envoy),
            (
                "No server is available to handle this request",
                Self::HaProxy,
            ),
            ("<html><body><h1>4", Self::HaProxy),
            ("<html><body><h1>5", Self::HaProxy),
            ("<address>Apache", Self::Apache),
            ("-//IETF//DTD HTML 2.0//EN", Self::Apache),
            ("404 page not found", Self::Traefik),
            ("cloudflare", Self::Cdn),
        ];
        let found = by_page
            .into_iter()
            .find(|(part, _)| response.status >= 400 && page(part));
        if let Some((_, hop)) = found {
            return if hop == Self::Envoy && is_istio(response) {
                Self::Istio
            } else {
                hop
            };
        }
        let server = Self::of_server(&response.first("server"));
        // Streamlit refuses a handshake with an empty response; nginx adds its name to that, but has a page for its own.
        if response.status == 403 && text.is_empty() && server == Some(Self::Nginx) {
            return Self::Streamlit;
        }
        server.unwrap_or_else(|| {
            let is_plain = response.first("content-type").starts_with("text/plain");
            let is_terse = matches!(
                text.trim(),
                "Bad Gateway"
                    | "Gateway Timeout"
                    | "Service Unavailable"
                    | "Not Found"
                    | "Forbidden"
            );
            if is_plain
                && is_terse
                && response.first("x-content-type-options") != "nosniff"
                && response.status >= 502
            {
                Self::Traefik
            } else if response.status == 403 && text.is_empty()
                || is_plain && is_terse && response.status == 404
            {
                Self::Streamlit
            } else {
                Self::Unknown
            }
        })
    }

    /// Recognizes a hop by the `Server` field.
    pub(crate) fn of_server(server: &str) -> Option<Self> {
        let server = server.to_ascii_lowercase();
        let known = [
            ("istio-envoy", Self::Istio),
            ("envoy", Self::Envoy),
            ("nginx", Self::Nginx),
            ("openresty", Self::Nginx),
            ("caddy", Self::Caddy),
            ("apache", Self::Apache),
            ("awselb", Self::LoadBalancer),
            ("google", Self::LoadBalancer),
            ("microsoft-azure", Self::LoadBalancer),
            ("cloudflare", Self::Cdn),
            ("cloudfront", Self::Cdn),
            ("akamai", Self::Cdn),
            ("uvicorn", Self::Streamlit),
            ("tornado", Self::Streamlit),
        ];
        let found = known.into_iter().find(|(name, _)| server.contains(name));
        found.map(|(_, hop)| hop)
    }

    /// Returns true if the errors for requests that the program cannot read have only the fields of its own: no
    /// configuration adds any.
    pub(crate) fn has_fixed_errors(self) -> bool {
        matches!(self, Self::Caddy | Self::HaProxy | Self::Traefik)
    }

    /// Returns the name for a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "the FluxLit gateway or filter",
            Self::Streamlit => "Streamlit",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Istio => "Istio's Envoy",
            Self::Traefik => "a Go proxy such as Traefik",
            Self::Caddy => "Caddy",
            Self::HaProxy => "HAProxy",
            Self::Apache => "Apache",
            Self::LoadBalancer => "a cloud load balancer",
            Self::Cdn => "a CDN",
            Self::Unknown => "a hop that does not say its name",
        }
    }
}

/// A cure: what to do, and the line to write for each front.
pub(crate) struct Cure {
    pub(crate) what: &'static str,
    pub(crate) lines: &'static [(Hop, &'static str)],
}

impl Cure {
    /// Returns the hint: with the line of the front if it is known, otherwise with the lines of all.
    pub(crate) fn hint(&self, front: Hop) -> String {
        let own = self.lines.iter().find(|(hop, _)| *hop == front);
        let lines: Vec<String> = match own {
            Some((hop, line)) => vec![format!("{}: {line}", short(*hop))],
            None => self
                .lines
                .iter()
                .map(|(hop, line)| format!("{}: {line}", short(*hop)))
                .collect(),
        };
        if lines.is_empty() {
            self.what.to_owned()
        } else {
            format!("{}. {}", self.what, lines.join(" | "))
        }
    }
}

fn short(hop: Hop) -> &'static str {
    match hop {
        Hop::Gateway => "gateway",
        Hop::Istio => "Istio",
        Hop::Traefik => "Traefik",
        Hop::LoadBalancer => "AWS ALB",
        other => other.name(),
    }
}

fn is_of_gateway(response: &Response) -> bool {
    let id = response.first("x-request-id");
    let text = response.text();
    !id.is_empty() && text.contains(&format!("Request {id}"))
        || text.starts_with("The app is published at this path with a trailing slash")
        || text.starts_with("This app is published under another path")
}

fn is_istio(response: &Response) -> bool {
    response.first("server").starts_with("istio")
}

pub(crate) const UPGRADE: Cure = Cure {
    what: "let the front pass the WebSocket handshake on over HTTP/1.1, with `Upgrade` and `Connection`",
    lines: &[
        (
            Hop::Nginx,
            "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";",
        ),
        (
            Hop::Envoy,
            "upgrade_configs: [{upgrade_type: websocket}] in the HttpConnectionManager",
        ),
        (
            Hop::Istio,
            "no h2UpgradePolicy: UPGRADE for this host, and appProtocol: http (not http2) on the Service port",
        ),
        (
            Hop::Traefik,
            "no headers middleware that sets Connection or Upgrade, and no HTTP/2 (h2c) to the service",
        ),
        (
            Hop::Caddy,
            "reverse_proxy without `header_up -Upgrade` or `header_up Connection`, and `transport http { versions 1.1 }`",
        ),
        (
            Hop::HaProxy,
            "no `http-request del-header Upgrade`, and no `proto h2` on the server line",
        ),
        (
            Hop::Apache,
            "ProxyPass \"/apps/my-app\" \"http://127.0.0.1:8000/apps/my-app\" upgrade=websocket",
        ),
        (
            Hop::LoadBalancer,
            "target group with protocol version HTTP1, not HTTP2 or gRPC",
        ),
    ],
};

pub(crate) const HOST: Cure = Cure {
    what: "let the front pass the public Host on unchanged, with its port",
    lines: &[
        (Hop::Nginx, "proxy_set_header Host $http_host;"),
        (
            Hop::Envoy,
            "no host_rewrite_literal, auto_host_rewrite or host_rewrite_header in the route",
        ),
        (Hop::Istio, "no rewrite.authority in the VirtualService"),
        (Hop::Traefik, "loadBalancer.passHostHeader: true"),
        (
            Hop::Caddy,
            "no `header_up Host {upstream_hostport}` in reverse_proxy",
        ),
        (Hop::HaProxy, "no `http-request set-header Host`"),
        (Hop::Apache, "ProxyPreserveHost On"),
        (
            Hop::LoadBalancer,
            "routing.http.preserve_host_header.enabled = true",
        ),
    ],
};

pub(crate) const ROUTE: Cure = Cure {
    what: "route the whole mount, `/_stcore/` and the socket included, to the same app, and remove the mount once or never",
    lines: &[
        (
            Hop::Nginx,
            "location /apps/my-app/ { proxy_pass http://127.0.0.1:8000; } (no path after the port, and no `rewrite`)",
        ),
        (
            Hop::Envoy,
            "match: {path_separated_prefix: /apps/my-app}, no prefix_rewrite, and upstream_path of the FluxLit filter as the app expects it: full or stripped",
        ),
        (Hop::Istio, "match: [{uri: {prefix: /apps/my-app/}}]"),
        (
            Hop::Traefik,
            "rule: PathPrefix(`/apps/my-app`), with at most one stripPrefix middleware and no addPrefix",
        ),
        (
            Hop::Caddy,
            "handle /apps/my-app/* { reverse_proxy 127.0.0.1:8000 }, without `rewrite` and `uri strip_prefix`",
        ),
        (
            Hop::HaProxy,
            "acl app path_beg /apps/my-app/, and no `http-request replace-path` or `set-path`",
        ),
        (
            Hop::Apache,
            "ProxyPass \"/apps/my-app/\" \"http://127.0.0.1:8000/apps/my-app/\" upgrade=websocket",
        ),
        (
            Hop::LoadBalancer,
            "a rule with the path patterns /apps/my-app and /apps/my-app/*",
        ),
    ],
};

pub(crate) const BOUNDARY: Cure = Cure {
    what: "match whole path segments",
    lines: &[
        (Hop::Nginx, "location ~ ^/apps/my-app(/|$)"),
        (Hop::Envoy, "path_separated_prefix: /apps/my-app"),
        (
            Hop::Istio,
            "two matches: exact /apps/my-app, prefix /apps/my-app/",
        ),
        (
            Hop::Traefik,
            "rule: Path(`/apps/my-app`) || PathPrefix(`/apps/my-app/`)",
        ),
        (Hop::Caddy, "handle /apps/my-app /apps/my-app/*"),
        (
            Hop::HaProxy,
            "acl app path /apps/my-app; acl app path_beg /apps/my-app/",
        ),
        (
            Hop::Apache,
            "ProxyPass \"/apps/my-app\" \"http://127.0.0.1:8000/apps/my-app\" upgrade=websocket",
        ),
    ],
};

pub(crate) const FORWARDED: Cure = Cure {
    what: "let the front replace the forwarded headers of clients, and list the front's address in FLUXLIT_FORWARDED_ALLOW_IPS",
    lines: &[
        (
            Hop::Nginx,
            "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host \"\";",
        ),
        (
            Hop::Envoy,
            "use_remote_address: true, xff_num_trusted_hops: 0, and forwarded_allow_ips of the FluxLit filter only for the proxies in front",
        ),
        (
            Hop::Istio,
            "gatewayTopology.numTrustedProxies = the number of proxies in front",
        ),
        (
            Hop::Traefik,
            "no forwardedHeaders.insecure; forwardedHeaders.trustedIPs = the proxies in front",
        ),
        (Hop::Caddy, "trusted_proxies only for the proxies in front"),
        (
            Hop::HaProxy,
            "http-request set-header X-Forwarded-Proto https if { ssl_fc }; http-request set-header X-Forwarded-For %[src]",
        ),
        (
            Hop::Apache,
            "RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME}; RequestHeader unset X-Forwarded-Host early",
        ),
    ],
};

pub(crate) const ERROR_PAGES: Cure = Cure {
    what: "let the front pass the status 404 on: Streamlit's page needs it to find its base path",
    lines: &[
        (
            Hop::Nginx,
            "proxy_intercept_errors off; and no `try_files ... /index.html` or `error_page 404 =200` for the app",
        ),
        (Hop::Envoy, "no local_reply_config that maps 404 to 200"),
        (Hop::Traefik, "no `errors` middleware with status 404"),
        (
            Hop::Caddy,
            "no `handle_response` or `handle_errors` for 404",
        ),
        (Hop::HaProxy, "no `http-response set-status 200` for 404"),
        (Hop::Apache, "ProxyErrorOverride Off"),
    ],
};

pub(crate) const IDLE: Cure = Cure {
    what: "raise the time limit for idle connections, for the WebSocket at least, to an hour",
    lines: &[
        (
            Hop::Nginx,
            "proxy_read_timeout 3600s; proxy_send_timeout 3600s;",
        ),
        (
            Hop::Envoy,
            "timeout: 0s and idle_timeout: 3600s in the route of the WebSocket (upgrade_configs), stream_idle_timeout: 3600s",
        ),
        (
            Hop::Istio,
            "timeout: 0s in the VirtualService's route, idleTimeout in the DestinationRule",
        ),
        (
            Hop::Traefik,
            "entryPoints.web.transport.respondingTimeouts.readTimeout = 0",
        ),
        (
            Hop::Caddy,
            "no stream_timeout in reverse_proxy; stream_close_delay for reloads",
        ),
        (Hop::HaProxy, "timeout tunnel 1h"),
        (
            Hop::Apache,
            "ProxyTimeout 3600 (or timeout=3600 in ProxyPass)",
        ),
        (Hop::LoadBalancer, "idle_timeout.timeout_seconds = 3600"),
    ],
};

pub(crate) const RELOAD: Cure = Cure {
    what: "reload the front so that it leaves open WebSockets to the old configuration, and drain the app before it is replaced",
    lines: &[
        (
            Hop::Nginx,
            "no worker_shutdown_timeout (or of hours), and `nginx -s reload` instead of a restart (ingress-nginx: worker-shutdown-timeout, and no reload for each change of an endpoint)",
        ),
        (
            Hop::Envoy,
            "change routes by RDS and clusters by CDS, which leaves connections alone; for listeners and hot restarts, --drain-time-s and --parent-shutdown-time-s of hours",
        ),
        (
            Hop::Istio,
            "proxy.istio.io/config: terminationDrainDuration, and no EnvoyFilter that changes the listener during the day",
        ),
        (
            Hop::Traefik,
            "change the dynamic configuration, which leaves connections alone, instead of the static one, which needs a restart",
        ),
        (
            Hop::Caddy,
            "stream_close_delay 1h in reverse_proxy: without it, each `caddy reload` closes WebSockets",
        ),
        (
            Hop::HaProxy,
            "no hard-stop-after (or of hours), and a reload of the master process instead of a restart",
        ),
        (
            Hop::Apache,
            "`apachectl graceful` instead of `apachectl restart`",
        ),
        (
            Hop::LoadBalancer,
            "deregistration_delay.timeout_seconds = 3600",
        ),
    ],
};

pub(crate) const BODY: Cure = Cure {
    what: "raise the limit for request bodies to Streamlit's server.maxUploadSize (200 MB) and a little more",
    lines: &[
        (
            Hop::Nginx,
            "client_max_body_size 210m; (ingress-nginx: nginx.ingress.kubernetes.io/proxy-body-size: 210m)",
        ),
        (
            Hop::Envoy,
            "max_request_bytes: 220200960 in the buffer filter, or no buffer filter",
        ),
        (
            Hop::Istio,
            "no EnvoyFilter with a buffer filter for this route",
        ),
        (Hop::Traefik, "buffering.maxRequestBodyBytes: 220200960"),
        (Hop::Caddy, "request_body { max_size 210MB }"),
        (
            Hop::HaProxy,
            "no `http-request deny` on req.hdr(content-length) below 220200960",
        ),
        (Hop::Apache, "LimitRequestBody 220200960"),
        (
            Hop::Gateway,
            "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES=220200960",
        ),
    ],
};

pub(crate) const HEADER_SIZE: Cure = Cure {
    what: "raise the limit for request headers, or send fewer cookies to the app (FLUXLIT_DROP_COOKIES, a server-side session in the auth proxy)",
    lines: &[
        (Hop::Nginx, "large_client_header_buffers 8 64k;"),
        (Hop::Envoy, "max_request_headers_kb: 96"),
        (
            Hop::Traefik,
            "entryPoints.web.http.maxHeaderBytes = 1048576",
        ),
        (Hop::Caddy, "servers { max_header_size 1MB }"),
        (Hop::HaProxy, "tune.bufsize 65536; tune.http.maxhdr 256"),
        (Hop::Apache, "LimitRequestFieldSize 65536"),
        (
            Hop::Gateway,
            "FLUXLIT_GATEWAY_MAX_HEADER_BYTES=131072, FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES=65536",
        ),
    ],
};

pub(crate) const STREAMLIT_HEADERS: Cure = Cure {
    what: "start Streamlit with WEBSOCKETS_MAX_LINE_LENGTH=65536 and WEBSOCKETS_MAX_NUM_HEADERS=256 in its environment (`fluxlit-gateway run app.py` does), and drop cookies that it does not need with FLUXLIT_DROP_COOKIES",
    lines: &[],
};

pub(crate) const AFFINITY: Cure = Cure {
    what: "let the front send all requests of a browser to one replica, by a cookie whose Path covers the mount",
    lines: &[
        (
            Hop::Nginx,
            "ip_hash; in the upstream (nginx Plus: sticky cookie affinity; ingress-nginx: nginx.ingress.kubernetes.io/affinity: cookie)",
        ),
        (
            Hop::Envoy,
            "hash_policy: [{cookie: {name: affinity, ttl: 0s, path: /apps/my-app}}] with lb_policy: RING_HASH",
        ),
        (
            Hop::Istio,
            "trafficPolicy.loadBalancer.consistentHash.httpCookie in the DestinationRule",
        ),
        (Hop::Traefik, "loadBalancer.sticky.cookie: {name: affinity}"),
        (Hop::Caddy, "lb_policy cookie affinity"),
        (
            Hop::HaProxy,
            "cookie affinity insert indirect nocache, and `cookie NAME` on each server line",
        ),
        (Hop::Apache, "ProxySet stickysession=affinity"),
        (
            Hop::LoadBalancer,
            "stickiness.enabled = true, stickiness.type = lb_cookie",
        ),
    ],
};

pub(crate) const COOKIES: Cure = Cure {
    what: "let the front pass `/_stcore/health` to the app, and its Set-Cookie back as it is: no hop may encode or quote it",
    lines: &[
        (
            Hop::Nginx,
            "no `proxy_hide_header Set-Cookie`, no proxy_cache, and no `return` for this path",
        ),
        (
            Hop::Envoy,
            "no set-cookie in response_headers_to_remove, no direct_response for this path, and no Lua filter that changes cookies",
        ),
        (
            Hop::Traefik,
            "no Set-Cookie in customResponseHeaders, and no plugin that changes cookies",
        ),
        (
            Hop::Caddy,
            "no `header_down Set-Cookie`, and no `respond` for this path",
        ),
        (
            Hop::HaProxy,
            "no `http-response` rule for Set-Cookie, and no `http-request return` for this path",
        ),
        (
            Hop::Apache,
            "no `Header unset Set-Cookie` or `Header edit Set-Cookie`",
        ),
    ],
};

pub(crate) const COOKIE_PATH: Cure = Cure {
    what: "set FLUXLIT_COOKIE_PATH=confine in every app of this host, and publish none at its root. Without the gateway, the front can confine cookies",
    lines: &[
        (Hop::Nginx, "proxy_cookie_path / /apps/my-app/;"),
        (
            Hop::Caddy,
            "header_down Set-Cookie \"Path=/(;|$)\" \"Path=/apps/my-app/$1\"",
        ),
        (
            Hop::HaProxy,
            "http-response replace-header Set-Cookie (.*)[Pp]ath=/(;.*|$) \\1Path=/apps/my-app/\\2",
        ),
        (Hop::Apache, "ProxyPassReverseCookiePath / /apps/my-app/"),
        (Hop::Envoy, "cookie_path: confine in the FluxLit filter"),
        (
            Hop::Traefik,
            "no middleware of its own changes cookies: use the gateway",
        ),
    ],
};

pub(crate) const PROTOCOL_LINE: Cure = Cure {
    what: "let the front pass Sec-WebSocket-Protocol and Sec-WebSocket-Extensions unchanged, in one line",
    lines: &[
        (
            Hop::Nginx,
            "no `proxy_set_header Sec-WebSocket-Protocol`, and no proxy_hide_header for it",
        ),
        (
            Hop::Envoy,
            "no sec-websocket-protocol in request_headers_to_remove, request_headers_to_add or response_headers_to_remove",
        ),
        (
            Hop::Traefik,
            "no Sec-WebSocket-Protocol in customRequestHeaders or customResponseHeaders",
        ),
        (
            Hop::Caddy,
            "no `header_up` or `header_down` for Sec-WebSocket-Protocol",
        ),
        (
            Hop::HaProxy,
            "no `http-request` or `http-response` rule for Sec-WebSocket-Protocol",
        ),
        (
            Hop::Apache,
            "no `RequestHeader` or `Header` for Sec-WebSocket-Protocol",
        ),
    ],
};

pub(crate) const SLASH: Cure = Cure {
    what: "redirect the mount without its slash to the one with it",
    lines: &[
        (
            Hop::Nginx,
            "location = /apps/my-app { return 308 /apps/my-app/$is_args$args; }",
        ),
        (
            Hop::Envoy,
            "match: {path: /apps/my-app}, redirect: {path_redirect: /apps/my-app/}",
        ),
        (
            Hop::Traefik,
            "a redirectRegex middleware from ^(https://[^/]+/apps/my-app)(\\?.*)?$ to ${1}/${2}",
        ),
        (Hop::Caddy, "redir /apps/my-app /apps/my-app/?{query} 308"),
        (
            Hop::HaProxy,
            "http-request redirect code 308 location /apps/my-app/?%[query] if { path /apps/my-app }",
        ),
        (
            Hop::Apache,
            "RedirectMatch 308 \"^/apps/my-app$\" \"/apps/my-app/\"",
        ),
    ],
};

pub(crate) const CACHE: Cure = Cure {
    what: "do not cache under the mount, except for /static/",
    lines: &[
        (Hop::Nginx, "proxy_cache off;"),
        (Hop::Envoy, "no cache filter for this route"),
        (
            Hop::Caddy,
            "no `cache` handler, and no `header Cache-Control`",
        ),
        (Hop::HaProxy, "no `http-request cache-use`"),
        (Hop::Apache, "CacheDisable /apps/my-app"),
        (
            Hop::Traefik,
            "no plugin that caches, and no Cache-Control in customResponseHeaders",
        ),
    ],
};

pub(crate) const HEAD: Cure = Cure {
    what: "let the front pass HEAD, or let the load balancer use GET",
    lines: &[
        (
            Hop::Nginx,
            "no `limit_except` without HEAD, and no `if ($request_method ...)`",
        ),
        (Hop::Envoy, "no route or RBAC rule on :method without HEAD"),
        (Hop::Traefik, "Method(`GET`) || Method(`HEAD`) in the rule"),
        (Hop::Caddy, "no `method GET` matcher without HEAD"),
        (Hop::HaProxy, "no `http-request deny` if { method HEAD }"),
        (
            Hop::Apache,
            "no `Require method` or `<LimitExcept>` without HEAD",
        ),
    ],
};

pub(crate) const LOGIN: Cure = Cure {
    what: "let the auth rule of the front cover `/_stcore/stream` under the mount with the session of the page, and answer it 401 without one",
    lines: &[
        (
            Hop::Nginx,
            "auth_request in the location of the whole mount, not of single paths, and `if ($http_upgrade) { return 401; }` before the redirect to the login",
        ),
        (
            Hop::Envoy,
            "ext_authz for every route, without a per-route `disabled` for the WebSocket",
        ),
        (
            Hop::Traefik,
            "the forwardAuth middleware on the router of the WebSocket too",
        ),
        (
            Hop::Caddy,
            "forward_auth before the reverse_proxy of the whole mount, and `respond 401` instead of a redirect for requests with Upgrade",
        ),
        (
            Hop::HaProxy,
            "the rule for every path of the mount, and `http-request deny deny_status 401` for requests with Upgrade before the redirect to the login",
        ),
        (
            Hop::Apache,
            "Require in <Location \"/apps/my-app\">, and no other <Location> for the WebSocket",
        ),
    ],
};

pub(crate) const HSTS: Cure = Cure {
    what: "let one hop send Strict-Transport-Security, once, on every response over TLS, errors and redirects included",
    lines: &[
        (Hop::Gateway, "FLUXLIT_HSTS=true"),
        (
            Hop::Nginx,
            "add_header Strict-Transport-Security \"max-age=31536000\" always; and proxy_hide_header Strict-Transport-Security;",
        ),
        (
            Hop::Envoy,
            "response_headers_to_add with append_action: OVERWRITE_IF_EXISTS_OR_ADD, and the same in local_reply_config",
        ),
        (
            Hop::Istio,
            "EnvoyFilter with local_reply_config for Envoy's own responses",
        ),
        (Hop::Traefik, "headers.stsSeconds: 31536000"),
        (
            Hop::Caddy,
            "header >Strict-Transport-Security \"max-age=31536000\"",
        ),
        (
            Hop::HaProxy,
            "http-after-response set-header Strict-Transport-Security \"max-age=31536000\"",
        ),
        (
            Hop::Apache,
            "Header always set Strict-Transport-Security \"max-age=31536000\"",
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hop_is_recognized_by_its_pages_before_its_server_field() {
        for (head, body, expected) in [
            (
                "HTTP/1.1 502 Bad Gateway\r\nserver: cloudflare\r\n\r\n",
                "<center>nginx/1.22</center>",
                Hop::Nginx,
            ),
            (
                "HTTP/1.1 503 No\r\nserver: envoy\r\n\r\n",
                "no healthy upstream",
                Hop::Envoy,
            ),
            (
                "HTTP/1.1 503 No\r\nserver: istio-envoy\r\n\r\n",
                "no healthy upstream",
                Hop::Istio,
            ),
            (
                "HTTP/1.1 503 No\r\n\r\n",
                "<html><body><h1>503 Service Unavailable</h1>",
                Hop::HaProxy,
            ),
            (
                "HTTP/1.1 404 No\r\n\r\n",
                "404 page not found\n",
                Hop::Traefik,
            ),
            (
                "HTTP/1.1 431 No\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n",
                "431 Request Header Fields Too Large",
                Hop::Traefik,
            ),
            (
                "HTTP/1.1 403 No\r\nserver: nginx/1.22.1\r\n\r\n",
                "",
                Hop::Streamlit,
            ),
            ("HTTP/1.1 502 No\r\nserver: Caddy\r\n\r\n", "", Hop::Caddy),
            (
                "HTTP/1.1 404 No\r\nserver: Apache/2.4\r\n\r\n",
                "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">",
                Hop::Apache,
            ),
            (
                "HTTP/1.1 431 No\r\nx-request-id: 7\r\n\r\n",
                "Too large.\nRequest 7\n",
                Hop::Gateway,
            ),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "", Hop::Streamlit),
            (
                "HTTP/1.1 418 Teapot\r\n\r\n",
                "short and stout",
                Hop::Unknown,
            ),
        ] {
            let mut response = Response::parse(head.as_bytes()).expect("a response");
            response.body = body.into();
            assert_eq!(Hop::of(&response), expected, "{head}{body}");
        }
    }

    #[test]
    fn a_hint_has_the_line_of_a_known_front_and_otherwise_all() {
        let known = HOST.hint(Hop::Nginx);
        assert!(
            known.ends_with("nginx: proxy_set_header Host $http_host;"),
            "{known}"
        );
        let unknown = HOST.hint(Hop::Unknown);
        assert!(
            unknown.contains("ProxyPreserveHost On") && unknown.contains("passHostHeader"),
            "{unknown}"
        );
    }
}
