//! Checks alerts, runbooks and dashboards: each expression is evaluated by a real Prometheus that scrapes a real gateway and a
//! real Envoy with the filter.
//!
//! With `FLUXLIT_WRITE` set, also draws the dashboard of `docs/observability.md` with what that Prometheus returns.

#[path = "monitoring/picture.rs"]
mod picture;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fluxlit_envoy::{Bootstrap, Gateway};
use fluxlit_support::client::get;
use fluxlit_support::envoy::Envoy;
use fluxlit_support::port::{free_ports, local};
use fluxlit_support::service::Service;
use fluxlit_support::wait::wait_until;
use fluxlit_system::visitor::{Visitor, echo};
use fluxlit_system::{app, named};
use picture::{Line, Panel, draw};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const RULES: &str = "helm/fluxlit-edge/files/rules.yaml";

/// Returns all rules.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read(RULES)).expect("YAML");
    let groups = file["groups"].as_array().expect("groups");
    let rules = groups.iter().filter_map(|group| group["rules"].as_array());
    rules.flatten().cloned().collect()
}

fn alerts() -> Vec<Value> {
    let rules = rules().into_iter();
    rules.filter(|rule| rule["alert"].is_string()).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

/// Returns the name and the content of each dashboard.
fn dashboards() -> Vec<(String, Value)> {
    let folder = deploy("helm/fluxlit-edge/files/dashboards");
    let mut dashboards = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the dashboards") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let json = std::fs::read_to_string(&path).expect("the dashboard");
        let json = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{name}: {error}"));
        dashboards.push((name.into_owned(), json));
    }
    dashboards.sort_by(|(one, _), (other, _)| one.cmp(other));
    dashboards
}

fn promtool(arguments: &[&str], file: &Path) {
    let mut command = Command::new(named("FLUXLIT_TEST_PROMTOOL"));
    let output = command
        .args(arguments)
        .arg(file)
        .output()
        .expect("promtool");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn alerts_fire_when_they_should() {
    promtool(&["check", "rules"], &deploy(RULES));
    promtool(&["test", "rules"], &deploy("monitoring/rules_test.yaml"));
    let tests: Value = serde_saphyr::from_str(&read("monitoring/rules_test.yaml")).expect("YAML");
    let mut fires = BTreeSet::new();
    let mut is_silent = BTreeSet::new();
    for test in tests["tests"].as_array().expect("tests") {
        for expectation in test["alert_rule_test"].as_array().expect("expectations") {
            let expected = expectation["exp_alerts"].as_array().expect("alerts");
            let set = if expected.is_empty() {
                &mut is_silent
            } else {
                &mut fires
            };
            set.insert(text(expectation, "alertname").to_owned());
        }
    }
    let all: BTreeSet<String> = alerts()
        .iter()
        .map(|alert| text(alert, "alert").to_owned())
        .collect();
    assert_eq!(all.len(), 12, "{all:?}");
    assert_eq!(fires, all, "alerts with a test that they fire");
    assert_eq!(is_silent, all, "alerts with a test that they do not fire");
}

/// Each alert leads to its runbook, and each runbook belongs to an alert.
#[test]
fn every_alert_has_a_runbook() {
    let page = read("monitoring/runbooks.md");
    let mut sections = BTreeSet::new();
    for section in page.split("\n## ").skip(1) {
        let (name, text) = section.split_once('\n').expect("a section");
        let headings: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .collect();
        assert_eq!(
            headings,
            ["Meaning", "Impact", "Diagnosis", "Mitigation"],
            "{name}"
        );
        for part in text.split("### ").skip(1) {
            assert!(
                part.lines().skip(1).any(|line| line.len() > 20),
                "{name}: {part:?} is empty"
            );
        }
        sections.insert(name.to_owned());
    }
    for alert in alerts() {
        let name = text(&alert, "alert");
        assert!(sections.remove(name), "{name} has no runbook");
        let link = format!("deploy/monitoring/runbooks.md#{}", name.to_lowercase());
        assert_eq!(text(&alert["annotations"], "runbook"), link);
        assert!(
            ["page", "ticket"].contains(&text(&alert["labels"], "severity")),
            "{name}"
        );
        assert!(!text(&alert["annotations"], "summary").is_empty());
        assert!(!text(&alert["annotations"], "description").is_empty());
    }
    assert_eq!(sections, BTreeSet::new(), "runbooks without an alert");
}

#[test]
fn dashboards_are_well_formed() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(
            uids.insert(text(&dashboard, "uid").to_owned()),
            "{name}: its uid occurs twice"
        );
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = text(panel, "title");
            assert!(
                ids.insert(panel["id"].as_u64()),
                "{name}: {title}: its id occurs twice"
            );
            let place = |field: &str| panel["gridPos"][field].as_u64().expect("a number");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(
                        x < 24 && cells.insert((x, y)),
                        "{name}: {title} covers another panel"
                    );
                }
            }
            if text(panel, "type") == "text" {
                assert!(text(&panel["options"], "content").len() > 100, "{name}");
            } else {
                assert!(text(panel, "description").len() > 10, "{name}: {title}");
                assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty());
                assert!(
                    panel["targets"]
                        .as_array()
                        .is_some_and(|all| !all.is_empty()),
                    "{name}: {title}"
                );
            }
        }
    }
    assert_eq!(uids.len(), 4);
}

