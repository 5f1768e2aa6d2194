//! Carries out what a callback requested, and runs what is due: ticks, call-out responses, notifications of queues.
//!
//! Each callback gets new fuel and its own context. After a callback, the host carries out what it requested, in order: local
//! replies, closes, resumed sides, the end of contexts that are done; then it delivers call-out responses that are due. The
//! callbacks that these cause are handled in the same way. A VM that has failed is never called again; depending on the
//! failure policy it is replaced by a new one.
//!
//! A call-out whose response causes the next call-out, and so on without time passing, is a chain. All callbacks of a chain
//! after the first one share the fuel of one callback, so an endless chain ends, while the number of responses that arrive at
//! one time is not limited.

use super::Vm;
use super::call_out::{Arrival, DueArrival, GrpcEvent};
use super::failure::Failure;
use super::state::{Action, CallData, Requested};
use crate::abi::length_u32;
use crate::event::Side;

impl Vm {
    /// Carries out what the last callbacks requested, and delivers the call-out responses that are due.
    pub(crate) fn settle(&mut self) {
        loop {
            self.carry_out_all();
            if self.failure.is_some() || !self.has_due_call() {
                return;
            }
            self.deliver_arrival();
        }
    }

    /// Carries out what callbacks requested, in order.
    pub(super) fn carry_out_all(&mut self) {
        while let Some(requested) = self.host().requested.pop_front() {
            self.carry_out(requested);
        }
    }

    /// Carries out the replies and closes that callbacks requested, and leaves the rest for later.
    pub(super) fn carry_out_interruptions(&mut self) {
        let requested = std::mem::take(&mut self.host().requested);
        for requested in requested {
            match requested.action {
                Action::Close | Action::Reply(_) => self.carry_out(requested),
                Action::Continue(_) | Action::Delete => {
                    self.host().requested.push_back(requested);
                }
            }
        }
    }

    fn carry_out(&mut self, requested: Requested) {
        let Requested {
            context,
            callback,
            action,
        } = requested;
        match action {
            Action::Close => self.close(context, callback),
            Action::Continue(side) => self.resume(context, side, callback),
            Action::Delete => {
                self.delete(context);
                if !self.exchanges.contains_key(&context) {
                    self.host().records.remove(&context);
                }
            }
            Action::Reply(reply) => self.interrupt(context, reply),
        }
    }

    /// Ends a context: calls `on_delete` and then removes its state.
    pub(crate) fn delete(&mut self, context: u32) {
        if self.call(context, "proxy_on_delete", &[context]).is_ok() {
            let host = self.host();
            host.streams.remove(&context);
            host.plugins.remove(&context);
        }
    }

    /// Notifies a context that a queue has a message. Returns the fuel that it used.
    pub(crate) fn notify_queue_ready(&mut self, reader: u32, queue: u32) -> u64 {
        if !self.host().has_context(reader) {
            return 0;
        }
        // The VM keeps a failure, and every later stream reports it.
        let _ = self.call(reader, QUEUE_READY, &[reader, queue]);
        let used = self.used_fuel;
        self.settle();
        used
    }

    /// Returns the fuel that all callbacks of a chain may use, each of which the previous one caused without time passing.
    pub(crate) fn chain_fuel(&mut self) -> u64 {
        self.host().options.fuel_per_callback
    }

    /// Fails this VM because of an endless chain of queue notifications.
    pub(crate) fn fail_endless_queue(&mut self) {
        let fuel = self.chain_fuel();
        self.fail_with(Failure::EndlessChain {
            callback: QUEUE_READY.to_owned(),
            fuel,
        });
    }

    /// Fails this VM for a reason other than a trap, and ends the streams that it had paused.
    pub(crate) fn fail_with(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.fail_paused();
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
        let Some(due) = host.calls.take_due(now, profile) else {
            return;
        };
        let DueArrival {
            plugin,
            call,
            arrival,
            chain,
        } = due;
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
        host.chain = Some(chain.clone());
        let called = self.call(plugin, callback, &arguments);
        let host = self.host();
        host.chain = None;
        host.call_data = CallData::default();
        // The message is valid only in the callback; the status code stays.
        host.status.1.clear();
        if called.is_err() {
            return self.fail_paused();
        }
        let used = chain.add(self.used_fuel.saturating_add(LINK_FUEL));
        let fuel = self.chain_fuel();
        // The first callback had this fuel for itself.
        if used > fuel.saturating_mul(2) {
            self.fail_with(Failure::EndlessChain {
                callback: callback.to_owned(),
                fuel,
            });
        }
    }
}

const QUEUE_READY: &str = "proxy_on_queue_ready";

/// The fuel of a callback in a chain in addition to what it uses, so that a chain of trivial callbacks ends as well.
pub(crate) const LINK_FUEL: u64 = 1000;

/// The status that `proxy_get_status` returns if a call-out ends without headers: `BrokenConnection` of `proxy-wasm-cpp-host`.
const BROKEN_CONNECTION: u32 = 11;
