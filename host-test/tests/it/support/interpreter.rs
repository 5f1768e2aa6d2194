//! Runs byte programs that call any import with any arguments in any callback.
//!
//! The guest reads the program from a request header and runs a part of it in each callback. One byte selects an import,
//! and the bytes after it are the arguments. One more value ends the callback, and the byte after it is the callback's
//! return value. Each call is made once. Whatever the program does must end as a status or as a failure of the guest; the
//! host must continue.
//!
//! The fuzz target `imports` includes this file, so it uses the public API of the host only.

use std::time::Duration;

use host_test::connection::ClosedBy;
use host_test::vm::{CallResponse, Cluster, DelayedResponse, FailurePolicy, GrpcEvent};
use host_test::{Filter, HeaderMap, Properties, StartOptions, lines};

/// Loads the guest that runs programs.
pub(crate) fn filter() -> Filter {
    let (mut import_text, mut cases, mut labels) = (String::new(), String::new(), String::new());
    let imports = imports();
    for (number, (module, name, parameters)) in imports.iter().enumerate() {
        import_text.push_str(&format!(
            "(import \"{module}\" \"{name}\" (func $import{number} (param {parameters}) (result i32)))\n"
        ));
        labels.push_str(&format!(" {number}"));
        let mut offset = 1;
        let mut arguments = String::new();
        for kind in parameters.split_whitespace() {
            arguments.push_str(&format!("({kind}.load offset={offset} (local.get $here))"));
            offset += if kind == "i64" { 8 } else { 4 };
        }
        cases.push_str(&format!(
            ") (global.set $at (i32.add (local.get $here) (i32.const {offset}))) (drop (call $import{number} {arguments})) (br $next)\n"
        ));
    }
    let end_of_callback = imports.len();
    labels.push_str(&format!(" {end_of_callback}"));
    let blocks = "(block ".repeat(imports.len() + 1);
    let callbacks: String = CALLBACKS
        .iter()
        .map(|(name, parameters, result)| {
            let (result, body) = if *result {
                ("(result i32)", "(call $run)")
            } else {
                ("", "(drop (call $run))")
            };
            format!("(func (export \"{name}\") (param {parameters}) {result} {body})\n")
        })
        .collect();
    let text = format!(
        r#"(module {import_text}
        (memory (export "memory") 1)
        ;; The rest of the program is at $at to $end. Memory that the host asks for is after the program.
        (global $at (mut i32) (i32.const {PROGRAM}))
        (global $end (mut i32) (i32.const 0))
        (global $free (mut i32) (i32.const {PROGRAM}))
        (data (i32.const 16) "program")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) global.get $free)
        (func $run (result i32) (local $here i32)
            (block $done (loop $next
                (local.set $here (global.get $at))
                (br_if $done (i32.ge_u (local.get $here) (global.get $end)))
                {blocks} (br_table {labels} (i32.rem_u (i32.load8_u (local.get $here)) (i32.const {choices}))) {cases}
                ) (global.set $at (i32.add (local.get $here) (i32.const 2)))
                (return (i32.load8_u offset=1 (local.get $here)))))
            i32.const 0)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.eqz (global.get $end)) (then
                (drop (call $import{get} (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 0) (i32.const 4)))
                (global.set $end (i32.add (i32.const {PROGRAM}) (i32.load (i32.const 4))))
                (global.set $free (i32.const {FREE}))))
            (call $run))
        {callbacks})"#,
        choices = imports.len() + 1,
        get = imports
            .iter()
            .position(|(_, name, _)| *name == "proxy_get_header_map_value")
            .expect("an import"),
    );
    Filter::from_bytes(&wat::parse_str(&text).expect("the text is valid")).expect("it loads")
}

/// Runs a program in the callbacks of two streams and a connection.
pub(crate) fn run(filter: &Filter, program: &[u8]) {
    let answers = vec![DelayedResponse {
        delay: Duration::ZERO,
        response: CallResponse::Grpc(vec![GrpcEvent::Message(b"m".to_vec())]),
    }];
    let plugin = filter
        .start(StartOptions {
            fuel_per_callback: 200_000,
            failure_policy: FailurePolicy::Reload {
                backoff: Duration::ZERO,
            },
            clusters: vec![Cluster {
                name: "p".to_owned(),
                responses: answers,
            }],
            trace: true,
            ..StartOptions::default()
        })
        .expect("the guest starts without a program");
    let mut headers = HeaderMap::default();
    headers.add(b":path", b"/");
    headers.add(b"program", program);
    for _ in 0..2 {
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(headers.clone(), false);
        stream.request_body(b"body".to_vec(), false);
        stream.request_trailers(lines(&[("a", "b")]));
        stream.response_headers(lines(&[(":status", "200")]), false);
        stream.response_body(b"body".to_vec(), false);
        stream.response_trailers(lines(&[("c", "d")]));
        plugin.process().advance_to_next(Duration::from_secs(1));
        stream.finish();
    }
    let mut connection = plugin.connection(Properties::default());
    connection.downstream_data(b"data".to_vec(), false);
    connection.upstream_data(b"data".to_vec(), true);
    plugin.process().advance_to_next(Duration::from_secs(1));
    connection.close(ClosedBy::Remote);
    connection.finish();
    // A plugin whose VM has failed cannot be stopped; that is not what is tested here.
    let _ = plugin.stop();
}

