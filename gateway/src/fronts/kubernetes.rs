//! Prints the manifests that run the gateway with its app in Kubernetes, behind an Ingress.
//!
//! Gateway and Streamlit share a pod, so that the connection between them stays inside it. The probes use the gateway's admin
//! listener, which answers whatever hosts and mounts are allowed, and run the gateway's own program, because an image may have
//! no other.

use crate::fronts::site::{DRAIN_DELAY, Site};
use crate::fronts::text::Text;

/// Returns the manifests, separated by `---`.
pub(super) fn text(site: &Site) -> String {
    let mut text = Text::new("  ");
    text.note("The FluxLit gateway with its app in Kubernetes, as `fluxlit-gateway config --for kubernetes` prints it.")
        .note("")
        .note("  kubectl apply --dry-run=server -f FILE      (checks this file)")
        .note("  kubectl apply -f FILE")
        .note(format!("  fluxlit-gateway doctor --probe {}      (verifies the whole path once it runs)", site.public_url()))
        .note("")
        .note("Change: the image, its script, FLUXLIT_FORWARDED_ALLOW_IPS, the namespace of the ingress controller, and the Secret with\nthe certificate.")
        .note("")
        .note("[!] marks a security-relevant line; its comment says what a wrong value would allow.")
        .blank();
    deployment(site, &mut text);
    text.line("---");
    service(site, &mut text);
    text.line("---");
    ingress(site, &mut text);
    text.line("---");
    network_policy(&mut text);
    text.finish()
}

fn deployment(site: &Site, text: &mut Text) {
    text.lines(format!(
        "apiVersion: apps/v1\n\
         kind: Deployment\n\
         metadata:\n  \
           name: fluxlit-gateway\n  \
           labels: {LABELS}\n\
         spec:\n  \
           # Each replica has its own sessions. With more than one, the Ingress must send a browser to the same one every time.\n  \
           replicas: 1\n  \
           selector:\n    \
             matchLabels: {LABELS}\n  \
           strategy:\n    \
             rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}\n  \
           template:\n    \
             metadata:\n      \
               labels: {LABELS}\n    \
             spec:\n      \
               # Longer than the gateway needs to drain.\n      \
               terminationGracePeriodSeconds: {}\n      \
               # [!] The app needs no access to the cluster.\n      \
               automountServiceAccountToken: false\n      \
               enableServiceLinks: false\n      \
               securityContext:\n        \
                 runAsNonRoot: true\n        \
                 runAsUser: 65532\n        \
                 seccompProfile: {{type: RuntimeDefault}}\n      \
               containers:\n      \
               - name: gateway\n        \
                 image: {}\n        \
                 command: [fluxlit-gateway, run, app.py]\n        \
                 ports:\n        \
                 - {{name: http, containerPort: {}}}\n        \
                 env:",
        site.stop, site.image, site.gateway_port
    ));
    environment(site, text);
    for (name, path, every, failures) in [
        ("startupProbe", "readyz", 2, 60),
        ("readinessProbe", "readyz", 5, 2),
        ("livenessProbe", "healthz", 10, 3),
    ] {
        text.lines(format!(
            "        {name}:\n          \
               exec: {{command: [fluxlit-gateway, probe, --url, \"http://{ADMIN}/{path}\"]}}\n          \
               periodSeconds: {every}\n          \
               timeoutSeconds: 5\n          \
               failureThreshold: {failures}"
        ));
    }
    text.lines(
        "        resources:\n          \
           requests: {cpu: 250m, memory: 512Mi}\n          \
           limits: {memory: 1Gi}\n        \
         securityContext:\n          \
           allowPrivilegeEscalation: false\n          \
           readOnlyRootFilesystem: true\n          \
           capabilities: {drop: [ALL]}\n        \
         volumeMounts:\n        \
         - {name: tmp, mountPath: /tmp}\n      \
         volumes:\n      \
         # Uploads, and Streamlit's own files.\n      \
         - name: tmp\n        \
           emptyDir: {}",
    );
}

