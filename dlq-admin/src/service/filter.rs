//! Which dead letters are wanted.

use idempo_proto::ops::v1::{DeadLetterFilter, DeadLetterState};
use idempo_rpc::Violations;
use jiff::Timestamp;

use super::messages::state_name;
use super::number_of;

/// The longest name that is looked for, in characters.
const NAME_CHARS_MAX: usize = 255;
/// The longest key that is looked for, in characters.
const KEY_CHARS_MAX: usize = 1_024;

/// Which dead letters are wanted: all conditions that are given.
#[derive(Debug, Default, Clone)]
pub(super) struct Filter {
    pub(super) state: Option<&'static str>,
    pub(super) code: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) topic: Option<String>,
    pub(super) consumer_group: Option<String>,
    pub(super) key: Option<String>,
    pub(super) from: Option<Timestamp>,
    pub(super) before: Option<Timestamp>,
    pub(super) group: Option<i64>,
}

impl Filter {
    /// Checks a filter.
    pub(super) fn of(violations: &mut Violations, asked: Option<&DeadLetterFilter>) -> Option<Self> {
        let Some(asked) = asked else { return Some(Self::default()) };
        let state = violations.optional_enumeration::<DeadLetterState>("filter.state", asked.state);
        let from = violations.optional_timestamp("filter.fail_time_from", asked.fail_time_from.as_ref());
        let before = violations.optional_timestamp("filter.fail_time_before", asked.fail_time_before.as_ref());
        let mut text = |field: &str, text: &str, most: usize| {
            let checked = violations.text(field, text, 0..=most)?;
            Some(Some(checked).filter(|text| !text.is_empty()).map(str::to_owned))
        };
        let code = text("filter.code", &asked.code, NAME_CHARS_MAX);
        let event_type = text("filter.event_type", &asked.event_type, NAME_CHARS_MAX);
        let topic = text("filter.topic", &asked.topic, NAME_CHARS_MAX);
        let consumer_group = text("filter.consumer_group", &asked.consumer_group, NAME_CHARS_MAX);
        let key = text("filter.key", &asked.key, KEY_CHARS_MAX);
        let group = number_of("deadLetterGroups/{id}", &asked.group);
        let is_group = asked.group.is_empty() || group.is_some();
        violations.check(is_group, "filter.group", || "must be `deadLetterGroups/{id}`".to_owned());
        Some(Self {
            state: state?.and_then(state_name),
            code: code?,
            event_type: event_type?,
            topic: topic?,
            consumer_group: consumer_group?,
            key: key?,
            from: from?,
            before: before?,
            group,
        })
    }

    /// Whether nothing is asked for but, perhaps, a state.
    pub(super) const fn takes_all(&self) -> bool {
        self.code.is_none()
            && self.event_type.is_none()
            && self.topic.is_none()
            && self.consumer_group.is_none()
            && self.key.is_none()
            && self.from.is_none()
            && self.before.is_none()
            && self.group.is_none()
    }

    /// The filter, as an audit entry tells of it.
    pub(super) fn target(&self) -> String {
        let texts = [
            ("code", &self.code),
            ("event_type", &self.event_type),
            ("topic", &self.topic),
            ("consumer_group", &self.consumer_group),
            ("key", &self.key),
        ];
        let mut told: Vec<String> = texts.into_iter().filter_map(|(field, text)| Some(format!("{field}={}", text.as_ref()?))).collect();
        told.extend(self.state.map(|state| format!("state={state}")));
        told.extend(self.group.map(|group| format!("deadLetterGroups/{group}")));
        told.extend(self.from.map(|from| format!("from={from}")));
        told.extend(self.before.map(|before| format!("before={before}")));
        if told.is_empty() { "all".to_owned() } else { told.join(" ") }
    }
}
