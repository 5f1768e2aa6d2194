//! Rejects cases that are well-formed but contradict themselves.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::expectation::{Finally, LogExpectation, Queue};
use crate::format::{Case, CaseFile, Exchange, InjectedFault, PluginSetup};
use crate::latin1;
use crate::pattern::whole;

impl CaseFile {
    /// Returns an error for the first case that contradicts itself: its name and the problem.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let mut seen = BTreeSet::new();
        for case in &self.cases {
            let problem = |problem: String| (case.name.clone(), problem);
            if !seen.insert(&case.name) {
                return Err(problem("the name is used twice".to_owned()));
            }
            case.check().map_err(problem)?;
        }
        Ok(())
    }
}

impl CaseFile {
    /// Returns the problem of a plugin of the whole file.
    pub(crate) fn check_plugins(&self) -> Result<(), String> {
        let chained = self.chain.iter().map(|chained| &chained.plugin);
        let plugins = std::iter::once(&self.plugin).chain(chained);
        plugins.flatten().try_for_each(check_faults)
    }
}

impl Case {
    /// Returns the contradiction in this case, if it has one. A case that was read from a file has none.
    pub fn contradiction(&self) -> Option<String> {
        self.check().err()
    }

    fn check(&self) -> Result<(), String> {
        let expects_exchange = self.upstream.is_some()
            || self.answer.is_some()
            || self.downstream.is_some()
            || self.reply.is_some()
            || !self.alongside.is_empty()
            || !self.then.is_empty();
        if let Some(plugin) = &self.plugin {
            check_faults(plugin)?;
        }
        if !self.refused.is_empty() && !self.connections.is_empty() {
            return Err("a case with `refused` cannot have `connections`".to_owned());
        }
        match &self.request {
            Some(_) if !self.refused.is_empty() => {
                return Err("a case with `refused` cannot have a `request`".to_owned());
            }
            Some(_) if !self.connections.is_empty() => {
                return Err("give `request` or `connections`, not both".to_owned());
            }
            None if expects_exchange => {
                return Err(
                    "`upstream`, `answer`, `downstream`, `reply`, `alongside` and `then` need a `request`"
                        .to_owned(),
                );
            }
            None if self.refused.is_empty()
                && self.connections.is_empty()
                && self.finally == Finally::default() =>
            {
                return Err(
                    "give `request`, `connections`, `refused` if the configuration must be refused, or `finally`"
                        .to_owned(),
                );
            }
            _ => {}
        }
        let workers = self.workers.map_or(1, NonZeroUsize::get);
        for exchange in self.exchanges() {
            exchange.check(workers)?;
        }
        for connection in &self.connections {
            connection.check()?;
        }
        check_queues(&self.queues)?;
        check_queues(&self.finally.queues)?;
        check_logs(&self.finally.logs)
    }
}

impl Exchange {
    fn check(&self, workers: usize) -> Result<(), String> {
        if self.worker >= workers {
            return Err(format!(
                "there is no worker {}: `workers` is {workers}, and workers are numbered from 0",
                self.worker
            ));
        }
        if self
            .alongside
            .iter()
            .any(|other| !other.alongside.is_empty() || other.after_ms > 0)
        {
            return Err(
                "an exchange in `alongside` cannot have `alongside` or `after_ms`".to_owned(),
            );
        }
        let (request, answer) = (&self.request, &self.answer);
        for (body, frames) in [
            (&request.body, &request.frames),
            (&answer.body, &answer.frames),
        ] {
            if !body.is_empty() && !frames.is_empty() {
                return Err("give `body` or `frames`, not both".to_owned());
            }
        }
        let lines = [
            &request.headers,
            &request.trailers,
            &answer.headers,
            &answer.trailers,
        ];
        let texts = lines
            .into_iter()
            .flatten()
            .flat_map(|(name, value)| [name, value])
            .chain([
                &request.method,
                &request.target,
                &request.body,
                &answer.body,
            ])
            .chain(&request.host)
            .chain(request.frames.iter().chain(&answer.frames));
        for text in texts {
            latin1::check(text)?;
        }
        let upstream = self.upstream.clone().unwrap_or_default();
        let downstream = &self.downstream;
        let regexes = upstream
            .matches
            .values()
            .chain(upstream.unlike.values())
            .chain(&upstream.body_matches)
            .chain(downstream.matches.values())
            .chain(downstream.unlike.values())
            .chain(&downstream.body_matches);
        for regex in regexes {
            whole(regex)?;
        }
        check_queues(&self.enqueue)?;
        check_logs(&self.logs)
    }
}

pub(crate) fn check_logs(logs: &[LogExpectation]) -> Result<(), String> {
    for regex in logs.iter().filter_map(|log| log.matches.as_ref()) {
        whole(regex)?;
    }
    Ok(())
}

fn check_faults(plugin: &PluginSetup) -> Result<(), String> {
    for fault in &plugin.faults {
        let at = &fault.at;
        let is_call = !fault.is_at_callback() && at != InjectedFault::ALLOCATION;
        match fault.status {
            None if is_call => {
                return Err(format!(
                    "faults: the host function `{at}` needs a `status`, such as \"NOT_FOUND\""
                ));
            }
            Some(_) if !is_call => {
                return Err(format!(
                    "faults: `{at}` returns no status, so `status` must be left out"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_queues(queues: &[Queue]) -> Result<(), String> {
    for queue in queues {
        latin1::check(&queue.name)?;
        for message in &queue.messages {
            latin1::check(message)?;
        }
    }
    Ok(())
}