fn environment(site: &Site, text: &mut Text) {
    let mut variable = |name: &str, value: &str| {
        let value = serde_json::Value::from(value);
        text.line(format!("        - {{name: {name}, value: {value}}}"));
    };
    variable("HOME", "/tmp");
    variable("FLUXLIT_GATEWAY_HOST", "0.0.0.0");
    variable("FLUXLIT_GATEWAY_PORT", &site.gateway_port.to_string());
    variable("FLUXLIT_GATEWAY_ADMIN_ADDRESS", ADMIN);
    variable("FLUXLIT_DRAIN_DELAY_S", &DRAIN_DELAY.as_secs().to_string());
    variable(
        "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES",
        &site.body_bytes.to_string(),
    );
    for (name, value) in &site.environment {
        variable(name, value);
    }
    let (trust, others): (Vec<_>, Vec<_>) = site
        .gateway_settings
        .iter()
        .partition(|(name, _)| *name == "FLUXLIT_FORWARDED_ALLOW_IPS");
    for (name, value) in others {
        variable(name, value);
    }
    for (name, value) in trust {
        text.lines(
            "        # [!] The addresses of the ingress controller's pods, and no others: every listed pod could choose the address\n        \
             # of its client.",
        );
        let value = serde_json::Value::from(value.as_str());
        text.line(format!("        - {{name: {name}, value: {value}}}"));
    }
}

fn service(site: &Site, text: &mut Text) {
    text.lines(format!(
        "apiVersion: v1\n\
         kind: Service\n\
         metadata:\n  \
           name: fluxlit-gateway\n  \
           labels: {LABELS}\n\
         spec:\n  \
           selector: {LABELS}\n  \
           ports:\n  \
           - {{name: http, port: {}, targetPort: http}}",
        site.gateway_port
    ));
}

fn ingress(site: &Site, text: &mut Text) {
    let path = if site.mount.is_empty() {
        "/"
    } else {
        &site.mount
    };
    text.lines(format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: Ingress\n\
         metadata:\n  \
           name: fluxlit-gateway\n  \
           labels: {LABELS}\n  \
           annotations:\n    \
             # Read by ingress-nginx; other controllers have settings of their own for the same limits.\n    \
             nginx.ingress.kubernetes.io/proxy-body-size: \"{}\"\n    \
             nginx.ingress.kubernetes.io/proxy-read-timeout: \"{idle}\"\n    \
             nginx.ingress.kubernetes.io/proxy-send-timeout: \"{idle}\"\n    \
             nginx.ingress.kubernetes.io/proxy-buffering: \"off\"\n    \
             nginx.ingress.kubernetes.io/proxy-request-buffering: \"off\"\n\
         spec:",
        site.body_bytes,
        idle = site.idle
    ));
    if let Some(host) = site
        .host
        .as_ref()
        .filter(|_| site.is_https && site.behind.is_empty())
    {
        text.lines(format!(
            "  tls:\n  - {{hosts: [{host}], secretName: portal-certificate}}"
        ));
    }
    let host = site
        .host
        .as_ref()
        .map(|host| format!("host: {host}\n    "))
        .unwrap_or_default();
    text.lines(format!(
        "  rules:\n  \
         - {host}http:\n      \
             paths:\n      \
             # Prefix matches whole segments.\n      \
             - path: {path}\n        \
               pathType: Prefix\n        \
               backend: {{service: {{name: fluxlit-gateway, port: {{name: http}}}}}}"
    ));
}

fn network_policy(text: &mut Text) {
    text.lines(format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata:\n  \
           name: fluxlit-gateway\n  \
           labels: {LABELS}\n\
         spec:\n  \
           podSelector:\n    \
             matchLabels: {LABELS}\n  \
           policyTypes: [Ingress]\n  \
           ingress:\n  \
           # [!] Only the ingress controller. Any other pod could send forwarded headers from a trusted network.\n  \
           - from:\n    \
             - namespaceSelector:\n        \
                 matchLabels: {{kubernetes.io/metadata.name: ingress-nginx}}\n    \
             ports:\n    \
             - {{protocol: TCP, port: http}}"
    ));
}

const LABELS: &str = "{app.kubernetes.io/name: fluxlit-gateway}";

/// The gateway's admin listener, inside the pod.
const ADMIN: &str = "127.0.0.1:9901";
