(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) ":path")
  (data (i32.const 32) "/private")
  (data (i32.const 48) "x-checked")
  (data (i32.const 64) "yes")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
    ;; The path has the length and the eight bytes of `/private`.
    (if (i32.and
          (i32.eq (i32.load (i32.const 4)) (i32.const 8))
          (i64.eq (i64.load (i32.load (i32.const 0))) (i64.load (i32.const 32))))
      (then
        (return (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const -1)))))
    (call $add (i32.const 0) (i32.const 48) (i32.const 9) (i32.const 64) (i32.const 3))))
