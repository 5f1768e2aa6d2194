//! Lists what to write or remove in the configuration of each front.
//!
//! A hint is literal: after "write" it quotes lines of the configuration, and after "remove" how the lines begin that have to
//! go. `system/tests/doctor_outside.rs` mends real fronts with these lines. `127.0.0.1:8000` stands for the address of the app, which
//! the doctor does not know, and [`MOUNT`] for the mount, which the report replaces by the real one.

use crate::probe::front::Hop;

/// A cure: what to do, and the lines for each front.
pub(crate) struct Cure {
    pub(crate) what: &'static str,
    pub(crate) lines: &'static [(Hop, &'static str)],
}

impl Cure {
    /// Returns the hint: with the lines of the front if it is known, otherwise with those of all.
    pub(crate) fn hint(&self, front: Hop) -> String {
        let own = self.lines.iter().filter(|(hop, _)| *hop == front);
        let mut lines: Vec<String> = own.map(line).collect();
        if lines.is_empty() {
            lines = self.lines.iter().map(line).collect();
        }
        if lines.is_empty() {
            return self.what.to_owned();
        }
        let lines = lines.join(" | ");
        let mut remarks = Vec::new();
        if lines.contains("write `") {
            remarks.push(PLACE);
        }
        if lines.contains("8000") {
            remarks.push(ADDRESS);
        }
        let remarks = match &remarks[..] {
            [] => String::new(),
            remarks => format!(" ({})", remarks.join("; ")),
        };
        format!("{}. {lines}{remarks}", self.what)
    }
}

fn line((hop, text): &(Hop, &'static str)) -> String {
    let name = match hop {
        Hop::Gateway => "gateway",
        Hop::Istio => "Istio",
        Hop::Traefik => "Traefik",
        Hop::LoadBalancer => "AWS ALB",
        other => other.name(),
    };
    format!("{name}: {text}")
}

/// Writes the mount of the site into a hint.
pub(crate) fn with_mount(hint: &str, mount: &str) -> String {
    let root = format!("{MOUNT}/");
    hint.replace(SHORTER, &shorter(mount))
        .replace(&root, &format!("{mount}/"))
        .replace(MOUNT, if mount.is_empty() { "/" } else { mount })
}

/// Follows the lines: several programs reject a directive that is there twice.
const PLACE: &str = "a line to write takes the place of the one with the same directive for the same path, name or header, if there is one; others with that directive stay";

/// The doctor does not see where the front connects to.
const ADDRESS: &str =
    "port 8000 is an example: keep the address of the app that the line has now, if that is right";

/// The mount in the lines.
const MOUNT: &str = "/apps/my-app";

/// The place of [`shorter`] in the lines.
const SHORTER: &str = "{shorter}";

/// Names the lines of Apache for the paths above the mount.
fn shorter(mount: &str) -> String {
    let above = mount.match_indices('/').filter_map(|(end, _)| {
        let path = mount.get(..end)?;
        Some(if path.is_empty() { "/" } else { path })
    });
    let lines: Vec<String> = above
        .map(|path| format!("`ProxyPass \"{path}\"`, `ProxyPass {path} `"))
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "; the first line that matches applies, so remove one for a shorter path before it: {}",
        lines.join(", ")
    )
}

