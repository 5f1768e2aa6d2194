//! Does a connection go through a network filter as in Envoy?

use std::time::Duration;

use host_test::{ClosedBy, Flow, Outcome, Properties, Side};

use crate::guest::{plugin, texts};

fn passed(outcome: &Outcome) -> [String; 2] {
    [&outcome.upstream, &outcome.downstream].map(|message| {
        message.as_ref().map_or_else(
            || "none".to_owned(),
            |message| String::from_utf8_lossy(&message.body).into_owned(),
        )
    })
}

#[test]
fn without_callbacks_everything_passes() {
    let plugin = plugin("");
    let mut connection = plugin.connection(Properties::default());
    assert_eq!(
        connection.downstream_data(b"a".to_vec(), false),
        Flow::Continue
    );
    assert_eq!(
        connection.upstream_data(b"b".to_vec(), true),
        Flow::Continue
    );
    assert_eq!(passed(&connection.finish()), ["a", "b"]);
}

#[test]
fn held_data_are_seen_again_and_may_be_continued_later() {
    let plugin = plugin(
        r#"(global $connection (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $tick (i32.const 10))))
        (func (export "proxy_on_new_connection") (param i32) (result i32)
            (global.set $connection (local.get 0)) i32.const 0)
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
            (drop (call $buffer (i32.const 2) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
            (call $say_result) i32.const 1)
        (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
            (drop (call $buffer (i32.const 3) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
            (call $say_result) i32.const 1)
        (func (export "proxy_on_tick") (param i32)
            (drop (call $effective (global.get $connection)))
            ;; The client's data, then the upstream's, which Envoy cannot continue; a request is none of a connection.
            (call $report (call $continue (i32.const 2)))
            (call $report (i32.eq (call $continue (i32.const 3)) (i32.const 12)))
            (call $report (call $continue (i32.const 1))))"#,
    );
    let mut connection = plugin.connection(Properties::default());
    assert_eq!(
        connection.downstream_data(b"a".to_vec(), false),
        Flow::Paused
    );
    connection.downstream_data(b"b".to_vec(), false);
    connection.upstream_data(b"c".to_vec(), false);
    connection.upstream_data(b"d".to_vec(), false);
    plugin.advance(Duration::from_millis(10));
    assert_eq!(texts(&plugin.logs()), "0 1 0");
    assert_eq!(connection.flow(Side::Request), Flow::Continue);
    assert_eq!(connection.flow(Side::Response), Flow::Paused);
    let outcome = connection.finish();
    assert_eq!(texts(&outcome.logs), "a ab c cd");
    assert_eq!(passed(&outcome), ["ab", "none"]);
    assert_eq!(outcome.paused, [Side::Response]);
}

#[test]
fn a_held_connection_holds_back_its_data() {
    let plugin = plugin(
        r#"(global $connection (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $tick (i32.const 10))))
        (func (export "proxy_on_new_connection") (param i32) (result i32)
            (global.set $connection (local.get 0)) i32.const 1)
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
            (call $report (local.get 1)) i32.const 0)
        (func (export "proxy_on_tick") (param i32)
            (drop (call $effective (global.get $connection)))
            (drop (call $continue (i32.const 2))))"#,
    );
    let mut connection = plugin.connection(Properties::default());
    assert_eq!(
        connection.downstream_data(b"a".to_vec(), false),
        Flow::Paused
    );
    plugin.advance(Duration::from_millis(10));
    assert_eq!(connection.flow(Side::Request), Flow::Continue);
    connection.downstream_data(b"bc".to_vec(), false);
    let outcome = connection.finish();
    assert_eq!(texts(&outcome.logs), "1 2");
    assert_eq!(passed(&outcome)[0], "abc");
}

#[test]
fn a_connection_ends_with_done_log_delete() {
    let plugin = plugin(
        r#"(func (export "proxy_on_upstream_connection_close") (param i32 i32) (call $report (local.get 1)))
        (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $report (local.get 1)))
        (func (export "proxy_on_done") (param i32) (result i32) (call $say (i32.const 32) (i32.const 5)) i32.const 1)
        (func (export "proxy_on_log") (param i32) (call $say (i32.const 48) (i32.const 6)))
        (func (export "proxy_on_delete") (param i32) (call $say (i32.const 16) (i32.const 5)))"#,
    );
    let mut connection = plugin.connection(Properties::default());
    connection.upstream_data(Vec::new(), true);
    connection.close(ClosedBy::Remote);
    connection.close(ClosedBy::Local);
    assert_eq!(connection.flow(Side::Request), Flow::Reset);
    let outcome = connection.finish();
    assert_eq!(texts(&outcome.logs), "0 2 value absent x-one");
    assert_eq!(plugin.contexts(), 0);
}

#[test]
fn a_filter_closes() {
    let plugin = plugin(
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
            (drop (call $reply (i32.const 403) (i32.const 32) (i32.const 5) (i32.const 32) (i32.const 5)
                (i32.const 0) (i32.const 0) (i32.const -1)))
            (call $report (call $close (i32.const 2))) i32.const 0)
        (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $report (local.get 1)))"#,
    );
    let mut connection = plugin.connection(Properties::default());
    assert_eq!(
        connection.downstream_data(b"a".to_vec(), false),
        Flow::Reset
    );
    assert_eq!(connection.upstream_data(b"b".to_vec(), false), Flow::Reset);
    let outcome = connection.finish();
    assert_eq!(texts(&outcome.logs), "0 1");
    assert!(outcome.is_reset);
    assert_eq!(outcome.local_reply, None);
}

#[test]
fn a_filter_that_fails_is_closed_for() {
    let plugin = plugin(
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) unreachable)"#,
    );
    let mut connection = plugin.connection(Properties::default());
    assert_eq!(
        connection.downstream_data(b"a".to_vec(), false),
        Flow::Reset
    );
    let outcome = connection.finish();
    assert!(outcome.failure.is_some());
    assert_eq!(passed(&outcome), ["", "none"]);
}

#[test]
fn data_are_no_body() {
    // In an HTTP stream there are no connection's data, and the other way round.
    let plugin = plugin(
        r#"(func $both
            (call $report (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 5)))
            (call $report (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 5))))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) (call $both) i32.const 0)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $both) i32.const 0)"#,
    );
    let mut connection = plugin.connection(Properties::default());
    connection.downstream_data(b"a".to_vec(), false);
    let outcome = connection.finish();
    assert_eq!(texts(&outcome.logs), "2 0");
    assert_eq!(passed(&outcome)[0], "valuea");
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(crate::guest::request(), false);
    stream.request_body(b"a".to_vec(), true);
    assert_eq!(texts(&stream.finish().logs), "0 2");
}
