//! Finds what schemas do not see: selectors that match nothing, ports that do not exist, grace periods that do not add up.

use serde_json::Value;

use crate::documents::{Documents, items, text};

/// Returns what is wrong.
pub(crate) fn errors(documents: &Documents) -> Vec<String> {
    let mut check = Check {
        documents,
        errors: Vec::new(),
    };
    check.selectors();
    check.ports();
    check.backends();
    check.affinity();
    check.stop();
    check.probes();
    check.references();
    check.network_policies();
    for document in documents.all() {
        for pod in pods(document) {
            check.security(&name(document), pod);
        }
    }
    check.errors
}

struct Check<'a> {
    documents: &'a Documents,
    errors: Vec<String>,
}

impl Check<'_> {
    fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    fn pod_labels(&self) -> &Value {
        &self.documents.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    }

    fn selectors(&mut self) {
        for (kind, pointer) in [
            ("Deployment", "/spec/selector/matchLabels"),
            ("Service", "/spec/selector"),
            ("NetworkPolicy", "/spec/podSelector/matchLabels"),
            ("PodDisruptionBudget", "/spec/selector/matchLabels"),
            ("AuthorizationPolicy", "/spec/selector/matchLabels"),
            ("PeerAuthentication", "/spec/selector/matchLabels"),
        ] {
            for document in self.documents.of(kind) {
                if !items(&document["spec"]["targetRefs"]).is_empty() {
                    continue;
                }
                let selector = document.pointer(pointer).cloned().unwrap_or_default();
                if !selects(&selector, self.pod_labels()) {
                    self.error(format!("{kind} selects no pod: {selector}"));
                }
            }
        }
        for monitor in self.documents.of("ServiceMonitor") {
            let selector = &monitor["spec"]["selector"]["matchLabels"];
            let services = self.documents.of("Service");
            if !services
                .iter()
                .any(|service| selects(selector, &service["metadata"]["labels"]))
            {
                self.error(format!("ServiceMonitor selects no Service: {selector}"));
            }
        }
        for policy in self.documents.of("AuthorizationPolicy") {
            for target in items(&policy["spec"]["targetRefs"]) {
                let targets = self.documents.of(&text(&target["kind"]));
                let mut names = targets.iter().map(|target| &target["metadata"]["name"]);
                if !names.any(|name| *name == target["name"]) {
                    self.error(format!("AuthorizationPolicy selects nothing: {target}"));
                }
            }
        }
        for autoscaler in self.documents.of("HorizontalPodAutoscaler") {
            let target = &autoscaler["spec"]["scaleTargetRef"]["name"];
            let deployment = self.documents.one("Deployment");
            if *target != deployment["metadata"]["name"] {
                self.error(format!("no Deployment {}", text(target)));
            }
            if deployment["spec"].get("replicas").is_some() {
                self.error(
                    "the Deployment sets the replicas that the HorizontalPodAutoscaler changes",
                );
            }
        }
    }

    /// Named ports that are used must exist in the pod, and numbers must be those of the pod.
    fn ports(&mut self) {
        let ports: Vec<(String, String)> = items(&self.documents.gateway_container()["ports"])
            .iter()
            .map(|port| (text(&port["name"]), text(&port["containerPort"])))
            .collect();
        let mut used = Vec::new();
        for service in self.documents.of("Service") {
            let of_service = items(&service["spec"]["ports"]).iter();
            used.extend(of_service.map(|port| text(&port["targetPort"])));
        }
        for policy in self.documents.of("NetworkPolicy") {
            for rule in items(&policy["spec"]["ingress"]) {
                used.extend(items(&rule["ports"]).iter().map(|port| text(&port["port"])));
            }
        }
        for policy in self.documents.of("AuthorizationPolicy") {
            for rule in items(&policy["spec"]["rules"]) {
                for to in items(&rule["to"]) {
                    used.extend(items(&to["operation"]["ports"]).iter().map(text));
                }
            }
        }
        for port in used {
            if !ports
                .iter()
                .any(|(name, number)| port == *name || port == *number)
            {
                self.error(format!("no port {port} in the pod: {ports:?}"));
            }
        }
        let settings = self.documents.gateway_settings();
        let http = ports.iter().find(|(name, _)| name == "http");
        if settings.get("FLUXLIT_GATEWAY_PORT") != http.map(|(_, number)| number) {
            self.error("FLUXLIT_GATEWAY_PORT is not the port http of the pod");
        }
    }

    /// Every route leads to a port of a Service.
    fn backends(&mut self) {
        let mut backends = Vec::new();
        for ingress in self.documents.of("Ingress") {
            for rule in items(&ingress["spec"]["rules"]) {
                for path in items(&rule["http"]["paths"]) {
                    let service = &path["backend"]["service"];
                    backends.push((text(&service["name"]), text(&service["port"]["name"])));
                }
            }
        }
        for route in self.documents.of("HTTPRoute") {
            for rule in items(&route["spec"]["rules"]) {
                for backend in items(&rule["backendRefs"]) {
                    backends.push((text(&backend["name"]), text(&backend["port"])));
                }
            }
        }
        let short = |host: &Value| text(host).split('.').next().unwrap_or_default().to_owned();
        for service in self.documents.of("VirtualService") {
            for route in items(&service["spec"]["http"]) {
                for destination in items(&route["route"]) {
                    let destination = &destination["destination"];
                    let port = text(&destination["port"]["number"]);
                    backends.push((short(&destination["host"]), port));
                }
            }
        }
        for monitor in self.documents.of("ServiceMonitor") {
            let service = self.documents.one("Service");
            for endpoint in items(&monitor["spec"]["endpoints"]) {
                backends.push((text(&service["metadata"]["name"]), text(&endpoint["port"])));
            }
        }
        for rule in self.documents.of("DestinationRule") {
            let port = text(&self.documents.one("Service")["spec"]["ports"][0]["port"]);
            backends.push((short(&rule["spec"]["host"]), port));
        }
        for (name, port) in backends {
            let services = self.documents.of("Service");
            let Some(service) = services
                .iter()
                .find(|service| service["metadata"]["name"] == name.as_str())
            else {
                self.error(format!("no Service {name}"));
                continue;
            };
            let ports = items(&service["spec"]["ports"]);
            let has_port = |own: &Value| own["name"] == port.as_str() || text(&own["port"]) == port;
            if !ports.iter().any(has_port) {
                self.error(format!("no port {port} in the Service {name}"));
            }
        }
    }

    /// A session exists in one replica only, so with several, something keeps a browser on its own.
    fn affinity(&mut self) {
        let deployment = &self.documents.one("Deployment")["spec"];
        let scaled = self.documents.of("HorizontalPodAutoscaler").into_iter();
        let most = scaled
            .filter_map(|scaler| scaler["spec"]["maxReplicas"].as_u64())
            .max()
            .unwrap_or_else(|| deployment["replicas"].as_u64().unwrap_or(1));
        let documents = self.documents;
        let has = |kind: &str, is_affinity: fn(&Value) -> bool| {
            documents.of(kind).into_iter().any(is_affinity)
        };
        let by_ingress = has("Ingress", |ingress| {
            ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"] == "cookie"
        });
        let by_traefik = has("Service", |service| {
            service["metadata"]["annotations"]["traefik.ingress.kubernetes.io/service.sticky.cookie"]
                == "true"
        });
        let by_route = has("HTTPRoute", |route| {
            let rules = items(&route["spec"]["rules"]);
            rules
                .iter()
                .any(|rule| rule["sessionPersistence"]["type"] == "Cookie")
        });
        // A waypoint has no hash policy.
        let by_mesh = has("DestinationRule", |rule| {
            let cookie = "/spec/trafficPolicy/loadBalancer/consistentHash/httpCookie/name";
            rule.pointer(cookie).is_some()
        }) && !has("Gateway", |gateway| {
            gateway["spec"]["gatewayClassName"] == "istio-waypoint"
        });
        if most > 1 && !(by_ingress || by_traefik || by_route || by_mesh) {
            self.error(format!(
                "{most} replicas, and nothing keeps a browser on one"
            ));
        }
    }

    /// The pod gets longer than everything that must end before it.
    fn stop(&mut self) {
        let settings = self.documents.gateway_settings();
        let seconds = |name: &str| settings.get(name)?.parse::<u64>().ok();
        let (Some(delay), Some(grace)) = (
            seconds("FLUXLIT_DRAIN_DELAY_S"),
            seconds("FLUXLIT_GRACE_PERIOD_S"),
        ) else {
            self.error("FLUXLIT_DRAIN_DELAY_S and FLUXLIT_GRACE_PERIOD_S are not set");
            return;
        };
        let pod = &self.documents.one("Deployment")["spec"]["template"]["spec"];
        let limit = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        // The requests, and then the app that the gateway has started.
        if limit <= delay + 2 * grace {
            self.error(format!(
                "terminationGracePeriodSeconds {limit} is not longer than {delay} + 2 x {grace}"
            ));
        }
        for container in items(&pod["containers"]).iter().skip(1) {
            let command = items(&container["lifecycle"]["preStop"]["exec"]["command"]);
            let wait = command
                .last()
                .map(text)
                .and_then(|text| text.parse::<u64>().ok());
            if !wait.is_some_and(|wait| wait >= delay + grace && wait < limit) {
                self.error(format!(
                    "preStop {command:?} is not between {delay} + {grace} and {limit} seconds"
                ));
            }
        }
    }

    fn probes(&mut self) {
        let settings = self.documents.gateway_settings();
        let admin = settings.get("FLUXLIT_GATEWAY_ADMIN_ADDRESS");
        let port = admin.and_then(|address| address.rsplit(':').next());
        let container = self.documents.gateway_container();
        let mut errors = Vec::new();
        for (probe, path) in [
            ("startupProbe", "readyz"),
            ("readinessProbe", "readyz"),
            ("livenessProbe", "healthz"),
        ] {
            let command = items(&container[probe]["exec"]["command"]);
            let url = command.last().map(text).unwrap_or_default();
            let wanted = format!(":{}/{path}", port.unwrap_or_default());
            if !url.ends_with(&wanted) {
                errors.push(format!("{probe} asks {url}, and not {wanted}"));
            }
        }
        // Longer than Streamlit takes to start, or it would be restarted for ever.
        let startup = &container["startupProbe"];
        let limit = startup["periodSeconds"].as_u64().unwrap_or_default()
            * startup["failureThreshold"].as_u64().unwrap_or_default();
        if limit < 120 {
            errors.push(format!("startupProbe allows only {limit} seconds"));
        }
        self.errors.append(&mut errors);
    }

    fn references(&mut self) {
        for document in self.documents.all() {
            for pod in pods(document) {
                for container in items(&pod["containers"]) {
                    for mount in items(&container["volumeMounts"]) {
                        let volumes = items(&pod["volumes"]);
                        if !volumes.iter().any(|volume| volume["name"] == mount["name"]) {
                            self.error(format!("no volume {}", text(&mount["name"])));
                        }
                    }
                    for source in items(&container["envFrom"]) {
                        let Some(wanted) = source.get("configMapRef") else {
                            continue;
                        };
                        let maps = self.documents.of("ConfigMap");
                        if !maps
                            .iter()
                            .any(|map| map["metadata"]["name"] == wanted["name"])
                        {
                            self.error(format!("no ConfigMap {}", text(&wanted["name"])));
                        }
                    }
                }
            }
        }
    }

    fn network_policies(&mut self) {
        for policy in self.documents.of("NetworkPolicy") {
            for rule in items(&policy["spec"]["ingress"]) {
                let from = items(&rule["from"]);
                let is_narrow = |peer: &Value| {
                    let labels = &peer["namespaceSelector"]["matchLabels"];
                    labels.as_object().is_some_and(|labels| !labels.is_empty())
                };
                if from.is_empty()
                    || !from.iter().all(is_narrow)
                    || items(&rule["ports"]).is_empty()
                {
                    self.error("NetworkPolicy lets everybody in");
                }
            }
        }
    }

    fn security(&mut self, owner: &str, pod: &Value) {
        let mut wanted = vec![
            (pod, "/securityContext/runAsNonRoot", Value::from(true)),
            (
                pod,
                "/securityContext/seccompProfile/type",
                "RuntimeDefault".into(),
            ),
            (pod, "/automountServiceAccountToken", false.into()),
        ];
        for container in items(&pod["containers"]) {
            for (pointer, value) in [
                ("/securityContext/allowPrivilegeEscalation", false.into()),
                ("/securityContext/readOnlyRootFilesystem", true.into()),
                (
                    "/securityContext/capabilities/drop",
                    vec![Value::from("ALL")].into(),
                ),
            ] {
                wanted.push((container, pointer, value));
            }
            if container.pointer("/resources/limits/memory").is_none() {
                self.error(format!("{owner}: no limit of memory"));
            }
        }
        for (value, pointer, wanted) in wanted {
            let found = value.pointer(pointer);
            if found != Some(&wanted) {
                self.error(format!("{owner}: {pointer} is {found:?}, and not {wanted}"));
            }
        }
    }
}

/// Returns the pod of a document.
fn pods(document: &Value) -> Vec<&Value> {
    let pointer = match document["kind"].as_str() {
        Some("Pod") => "/spec",
        Some("Deployment") => "/spec/template/spec",
        Some("CronJob") => "/spec/jobTemplate/spec/template/spec",
        _ => return Vec::new(),
    };
    document.pointer(pointer).into_iter().collect()
}

fn name(document: &Value) -> String {
    format!(
        "{} {}",
        text(&document["kind"]),
        text(&document["metadata"]["name"])
    )
}

/// Returns true if a selector, which must not be empty, selects these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
    })
}