#[rustfmt::skip]
pub(crate) const UPGRADE: Cure = Cure {
    what: "let the front pass the WebSocket handshake on over HTTP/1.1, with Upgrade and Connection",
    lines: &[
        (Hop::Nginx, r#"write `proxy_http_version 1.1;`, `proxy_set_header Upgrade $http_upgrade;` and `proxy_set_header Connection "upgrade";` next to proxy_pass"#),
        (Hop::Envoy, "write `- upgrade_type: websocket` under upgrade_configs of the HttpConnectionManager"),
        (Hop::Istio, "remove `h2UpgradePolicy: UPGRADE` for this host, and write `appProtocol: http` (not http2) on the port of the Service"),
        (Hop::Traefik, "remove `Upgrade:` and `Connection:` from the headers middleware; the service must not be HTTP/2 (h2c)"),
        (Hop::Caddy, "remove `header_up -Upgrade`, `header_up -Connection` and `header_up Connection` from reverse_proxy, and `versions h2c` and `versions 2` from its transport"),
        (Hop::HaProxy, "remove `http-request del-header Upgrade`, `http-request set-header Connection`, `http-request del-header Connection`, `option httpclose` and `option forceclose`"),
        (Hop::Apache, r#"write `ProxyPass "/apps/my-app" "http://127.0.0.1:8000/apps/my-app" nocanon upgrade=websocket`, and remove `SetEnv force-proxy-request-1.0`, `SetEnv proxy-nokeepalive`, `RequestHeader unset Upgrade`, `RequestHeader set Connection` and `RequestHeader unset Connection`"#),
        (Hop::LoadBalancer, "a target group with protocol version HTTP1, not HTTP2 or gRPC"),
    ],
};

#[rustfmt::skip]
pub(crate) const SOCKET_ROUTE: Cure = Cure {
    what: "let the front route the WebSocket as all other paths of the mount, to the same address",
    lines: &[
        (Hop::Nginx, "remove `location = /apps/my-app/_stcore`, `location /apps/my-app/_stcore`, `location ^~ /apps/my-app/_stcore`, `location ~ /_stcore`, `location ~ ^/apps/my-app/_stcore` and `if ($http_upgrade`"),
        (Hop::Envoy, "remove the route that matches `/apps/my-app/_stcore/stream` or the header upgrade"),
        (Hop::Istio, "remove the match of `/apps/my-app/_stcore/stream` from the VirtualService"),
        (Hop::Traefik, "remove the router whose rule names `/apps/my-app/_stcore/stream` or the header Upgrade"),
        (Hop::Caddy, "remove `reverse_proxy @`, `reverse_proxy /`, `handle /apps/my-app/_stcore` and their matcher"),
        (Hop::HaProxy, "remove `use_backend` with its `acl`, for paths of the WebSocket or the field Upgrade"),
        (Hop::Apache, r#"remove `RewriteCond %{HTTP:Upgrade}`, `RewriteCond %{HTTP:Connection}`, the rule with ws:// that follows them (`RewriteRule /`, `RewriteRule ^`, `RewriteRule (`, `RewriteRule .`, `RewriteRule "^/`), `ProxyPass "/apps/my-app/_stcore`, `ProxyPass /apps/my-app/_stcore` and `ProxyPassMatch`"#),
    ],
};

#[rustfmt::skip]
pub(crate) const HOST: Cure = Cure {
    what: "let the front pass the public Host on unchanged, with its port",
    lines: &[
        (Hop::Nginx, "write `proxy_set_header Host $http_host;` and `proxy_set_header X-Forwarded-Host $http_host;` next to proxy_pass"),
        (Hop::Envoy, "remove `host_rewrite_literal:`, `auto_host_rewrite:` and `host_rewrite_header:` from the route"),
        (Hop::Istio, "remove `authority:` of the rewrite in the VirtualService"),
        (Hop::Traefik, "write `passHostHeader: true` in the loadBalancer of the service, and remove `X-Forwarded-Host:` from customRequestHeaders"),
        (Hop::Caddy, "remove `header_up Host` and `header_up X-Forwarded-Host` from reverse_proxy"),
        (Hop::HaProxy, "remove `http-request set-header Host`, and write `http-request set-header X-Forwarded-Host %[req.hdr(host)]`"),
        (Hop::Apache, r#"write `ProxyPreserveHost On` and `RequestHeader set X-Forwarded-Host "expr=%{HTTP_HOST}"`"#),
        (Hop::LoadBalancer, "write `routing.http.preserve_host_header.enabled = true`"),
    ],
};

#[rustfmt::skip]
pub(crate) const ORIGIN: Cure = Cure {
    what: "let no hop set, change or remove Origin: with it, the app tells its own page from those of other sites",
    lines: &[
        (Hop::Nginx, "remove `proxy_set_header Origin`"),
        (Hop::Envoy, "remove `request_headers_to_add: [{header: {key: origin` and `request_headers_to_remove: [origin]`"),
        (Hop::Istio, "remove `origin:` from the headers of the VirtualService"),
        (Hop::Traefik, "remove `Origin:` from customRequestHeaders"),
        (Hop::Caddy, "remove `header_up Origin` and `header_up -Origin` from reverse_proxy"),
        (Hop::HaProxy, "remove `http-request set-header Origin`, `http-request replace-header Origin` and `http-request del-header Origin`"),
        (Hop::Apache, "remove `RequestHeader set Origin`, `RequestHeader edit Origin` and `RequestHeader unset Origin`"),
    ],
};

#[rustfmt::skip]
pub(crate) const ROUTE: Cure = Cure {
    what: "route the whole mount, `/_stcore/`, `/static/` and the WebSocket included, to the same app, and remove the mount once or never",
    lines: &[
        (Hop::Nginx, "write `proxy_pass http://127.0.0.1:8000;` with no path after the port, and remove `rewrite` and a location of a part of the mount or for the endings of names: `location ~ ^/apps/my-app/static/`, `location /apps/my-app/static`, `location ^~ /apps/my-app/static`, `location ~ \\.`, `location ~* \\.`"),
        (Hop::Envoy, "match /apps/my-app as path_separated_prefix, remove `prefix_rewrite:` and `regex_rewrite:` from the route, and write `\"upstream_path\": \"full\"` in the FluxLit filter (stripped if the app has no mount)"),
        (Hop::Istio, "write `- uri: {prefix: /apps/my-app/}` in the match of the VirtualService, and remove `rewrite:`"),
        (Hop::Traefik, "write ``PathPrefix(`/apps/my-app/`)`` in the rule, and remove `stripPrefix`, `addPrefix` and `replacePathRegex` from its middlewares (at most one stripPrefix, if the app has no mount)"),
        (Hop::Caddy, "write `@app path /apps/my-app /apps/my-app/*` and `handle @app {` around reverse_proxy, and remove `handle_path`, `rewrite`, `uri strip_prefix`, `uri strip_suffix`, `handle @static`, `try_files`, `file_server`, `respond @`, `respond /` and `error @`"),
        (Hop::HaProxy, "remove `http-request replace-path`, `http-request replace-uri`, `http-request set-path`, `http-request set-uri`, `http-request return status 200` and `use_backend` for a part of the mount or for the endings of names; every path that begins with /apps/my-app/ must reach the backend"),
        (Hop::Apache, r#"write `ProxyPass "/apps/my-app" "http://127.0.0.1:8000/apps/my-app" nocanon upgrade=websocket`, and remove `ProxyPassMatch`, `ProxyPass / !`, `ProxyPass "/" !`, `Alias`, `RewriteRule /`, `RewriteRule ^`, `RewriteRule (`, `RewriteRule "^/`, also `RewriteCond %` before them, and each ProxyPass of a part of the mount, such as `ProxyPass "/apps/my-app/static`, `ProxyPass /apps/my-app/static`, `ProxyPass "/apps/my-app/_stcore` and `ProxyPass /apps/my-app/_stcore`{shorter}"#),
        (Hop::LoadBalancer, "a rule with the path patterns /apps/my-app and /apps/my-app/*"),
    ],
};

#[rustfmt::skip]
pub(crate) const SAME_PAGE: Cure = Cure {
    what: "let the front pass the mount to the app, and answer none of its paths itself",
    lines: &[
        (Hop::Nginx, "write `proxy_pass http://127.0.0.1:8000;` in the location of the mount, and remove `return 200`, `try_files`, `rewrite`, `error_page`, `if (-f`, `if (-e` and `location @maintenance`"),
        (Hop::Envoy, "remove `- match:` with `direct_response: {status: 200` in it"),
        (Hop::Istio, "remove `directResponse:` from the VirtualService"),
        (Hop::Traefik, "remove the router with a higher priority whose rule matches the mount too"),
        (Hop::Caddy, "write `reverse_proxy 127.0.0.1:8000`, and remove `respond` next to `reverse_proxy`, `respond @`, `respond *`, `respond /`, `rewrite *`, `try_files` and `file_server`"),
        (Hop::HaProxy, "remove `http-request return status 200` and `use_backend` for these paths"),
        (Hop::Apache, r#"write `ProxyPass "/apps/my-app" "http://127.0.0.1:8000/apps/my-app" nocanon upgrade=websocket`, and remove `ProxyPass "/apps/my-app" !`, `ProxyPass /apps/my-app !`, `RewriteRule ^/`, `RewriteRule ^(`, `RewriteRule .`, `RewriteRule (`, `RewriteRule "^/`, also `RewriteCond %` before them, `Alias`, `FallbackResource` and `ErrorDocument`"#),
        (Hop::LoadBalancer, "remove the rule with a fixed response for these paths"),
        (Hop::Cdn, "switch its page for maintenance off"),
    ],
};

#[rustfmt::skip]
pub(crate) const PATH_AS_SENT: Cure = Cure {
    what: "let the front pass the path on as it is, with its percent-encoding",
    lines: &[
        (Hop::Nginx, "write `proxy_pass http://127.0.0.1:8000;` with no path or variable after the port, and remove `rewrite`"),
        (Hop::Envoy, "remove `- name: lua` if its script changes the path"),
        (Hop::HaProxy, "remove `http-request set-path`, `http-request set-uri` and `http-request replace-path`"),
    ],
};

#[rustfmt::skip]
pub(crate) const CASE: Cure = Cure {
    what: "let the front pass the path on in the case in which it was sent: Streamlit's files have capital letters in their names",
    lines: &[
        (Hop::Nginx, "remove `rewrite` and `proxy_pass` with a variable that perl, njs or Lua has made lower-case"),
        (Hop::Envoy, "remove `- name: lua` if its script changes the path"),
        (Hop::HaProxy, "remove `http-request set-path %[path,lower`, `http-request set-uri %[url,lower` and `http-request set-pathq %[pathq,lower`"),
        (Hop::Apache, r#"remove `RewriteMap` with int:tolower, and what uses it: `RewriteRule ^/`, `RewriteRule ^(`, `RewriteRule "^/`"#),
    ],
};

#[rustfmt::skip]
pub(crate) const BOUNDARY: Cure = Cure {
    what: "match whole path segments, the mount without its slash included",
    lines: &[
        (Hop::Nginx, "write `location ~ ^/apps/my-app(/|$)` around proxy_pass, which has no path after the port there"),
        (Hop::Envoy, "write `path_separated_prefix: /apps/my-app` in the match of the route"),
        (Hop::Istio, "write `- uri: {exact: /apps/my-app}` and `- uri: {prefix: /apps/my-app/}` in the match of the VirtualService"),
        (Hop::Traefik, "write ``(Path(`/apps/my-app`) || PathPrefix(`/apps/my-app/`))`` in the rule"),
        (Hop::Caddy, "write `@app path /apps/my-app /apps/my-app/*` and `handle @app {`. If a `handle_path /apps/my-app/*` removes the mount, keep it, and write `redir /apps/my-app /apps/my-app/?{query} 308` before it"),
        (Hop::HaProxy, "write `acl is_bare_mount path /apps/my-app`, `acl is_below_mount path_beg /apps/my-app/`, and in the rules with them `is_bare_mount or is_below_mount`"),
        (Hop::Apache, r#"write `ProxyPass "/apps/my-app" "http://127.0.0.1:8000/apps/my-app"`, with nocanon upgrade=websocket after it"#),
    ],
};

/// Follows the hint of a path that the app's side does not know.
pub(crate) const SHAPE: &str = ". If the front passes the path on as it is, write `FLUXLIT_ROOT_PATH_SHAPE=full` in the settings of the gateway";

/// For a redirect with which nginx appends the slash itself.
pub(crate) const OWN_REDIRECT: &str = ". If a line does so, remove `rewrite ^/apps/my-app`. Or, to keep either: write `absolute_redirect off;` in the server";

#[rustfmt::skip]
pub(crate) const REDIRECT: Cure = Cure {
    what: "let the front redirect nothing under the mount that arrives over https",
    lines: &[
        (Hop::Nginx, "remove `return 301`, `return 302`, `return 307`, `rewrite`, `if ($http_x_forwarded_proto`, `if ($http_upgrade`, `if ($scheme` and `if ($host` from the server with TLS"),
        (Hop::Envoy, "remove `require_tls:` from the virtual host, and the route with `redirect:`"),
        (Hop::Istio, "remove `httpsRedirect:` from the server with TLS, and `redirect:` from the VirtualService"),
        (Hop::Traefik, "remove `redirectScheme` and `redirectRegex` from the middlewares of the router"),
        (Hop::Caddy, "remove `redir /`, `redir @`, `redir *`, `redir {`, `redir https://{` and `redir http://` from the site with TLS, with their matchers, and each other redir there to a whole URL"),
        (Hop::HaProxy, "remove `http-request redirect scheme`, `http-request redirect location`, `redirect scheme`, `redirect location`, `redirect prefix`, and `http-request redirect prefix` without the condition unless { ssl_fc }"),
        (Hop::Apache, r#"remove `RewriteRule ^`, `RewriteRule (`, `RewriteRule .`, `RewriteRule /`, `RewriteRule "^/`, `RewriteRule "^(`, `RewriteCond %{` before them, `Redirect /`, `Redirect "/`, `Redirect 30`, `Redirect permanent`, `Redirect temp`, `RedirectPermanent`, `RedirectMatch 301` and `RedirectMatch 302` from the VirtualHost with TLS"#),
        (Hop::Cdn, "switch redirect rules off for the app's path, and let it connect to the front over https"),
    ],
};

#[rustfmt::skip]
pub(crate) const LOCATION: Cure = Cure {
    what: "let the front pass Location on as it is: the app knows its public URL",
    lines: &[
        (Hop::Nginx, "write `proxy_redirect off;` next to proxy_pass"),
        (Hop::Envoy, "remove `response_headers_to_add: [{header: {key: location`, and `- name: lua` if its script changes it"),
        (Hop::Traefik, "remove `Location:` from customResponseHeaders"),
        (Hop::Caddy, "remove `header_down Location` from reverse_proxy, and `header Location`"),
        (Hop::HaProxy, "remove `http-response replace-header Location`, `http-response set-header Location` and `http-response replace-value Location`"),
        (Hop::Apache, "remove `ProxyPassReverse`, `Header edit Location` and `Header set Location`"),
    ],
};

#[rustfmt::skip]
pub(crate) const ACCESS: Cure = Cure {
    what: "let the rules of the front admit the clients of the app to its whole mount, WebSocket included",
    lines: &[
        (Hop::Nginx, "remove `deny`, `allow`, `auth_basic`, `return 403`, `if ($http_user_agent`, `if ($http_referer`, `if ($invalid_referer`, `if ($http_upgrade`, and locations that refuse paths, such as `location ~ /` and `location ~* /`"),
        (Hop::Envoy, "let the rules of `envoy.filters.http.rbac`, `jwt_authn` and `ext_authz` allow the mount"),
        (Hop::Istio, "let the AuthorizationPolicy allow the mount"),
        (Hop::Traefik, "remove `ipAllowList`, `ipWhiteList`, `basicAuth` and `forwardAuth` from the middlewares of the router"),
        (Hop::Caddy, "remove `respond @`, `respond /`, `abort @`, `error @`, `basic_auth`, `basicauth`, and the blocks `handle @` with `respond` in it, `handle /` with `respond` in it"),
        (Hop::HaProxy, "remove `http-request deny if`, `http-request deny unless`, `http-request reject`, `http-request auth` and `http-request silent-drop`"),
        (Hop::Apache, "remove `Require ip`, `Require host`, `Require not`, `Require all denied`, `Require expr`, `Require valid-user`, `Require user`, `Require group`, `AuthType`, `AuthName`, `AuthBasicProvider`, `AuthUserFile`, `AuthGroupFile`, `Deny from` and `Order`"),
        (Hop::Cdn, "let the rules of the firewall pass the app's path"),
    ],
};

#[rustfmt::skip]
pub(crate) const HTTP1: Cure = Cure {
    what: "let the front speak HTTP/1.1 next to HTTP/2: browsers open a WebSocket over it",
    lines: &[
        (Hop::Envoy, "remove `codec_type: HTTP2` from the HttpConnectionManager, and write `alpn_protocols: [h2, http/1.1]` in the common_tls_context"),
        (Hop::Istio, "let no EnvoyFilter set codec_type or alpn_protocols for this listener"),
        (Hop::Caddy, "write `protocols h1 h2 h3` in servers of the global options"),
    ],
};

#[rustfmt::skip]
pub(crate) const USER_AGENT: Cure = Cure {
    what: "browsers need no change; to admit the doctor and clients such as monitors and health checks of load balancers as well, let no rule of the front look at User-Agent",
    lines: &[
        (Hop::Nginx, "remove `if ($http_user_agent`, and `if ($` with the name of a map of $http_user_agent"),
        (Hop::Envoy, "let no rule of `envoy.filters.http.rbac` and no match of a route have the header user-agent"),
        (Hop::Istio, "let no rule of an AuthorizationPolicy and no match of a VirtualService have the header user-agent"),
        (Hop::Traefik, "remove `&& HeaderRegexp(`, `&& HeadersRegexp(` and `&& Header(` for User-Agent from the rule"),
        (Hop::Caddy, "remove `respond @`, `abort @`, `error @` and `redir @` for a matcher with `header User-Agent` or `header_regexp User-Agent`"),
        (Hop::HaProxy, "remove `http-request deny if`, `http-request deny unless`, `http-request deny deny_status 403`, `http-request deny deny_status 429`, `http-request reject`, `http-request tarpit`, `http-request silent-drop` and `http-request return` with a condition on `hdr(User-Agent)`"),
        (Hop::Apache, "remove `RewriteCond %{HTTP_USER_AGENT}`, the `RewriteRule ^ - [F`, `RewriteRule .* - [F` or `RewriteRule . - [F` that follows it, `SetEnvIf User-Agent`, `SetEnvIfNoCase User-Agent` and `BrowserMatch` with the `Require` that reads them, and `Require expr`"),
        (Hop::Cdn, "exempt the address of the doctor from the rules against bots"),
    ],
};

#[rustfmt::skip]
pub(crate) const CLIENT_CERTIFICATE: Cure = Cure {
    what: "the doctor has no certificate, and neither has a browser whose user did not install one: let the front require none",
    lines: &[
        (Hop::Nginx, "remove `ssl_verify_client on`"),
        (Hop::Envoy, "remove `require_client_certificate: true` from the DownstreamTlsContext"),
        (Hop::Istio, "write `mode: SIMPLE` instead of MUTUAL in the tls of the Gateway"),
        (Hop::Traefik, "remove `clientAuth:` from the options of tls"),
        (Hop::Caddy, "remove `client_auth` from tls of the site"),
        (Hop::HaProxy, "write `verify none` instead of verify required in the bind line"),
        (Hop::Apache, "write `SSLVerifyClient none`"),
        (Hop::LoadBalancer, "write `mode = \"off\"` in mutual_authentication of the listener"),
    ],
};

#[rustfmt::skip]
pub(crate) const ONE_HOST: Cure = Cure {
    what: "let one line of the front set Host, with the public one",
    lines: &[
        (Hop::Nginx, "write `proxy_set_header Host $http_host;` once, and remove `include proxy_params`, `include /etc/nginx/proxy_params`, `proxy_set_header Host $host;` and `proxy_set_header Host $proxy_host;`"),
        (Hop::HaProxy, "remove `http-request add-header Host`"),
    ],
};

#[rustfmt::skip]
pub(crate) const UPSTREAM: Cure = Cure {
    what: "start the app, and let the front connect to the address on which it listens, without TLS, with a health check that it passes; the log of the front tells why it does not, and `fluxlit-gateway probe` whether the gateway is ready",
    lines: &[
        (Hop::Nginx, "write `proxy_pass http://127.0.0.1:8000;`, or `server 127.0.0.1:8000` in its upstream instead of the server that does not answer, and remove `return 503`"),
        (Hop::Envoy, "write `port_value: 8000` in the endpoint of the cluster, and `path: /apps/my-app/_stcore/health` in the http_health_check of the cluster, if it has one"),
        (Hop::Istio, "write `port: {number: 8000}` in the destination of the VirtualService"),
        (Hop::Traefik, "write `- url: \"http://127.0.0.1:8000\"` in the servers of the service, and `path: /apps/my-app/_stcore/health` in its healthCheck, if it has one"),
        (Hop::Caddy, "write `reverse_proxy 127.0.0.1:8000`, in it `health_uri /apps/my-app/_stcore/health` if it has a health check, and remove `respond` next to `reverse_proxy`, and where the app has no TLS `tls_insecure_skip_verify`, `tls_server_name` and `tls_trust_pool` from the transport, or `transport http` with `tls` in it"),
        (Hop::HaProxy, "write `default_backend gateway` in the frontend, `server gateway 127.0.0.1:8000` in the backend, with no ssl after it, and `http-check send meth GET uri /apps/my-app/_stcore/health` if it has a health check; remove `http-request return status 503` and `http-request deny deny_status 503`"),
        (Hop::Apache, r#"write `ProxyPass "/apps/my-app" "http://127.0.0.1:8000/apps/my-app" nocanon upgrade=websocket`{shorter}"#),
        (Hop::LoadBalancer, "look at the health of the targets, and at their port"),
    ],
};

#[rustfmt::skip]
pub(crate) const UPSTREAMS: Cure = Cure {
    what: "start the upstream that fails, or let the front leave it out",
    lines: &[
        (Hop::Nginx, "write `proxy_next_upstream error timeout;` next to proxy_pass; remove the server of the upstream that is gone"),
        (Hop::Envoy, "write `retry_policy: {retry_on: \"connect-failure,refused-stream\", num_retries: 3}` in the route, and health_checks in the cluster"),
        (Hop::Istio, "write `retries: {attempts: 3, retryOn: \"connect-failure,refused-stream\"}` in the route of the VirtualService, and outlierDetection in the DestinationRule"),
        (Hop::Traefik, "write `retry` in the middlewares of the router, the middleware as `retry: {attempts: 3}`, and a healthCheck in the loadBalancer of the service"),
        (Hop::Caddy, "write `lb_try_duration 5s` in reverse_proxy, and `health_fails 3` if it has a health check"),
        (Hop::HaProxy, "write `option redispatch 1` in the backend, and `check` on each of its server lines"),
        (Hop::LoadBalancer, "a health check of the target group that the app passes"),
    ],
};

#[rustfmt::skip]
pub(crate) const CONTENT_TYPE: Cure = Cure {
    what: "let no hop change Content-Type",
    lines: &[
        (Hop::Nginx, "remove `add_header Content-Type`, `proxy_hide_header Content-Type`, `more_set_headers`, `charset`, `override_charset` and `source_charset`"),
        (Hop::Envoy, "remove `response_headers_to_add: [{header: {key: content-type`"),
        (Hop::Istio, "remove `content-type:` from the headers of the VirtualService"),
        (Hop::Traefik, "remove `Content-Type:` from customResponseHeaders"),
        (Hop::Caddy, "remove `header Content-Type`, `header /`, `header >Content-Type` and `header_down Content-Type`, or in a block of header `Content-Type` and `>Content-Type`"),
        (Hop::HaProxy, "remove `http-response set-header Content-Type`, `http-response replace-header Content-Type` and `http-after-response set-header Content-Type`"),
        (Hop::Apache, "remove `Header set Content-Type`, `Header always set Content-Type`, `Header edit Content-Type`, `ForceType`, `AddType`, `AddCharset` and `AddDefaultCharset`"),
    ],
};

#[rustfmt::skip]
pub(crate) const FORWARDED: Cure = Cure {
    what: "let the front replace the forwarded headers of clients, and list the front's address in FLUXLIT_FORWARDED_ALLOW_IPS",
    lines: &[
        (Hop::Nginx, "write `proxy_set_header X-Forwarded-Proto $scheme;`, `proxy_set_header X-Forwarded-For $remote_addr;` and `proxy_set_header X-Forwarded-Host $http_host;` next to proxy_pass"),
        (Hop::Envoy, "write `use_remote_address: true` and `xff_num_trusted_hops: 0`; in the FluxLit filter, forwarded_allow_ips is for the proxies in front of Envoy: if there are none, remove `\"trust_proxy\": true`"),
        (Hop::Istio, "write `numTrustedProxies:` with the number of proxies in front, under gatewayTopology"),
        (Hop::Traefik, "remove `forwardedHeaders: {insecure: true}`, and `X-Forwarded-Proto:` from customRequestHeaders; trustedIPs is for the proxies in front"),
        (Hop::Caddy, "write `header_up X-Forwarded-For {client_ip}` in reverse_proxy, and remove `header_up X-Forwarded-Proto`, `header_up -X-Forwarded-Proto` and `header_up -X-Forwarded-For` there; trusted_proxies is for the proxies in front: if there are none, remove `trusted_proxies`"),
        (Hop::HaProxy, "write `http-request set-header X-Forwarded-Proto https if { ssl_fc }` and `http-request set-header X-Forwarded-For %[src]`, and remove `http-request del-header X-Forwarded-Proto` and `http-request del-header X-Forwarded-For`"),
        (Hop::Apache, r#"write `RequestHeader set X-Forwarded-Proto "expr=%{REQUEST_SCHEME}"` and `RequestHeader set X-Forwarded-For "expr=%{REMOTE_ADDR}"`, and remove `RequestHeader unset X-Forwarded-Proto` and `RequestHeader unset X-Forwarded-For`"#),
    ],
};

#[rustfmt::skip]
pub(crate) const ERROR_PAGES: Cure = Cure {
    what: "let the front pass the status 404 on: Streamlit's page needs it to find its base path",
    lines: &[
        (Hop::Nginx, "write `proxy_intercept_errors off;`, and remove `error_page 404` and `try_files`"),
        (Hop::Envoy, "let no local_reply_config map 404 to 200, and remove `- name: lua` if its script changes the status"),
        (Hop::Traefik, "remove `errors` from the middlewares of the router, if its status has 404"),
        (Hop::Caddy, "remove `handle_response` and `handle_errors` for 404"),
        (Hop::HaProxy, "remove `http-response set-status 200`"),
        (Hop::Apache, "write `ProxyErrorOverride Off`"),
    ],
};

#[rustfmt::skip]
pub(crate) const IDLE: Cure = Cure {
    what: "raise the time limit for idle connections, for the WebSocket at least, to an hour",
    lines: &[
        (Hop::Nginx, "write `proxy_read_timeout 3600s;` and `proxy_send_timeout 3600s;` next to proxy_pass"),
        (Hop::Envoy, "write `stream_idle_timeout: 3600s`, and in the route of the WebSocket `timeout: 0s` and `idle_timeout: 3600s`"),
        (Hop::Istio, "write `timeout: 0s` in the route of the VirtualService, and a longer `idleTimeout:` in the DestinationRule"),
        (Hop::Traefik, "write `transport: {respondingTimeouts: {readTimeout: 0}}` in the entry point"),
        (Hop::Caddy, "remove `stream_timeout` from reverse_proxy"),
        (Hop::HaProxy, "write `timeout tunnel 1h` in the backend, or in defaults if it is there; the frontend ignores it"),
        (Hop::Apache, "write `timeout=3600` in ProxyPass, and `ProxyTimeout 3600`"),
        (Hop::LoadBalancer, "write `idle_timeout.timeout_seconds = 3600`"),
    ],
};

#[rustfmt::skip]
pub(crate) const RELOAD: Cure = Cure {
    what: "reload the front so that it leaves open WebSockets to the old configuration, and drain the app before it is replaced",
    lines: &[
        (Hop::Nginx, "remove `worker_shutdown_timeout` (or set hours), and use nginx -s reload instead of a restart (ingress-nginx: worker-shutdown-timeout, and no reload for each change of an endpoint)"),
        (Hop::Envoy, "change routes by RDS and clusters by CDS, which leaves connections alone; for listeners and hot restarts, --drain-time-s and --parent-shutdown-time-s of hours"),
        (Hop::Istio, "proxy.istio.io/config: terminationDrainDuration, and no EnvoyFilter that changes the listener during the day"),
        (Hop::Traefik, "change the dynamic configuration, which leaves connections alone, instead of the static one, which needs a restart"),
        (Hop::Caddy, "write `stream_close_delay 1h` in reverse_proxy: without it, each reload closes WebSockets"),
        (Hop::HaProxy, "remove `hard-stop-after` (or set hours), and reload the master process instead of a restart"),
        (Hop::Apache, "`apachectl graceful` instead of `apachectl restart`"),
        (Hop::LoadBalancer, "write `deregistration_delay.timeout_seconds = 3600`"),
    ],
};

#[rustfmt::skip]
pub(crate) const BODY: Cure = Cure {
    what: "raise the limit for request bodies to Streamlit's server.maxUploadSize (200 MB) and a little more",
    lines: &[
        (Hop::Nginx, "write `client_max_body_size 210m;` in the server, and remove it from its locations (ingress-nginx: nginx.ingress.kubernetes.io/proxy-body-size: 210m)"),
        (Hop::Envoy, "write `max_request_bytes: 220200960` in the buffer filter, or remove the filter"),
        (Hop::Istio, "let no EnvoyFilter insert a buffer filter for this route"),
        (Hop::Traefik, "write `maxRequestBodyBytes: 220200960` in the buffering middleware"),
        (Hop::Caddy, "write `max_size 210MB` in request_body"),
        (Hop::HaProxy, "write `http-request deny deny_status 413 if { req.hdr_val(content-length) gt 220200960 }` instead of a rule with a lower number"),
        (Hop::Apache, r#"write `LimitRequestBody 220200960`, and if a RewriteCond limits the length, `RewriteCond expr "%{HTTP:Content-Length} -gt 220200960"`"#),
        (Hop::Gateway, "write `FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES=220200960`"),
    ],
};

#[rustfmt::skip]
pub(crate) const METHODS: Cure = Cure {
    what: "let the front pass PUT, POST and DELETE to the app: uploads need them",
    lines: &[
        (Hop::Nginx, "remove `limit_except`, and `if ($request_method` that refuses them"),
        (Hop::Envoy, "let no route or RBAC rule for the mount match on :method"),
        (Hop::Istio, "remove `methods:` from the rules of the AuthorizationPolicy and `method:` from the match of the VirtualService"),
        (Hop::Traefik, "remove ``Method(`GET`)`` from the rule"),
        (Hop::Caddy, "remove `method` from the matcher of the app, or `respond @` for a matcher with `not method` or `method PUT`"),
        (Hop::HaProxy, "remove `http-request deny if { method`, `http-request deny if !{ method`, `http-request deny if METH_` and `http-request deny if !METH_`, or let them name no method of uploads"),
        (Hop::Apache, "remove `<LimitExcept`, `Require method` and `AllowMethods`"),
        (Hop::LoadBalancer, "let no rule have a condition on the request method"),
        (Hop::Cdn, "allow all methods for the path of the app"),
    ],
};

#[rustfmt::skip]
pub(crate) const HEADER_SIZE: Cure = Cure {
    what: "raise the limit for request headers, or send fewer cookies to the app (FLUXLIT_DROP_COOKIES, a server-side session in the auth proxy)",
    lines: &[
        (Hop::Nginx, "write `large_client_header_buffers 8 64k;` in the server"),
        (Hop::Envoy, "write `max_request_headers_kb: 96`"),
        (Hop::Traefik, "write `http: {maxHeaderBytes: 1048576}` in the entry point"),
        (Hop::Caddy, "write `max_header_size 1MB` in servers of the global options"),
        (Hop::HaProxy, "write `tune.bufsize 65536` and `tune.http.maxhdr 256`"),
        (Hop::Apache, "write `LimitRequestFieldSize 65536`"),
        (Hop::Gateway, "write `FLUXLIT_GATEWAY_MAX_HEADER_BYTES=131072` and `FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES=65536`"),
    ],
};

pub(crate) const STREAMLIT_HEADERS: Cure = Cure {
    what: "start Streamlit with WEBSOCKETS_MAX_LINE_LENGTH=65536 and WEBSOCKETS_MAX_NUM_HEADERS=256 in its environment (`fluxlit-gateway run app.py` does), and drop cookies that it does not need with FLUXLIT_DROP_COOKIES",
    lines: &[],
};

#[rustfmt::skip]
pub(crate) const AFFINITY: Cure = Cure {
    what: "let the front send all requests of a browser to one replica, by a cookie whose Path covers the mount",
    lines: &[
        (Hop::Nginx, "write `ip_hash;` in the upstream (nginx Plus: sticky cookie affinity; ingress-nginx: nginx.ingress.kubernetes.io/affinity: cookie)"),
        (Hop::Envoy, "write `hash_policy: [{cookie: {name: affinity, ttl: 0s, path: /apps/my-app}}]` in the route and `lb_policy: RING_HASH` in the cluster"),
        (Hop::Istio, "write `httpCookie: {name: affinity, ttl: 0s}` under consistentHash of the DestinationRule"),
        (Hop::Traefik, "write `sticky: {cookie: {name: affinity}}` in the loadBalancer"),
        (Hop::Caddy, "write `lb_policy cookie affinity` in reverse_proxy"),
        (Hop::HaProxy, "write `cookie affinity insert indirect nocache` in the backend, and a name on each server line, such as `cookie first` and `cookie second`"),
        (Hop::Apache, r#"write `Header add Set-Cookie "affinity=.%{BALANCER_WORKER_ROUTE}e; path=/apps/my-app" env=BALANCER_ROUTE_CHANGED`, in the balancer `ProxySet stickysession=affinity`, and a name on each BalancerMember line, such as `route=first` and `route=second`"#),
        (Hop::LoadBalancer, "write `stickiness.enabled = true` and `stickiness.type = lb_cookie`"),
    ],
};

#[rustfmt::skip]
pub(crate) const COOKIES: Cure = Cure {
    what: "let the front pass `/_stcore/health` to the app, and its Set-Cookie back as it is: no hop may encode or quote it",
    lines: &[
        (Hop::Nginx, "remove `proxy_hide_header Set-Cookie`, `add_header Set-Cookie`, `proxy_cookie_path`, `proxy_cookie_flags`, `proxy_cookie_domain`, `proxy_cache` and a location that answers the path itself: `location = /apps/my-app/_stcore/health`"),
        (Hop::Envoy, "remove `response_headers_to_remove: [set-cookie]`, `direct_response:` for this path, and `- name: lua` if its script changes cookies"),
        (Hop::Traefik, "remove `Set-Cookie:` from customResponseHeaders; let no plugin change cookies"),
        (Hop::Caddy, "remove `header_down -Set-Cookie` and `header_down Set-Cookie` from reverse_proxy; let no respond answer this path"),
        (Hop::HaProxy, "remove `http-response del-header Set-Cookie`, `http-response set-header Set-Cookie` and `http-response replace-header Set-Cookie`, and `http-request return status 200` for this path"),
        (Hop::Apache, "remove `Header unset Set-Cookie`, `Header edit Set-Cookie`, `Header edit* Set-Cookie`, `Header always edit Set-Cookie` and `ProxyPassReverseCookiePath`"),
    ],
};

#[rustfmt::skip]
pub(crate) const REQUEST_COOKIES: Cure = Cure {
    what: "let the front pass Cookie and X-Xsrftoken on unchanged: without them, Streamlit refuses each upload",
    lines: &[
        (Hop::Nginx, "remove `proxy_set_header Cookie`, `proxy_set_header X-Xsrftoken` and `proxy_pass_request_headers off;`"),
        (Hop::Envoy, "remove `request_headers_to_remove: [cookie` and `request_headers_to_remove: [x-xsrftoken`"),
        (Hop::Traefik, "remove `Cookie:` and `X-Xsrftoken:` from customRequestHeaders"),
        (Hop::Caddy, "remove `header_up -Cookie`, `header_up Cookie`, `header_up -X-Xsrftoken`, `request_header -Cookie` and `request_header Cookie`"),
        (Hop::HaProxy, "remove `http-request del-header Cookie`, `http-request set-header Cookie`, `http-request replace-header Cookie`, `http-request replace-value Cookie` and `http-request del-header X-Xsrftoken`"),
        (Hop::Apache, "remove `RequestHeader unset Cookie`, `RequestHeader set Cookie`, `RequestHeader edit Cookie`, `RequestHeader edit* Cookie` and `RequestHeader unset X-Xsrftoken`"),
    ],
};

#[rustfmt::skip]
pub(crate) const COOKIE_PATH: Cure = Cure {
    what: "set FLUXLIT_COOKIE_PATH=confine in every app of this host, and publish none at its root. Without the gateway, the front can confine cookies",
    lines: &[
        (Hop::Nginx, "write `proxy_cookie_path / /apps/my-app/;`"),
        (Hop::Caddy, r#"write `header_down Set-Cookie "Path=/(;|$)" "Path=/apps/my-app/$1"` in reverse_proxy"#),
        (Hop::HaProxy, r"write `http-response replace-header Set-Cookie (.*)[Pp]ath=/(;.*|$) \1Path=/apps/my-app/\2`"),
        (Hop::Apache, "write `ProxyPassReverseCookiePath / /apps/my-app/`"),
        (Hop::Envoy, "write `\"cookie_path\": \"confine\"` in the FluxLit filter"),
        (Hop::Traefik, "no middleware of its own changes cookies: use the gateway"),
    ],
};

#[rustfmt::skip]
pub(crate) const PROTOCOL_LINE: Cure = Cure {
    what: "let the front pass Sec-WebSocket-Protocol and Sec-WebSocket-Extensions unchanged, in one line",
    lines: &[
        (Hop::Nginx, "remove `proxy_set_header Sec-WebSocket-Protocol` and `proxy_hide_header Sec-WebSocket-Protocol`"),
        (Hop::Envoy, "remove `request_headers_to_remove: [sec-websocket-protocol]`, `request_headers_to_add: [{header: {key: sec-websocket-protocol` and `response_headers_to_remove: [sec-websocket-protocol]`"),
        (Hop::Traefik, "remove `Sec-Websocket-Protocol:` from customRequestHeaders and customResponseHeaders"),
        (Hop::Caddy, "remove `header_up Sec-WebSocket-Protocol`, `header_up -Sec-WebSocket-Protocol` and `header_down -Sec-WebSocket-Protocol` from reverse_proxy"),
        (Hop::HaProxy, "remove `http-request set-header Sec-WebSocket-Protocol`, `http-request del-header Sec-WebSocket-Protocol` and `http-response del-header Sec-WebSocket-Protocol`"),
        (Hop::Apache, "remove `RequestHeader set Sec-WebSocket-Protocol`, `RequestHeader unset Sec-WebSocket-Protocol` and `Header unset Sec-WebSocket-Protocol`"),
    ],
};

#[rustfmt::skip]
pub(crate) const SLASH: Cure = Cure {
    what: "redirect the mount without its slash to the one with it",
    lines: &[
        (Hop::Nginx, "write `location = /apps/my-app { return 308 /apps/my-app/$is_args$args; }`"),
        (Hop::Envoy, "write `- match: {path: /apps/my-app}` with `redirect: {path_redirect: /apps/my-app/}`"),
        (Hop::Traefik, r"a redirectRegex middleware from ^(https://[^/]+/apps/my-app)(\?.*)?$ to ${1}/${2}"),
        (Hop::Caddy, "write `redir /apps/my-app /apps/my-app/?{query} 308`"),
        (Hop::HaProxy, "write `http-request redirect code 308 location /apps/my-app/?%[query] if { path /apps/my-app }`"),
        (Hop::Apache, r#"write `RedirectMatch 308 "^/apps/my-app$" "/apps/my-app/"`"#),
    ],
};

#[rustfmt::skip]
pub(crate) const CACHE: Cure = Cure {
    what: "do not cache under the mount, except for /static/",
    lines: &[
        (Hop::Nginx, "write `proxy_cache off;` next to proxy_pass, and remove `add_header Cache-Control`, `proxy_hide_header Cache-Control` and `expires`"),
        (Hop::Envoy, "remove `response_headers_to_add: [{header: {key: cache-control`, and the cache filter for this route"),
        (Hop::Caddy, "remove `header Cache-Control`, `header >Cache-Control`, `header_down Cache-Control` and `cache`, and in a block of header `Cache-Control` and `>Cache-Control`"),
        (Hop::HaProxy, "remove `http-request cache-use`, `http-response set-header Cache-Control`, `http-response add-header Cache-Control` and `http-after-response set-header Cache-Control`"),
        (Hop::Apache, "remove `Header set Cache-Control`, `Header always set Cache-Control`, `Header append Cache-Control`, `CacheEnable` and `ExpiresActive On` for this path"),
        (Hop::Traefik, "remove `Cache-Control:` from customResponseHeaders; let no plugin cache"),
    ],
};

#[rustfmt::skip]
pub(crate) const HEAD: Cure = Cure {
    what: "let the front pass HEAD, or let the load balancer use GET",
    lines: &[
        (Hop::Nginx, "remove `limit_except` without HEAD, and `if ($request_method`"),
        (Hop::Envoy, "let no route or RBAC rule on :method leave HEAD out"),
        (Hop::Traefik, "write ``(Method(`GET`) || Method(`HEAD`))`` in the rule"),
        (Hop::Caddy, "remove `respond @` for a matcher with `method HEAD`"),
        (Hop::HaProxy, "remove `http-request deny deny_status 405 if { method HEAD }`"),
        (Hop::Apache, "remove `Require method` and `<LimitExcept` without HEAD"),
    ],
};

#[rustfmt::skip]
pub(crate) const SPELLING: Cure = Cure {
    what: "let the front refuse every path but those of the mount as it is written, or require the login for the whole host",
    lines: &[
        (Hop::HaProxy, "write `acl is_bare_mount path /apps/my-app`, `acl is_below_mount path_beg /apps/my-app/` and `http-request return status 404 content-type text/plain string \"Not found\" unless is_bare_mount or is_below_mount` before the rule of the login"),
        (Hop::Envoy, "write `normalize_path: true`, `merge_slashes: true` and `path_with_escaped_slashes_action: REJECT_REQUEST` in the connection manager"),
    ],
};

#[rustfmt::skip]
pub(crate) const LOGIN: Cure = Cure {
    what: "let the auth rule of the front cover `/_stcore/stream` under the mount with the session of the page, and answer it 401 without one",
    lines: &[
        (Hop::Nginx, "write `auth_request /auth;` in the location of the whole mount, with no other location for the WebSocket, and `if ($http_upgrade) { return 401; }` before the redirect to the login"),
        (Hop::Envoy, "ext_authz for every route, without a per-route disabled for the WebSocket"),
        (Hop::Traefik, "the forwardAuth middleware on the router of the WebSocket too"),
        (Hop::Caddy, "forward_auth before the reverse_proxy of the whole mount, and `respond 401` instead of a redirect for requests with Upgrade"),
        (Hop::HaProxy, "the rule for every path of the mount, and `http-request deny deny_status 401` for requests with Upgrade before the redirect to the login"),
        (Hop::Apache, "Require in <Location \"/apps/my-app\">, and no other <Location> for the WebSocket"),
    ],
};

#[rustfmt::skip]
pub(crate) const HSTS: Cure = Cure {
    what: "let one hop send Strict-Transport-Security, once, on every response over TLS, errors and redirects included",
    lines: &[
        (Hop::Gateway, "write `FLUXLIT_HSTS=true`"),
        (Hop::Nginx, r#"write `add_header Strict-Transport-Security "max-age=31536000" always;` and `proxy_hide_header Strict-Transport-Security;` in the server, and remove `add_header Strict-Transport-Security` from its locations. A location with another `add_header` inherits none from the server, so it needs these two lines as well"#),
        (Hop::Envoy, "response_headers_to_add with append_action: OVERWRITE_IF_EXISTS_OR_ADD, and the same in local_reply_config"),
        (Hop::Istio, "an EnvoyFilter with local_reply_config for Envoy's own responses"),
        (Hop::Traefik, "write `stsSeconds: 31536000` in the headers middleware"),
        (Hop::Caddy, r#"write `header >Strict-Transport-Security "max-age=31536000"`, or in a block of header `>Strict-Transport-Security "max-age=31536000"`, and remove `header +Strict-Transport-Security`, or in a block `+Strict-Transport-Security`"#),
        (Hop::HaProxy, r#"write `http-after-response set-header Strict-Transport-Security "max-age=31536000" if { ssl_fc }` in the frontend, and remove `http-after-response add-header Strict-Transport-Security` and `http-response add-header Strict-Transport-Security`"#),
        (Hop::Apache, r#"write `Header always set Strict-Transport-Security "max-age=31536000" "expr=-z resp('Strict-Transport-Security')"`: without the condition it is sent twice; remove `Header always add Strict-Transport-Security` and `Header add Strict-Transport-Security`"#),
    ],
};

#[rustfmt::skip]
pub(crate) const HSTS_OVER_HTTP: Cure = Cure {
    what: "let the front send Strict-Transport-Security over TLS only",
    lines: &[
        (Hop::Nginx, "remove `add_header Strict-Transport-Security` from the server without TLS"),
        (Hop::Envoy, "remove `response_headers_to_add: [{header: {key: strict-transport-security` from the route of the listener without TLS"),
        (Hop::Traefik, "remove `forceSTSHeader: true` and `Strict-Transport-Security:` from the middlewares of the router without TLS"),
        (Hop::Caddy, "remove `header Strict-Transport-Security` from the http:// site"),
        (Hop::HaProxy, r#"write `http-after-response set-header Strict-Transport-Security "max-age=31536000" if { ssl_fc }`"#),
        (Hop::Apache, "remove `Header always set Strict-Transport-Security` from the VirtualHost without TLS"),
    ],
};

#[rustfmt::skip]
pub(crate) const METRICS: Cure = Cure {
    what: "serve metrics on an address of operators only (FLUXLIT_GATEWAY_ADMIN_ADDRESS)",
    lines: &[
        (Hop::Nginx, "write `location = /metrics { return 404; }`"),
        (Hop::Traefik, "write `metrics: {prometheus: {entryPoint: operators}}` with an entry point of its own"),
        (Hop::Caddy, "remove `handle /metrics`, and use the admin endpoint"),
        (Hop::HaProxy, "remove `http-request use-service prometheus-exporter` from this frontend"),
        (Hop::Apache, "remove `ProxyPass \"/metrics\"`"),
        (Hop::Envoy, "let no route lead to the admin interface"),
    ],
};

#[rustfmt::skip]
pub(crate) const REWRITES: Cure = Cure {
    what: "let no hop change HTML under the mount: Streamlit names its files relative to the page (`./static/`), which works under every mount",
    lines: &[
        (Hop::Nginx, "remove `sub_filter`"),
        (Hop::Envoy, "remove `- name: lua` and `- name: envoy.filters.http.ext_proc` if they change bodies"),
        (Hop::Istio, "let no EnvoyFilter insert a Lua or ext_proc filter that changes bodies"),
        (Hop::Traefik, "remove `rewriteBody` from the middlewares of the router, or whatever plugin changes bodies"),
        (Hop::Caddy, "remove `replace`"),
        (Hop::HaProxy, "remove `filter lua.` if it changes bodies"),
        (Hop::Apache, "remove `Substitute`, `ProxyHTMLEnable On` and `ProxyHTMLURLMap`"),
        (Hop::Cdn, "switch the rewriting of HTML off for the app's path"),
    ],
};

#[rustfmt::skip]
pub(crate) const POLICY: Cure = Cure {
    what: "or let no hop add the header",
    lines: &[
        (Hop::Nginx, "remove `add_header Content-Security-Policy`"),
        (Hop::Envoy, "remove `response_headers_to_add: [{header: {key: content-security-policy`"),
        (Hop::Istio, "remove `content-security-policy:` from the headers of the VirtualService"),
        (Hop::Traefik, "remove `contentSecurityPolicy:` and `Content-Security-Policy:` from the headers middleware"),
        (Hop::Caddy, "remove `header Content-Security-Policy`, `header >Content-Security-Policy`, `header +Content-Security-Policy` and `header ?Content-Security-Policy`, or in a block of header `Content-Security-Policy`, `>Content-Security-Policy`, `+Content-Security-Policy` and `?Content-Security-Policy`"),
        (Hop::HaProxy, "remove `http-response set-header Content-Security-Policy`, `http-response add-header Content-Security-Policy`, `http-after-response set-header Content-Security-Policy` and `http-after-response add-header Content-Security-Policy`"),
        (Hop::Apache, "remove `Header set Content-Security-Policy`, `Header add Content-Security-Policy`, `Header always set Content-Security-Policy` and `Header always add Content-Security-Policy`"),
    ],
};

#[rustfmt::skip]
pub(crate) const RATE: Cure = Cure {
    what: "let the front limit no requests of this mount, or allow 100 a second and 200 at once: a page loads dozens of files at the same time, and users of one office share an address",
    lines: &[
        (Hop::Nginx, "remove `limit_req` and `limit_conn` (ingress-nginx: limit-rps, limit-rpm and limit-connections)"),
        (Hop::Envoy, "remove `- name: envoy.filters.http.local_ratelimit` and `- name: envoy.filters.http.ratelimit`, or raise max_tokens"),
        (Hop::Istio, "let no EnvoyFilter insert a rate limit for this route"),
        (Hop::Traefik, "remove `rateLimit` and `inFlightReq` from the middlewares of the router"),
        (Hop::Caddy, "remove `rate_limit`"),
        (Hop::HaProxy, "remove `http-request deny deny_status 429`, with its `http-request track-sc0` and `stick-table`, and `maxconn` from the server lines, the frontend, defaults and global"),
        (Hop::Apache, "remove `QS_SrvMaxConnPerIP`, `QS_LocRequestPerSecLimit` and the directives of mod_evasive for this path"),
        (Hop::Gateway, "raise `FLUXLIT_GATEWAY_MAX_CONNECTIONS_PER_PEER`"),
        (Hop::Cdn, "exempt the app's path from the rate limiting rule"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_has_the_line_of_a_known_front_and_otherwise_all() {
        let known = HOST.hint(Hop::Nginx);
        assert!(
            known.contains(
                "nginx: write `proxy_set_header Host $http_host;` and `proxy_set_header X-Forwarded-Host $http_host;` next to proxy_pass (a line"
            ),
            "{known}"
        );
        let unknown = HOST.hint(Hop::Unknown);
        assert!(
            unknown.contains("ProxyPreserveHost On") && unknown.contains("passHostHeader"),
            "{unknown}"
        );
    }

    #[test]
    fn a_hint_names_the_mount_of_the_site() {
        for (mount, expected) in [
            (
                "/apps/my-app",
                "nginx: write `location ~ ^/apps/my-app(/|$)`",
            ),
            ("/b", "nginx: write `location ~ ^/b(/|$)`"),
        ] {
            let hint = with_mount(&BOUNDARY.hint(Hop::Nginx), mount);
            assert!(hint.contains(expected), "{hint}");
        }
        for (mount, expected) in [
            ("", "nocanon upgrade=websocket` ("),
            ("/b", r#"before it: `ProxyPass "/"`, `ProxyPass / ` ("#),
            (
                "/a/b",
                r#"before it: `ProxyPass "/"`, `ProxyPass / `, `ProxyPass "/a"`, `ProxyPass /a ` ("#,
            ),
        ] {
            let hint = with_mount(&UPSTREAM.hint(Hop::Apache), mount);
            assert!(hint.contains(expected), "{hint}");
        }
        let hint = with_mount(&COOKIE_PATH.hint(Hop::Nginx), "");
        assert!(hint.contains("`proxy_cookie_path / /;`"), "{hint}");
    }
}
