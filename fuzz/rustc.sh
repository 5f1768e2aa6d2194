#!/bin/sh
# Cargo calls this as `rustc.sh RUSTC ARGUMENTS`, for what is built to run here and for what is fuzzed; only the latter
# has a `--target`. What compiles and runs wasm is not what is fuzzed: instrumented, it takes most of each input's time.
case "$*" in
*--target*) ;;
*) exec "$@" ;;
esac
case "$CARGO_PKG_NAME" in
cranelift* | pulley* | regalloc2 | wasm-encoder | wasmparser | wasmtime* | wast | wat) exec "$@" --cfg=fuzzing ;;
# The flags are several words.
*) exec "$@" $FLUXLIT_FUZZ_FLAGS ;;
esac
