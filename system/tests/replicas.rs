//! Runs the shipped files of `envoy/dynamic` in front of two gateways with a Streamlit each: affinity, a gateway that stops
//! under load, and updates of the filter, the listener and the gateways while Envoy runs.

#[path = "replicas/browser.rs"]
mod browser;
#[path = "replicas/fleet.rs"]
mod fleet;
#[path = "replicas/load.rs"]
mod load;

use std::path::PathBuf;

use browser::{OpenPage, Page};
use fleet::{BOOTSTRAP, CDS, ECDS, Edge, FILTER, Fleet, HEALTHY, LDS, MOUNT, Replica};
use fluxlit_envoy::Bootstrap;
use fluxlit_support::port::{free_ports, local};
use fluxlit_system::named;
use load::Load;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What a session needs reaches its replica, and a gateway that stops loses no request: its WebSockets are closed with 1012
/// and open again at the other one. A new gateway then takes its place.
#[test]
fn sessions_stay_on_their_replica_until_it_is_replaced() {
    let mut fleet = Fleet::start();
    let [first, second] = pages_on_each(&fleet, 4);

    let (one, other) = (&first[0].page, &second[0].page);
    for _ in 0..10 {
        let statuses = [one.browser(None), one.browser(Some(other))].map(|browser| {
            let upload = one.upload(&browser).expect("a response");
            (upload, one.media(&browser).expect("a response"))
        });
        // With the cookie of the other replica, neither is found.
        assert_eq!(statuses, [(204, 200), (400, 404)]);
    }
    let (page, session) = Page::open(&fleet.edge.visitor).expect("a page");
    drop(session);
    page.reconnect().expect("a WebSocket");

    let load = Load::of_requests(vec![
        fleet.edge.visitor.clone(),
        one.browser(None),
        other.browser(None),
    ]);
    under_load(&fleet.edge, &load);
    let process = i32::try_from(fleet.gateways[0].gateway.service.id()).ok();
    let process = process.and_then(Pid::from_raw).expect("a process id");
    kill_process(process, Signal::TERM).expect("a signal");
    let closed: Vec<_> = first.into_iter().map(OpenPage::close_code).collect();
    let codes: Vec<u16> = closed.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1012; 4], "the code of a service that restarts");
    let gateway = &mut fleet.gateways[0].gateway;
    fleet.edge.wait(
        "the gateway ends",
        || matches!(gateway.service.ended(), Ok(Some(status)) if status.success()),
    );
    under_load(&fleet.edge, &load);
    for (_, page) in closed {
        let (page, _session) = page.move_to_another().expect("a WebSocket");
        assert!(page.is_on(fleet.gateways[1].gateway.address));
    }
    assert!(second.iter().all(OpenPage::is_open));

    let old = fleet.gateways[0].gateway.address.port();
    fleet.gateways[0] = Replica::start();
    let new = fleet.gateways[0].gateway.address.port();
    fleet.edge.change(
        "cds.yaml",
        &format!("port_value: {old}}}"),
        &format!("port_value: {new}}}"),
    );
    fleet.edge.wait_for(HEALTHY, 2);
    let _pages = pages_on_each(&fleet, 1);
    under_load(&fleet.edge, &load);
    assert!(second.iter().all(OpenPage::is_open));
    let (tasks, failures) = load.end();
    assert!(failures.is_empty(), "of {tasks}: {failures:#?}");
}

#[test]
fn updates_lose_nothing_and_rejected_ones_change_nothing() {
    let fleet = Fleet::start();
    let edge = &fleet.edge;
    let open = OpenPage::new(Page::open(&edge.visitor).expect("a page"));
    let load = Load::of_requests(vec![edge.visitor.clone(), open.page.browser(None)])
        .with_pages(edge.visitor.clone());
    let has_security_headers = || {
        let page = edge.visitor.get(&format!("{MOUNT}/"), "");
        !page
            .expect("a page")
            .values("x-content-type-options")
            .is_empty()
    };
    assert!(has_security_headers());
    under_load(edge, &load);

    // A new module with a new configuration.
    let module = edge.new_module();
    let name = module.file_name().expect("a name").to_string_lossy();
    let text = edge.read("ecds.yaml");
    let new = text
        .replace(FILTER, &name)
        .replace("\"security_headers\": true", "\"security_headers\": false");
    assert_ne!(new, text);
    edge.replace("ecds.yaml", &new);
    edge.wait("the new configuration is used", || !has_security_headers());
    edge.wait_for(&format!("{FILTER_UPDATES}.update_success"), 2);
    under_load(edge, &load);
    assert!(open.is_open());

    // What Envoy cannot use is counted, and the last valid content stays.
    let valid = edge.read("ecds.yaml");
    let rejected = format!("{FILTER_UPDATES}.update_rejected");
    for (count, broken) in [
        // Invalid for the filter, no module, no file.
        (1, valid.replace("\"full\"", "\"wrong\"")),
        (2, valid.replace(&*name, "lds.yaml")),
        (3, valid.replace(&*name, "missing.wasm")),
    ] {
        edge.replace("ecds.yaml", &broken);
        edge.wait_for(&rejected, count);
        assert!(!has_security_headers());
    }
    for (file, from, to, counter) in [
        (
            "lds.yaml",
            "stat_prefix: edge\n",
            "stat_prefix: \"\"\n",
            "listener_manager.lds.update_rejected",
        ),
        (
            "cds.yaml",
            "connect_timeout: 2s",
            "connect_timeout: -2s",
            "cluster_manager.cds.update_rejected",
        ),
    ] {
        let valid = edge.read(file);
        edge.change(file, from, to);
        edge.wait_for(counter, 1);
        edge.replace(file, &valid);
    }
    under_load(edge, &load);
    assert!(!has_security_headers());

    // The next valid content is used.
    edge.replace("ecds.yaml", &text);
    edge.wait("the old configuration is used again", has_security_headers);
    edge.change(
        "lds.yaml",
        "max_headers_count: 100",
        "max_headers_count: 50",
    );
    let many = "X-Field: x\r\n".repeat(60);
    edge.wait("the new listener is used", || {
        let response = edge.visitor.get(&format!("{MOUNT}/"), &many);
        response.expect("a response").status == 431
    });
    under_load(edge, &load);
    assert!(open.is_open());

    let (tasks, failures) = load.end();
    assert!(failures.is_empty(), "of {tasks}: {failures:#?}");
}

