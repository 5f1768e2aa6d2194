//! Prints the resources of an Istio ingress gateway with the filter: the shipped ones, and the routes to the gateway.
//!
//! EnvoyFilter and WasmPlugin are `envoy/istio/*.yaml` with their comments; only the plugin configuration, the image and the
//! trust are replaced.

use crate::fronts::envoy::{indented, replace_once};
use crate::fronts::site::Site;
use crate::fronts::text::Text;

/// Returns the resources, separated by `---`.
pub(super) fn text(site: &Site) -> String {
    let mut text = Text::new("  ");
    site.heading(
        &mut text,
        "An Istio ingress gateway with the FluxLit Edge filter, as `fluxlit-gateway config --for istio` prints it.",
        &["kubectl apply --dry-run=server -f FILE      (checks this file)", "kubectl apply -f FILE"],
    );
    text.note("Change: the namespace istio-ingress and the label istio: ingressgateway to those of your ingress gateway, the image\nof the filter, credentialName, and the Service of the gateway.").blank();
    routes(site, &mut text);
    let (start, _) = PLUGIN
        .split_once("  # The same as plugin-config.json.\n")
        .unwrap_or_default();
    let plugin = plugin_yaml(site);
    let mut plugin = format!("{start}  pluginConfig:\n{}", indented(&plugin, "    "));
    if let Some(filter) = &site.filter {
        plugin = replace_once(
            &plugin,
            "oci://registry.example.com/fluxlit/fluxlit-filter:0.1.0",
            filter,
        );
    }
    let filter = replace_once(
        FILTER,
        "# \"If the filter is missing\" in ../README.md.",
        "# \"If the filter is missing\" in envoy/README.md.",
    );
    format!("{}---\n{filter}---\n{plugin}", text.finish())
}

/// Returns the plugin configuration as YAML: JSON is YAML, one member a line.
fn plugin_yaml(site: &Site) -> String {
    site.plugin
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn routes(site: &Site, text: &mut Text) {
    let host = site.host.as_deref().unwrap_or("*");
    text.lines(
        "apiVersion: networking.istio.io/v1\n\
         kind: Gateway\n\
         metadata:\n  \
           name: fluxlit\n  \
           namespace: istio-ingress\n\
         spec:\n  \
           selector:\n    \
             istio: ingressgateway\n  \
           servers:",
    );
    if site.is_https && site.behind.is_empty() {
        text.lines(format!(
            "  - port: {{number: 443, name: https, protocol: HTTPS}}\n    \
               hosts: [\"{host}\"]\n    \
               # The Secret with the certificate, in the namespace of the ingress gateway.\n    \
               tls: {{mode: SIMPLE, credentialName: portal-certificate, minProtocolVersion: TLSV1_2}}\n  \
             - port: {{number: 80, name: http, protocol: HTTP}}\n    \
               hosts: [\"{host}\"]\n    \
               tls: {{httpsRedirect: true}}"
        ));
    } else {
        text.lines(format!(
            "  - port: {{number: 80, name: http, protocol: HTTP}}\n    hosts: [\"{host}\"]"
        ));
    }
    text.line("---").lines(format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: VirtualService\n\
         metadata:\n  \
           name: fluxlit\n  \
           namespace: istio-ingress\n\
         spec:\n  \
           hosts: [\"{host}\"]\n  \
           gateways: [fluxlit]\n  \
           http:\n  \
           # Routes match the path after the filter has removed the mount.\n  \
           - route:\n    \
             - destination: {{host: fluxlit-gateway.default.svc.cluster.local, port: {{number: {}}}}}\n    \
             # [!] No timeout: pages are streamed, and a WebSocket stays open as long as its page. Istio has none by default, and\n    \
             # refuses 0s.\n    \
             # [!] No retries: an upload would be sent twice.\n    \
             retries: {{attempts: 0}}",
        site.gateway_port
    ));
}

const FILTER: &str = include_str!("../../../envoy/istio/envoyfilter.yaml");
const PLUGIN: &str = include_str!("../../../envoy/istio/wasmplugin.yaml");