/// Address of the program.
const PROGRAM: u32 = 8192;

/// Address at which the host stores results, after the longest program.
const FREE: u32 = 40_000;

/// Name, parameters, and true if there is a result.
const CALLBACKS: [(&str, &str, bool); 20] = [
    ("proxy_on_new_connection", "i32", true),
    ("proxy_on_downstream_data", "i32 i32 i32", true),
    ("proxy_on_upstream_data", "i32 i32 i32", true),
    ("proxy_on_downstream_connection_close", "i32 i32", false),
    ("proxy_on_upstream_connection_close", "i32 i32", false),
    ("proxy_on_request_body", "i32 i32 i32", true),
    ("proxy_on_request_trailers", "i32 i32", true),
    ("proxy_on_response_headers", "i32 i32 i32", true),
    ("proxy_on_response_body", "i32 i32 i32", true),
    ("proxy_on_response_trailers", "i32 i32", true),
    ("proxy_on_http_call_response", "i32 i32 i32 i32 i32", false),
    ("proxy_on_grpc_receive", "i32 i32 i32", false),
    ("proxy_on_grpc_close", "i32 i32 i32", false),
    (
        "proxy_on_grpc_receive_initial_metadata",
        "i32 i32 i32",
        false,
    ),
    (
        "proxy_on_grpc_receive_trailing_metadata",
        "i32 i32 i32",
        false,
    ),
    ("proxy_on_queue_ready", "i32 i32", false),
    ("proxy_on_tick", "i32", false),
    ("proxy_on_log", "i32", false),
    ("proxy_on_done", "i32", true),
    ("proxy_on_delete", "i32", false),
];

/// Module, name and parameters of every import that returns a number.
pub(crate) fn imports() -> Vec<(&'static str, &'static str, &'static str)> {
    let env = [
        ("proxy_log", "i32 i32 i32"),
        ("proxy_get_log_level", "i32"),
        ("proxy_get_current_time_nanoseconds", "i32"),
        ("proxy_set_tick_period_milliseconds", "i32"),
        ("proxy_get_buffer_bytes", "i32 i32 i32 i32 i32"),
        ("proxy_get_buffer_status", "i32 i32 i32"),
        ("proxy_set_buffer_bytes", "i32 i32 i32 i32 i32"),
        ("proxy_get_header_map_size", "i32 i32"),
        ("proxy_get_header_map_pairs", "i32 i32 i32"),
        ("proxy_set_header_map_pairs", "i32 i32 i32"),
        ("proxy_get_header_map_value", "i32 i32 i32 i32 i32"),
        ("proxy_add_header_map_value", "i32 i32 i32 i32 i32"),
        ("proxy_replace_header_map_value", "i32 i32 i32 i32 i32"),
        ("proxy_remove_header_map_value", "i32 i32 i32"),
        ("proxy_get_property", "i32 i32 i32 i32"),
        ("proxy_set_property", "i32 i32 i32 i32"),
        (
            "proxy_send_local_response",
            "i32 i32 i32 i32 i32 i32 i32 i32",
        ),
        ("proxy_continue_stream", "i32"),
        ("proxy_close_stream", "i32"),
        ("proxy_get_status", "i32 i32 i32"),
        ("proxy_http_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32"),
        (
            "proxy_grpc_call",
            "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32",
        ),
        ("proxy_grpc_stream", "i32 i32 i32 i32 i32 i32 i32 i32 i32"),
        ("proxy_grpc_send", "i32 i32 i32 i32"),
        ("proxy_grpc_cancel", "i32"),
        ("proxy_grpc_close", "i32"),
        ("proxy_set_shared_data", "i32 i32 i32 i32 i32"),
        ("proxy_get_shared_data", "i32 i32 i32 i32 i32"),
        ("proxy_register_shared_queue", "i32 i32 i32"),
        ("proxy_resolve_shared_queue", "i32 i32 i32 i32 i32"),
        ("proxy_enqueue_shared_queue", "i32 i32 i32"),
        ("proxy_dequeue_shared_queue", "i32 i32 i32"),
        ("proxy_define_metric", "i32 i32 i32 i32"),
        ("proxy_increment_metric", "i32 i64"),
        ("proxy_record_metric", "i32 i64"),
        ("proxy_get_metric", "i32 i32"),
        ("proxy_set_effective_context", "i32"),
        ("proxy_done", ""),
        ("proxy_call_foreign_function", "i32 i32 i32 i32 i32 i32"),
    ];
    let wasi = [
        ("args_get", "i32 i32"),
        ("args_sizes_get", "i32 i32"),
        ("clock_time_get", "i32 i64 i32"),
        ("environ_get", "i32 i32"),
        ("environ_sizes_get", "i32 i32"),
        ("fd_fdstat_get", "i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("poll_oneoff", "i32 i32 i32 i32"),
        ("random_get", "i32 i32"),
    ];
    assert_eq!(env.len(), 39);
    let env = env.map(|(name, parameters)| ("env", name, parameters));
    let wasi = wasi.map(|(name, parameters)| ("wasi_snapshot_preview1", name, parameters));
    env.into_iter().chain(wasi).collect()
}
