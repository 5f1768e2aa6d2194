//! Selects the host semantics where the specification and Envoy differ.
//!
//! Each difference is a rule with a name and a method. [`Profile::Envoy`] was measured in Envoy 1.40 and is what a filter
//! finds in production; [`Profile::Spec`] is the text of ABI 0.2.1, read permissively where it is silent. A filter that
//! passes its tests under both profiles is portable.

use crate::abi::HeaderMap;

/// A set of host semantics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Envoy 1.40.
    #[default]
    Envoy,
    /// The specification of ABI 0.2.1.
    Spec,
}

/// A rule in which the two profiles differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The rule's name, as in reports and documentation.
    pub name: &'static str,
    /// The behavior of Envoy 1.40.
    pub envoy: &'static str,
    /// The behavior according to the specification.
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
            envoy: "in cases, Envoy replies to a request that cannot be sent, and replaces or resets a response that cannot be sent",
            spec: "a message is forwarded as the filter left it",
        },
        Rule {
            name: "buffer-limit",
            envoy: "a body that is held beyond the buffer limit is replaced by a 413 or 500, or resets the stream",
            spec: "a body of any length can be held",
        },
        Rule {
            name: "buffer-outside-callback",
            envoy: "a body outside its callback reads as OK and empty",
            spec: "a body outside its callback is NOT_FOUND",
        },
        Rule {
            name: "buffer-range-overflow",
            envoy: "a range whose end overflows 32 bits is truncated",
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
            name: "continue-order",
            envoy: "a side that a callback continues is continued before the callback's result takes effect",
            spec: "a side that a callback continues is continued after the callback's result has taken effect",
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
            name: "forbidden-calls",
            envoy: "a reply, close or continue that crashes Envoy or corrupts its messages makes the filter fail",
            spec: "a reply, close or continue that has nothing to act on has no effect",
        },
        Rule {
            name: "joined-lines",
            envoy: "a second line of an inline header, such as accept, is joined to the first",
            spec: "an added line stays a separate line",
        },
        Rule {
            name: "last-reply",
            envoy: "of two local replies outside the request's own callbacks, the client receives the last one",
            spec: "of two local replies, the client receives the first one",
        },
        Rule {
            name: "late-answer",
            envoy: "a local reply or close in on_log, on_done or on_delete crashes the process: here the filter fails",
            spec: "a local reply or close in on_log, on_done or on_delete is BAD_ARGUMENT",
        },
        Rule {
            name: "map-lifetime",
            envoy: "a header map cannot be read after its phase was forwarded",
            spec: "a header map can be read until the stream ends",
        },
        Rule {
            name: "map-size",
            envoy: "the size of a map is the sum of its names' and values' lengths",
            spec: "the size of a map is that of its serialized form",
        },
        Rule {
            name: "own-property-path",
            envoy: "a property that was set with a path of several segments is not found",
            spec: "a property is found under the path with which it was set",
        },
        Rule {
            name: "resumed-body",
            envoy: "a body that waited for paused headers and is then held is lost if trailers that waited too continue",
            spec: "a held body is forwarded before its trailers",
        },
        Rule {
            name: "vm-start",
            envoy: "on_vm_start is called for each plugin in a VM",
            spec: "on_vm_start is called for the first plugin in a VM",
        },
    ];

    /// Returns the name on the command line and in files: `envoy-1.40` or `spec`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy-1.40",
            Self::Spec => "spec",
        }
    }

    /// Returns the profile with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Envoy, Self::Spec]
            .into_iter()
            .find(|profile| profile.name() == name)
    }

    pub(crate) fn replaces_inner_ranges(self) -> bool {
        self == Self::Spec
    }

    pub(crate) fn rejects_broken_messages(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn hides_closed_buffers(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn truncates_overflowing_ranges(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn responds_to_failed_calls(self) -> bool {
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

    pub(crate) fn joins_inline_headers(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn crashes_on_late_replies(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn forbids_fatal_calls(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn acts_before_result(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn sends_last_reply(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn limits_buffers(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn loses_resumed_bodies(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn closes_maps(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn map_size(self, map: &HeaderMap) -> usize {
        match self {
            Self::Envoy => map.byte_size(),
            Self::Spec => map.serialize().len(),
        }
    }

    pub(crate) fn starts_vm_for_each_plugin(self) -> bool {
        self == Self::Envoy
    }

    pub(crate) fn finds_own_paths(self) -> bool {
        self == Self::Spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::lines;

    #[test]
    fn a_profile_is_found_by_its_name() {
        for profile in [Profile::Envoy, Profile::Spec] {
            assert_eq!(Profile::named(profile.name()), Some(profile));
        }
        assert_eq!(Profile::default().name(), "envoy-1.40");
        assert_eq!(Profile::Spec.name(), "spec");
        assert_eq!(Profile::named("envoy"), None);
        assert_eq!(Profile::named(""), None);
    }

    #[test]
    fn each_rule_distinguishes_the_profiles() {
        type Rule = fn(Profile) -> bool;
        let only_envoy: [Rule; 16] = [
            Profile::acts_before_result,
            Profile::adds_recorded_counters,
            Profile::closes_maps,
            Profile::crashes_on_late_replies,
            Profile::forbids_fatal_calls,
            Profile::hides_closed_buffers,
            Profile::joins_inline_headers,
            Profile::limits_buffers,
            Profile::logs_before_done,
            Profile::loses_resumed_bodies,
            Profile::rejects_broken_messages,
            Profile::responds_to_failed_calls,
            Profile::sends_last_reply,
            Profile::starts_vm_for_each_plugin,
            Profile::truncates_overflowing_ranges,
            |profile| {
                let map = lines(&[("name", "value")]);
                profile.map_size(&map) == "namevalue".len()
            },
        ];
        for (index, rule) in only_envoy.iter().enumerate() {
            assert!(rule(Profile::Envoy), "{index}");
            assert!(!rule(Profile::Spec), "{index}");
        }
        let only_spec: [Rule; 4] = [
            Profile::finds_own_paths,
            Profile::replaces_inner_ranges,
            Profile::sends_call_trailers,
            |profile| {
                let map = lines(&[("name", "value")]);
                profile.map_size(&map) == map.serialize().len()
            },
        ];
        for (index, rule) in only_spec.iter().enumerate() {
            assert!(rule(Profile::Spec), "{index}");
            assert!(!rule(Profile::Envoy), "{index}");
        }
        // The size of a map is in both lists.
        assert_eq!(only_envoy.len() + only_spec.len() - 1, Profile::RULES.len());
    }

    #[test]
    fn rules_are_sorted_by_name() {
        let names: Vec<&str> = Profile::RULES.iter().map(|rule| rule.name).collect();
        assert!(names.is_sorted(), "{names:?}");
    }
}
