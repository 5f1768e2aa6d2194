//! Carries out what a callback asked for, and runs what is due: ticks, call-out responses, notifications of queues.
//!
//! Each callback gets new fuel and its own context. After a callback, the host handles in this order: local replies and
//! closes that it requested on any stream, resumed sides, contexts that are done, call-out responses that are due. The
//! callbacks that these cause are handled in the same way, a bounded number of times. A VM that has failed is never called
//! again; depending on the failure policy it is replaced by a new one.

use super::Vm;
use super::call_out::{Arrival, GrpcEvent};
use super::failure::Failure;
use super::state::CallData;
use crate::abi::length_u32;
use crate::event::Side;

impl Vm {
    /// Carries out what the last callbacks requested.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let host = self.host();
            let interrupted: Vec<u32> = host
                .streams
                .iter()
                .filter(|(_, stream)| stream.reply.is_some() || stream.is_closed)
                .map(|(context, _)| *context)
                .collect();
            let continued = std::mem::take(&mut host.continued);
            let done = std::mem::take(&mut host.done);
            let has_arrival = self.failure.is_none() && self.has_due_call();
            if interrupted.is_empty() && continued.is_empty() && done.is_empty() && !has_arrival {
                return;
            }
            for context in interrupted {
                self.interrupt(context);
            }
            for (context, side) in continued {
                self.resume(context, side);
            }
            for context in done {
                self.delete(context);
                if !self.exchanges.contains_key(&context) {
                    self.host().records.remove(&context);
                }
            }
            if has_arrival {
                self.deliver_arrival();
            }
        }
        self.failure.get_or_insert(Failure::EndlessLoop {
            callback: "the chain of callbacks that cause each other".to_owned(),
            fuel: self.store.data().options.fuel_per_callback,
            stack: Box::default(),
        });
    }

    /// Ends a context: calls `on_delete` and then removes its state.
    pub(crate) fn delete(&mut self, context: u32) {
        if self.call(context, "proxy_on_delete", &[context]).is_ok() {
            let host = self.host();
            host.streams.remove(&context);
            host.plugins.remove(&context);
        }
    }

    /// Notifies a context that a queue has a message.
    pub(crate) fn notify_queue_ready(&mut self, reader: u32, queue: u32) {
        if self.host().has_context(reader) {
            // The VM keeps a failure, and every later stream reports it.
            let _ = self.call(reader, "proxy_on_queue_ready", &[reader, queue]);
            self.settle();
        }
    }

    /// Feeds a METADATA frame to a stream. The result of the callback is ignored.
    pub(crate) fn feed_metadata(&mut self, context: u32, side: Side, entries: u32) {
        let callback = match side {
            Side::Request => "proxy_on_request_metadata",
            Side::Response => "proxy_on_response_metadata",
        };
        if self.host().has_context(context) {
            // The VM keeps a failure, and every later event reports it.
            let _ = self.call(context, callback, &[context, entries]);
            self.settle();
        }
    }

    /// Calls a plugin as an extension of the proxy would.
    pub(crate) fn call_foreign(&mut self, plugin: u32, function: u32, arguments: Vec<u8>) {
        let size = length_u32(arguments.len());
        self.host().call_data.foreign = Some(arguments);
        // The VM keeps a failure, and every later stream reports it.
        let _ = self.call(
            plugin,
            "proxy_on_foreign_function",
            &[plugin, function, size],
        );
        self.host().call_data = CallData::default();
        self.settle();
    }

    /// Returns true if a plugin has requested ticks.
    pub(crate) fn has_ticks(&mut self) -> bool {
        let plugins = &self.host().plugins;
        plugins.values().any(|plugin| plugin.tick_period > 0)
    }

    /// Returns the time of the next tick, response or timeout.
    pub(crate) fn next_due(&mut self) -> Option<u64> {
        if self.failure.is_some() {
            return None;
        }
        let host = self.host();
        let ticks = host
            .plugins
            .values()
            .filter(|plugin| plugin.tick_period > 0);
        let tick = ticks.map(|plugin| plugin.tick_due).min();
        tick.into_iter().chain(host.calls.next_due()).min()
    }

    /// Runs the ticks and call-out callbacks that are due by now.
    pub(crate) fn run_due(&mut self) {
        self.settle();
        let now = self.host().now();
        let due: Vec<u32> = self
            .host()
            .plugins
            .iter()
            .filter(|(_, plugin)| plugin.tick_period > 0 && plugin.tick_due <= now)
            .map(|(context, _)| *context)
            .collect();
        for context in due {
            if let Some(plugin) = self.host().plugins.get_mut(&context) {
                plugin.tick_due = now.saturating_add(plugin.tick_period);
            }
            // The VM keeps a failure, and every later stream reports it.
            let _ = self.call(context, "proxy_on_tick", &[context]);
            self.settle();
        }
    }

    fn has_due_call(&mut self) -> bool {
        let host = self.host();
        match host.calls.next_due() {
            Some(due) => due <= host.now(),
            None => false,
        }
    }

    /// Calls the plugin that made a call-out with the arrival that is due.
    fn deliver_arrival(&mut self) {
        let host = self.host();
        let (now, profile) = (host.now(), host.options.profile);
        let Some((plugin, call, arrival)) = host.calls.take_due(now, profile) else {
            return;
        };
        if !host.has_context(plugin) {
            return;
        }
        let mut data = CallData::default();
        let (callback, arguments) = match arrival {
            Arrival::Http {
                headers,
                body,
                trailers,
            } => {
                if headers.is_empty() {
                    host.status = (BROKEN_CONNECTION, "reset".to_owned());
                }
                let arguments = vec![
                    plugin,
                    call,
                    length_u32(headers.len()),
                    length_u32(body.len()),
                    length_u32(trailers.len()),
                ];
                // Without headers there is no response to read.
                if !headers.is_empty() {
                    data.headers = Some(headers);
                    data.body = Some(body);
                    data.trailers = Some(trailers);
                }
                ("proxy_on_http_call_response", arguments)
            }
            Arrival::Grpc(GrpcEvent::InitialMetadata(map)) => {
                let arguments = vec![plugin, call, length_u32(map.len())];
                data.initial_metadata = Some(map);
                ("proxy_on_grpc_receive_initial_metadata", arguments)
            }
            Arrival::Grpc(GrpcEvent::Message(message)) => {
                let arguments = vec![plugin, call, length_u32(message.len())];
                data.message = Some(message);
                ("proxy_on_grpc_receive", arguments)
            }
            Arrival::Grpc(GrpcEvent::TrailingMetadata(map)) => {
                let arguments = vec![plugin, call, length_u32(map.len())];
                data.trailing_metadata = Some(map);
                ("proxy_on_grpc_receive_trailing_metadata", arguments)
            }
            Arrival::Grpc(GrpcEvent::Close { status, message }) => {
                host.status = (status, message);
                ("proxy_on_grpc_close", vec![plugin, call, status])
            }
        };
        host.call_data = data;
        if self.call(plugin, callback, &arguments).is_err() {
            self.fail_paused();
        }
        let host = self.host();
        host.call_data = CallData::default();
        // The message is valid only in the callback; the status code stays.
        host.status.1.clear();
    }
}

/// The status that `proxy_get_status` returns if a call-out ends without headers: `BrokenConnection` of `proxy-wasm-cpp-host`.
const BROKEN_CONNECTION: u32 = 11;

/// The maximum number of rounds in which callbacks may cause further callbacks; more are treated as an endless loop.
const MAX_ROUNDS: usize = 1000;
