//! Tests that a connection passes a network filter as in Envoy.

use std::time::Duration;

use host_test::connection::ClosedBy;
use host_test::event::Side;
use host_test::{Flow, Outcome, Properties};

use crate::support::guest::{plugin, request, texts};

/// The data that reached the upstream and the client, or `none`.
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
fn held_data_is_passed_again_and_can_be_continued_later() {
    let plugin = plugin(
        r#"(global $connection (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $tick (i32.const 10))))
        (func (export "proxy_on_new_connection") (param i32) (result i32)
            (global.set $connection (local.get 0)) i32.const 0)
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
            (drop (call $buffer (i32.const 2) (i32.const 0) (i32.const -1) @to_result))
            (call $log_result) i32.const 1)
        (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
            (drop (call $buffer (i32.const 3) (i32.const 0) (i32.const -1) @to_result))
            (call $log_result) i32.const 1)
        (func (export "proxy_on_tick") (param i32)
            (drop (call $effective (global.get $connection)))
            ;; The client's data. Then the upstream's, which Envoy cannot continue. Then a response, which a connection does not have.
            (call $log_digit (call $continue (i32.const 2)))
            (call $log_digit (i32.eq (call $continue (i32.const 3)) (i32.const 12)))
            (call $log_digit (call $continue (i32.const 1))))"#,
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
    assert_eq!(connection.flow(Side::Request), Flow::Continue);
    assert_eq!(connection.flow(Side::Response), Flow::Paused);
    let outcome = connection.finish();
    assert_eq!(texts(&outcome.logs), "a ab c cd 0 1 0");
    assert_eq!(passed(&outcome), ["ab", "none"]);
    assert_eq!(outcome.paused, [Side::Response]);
}

#[test]
fn a_held_connection_holds_its_data() {
    let plugin = plugin(
        r#"(global $connection (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $tick (i32.const 10))))
        (func (export "proxy_on_new_connection") (param i32) (result i32)
            (global.set $connection (local.get 0)) i32.const 1)
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
            (call $log_digit (local.get 1)) i32.const 0)
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
        r#"(func (export "proxy_on_upstream_connection_close") (param i32 i32) (call $log_digit (local.get 1)))
        (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $log_digit (local.get 1)))
        (func (export "proxy_on_done") (param i32) (result i32) (call $log_text @"value") i32.const 1)
        (func (export "proxy_on_log") (param i32) (call $log_text @"absent"))
        (func (export "proxy_on_delete") (param i32) (call $log_text @"x-one"))"#,
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
fn a_filter_closes_a_connection() {
    let plugin = plugin(
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
            (drop (call $reply (i32.const 403) @"value" @"value"
                (i32.const 0) (i32.const 0) (i32.const -1)))
            (call $log_digit (call $close (i32.const 2))) i32.const 0)
        (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $log_digit (local.get 1)))"#,
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
fn a_failed_filter_closes_the_connection() {
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
fn connection_data_and_bodies_have_different_buffers() {
    // An HTTP stream has no buffer of connection data, and a connection no buffer of a body.
    let plugin = plugin(
        r#"(func $both
            (call $log_digit (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) @"value"))
            (call $log_digit (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 0) @"value")))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) (call $both) i32.const 0)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $both) i32.const 0)"#,
    );
    let mut connection = plugin.connection(Properties::default());
    connection.downstream_data(b"a".to_vec(), false);
    let outcome = connection.finish();
    assert_eq!(texts(&outcome.logs), "2 0");
    assert_eq!(passed(&outcome)[0], "valuea");
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), false);
    stream.request_body(b"a".to_vec(), true);
    assert_eq!(texts(&stream.finish().logs), "0 2");
}
