//! Which dead letters are meant: by their names, or by a filter.

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::Args;
use idempo_proto::ops::v1::{DeadLetter, DeadLetterFilter, DeadLetterState, JobPart};
use jiff::Timestamp;

use super::known::{self, Field};
use super::service::{Service, is_job, letter, short};
use crate::context::Context;
use crate::failure::Failure;
use crate::stores::moment;

/// How many dead letters are looked at before anything is planned with them.
const LOOKED_AT_MAX: usize = 100_000;
/// How many dead letters can be named in one request.
const NAMES_MAX: usize = 1_000;
/// How many kinds of them are told in a sentence.
const KINDS_TOLD_MAX: usize = 5;

/// Which dead letters: all that is given must hold.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only those of this group, as `groups` shows it.
    #[arg(long)]
    group: Option<String>,
    /// Only those that failed last for this reason, such as UNKNOWN_EVENT_TYPE.
    #[arg(long)]
    code: Option<String>,
    /// Only those of this type of event, such as item_granted.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only those of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Only those of this consumer group.
    #[arg(long)]
    consumer: Option<String>,
    /// Only those of this key.
    #[arg(long)]
    key: Option<String>,
    /// Only those that failed last then or later: a time, or how long ago, such as 10m.
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// Only those that failed last before.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
}

impl Filter {
    /// Whether it takes everything.
    fn is_empty(&self) -> bool {
        let given = [&self.group, &self.code, &self.kind, &self.topic, &self.consumer, &self.key, &self.since, &self.until];
        given.iter().all(|one| one.is_none())
    }

    /// What to ask the service for.
    ///
    /// # Errors
    /// [`crate::Exit::NotFound`] with the nearest names where there is no such group, topic, event type, consumer or code; [`crate::Exit::Usage`] where a moment is none.
    pub(super) async fn message(
        &self,
        state: DeadLetterState,
        service: &Service<'_>,
        context: &Context,
    ) -> Result<DeadLetterFilter, Failure> {
        let now = context.now();
        let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now).map(timestamp)).transpose();
        let (fail_time_from, fail_time_before) = (time(&self.since)?, time(&self.until)?);
        let group = match &self.group {
            Some(group) => service.group(group).await?.name,
            None => String::new(),
        };
        for (field, name) in
            [(Field::Topic, &self.topic), (Field::EventType, &self.kind), (Field::Consumer, &self.consumer), (Field::Code, &self.code)]
        {
            known::check(field, name.as_deref(), service, context).await?;
        }
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        Ok(DeadLetterFilter {
            state: state.into(),
            code: text(&self.code),
            event_type: text(&self.kind),
            topic: text(&self.topic),
            consumer_group: text(&self.consumer),
            key: text(&self.key),
            fail_time_from,
            fail_time_before,
            group,
        })
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// Which dead letters a job is to have.
pub(super) enum Members {
    Named(Vec<String>),
    Filtered(Box<DeadLetterFilter>),
}

impl Members {
    /// # Errors
    /// [`crate::Exit::Usage`] where neither names nor a filter are given, or both, or a name is a job's; as [`Filter::message`].
    pub(super) async fn of(names: Vec<String>, filter: &Filter, service: &Service<'_>, context: &Context) -> Result<Self, Failure> {
        if names.is_empty() == filter.is_empty() {
            return Err(Failure::usage(
                "either dead letters are named, or --group, --code, --type, --topic, --consumer, --key, --since or --until takes them",
            ));
        }
        if names.is_empty() {
            return Ok(Self::Filtered(Box::new(filter.message(DeadLetterState::Unspecified, service, context).await?)));
        }
        if names.len() > NAMES_MAX {
            return Err(Failure::usage(format!("{NAMES_MAX} names at most: a filter takes more")));
        }
        match names.iter().find(|name| is_job(name) && short(name).parse::<u64>().is_ok()) {
            Some(job) => {
                Err(Failure::usage(format!("`{}` is the number of a job, and no dead letter: those have names with dots", short(job)))
                    .hint(format!("`idempo dlq replay {}` applies a planned job, also one that discards", short(job))))
            }
            None => Ok(Self::Named(names)),
        }
    }

    /// What so many of these kinds come to, in a sentence.
    pub(super) fn in_words(&self, count: impl Display, parts: &[JobPart]) -> String {
        match self {
            Self::Named(names) if names.len() == 1 => {
                let kinds = kinds(parts);
                let name = names.first().map_or("", |name| short(name));
                format!("dead letter {name} ({})", kinds.strip_prefix("1 ").unwrap_or(&kinds))
            }
            _ => in_words(count, parts),
        }
    }

    /// Asks whether this is to be done with them.
    pub(super) fn confirm(&self, what: &str, context: &Context) -> Result<bool, Failure> {
        match self {
            Self::Named(names) if names.len() == 1 => {
                context.confirm_on(&names.first().map_or_else(String::new, |name| letter(name)), what)
            }
            _ => context.confirm(what),
        }
    }