/// So whatever is guaranteed by that listener is guaranteed by this one.
#[test]
fn the_listener_is_the_shipped_one_with_discovery_affinity_and_retries() {
    let shipped = Bootstrap::shipped();
    let (shipped, bootstrap) = (shipped.value(), yaml(BOOTSTRAP));
    for key in ["admin", "overload_manager"] {
        assert_eq!(bootstrap[key], shipped[key], "{key}");
    }
    let mut listener = yaml(LDS)["resources"][0].take();
    let manager = "/filter_chains/0/filters/1/typed_config";
    let filters = listener
        .pointer_mut(&format!("{manager}/http_filters"))
        .expect("filters");
    let discovery = filters[0]["config_discovery"]
        .as_object()
        .expect("discovery");
    let keys: Vec<&String> = discovery.keys().collect();
    assert_eq!(keys, ["config_source", "type_urls"], "no default_config");
    assert_eq!(filters[1]["name"], "envoy.filters.http.stateful_session");
    let shipped_listener = &shipped["static_resources"]["listeners"][0];
    let shipped_filters = &shipped_listener
        .pointer(&format!("{manager}/http_filters"))
        .expect("filters");
    assert_eq!(filters[0]["name"], shipped_filters[0]["name"]);
    assert_eq!(filters[2], shipped_filters[1]);
    assert_eq!(filters.as_array().map(Vec::len), Some(3));
    *filters = (*shipped_filters).clone();
    let route = format!("{manager}/route_config/virtual_hosts/0/routes/0/route");
    let route = listener.pointer_mut(&route).and_then(Value::as_object_mut);
    assert!(route.expect("a route").remove("retry_policy").is_some());
    listener
        .as_object_mut()
        .expect("a listener")
        .remove("@type");
    assert_eq!(listener, *shipped_listener);

    let mut filter = yaml(ECDS)["resources"][0]["typed_config"].take();
    let mut wanted = shipped_filters[0]["typed_config"].clone();
    let file = "/config/vm_config/code/local/filename";
    assert_eq!(
        filter.pointer(file),
        Some(&Value::from(format!("/etc/envoy/{FILTER}")))
    );
    *filter.pointer_mut(file).expect("a file") = Value::from(FILTER);
    let [own, shipped] = [&mut filter, &mut wanted].map(|filter| {
        let text = filter
            .pointer_mut("/config/configuration/value")
            .expect("a text");
        yaml(text.take().as_str().expect("JSON"))
    });
    assert_eq!(filter, wanted);
    let mut own = own;
    let kept = own
        .as_object_mut()
        .expect("an object")
        .remove("upstream_path");
    assert_eq!((own, kept), (shipped, Some(Value::from("full"))));
}

/// The filter responds by itself outside of the mount, so it runs.
#[test]
fn every_supported_envoy_runs_the_files() {
    let envoys = named("FLUXLIT_TEST_ENVOYS");
    let envoys: Vec<PathBuf> = std::env::split_paths(&envoys).collect();
    assert!(!envoys.is_empty());
    for envoy in envoys {
        let ports = free_ports(2).expect("free ports");
        let edge = Edge::start(&envoy, [local(ports[0]), local(ports[1])]);
        let outside = edge.visitor.get("/elsewhere", "").expect("a response");
        let inside = edge
            .visitor
            .get(&format!("{MOUNT}/"), "")
            .expect("a response");
        let nosniff = inside.values("x-content-type-options");
        assert_eq!(
            (outside.status, inside.status, nosniff),
            (404, 503, vec!["nosniff"]),
            "{}: {}",
            envoy.display(),
            edge.log()
        );
        assert_eq!(edge.stat("cluster.gateway.membership_total"), 2);
        assert!(!edge.log().contains("[warning]"), "{}", edge.log());
    }
    assert!(CDS.contains("FLUXLIT_DRAIN_DELAY_S=10"));
}

/// Opens pages until each replica has this many.
fn pages_on_each(fleet: &Fleet, count: usize) -> [Vec<OpenPage>; 2] {
    let mut pages = [Vec::new(), Vec::new()];
    fleet.edge.wait("pages on each replica", || {
        let open = OpenPage::new(Page::open(&fleet.edge.visitor).expect("a page"));
        let place = |replica: &Replica| open.page.is_on(replica.gateway.address);
        let place = fleet.gateways.iter().position(place);
        let place = place.expect("a replica has the session");
        if pages[place].len() < count {
            pages[place].push(open);
        }
        pages.iter().all(|pages| pages.len() == count)
    });
    pages
}

/// Waits until the load has sent more requests.
fn under_load(edge: &Edge, load: &Load) {
    let until = load.count() + 30;
    edge.wait("the load goes on", || load.count() > until);
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The prefix of Envoy's counters about the configuration of the filter.
const FILTER_UPDATES: &str = "extension_config_discovery.http_filter.fluxlit";
