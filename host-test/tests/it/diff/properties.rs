//! Compares the properties that a filter can read in each callback.

use super::check;

/// Reads the property that the configuration names in each callback, and logs the callback's letter, the status, and the
/// value: a number if it has 8 bytes, otherwise in hexadecimal digits.
const READS: &str = r#"
    (global $path (mut i32) (i32.const 0)) (global $length (mut i32) (i32.const 0)) (global $at (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $path (i32.load (i32.const 0))) (global.set $length (i32.load (i32.const 4)))
        i32.const 1)
    (func $put (param $byte i32)
        (i32.store8 (global.get $at) (local.get $byte)) (global.set $at (i32.add (global.get $at) (i32.const 1))))
    (func $put_digit (param $digit i32)
        (call $put (i32.add (local.get $digit) (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10))))))
    (func $put_number (param $number i32)
        (if (i32.ge_u (local.get $number) (i32.const 10)) (then (call $put_number (i32.div_u (local.get $number) (i32.const 10)))))
        (call $put_digit (i32.rem_u (local.get $number) (i32.const 10))))
    (func $read (param $callback i32) (local $address i32) (local $end i32) (local $status i32)
        (i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (i32.const 0))
        (local.set $status (call $property (global.get $path) (global.get $length) @to_result))
        (global.set $at (i32.const 200))
        (call $put (local.get $callback))
        (call $put_digit (local.get $status))
        (call $put @' ')
        (local.set $address (i32.load (i32.const 0)))
        (local.set $end (i32.add (local.get $address) (i32.load (i32.const 4))))
        (if (i32.eq (i32.load (i32.const 4)) (i32.const 8))
            (then (call $put_number (i32.load (local.get $address))))
            (else (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $address) (local.get $end)))
                (call $put_digit (i32.shr_u (i32.load8_u (local.get $address)) (i32.const 4)))
                (call $put_digit (i32.and (i32.load8_u (local.get $address)) (i32.const 15)))
                (local.set $address (i32.add (local.get $address) (i32.const 1)))
                (br $next)))))
        (call $log_text (i32.const 200) (i32.sub (global.get $at) (i32.const 200))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $read @'H') i32.const 0)
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (if (i32.eqz (local.get 2)) (then (call $read @'B'))) i32.const 0)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $read @'R') i32.const 0)
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
        (call $read (select @'s' @'S' (local.get 2))) i32.const 0)
    (func (export "proxy_on_log") (param i32) (call $read @'l'))"#;

