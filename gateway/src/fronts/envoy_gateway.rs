//! Prints the resources of Envoy Gateway with the filter.
//!
//! An EnvoyExtensionPolicy disables the filter in the filter chain and enables it on routes, so the condition of
//! `envoy/bootstrap.yaml` cannot be on the routes: instead an EnvoyPatchPolicy inserts `envoy/rbac-guard.yaml` before the
//! router. Routes match before the filter removes the mount and again after it, so they match every path of the host; the
//! filter rejects what is outside the mount.

use crate::fronts::envoy::indented;
use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns the resources, separated by `---`.
pub(super) fn text(site: &Site) -> String {
    let mut text = Text::new("  ");
    site.heading(
        &mut text,
        "Envoy Gateway with the FluxLit Edge filter, as `fluxlit-gateway config --for envoy-gateway` prints it.",
        &["kubectl apply --dry-run=server -f FILE      (checks this file)", "kubectl apply -f FILE"],
    );
    text.note("Change: the namespace default, the name of your GatewayClass, the image of the filter, the Secret with the certificate,\n\
               and the Service of the gateway. EnvoyPatchPolicy must be enabled: extensionApis.enableEnvoyPatchPolicy in the\n\
               configuration of Envoy Gateway. Needs Envoy Gateway 1.9 or later: 1.8 does not know requestHeadersReceivedTimeout of\n\
               ClientTrafficPolicy.").blank();
    let listener = gateway(site, &mut text);
    route(site, &mut text);
    client_traffic(site, &mut text);
    filter(site, &mut text);
    guard(listener, &mut text);
    text.finish()
}

/// Writes the Gateway; returns the name of the listener that serves the app.
fn gateway(site: &Site, text: &mut Text) -> &'static str {
    let host = site
        .host
        .as_ref()
        .map(|host| format!(", hostname: {host}"))
        .unwrap_or_default();
    text.lines(
        "apiVersion: gateway.networking.k8s.io/v1\n\
         kind: Gateway\n\
         metadata: {name: fluxlit, namespace: default}\n\
         spec:\n  \
           gatewayClassName: eg\n  \
           listeners:",
    );
    if site.is_https && site.behind.is_empty() {
        text.lines(format!(
            "  - name: https\n    \
               port: 443\n    \
               protocol: HTTPS{}\n    \
               tls: {{mode: Terminate, certificateRefs: [{{name: portal-certificate}}]}}\n  \
             - {{name: http, port: 80, protocol: HTTP{host}}}",
            site.host
                .as_ref()
                .map(|host| format!("\n    hostname: {host}"))
                .unwrap_or_default()
        ));
        text.line("---").lines(
            "apiVersion: gateway.networking.k8s.io/v1\n\
             kind: HTTPRoute\n\
             metadata: {name: fluxlit-redirect-to-https, namespace: default}\n\
             spec:\n  \
               parentRefs: [{name: fluxlit, sectionName: http}]\n  \
               rules:\n  \
               - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]",
        );
        text.line("---");
        return "https";
    }
    text.line(format!(
        "  - {{name: http, port: 80, protocol: HTTP{host}}}"
    ))
    .line("---");
    "http"
}

fn route(site: &Site, text: &mut Text) {
    let listener = if site.is_https && site.behind.is_empty() {
        "https"
    } else {
        "http"
    };
    text.lines(format!(
        "apiVersion: gateway.networking.k8s.io/v1\n\
         kind: HTTPRoute\n\
         metadata: {{name: fluxlit, namespace: default}}\n\
         spec:\n  \
           parentRefs: [{{name: fluxlit, sectionName: {listener}}}]\n  \
           rules:\n  \
           - backendRefs: [{{name: fluxlit-gateway, port: {}}}]\n    \
             # [!] No limit: pages are streamed, and a WebSocket stays open as long as its page.\n    \
             timeouts: {{request: 0s}}\n\
         ---",
        site.gateway_port
    ));
}

fn client_traffic(site: &Site, text: &mut Text) {
    text.lines(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\n\
         kind: ClientTrafficPolicy\n\
         metadata: {name: fluxlit, namespace: default}\n\
         spec:\n  \
           targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: fluxlit}]",
    );
    text.lines(
        "  # [!] Do not set clientIPDetection, even behind a load balancer: the filter takes the peer from the connection, and with\n  \
           # that setting a header would replace it. The filter's forwarded_allow_ips lists the load balancer.",
    );
    text.lines(format!(
        "  # [!] Many servers read X_Forwarded_For as X-Forwarded-For.\n  \
           headers: {{withUnderscoresAction: RejectRequest}}\n  \
           # [!] Dot segments, repeated slashes and escaped slashes are resolved or rejected before routes match.\n  \
           path: {{escapedSlashesAction: RejectRequest}}\n  \
           # Streamlit's WebSocket stays open as long as the page, with a ping every 30 seconds.\n  \
           timeout: {{http: {{requestHeadersReceivedTimeout: {}s, streamIdleTimeout: {}s, idleTimeout: 3600s}}}}\n\
         ---",
        site.head_read, site.idle
    ));
}

fn filter(site: &Site, text: &mut Text) {
    let image = site
        .filter
        .as_deref()
        .unwrap_or("registry.example.com/fluxlit/fluxlit-filter:0.1.0");
    text.lines(format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\n\
         kind: EnvoyExtensionPolicy\n\
         metadata: {{name: fluxlit, namespace: default}}\n\
         spec:\n  \
           targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: fluxlit}}]\n  \
           wasm:\n  \
           - name: fluxlit\n    \
             rootID: fluxlit\n    \
             code: {{type: Image, image: {{url: {image}}}}}\n    \
             # [!] True would let requests pass unfiltered if the module fails or cannot be fetched.\n    \
             failOpen: false\n    \
             config:"
    ));
    for (name, value) in &site.plugin {
        // Envoy Gateway cannot record the peer; the filter takes it from source.address.
        if name != "peer_filter_state_key" {
            text.line(format!("      {name}: {value}"));
        }
    }
    text.line("---");
}

fn guard(listener: &str, text: &mut Text) {
    let guard: String = GUARD
        .lines()
        .skip_while(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    text.lines(format!(
        "# [!] Rejects requests that the filter has not processed, with 403. Without it, Envoy forwards them unfiltered whenever the\n\
         # filter is missing. See \"If the filter is missing\" in envoy/README.md.\n\
         apiVersion: gateway.envoyproxy.io/v1alpha1\n\
         kind: EnvoyPatchPolicy\n\
         metadata: {{name: fluxlit-guard, namespace: default}}\n\
         spec:\n  \
           targetRef: {{group: gateway.networking.k8s.io, kind: Gateway, name: fluxlit}}\n  \
           type: JSONPatch\n  \
           jsonPatches:\n  \
           - type: type.googleapis.com/envoy.config.listener.v3.Listener\n    \
             # Namespace, Gateway and listener.\n    \
             name: default/fluxlit/{listener}\n    \
             operation:\n      \
               op: add\n      \
               # Before the router, which is last.\n      \
               jsonPath: \"$..http_filters[?@.name == 'envoy.filters.http.router']\"\n      \
               value:\n{}",
        indented(&guard, "        ")
    ));
}

const GUARD: &str = include_str!("../../../envoy/rbac-guard.yaml");