/// The autoscaler of the chart reads the metric that the adapter serves.
#[test]
fn the_adapter_serves_what_the_autoscaler_reads() {
    let adapter: Value =
        serde_saphyr::from_str(&read("monitoring/prometheus-adapter.yaml")).expect("YAML");
    let series = text(&adapter["rules"]["custom"][0], "seriesQuery");
    let (metric, _) = series.split_once('{').expect("labels");
    let template = read("helm/fluxlit-edge/templates/horizontalpodautoscaler.yaml");
    assert!(
        template.contains(&format!("metric: {{name: {metric}}}")),
        "{metric}"
    );
}

/// A gateway, an Envoy with the filter in front of it, and a Prometheus that scrapes both.
struct Stack {
    gateway: Gateway,
    admin: SocketAddr,
    envoy_listener: SocketAddr,
    prometheus: SocketAddr,
    _envoy: Envoy,
    _service: Service,
    _folder: tempfile::TempDir,
}

impl Stack {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = free_ports(3).expect("free ports");
        let [admin, listener, prometheus] = ports[..] else {
            panic!("three ports");
        };
        let settings = [
            (
                "FLUXLIT_STREAMLIT_UPSTREAM",
                format!("http://{}", app::start()),
            ),
            (
                "FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS",
                "true".to_owned(),
            ),
            ("FLUXLIT_GATEWAY_ADMIN_ADDRESS", local(admin).to_string()),
            ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "false".to_owned()),
            ("FLUXLIT_GATEWAY_ALLOWED_ORIGINS", "*".to_owned()),
            // It goes on serving when it is told to stop, so that this can be scraped.
            ("FLUXLIT_DRAIN_DELAY_S", "600".to_owned()),
        ];
        let gateway = Gateway::start(
            &named("FLUXLIT_TEST_GATEWAY"),
            None,
            settings,
            folder.path(),
        );
        let gateway = gateway.expect("the gateway starts");
        assert!(gateway.wait_until_ready("", LIMIT), "the app is ready");
        let bootstrap = Bootstrap::shipped()
            .listening_on(local(listener))
            .forwarding_to(gateway.address)
            .with_module(&named("FLUXLIT_TEST_FILTER"));
        let envoy = named("FLUXLIT_TEST_ENVOY");
        let envoy = bootstrap.start(&envoy, folder.path(), &["--concurrency", "1"]);
        let envoy = envoy.expect("Envoy starts");
        // The shipped file, but for the addresses and the time between scrapes.
        let mut config = read("monitoring/prometheus.yml");
        for (old, new) in [
            (
                "scrape_interval: 15s",
                "scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s",
            ),
            ("127.0.0.1:9901", &local(admin).to_string()),
            ("127.0.0.1:9902", &envoy.admin().address.to_string()),
        ] {
            assert_eq!(config.matches(old).count(), 1, "{old}");
            config = config.replace(old, new);
        }
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        std::fs::copy(deploy(RULES), folder.path().join("rules.yaml")).expect("copied");
        promtool(&["check", "config"], &file);
        let mut command = Command::new(named("FLUXLIT_TEST_PROMETHEUS"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={}", local(prometheus)));
        let log = folder.path().join("prometheus.log");
        let service = Service::start("Prometheus", command, &log, |_| {
            get(local(prometheus), "/-/ready", None).is_ok_and(|response| response.status == 200)
        });
        Self {
            gateway,
            admin: local(admin),
            envoy_listener: local(listener),
            prometheus: local(prometheus),
            _envoy: envoy,
            _service: service.expect("Prometheus starts"),
            _folder: folder,
        }
    }

    /// Sends a page, a forged header, a WebSocket, and what is rejected, through Envoy and past it.
    fn visit(&self) {
        let from = IpAddr::from(Ipv4Addr::LOCALHOST);
        for (front, mount) in [
            (self.envoy_listener, "/apps/my-app"),
            (self.gateway.address, ""),
        ] {
            let visitor = Visitor {
                from,
                front,
                host: "portal.example.com".to_owned(),
                trusted: None,
                cookie: None,
            };
            let forged = "X-Forwarded-For: 192.0.2.1\r\n";
            let page = visitor.get(&format!("{mount}/"), forged).expect("a page");
            assert_eq!(page.status, 200, "{}", page.text());
            let rejected = visitor
                .get(&format!("{mount}/..%2fx"), "")
                .expect("a response");
            assert_eq!(rejected.status, 400);
            let upload = visitor
                .post(&format!("{mount}/upload"), 64, true)
                .expect("a response");
            assert_eq!(upload.status, 200);
            let (opened, mut socket) = visitor
                .socket(
                    &format!("{mount}/_stcore/stream"),
                    "http://portal.example.com",
                )
                .expect("a response");
            assert_eq!(opened.status, 101, "{}", opened.text());
            assert_eq!(echo(&mut *socket, "hello").expect("an echo"), "hello");
        }
    }

    fn api(&self, path: &str) -> Value {
        let response = get(self.prometheus, path, None).expect("a response");
        let answer: Value = serde_json::from_str(&response.text()).expect("JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// Evaluates an expression; returns true if there is a number.
    fn has_data(&self, expression: &str) -> bool {
        let data = self.api(&format!("/api/v1/query?query={}", encoded(expression)));
        let results = data["result"].as_array().expect("a vector");
        results.iter().any(|series| {
            let value = series["value"][1].as_str().unwrap_or_default();
            value.parse::<f64>().is_ok_and(|value| !value.is_nan())
        })
    }

    /// Returns the panel with the lines of the last minute and a half.
    fn panel(&self, panel: &Value) -> Panel {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.expect("a time after 1970").as_secs();
        let range = format!("start={}&end={now}&step=1", now - PICTURE.as_secs());
        let mut lines = Vec::new();
        for target in panel["targets"].as_array().expect("targets") {
            let query = encoded(&ready(text(target, "expr"), "15s"));
            let data = self.api(&format!("/api/v1/query_range?query={query}&{range}"));
            for series in data["result"].as_array().expect("a matrix") {
                let mut name = target["legendFormat"].as_str().unwrap_or("").to_owned();
                for (label, value) in series["metric"].as_object().expect("labels") {
                    name = name.replace(
                        &format!("{{{{{label}}}}}"),
                        value.as_str().unwrap_or_default(),
                    );
                }
                // A sum over everything has no such label.
                if name.starts_with("{{") {
                    name = "all".to_owned();
                }
                // The port of the shipped file.
                let name = name.replace(&self.admin.to_string(), "127.0.0.1:9901");
                let points = series["values"].as_array().expect("values");
                let points = points.iter().filter_map(|point| {
                    let value: f64 = point[1].as_str()?.parse().ok()?;
                    value.is_finite().then_some((point[0].as_f64()?, value))
                });
                lines.push(Line {
                    name,
                    points: points.collect(),
                });
            }
        }
        let place = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_f64());
        Panel {
            title: text(panel, "title").to_owned(),
            unit: panel["fieldConfig"]["defaults"]["unit"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            place: place.map(|number| number.expect("a number")),
            lines,
        }
    }

    fn names(&self) -> BTreeSet<String> {
        let data = self.api("/api/v1/label/__name__/values");
        let names = data.as_array().expect("names").iter();
        names
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect()
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Returns the expression of a panel with values for Grafana's variables.
fn ready(expression: &str, interval: &str) -> String {
    expression
        .replace("$__rate_interval", interval)
        .replace("$job", ".+")
        // There are too few minutes of data for half minutes.
        .replace(":30s]", ":1s]")
}

/// Draws the panels with lines of the dashboard that the documentation shows, and compares the panels with that picture.
fn check_picture(stack: &Stack) {
    let dashboards = dashboards();
    let shown = dashboards.iter().find(|(name, _)| name == SHOWN);
    let (_, dashboard) = shown.expect("the dashboard");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let of_lines: Vec<&Value> = panels
        .filter(|panel| panel["type"] == "timeseries")
        .collect();
    let file = deploy("../docs/dashboard.svg");
    if std::env::var_os("FLUXLIT_WRITE").is_some() {
        // More and less traffic, until there is enough for the picture.
        let mut round = 0;
        let started = SystemTime::now();
        let drawn = wait_until(PICTURE * 2, || {
            round += 1;
            for _ in 0..(round / 8) % 5 {
                stack.visit();
            }
            started.elapsed().is_ok_and(|elapsed| elapsed > PICTURE)
        });
        assert!(drawn, "there is not enough data for the picture");
    }
    let mut panels = Vec::new();
    let has_points = |panel: &Panel| panel.lines.iter().any(|line| !line.points.is_empty());
    let have_points = wait_until(LIMIT, || {
        stack.visit();
        panels = of_lines.iter().map(|panel| stack.panel(panel)).collect();
        panels.iter().all(has_points)
    });
    assert!(have_points, "a panel has no line: {panels:?}");
    let picture = draw(text(dashboard, "title"), &panels);
    if std::env::var_os("FLUXLIT_WRITE").is_some() {
        std::fs::write(&file, &picture).expect("written");
    }
    let titles = |svg: &str| -> Vec<String> {
        let texts = svg.split("font-weight=\"600\"").skip(1);
        texts
            .filter_map(|text| Some(text.split_once('>')?.1.split_once('<')?.0.to_owned()))
            .collect()
    };
    let published = std::fs::read_to_string(&file).expect("docs/dashboard.svg");
    assert_eq!(
        titles(&published),
        titles(&picture),
        "docs/dashboard.svg shows other panels: run this step with FLUXLIT_WRITE=1"
    );
}

/// The dashboard that `docs/observability.md` shows, and the time in its picture.
const SHOWN: &str = "traffic";
const PICTURE: Duration = Duration::from_secs(90);

/// Returns the names of metrics in an expression that belong to this project, to Envoy or to Kubernetes.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    let words = expression.split(|character| !is_word(character));
    let known = ["fluxlit_", "fluxlit:", "envoy_", "process_", "kube_"];
    words
        .filter(|word| known.iter().any(|prefix| word.starts_with(prefix)))
        // Labels of Envoy, and the beginnings of names in patterns.
        .filter(|word| {
            ![
                "envoy_http_conn_manager_prefix",
                "envoy_response_code_class",
                "envoy_wasm_",
                "fluxlit_requests_",
            ]
            .contains(word)
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_expression_returns_data() {
    let stack = Stack::start();
    let scraped = wait_until(LIMIT, || {
        stack.has_data("up{job=\"fluxlit-gateway\"} == 1")
            && stack.has_data("up{job=\"envoy\"} == 1")
    });
    assert!(scraped, "Prometheus has scraped both");
    let mut expressions = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = text(target, "expr");
                let ready = ready(expression, "5m");
                let place = format!("{name}: {}: {expression}", text(panel, "title"));
                expressions.push((place, ready));
            }
        }
    }
    assert!(expressions.len() > 50, "{}", expressions.len());
    let has_all = wait_until(LIMIT, || {
        stack.visit();
        expressions.retain(|(_, expression)| !stack.has_data(expression));
        expressions.is_empty()
    });
    assert!(has_all, "without data: {expressions:#?}");
    assert!(
        !stack.has_data("fluxlit_gateway_no_such_metric"),
        "a wrong name has no data"
    );
    check_picture(&stack);

    // Metrics that exist only while the gateway stops.
    let process = i32::try_from(stack.gateway.service.id())
        .ok()
        .and_then(Pid::from_raw);
    kill_process(process.expect("a process"), Signal::TERM).expect("a signal");
    let stops = wait_until(LIMIT, || stack.has_data("fluxlit_gateway_stopping_seconds"));
    assert!(stops, "the gateway says that it stops");

    let known = stack.names();
    for rule in rules() {
        for metric in metrics(text(&rule, "expr")) {
            let is_known = known.contains(&metric) || OF_KUBE_STATE_METRICS.contains(&&*metric);
            assert!(is_known, "{metric} does not exist: {rule}");
        }
    }
    assert_eq!(metrics("rate(fluxlit_x{job=\"a\"}[5m]) / kube_y").len(), 2);
    // The rules are those that Prometheus has evaluated.
    let evaluated = wait_until(LIMIT, || {
        let groups = stack.api("/api/v1/rules");
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        let all: Vec<Value> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect();
        for rule in &all {
            assert_ne!(rule["health"], "err", "{rule}");
        }
        all.len() == rules().len() && all.iter().all(|rule| rule["health"] == "ok")
    });
    assert!(evaluated, "every rule has been evaluated");
}

/// Metrics of kube-state-metrics, which runs in clusters only: its documentation lists them under Job.
const OF_KUBE_STATE_METRICS: [&str; 2] = ["kube_job_status_failed", "kube_job_status_start_time"];