    /// Looks at what a job would have as members now, and makes none.
    ///
    /// # Errors
    /// What the service would refuse the job for: [`crate::Exit::NotFound`] with the nearest names, [`crate::Exit::Conflict`] where one is not open, or none is.
    pub(super) async fn look(&self, service: &Service<'_>) -> Result<Seen, Failure> {
        let (letters, has_more) = match self {
            Self::Named(names) => (service.letters_named(names).await?, false),
            Self::Filtered(filter) => {
                let open = DeadLetterFilter { state: DeadLetterState::Open.into(), ..(**filter).clone() };
                service.letters(&open, LOOKED_AT_MAX).await?
            }
        };
        if letters.is_empty() {
            return Err(Failure::refused("NO_DEAD_LETTERS", "no open dead letter fits the filter"));
        }
        if let Some(settled) = letters.iter().find(|letter| letter.state() != DeadLetterState::Open) {
            return Err(Failure::refused("DEAD_LETTER_NOT_OPEN", &format!("dead letter {} is not open", short(&settled.name))));
        }
        Ok(Seen {
            parts: parts_of(&letters),
            count: letters.len(),
            has_more,
            in_job: letters.into_iter().find(|letter| !letter.job.is_empty()),
        })
    }
}

/// What a job would have as members.
pub(super) struct Seen {
    parts: Vec<JobPart>,
    count: usize,
    /// Whether there are more than were looked at.
    has_more: bool,
    /// One that a job has in hand.
    in_job: Option<DeadLetter>,
}

impl Seen {
    /// What it comes to, in a sentence.
    pub(super) fn text(&self, members: &Members) -> String {
        let more = if self.has_more { "more than " } else { "" };
        format!("{more}{}", members.in_words(self.count, &self.parts))
    }

    /// # Errors
    /// [`crate::Exit::Conflict`] where a job has one of them in hand: no other is begun then.
    pub(super) fn check_free(&self) -> Result<(), Failure> {
        self.in_job.as_ref().map_or(Ok(()), |letter| Err(in_hand(letter)))
    }
}

/// A job has a dead letter in hand, and nothing else can be done with it.
pub(super) fn in_hand(letter: &DeadLetter) -> Failure {
    let (name, job) = (short(&letter.name), short(&letter.job));
    Failure::refused("DEAD_LETTER_IN_JOB", &format!("dead letter {name} is in job {job}, which is being applied"))
}

fn parts_of(letters: &[DeadLetter]) -> Vec<JobPart> {
    let mut counts: BTreeMap<[&str; 4], i64> = BTreeMap::new();
    for letter in letters {
        *counts.entry([&letter.code, &letter.event_type, &letter.topic, &letter.consumer_group].map(String::as_str)).or_default() += 1;
    }
    let part = |([code, event_type, topic, consumer_group], count): ([&str; 4], i64)| JobPart {
        consumer_group: consumer_group.to_owned(),
        topic: topic.to_owned(),
        code: code.to_owned(),
        event_type: event_type.to_owned(),
        count,
        ..JobPart::default()
    };
    let mut parts: Vec<JobPart> = counts.into_iter().map(part).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.count));
    parts
}

/// So many dead letters, and what kinds of them: `2 dead letters (2 VERSION_GAP item_granted of economy-events at idempo.inventory.g1)`.
pub(super) fn in_words(count: impl Display, parts: &[JobPart]) -> String {
    let count = count.to_string();
    let letters = if count == "1" { "dead letter" } else { "dead letters" };
    format!("{count} {letters} ({})", kinds(parts))
}

fn kinds(parts: &[JobPart]) -> String {
    let kind = |part: &JobPart| {
        let of = if part.event_type.is_empty() { String::new() } else { format!(" {}", part.event_type) };
        format!("{} {}{of} of {} at {}", part.count, part.code, part.topic, part.consumer_group)
    };
    let mut kinds: Vec<String> = parts.iter().take(KINDS_TOLD_MAX).map(kind).collect();
    if parts.len() > KINDS_TOLD_MAX {
        let others: i64 = parts.iter().skip(KINDS_TOLD_MAX).map(|part| part.count).sum();
        kinds.push(format!("{others} of {} other kinds", parts.len() - KINDS_TOLD_MAX));
    }
    kinds.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, event_type: &str) -> DeadLetter {
        DeadLetter {
            code: code.to_owned(),
            event_type: event_type.to_owned(),
            topic: "t".to_owned(),
            consumer_group: "g".to_owned(),
            ..DeadLetter::default()
        }
    }

    #[test]
    fn what_is_taken_is_told_by_its_kinds_the_largest_first() {
        let letters = [failed("A", ""), failed("B", "item_sent"), failed("B", "item_sent")];
        assert_eq!(in_words(3, &parts_of(&letters)), "3 dead letters (2 B item_sent of t at g, 1 A of t at g)");
        assert_eq!(in_words(1, &parts_of(letters.get(..1).expect("one"))), "1 dead letter (1 A of t at g)");
        let one = Members::Named(vec!["deadLetters/g.t.0.7".to_owned()]);
        assert_eq!(one.in_words(1, &parts_of(letters.get(..1).expect("one"))), "dead letter g.t.0.7 (A of t at g)");
        let many: Vec<DeadLetter> = (0..8).map(|number| failed(&format!("C{number}"), "")).collect();
        assert!(in_words(8, &parts_of(&many)).ends_with("1 C4 of t at g, 3 of 3 other kinds)"));
    }
}
