//! Builds guest modules from the callbacks that a test is about.
//!
//! A guest is written in WebAssembly's text format with the shorthands of [`shorthand`](super::shorthand), and needs no
//! wasm target. It gets an ABI marker, a memory, an allocator and the imports. `$log_digit` logs a status as one digit, so
//! that a test reads the statuses from the log.

use host_test::event::LogLine;
use host_test::{Filter, HeaderMap, Outcome, Plugin, Properties, StartOptions, lines};

use super::shorthand::expand;

/// The bytes of a guest with these callbacks.
pub(crate) fn module(callbacks: &str) -> Vec<u8> {
    bare_module(&format!("{FRAME} {callbacks}"))
}

/// The bytes of a module with these fields and nothing else.
pub(crate) fn bare_module(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {})", expand(fields))).expect("the text is valid")
}

/// Loads a guest with these callbacks.
pub(crate) fn filter(callbacks: &str) -> Filter {
    Filter::from_bytes(&module(callbacks)).expect("the guest loads")
}

/// Starts a guest with these callbacks.
pub(crate) fn plugin(callbacks: &str) -> Plugin {
    start(callbacks, StartOptions::default())
}

/// Loads a module with these fields and nothing else.
pub(crate) fn bare_filter(fields: &str) -> Filter {
    Filter::from_bytes(&bare_module(fields)).expect("the module loads")
}

/// Starts a guest with these callbacks and options.
pub(crate) fn start(callbacks: &str, options: StartOptions) -> Plugin {
    filter(callbacks).start(options).expect("the guest starts")
}

/// Sends a request and its response, both without a body.
pub(crate) fn exchange(plugin: &Plugin) -> Outcome {
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), true);
    stream.response_headers(lines(&[(":status", "200"), ("x-up", "1")]), true);
    stream.finish()
}

/// The headers of a request. `x-one` has two lines, `first` and `second`.
pub(crate) fn request() -> HeaderMap {
    lines(&[
        (":authority", "app.example"),
        (":path", "/a"),
        (":method", "GET"),
        (":scheme", "http"),
        ("x-one", "first"),
        ("x-one", "second"),
    ])
}

/// The texts of log lines, joined by spaces.
pub(crate) fn texts(logs: &[LogLine]) -> String {
    let texts: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
    texts.join(" ")
}

/// Memory: 0 to 7 results of host functions (`@to_result`), 8 the digit to log, 128 to 1023 free for the test, from 1024
/// on what the allocator gives, from 61440 on the texts (`@"text"`).
const FRAME: &str = r#"
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_size" (func $size (param i32 i32) (result i32)))
    (import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
    (import "env" "proxy_done" (func $done (result i32)))
    (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
    (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
    (import "env" "proxy_get_metric" (func $metric (param i32 i32) (result i32)))
    (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_call" (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
    (import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
    (import "env" "proxy_get_shared_data" (func $data (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_shared_data" (func $set_data (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
    (import "env" "proxy_resolve_shared_queue" (func $resolve (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_unstable" "random_get" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
        (global.get $next)
        (global.set $next (i32.add (global.get $next) (local.get $size))))
    (func $log_digit (param $digit i32)
        (i32.store8 (i32.const 8) (i32.add (i32.const 48) (local.get $digit)))
        (drop (call $log (i32.const 2) (i32.const 8) (i32.const 1))))
    (func $log_text (param $address i32) (param $length i32)
        (drop (call $log (i32.const 2) (local.get $address) (local.get $length))))
    (func $log_number (param $number i32)
        (if (i32.ge_u (local.get $number) (i32.const 10))
            (then (call $log_number (i32.div_u (local.get $number) (i32.const 10)))))
        (call $log_digit (i32.rem_u (local.get $number) (i32.const 10))))
    (func $log_result (call $log_text @result))
"#;
