//! Whose semantics does the host have where the specification and Envoy differ?
//!
//! Each rule is a method here, so that every difference has a name and a place. [`Profile::Envoy`] is what was measured
//! in Envoy 1.40, and what a filter meets in production; [`Profile::Spec`] is the text of ABI 0.2.1, read generously
//! where it is silent. A filter that passes under both is portable.

use crate::abi::header_map::HeaderMap;

/// A set of rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Envoy 1.40.
    #[default]
    Envoy,
    /// The specification of ABI 0.2.1.
    Spec,
}

/// A rule in which the two profiles differ: its name, what Envoy does, what the specification has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The rule's name, as used in reports and documentation.
    pub name: &'static str,
    /// What happens in Envoy 1.40.
    pub envoy: &'static str,
    /// What happens by the specification.
    pub spec: &'static str,
}

impl Profile {
    /// Every rule in which the profiles differ.
    pub const RULES: &'static [Rule] = &[
        Rule {
            name: "body-inner-range",
            envoy: "replacing from a start within the body is BAD_ARGUMENT",
            spec: "any range of the body may be replaced",
        },
        Rule {
            name: "broken-messages",
            envoy: "in cases, a message that a filter leaves without what it needs, or with what cannot be sent, is answered for or reset",
            spec: "a message passes as the filter left it",
        },
        Rule {
            name: "buffer-outside-callback",
            envoy: "a body outside its callback reads as OK and empty",
            spec: "a body outside its callback is NOT_FOUND",
        },
        Rule {
            name: "buffer-range-overflow",
            envoy: "a range whose end overflows 32 bits is cut",
            spec: "a range whose end overflows 32 bits is BAD_ARGUMENT",
        },
        Rule {
            name: "call-out-failure",
            envoy: "a failed HTTP call-out is a response of status 503 or 504 with a body",
            spec: "a failed HTTP call-out has no headers",
        },
        Rule {
            name: "call-out-trailers",
            envoy: "the trailers of an HTTP call-out are not sent",
            spec: "the trailers of an HTTP call-out are sent",
        },
        Rule {
            name: "counter-record",
            envoy: "recording a counter adds to it",
            spec: "recording a counter sets it",
        },
        Rule {
            name: "end-order",
            envoy: "a stream ends with on_log, on_done, on_delete",
            spec: "a stream ends with on_done, on_log, on_delete",
        },
        Rule {
            name: "joined-lines",
            envoy: "a second line of a field that Envoy keeps one value of, such as accept, is joined to the first",
            spec: "a line that is added is a line of its own",
        },
        Rule {
            name: "late-answer",
            envoy: "answering or closing a stream in on_log, on_done or on_delete kills the process: here it is a failure",
            spec: "answering or closing a stream in on_log, on_done or on_delete is BAD_ARGUMENT",
        },
        Rule {
            name: "map-lifetime",
            envoy: "a header map is gone when its phase has gone on",
            spec: "a header map can be read until the stream ends",
        },
        Rule {
            name: "map-size",
            envoy: "the size of a map is the sum of its names' and values' lengths",
            spec: "the size of a map is that of its serialised form",
        },
        Rule {
            name: "own-property-path",
            envoy: "a property set under several segments is not found again",
            spec: "a property is found under the path it was set with",
        },
        Rule {
            name: "vm-start",
            envoy: "on_vm_start is called for each plugin in a VM",
            spec: "on_vm_start is called for the first plugin in a VM",
        },
    ];

    /// The name that a command line or file uses: `envoy-1.40` or `spec`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy-1.40",
            Self::Spec => "spec",
        }
    }

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Envoy, Self::Spec]
            .into_iter()
            .find(|profile| profile.name() == name)
    }

    pub(crate) fn replaces_inner_ranges(self) -> bool {
        self == Self::Spec
    }

    pub(crate) fn refuses_broken_messages(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn hides_closed_buffers(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn cuts_overflowing_ranges(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn answers_for_failed_calls(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn sends_call_trailers(self) -> bool {
        self == Self::Spec
    }

    pub(crate) fn adds_recorded_counters(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn logs_before_done(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn joins_lines(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn dies_of_late_answers(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn closes_maps(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn map_size(self, map: &HeaderMap) -> usize {
        match self {
            Self::Envoy => map.byte_size(),
            Self::Spec => map.serialise().len(),
        }
    }

    pub(crate) fn starts_vm_for_each_plugin(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn finds_own_paths(self) -> bool {
        self == Self::Spec
    }
}