/// The values in the callbacks of request headers and body, response headers, first and last body frame, `on_log`.
/// `-` for NOT_FOUND, `!` for SERIALIZATION_FAILURE, `?` for a value that is not compared.
const TABLE: [(&str, [&str; 6]); 54] = [
    ("request.path", ["2f613f62", "-", "-", "-", "-", "2f613f62"]),
    ("request.url_path", ["2f61", "-", "-", "-", "-", "2f61"]),
    ("request.query", ["62", "-", "-", "-", "-", "62"]),
    (
        "request.host",
        [
            "6170702e6578616d706c65",
            "-",
            "-",
            "-",
            "-",
            "6170702e6578616d706c65",
        ],
    ),
    (
        "request.method",
        ["504f5354", "-", "-", "-", "-", "504f5354"],
    ),
    (
        "request.scheme",
        ["68747470", "-", "-", "-", "-", "68747470"],
    ),
    ("request.useragent", ["61", "-", "-", "-", "-", "61"]),
    ("request.referer", ["62", "-", "-", "-", "-", "62"]),
    (
        "request.headers.user-agent",
        ["61", "-", "-", "-", "-", "61"],
    ),
    (
        "request.headers",
        ["?", "00000000", "00000000", "00000000", "00000000", "?"],
    ),
    ("request.headers_bytes", ["?", "0", "0", "0", "0", "?"]),
    (
        "request.protocol",
        [
            "1347703880",
            "1347703880",
            "1347703880",
            "1347703880",
            "1347703880",
            "1347703880",
        ],
    ),
    ("request.time", ["?", "?", "?", "?", "?", "?"]),
    ("request.duration", ["-", "-", "-", "-", "-", "?"]),
    ("request.size", ["3", "3", "3", "3", "3", "3"]),
    ("request.total_size", ["?", "3", "3", "3", "3", "?"]),
    ("response.code", ["-", "-", "201", "201", "201", "201"]),
    (
        "response.code_details",
        [
            "-",
            "-",
            "7669615f757073747265616d",
            "7669615f757073747265616d",
            "7669615f757073747265616d",
            "7669615f757073747265616d",
        ],
    ),
    ("response.flags", ["0", "0", "0", "0", "0", "0"]),
    ("response.grpc_status", ["-", "-", "2", "2", "2", "2"]),
    (
        "response.headers",
        ["00000000", "00000000", "?", "00000000", "00000000", "?"],
    ),
    ("response.headers.x-up", ["-", "-", "31", "-", "-", "31"]),
    ("response.headers_bytes", ["0", "0", "?", "0", "0", "?"]),
    (
        "response.trailers",
        [
            "00000000", "00000000", "00000000", "00000000", "00000000", "00000000",
        ],
    ),
    ("response.trailers.t", ["-", "-", "-", "-", "-", "-"]),
    ("response.size", ["0", "0", "0", "0", "3", "3"]),
    ("response.total_size", ["0", "0", "?", "0", "3", "?"]),
    ("response.backend_latency", ["-", "-", "-", "-", "?", "?"]),
    ("connection.id", ["?", "?", "?", "?", "?", "?"]),
    ("connection_id", ["?", "?", "?", "?", "?", "?"]),
    ("connection.mtls", ["00", "00", "00", "00", "00", "00"]),
    ("connection.requested_server_name", ["", "", "", "", "", ""]),
    ("connection.tls_version", ["-", "-", "-", "-", "-", "-"]),
    (
        "connection.termination_details",
        ["-", "-", "-", "-", "-", "-"],
    ),
    (
        "source.port",
        ["49152", "49152", "49152", "49152", "49152", "49152"],
    ),
    ("destination.address", ["?", "?", "?", "?", "?", "?"]),
    ("destination.port", ["?", "?", "?", "?", "?", "?"]),
    ("upstream.address", ["-", "?", "?", "?", "?", "?"]),
    ("upstream.port", ["-", "?", "?", "?", "?", "?"]),
    ("upstream.local_address", ["-", "-", "?", "?", "?", "?"]),
    ("upstream.locality", ["-", "", "", "", "", ""]),
    (
        "upstream.transport_failure_reason",
        ["-", "", "", "", "", ""],
    ),
    (
        "upstream.request_attempt_count",
        ["0", "1", "1", "1", "1", "1"],
    ),
    ("upstream.num_endpoints", ["1", "1", "1", "1", "1", "1"]),
    ("xds.cluster_name", ["?", "?", "?", "?", "?", "?"]),
    ("xds.cluster_metadata", ["", "", "", "", "", ""]),
    (
        "xds.virtual_host_name",
        ["616c6c", "616c6c", "616c6c", "616c6c", "616c6c", "616c6c"],
    ),
    ("xds.upstream_host_metadata", ["-", "!", "!", "!", "!", "!"]),
    ("xds.filter_chain_name", ["", "", "", "", "", ""]),
    ("xds.listener_direction", ["0", "0", "0", "0", "0", "0"]),
    ("node", ["-", "-", "-", "-", "-", "-"]),
    ("cluster_name", ["-", "-", "-", "-", "-", "-"]),
    ("request.nothing", ["-", "-", "-", "-", "-", "-"]),
    ("plugin_name", ["6e", "6e", "6e", "6e", "6e", "6e"]),
];

#[test]
fn properties_in_each_callback() {
    let cases: Vec<String> = TABLE
        .iter()
        .map(|(path, values)| {
            let logs: Vec<String> = "HBRSsl"
                .chars()
                .zip(values)
                .map(|(callback, value)| {
                    let text = match *value {
                        "-" => "1 ".to_owned(),
                        "!" => "3 ".to_owned(),
                        "?" => return format!(r#"{{"matches": "{callback}0 [0-9a-f]+"}}"#),
                        value => format!("0 {value}"),
                    };
                    format!(r#"{{"text": "{callback}{text}"}}"#)
                })
                .collect();
            // Names of fields follow the second dot.
            let config = path.replacen('.', "\\u0000", 2);
            format!(
                r#"{{"name": "{path}", "config": "{config}",
                "request": {{"method": "POST", "target": "/a?b", "headers": [["user-agent", "a"], ["referer", "b"], ["content-length", "3"]], "body": "abc"}},
                "upstream": {{}}, "answer": {{"status": 201, "headers": [["x-up", "1"], ["content-length", "3"]], "body": "def"}},
                "downstream": {{"status": 201}}, "logs": [{}]}}"#,
                logs.join(", ")
            )
        })
        .collect();
    let text = format!(
        r#"{{"plugin": {{"name": "n"}}, "cases": [{}]}}"#,
        cases.join(",\n")
    );
    check(READS, &text);
}
