//! Chooses the commands of the next batch and decides them, one after the other, on the evolving states of their streams.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use idempo_decider::{Context, Decider as _, States, Timestamp};
use idempo_ids::{CorrelationId, EventId, StreamId};
use idempo_proto::event::v1::EventEnvelope;
use prost::Message as _;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::domain::{Applied, AppliedEvent, AppliedStream, CommandOf, Domain, EventOf, StateOf};
use crate::inline::InlineProjection as _;
use crate::store::{CommandAppend, NewEvent, Settled, Store, StoredEvent, Touch, Verdict};
use crate::submission::{Error, Outcome};

use super::entry::Entry;
use super::{Asked, AskedSubmission, Executor, Folded, LOAD_STREAMS_MAX, LOADS_IN_FLIGHT_MAX, RowsOf, SCAN_COMMANDS_MAX};

/// A command that was decided and is with the database.
pub(super) struct Decided<D: Domain> {
    pub(super) entry: Box<Entry<D>>,
    pub(super) append: CommandAppend,
}

/// What to do next.
pub(super) struct Plan<D: Domain> {
    /// The next batch, in order.
    pub(super) decided: Vec<Decided<D>>,
    /// The states of its streams after it.
    pub(super) working: HashMap<StreamId, Folded<StateOf<D>>>,
    /// Its inline rows.
    pub(super) rows: RowsOf<D>,
    /// Streams to load.
    pub(super) missing: Vec<StreamId>,
}

impl<D: Domain> Plan<D> {
    fn is_full(&self, commands_max: usize) -> bool {
        self.decided.len() >= commands_max || self.decided.last().is_some_and(|decided| decided.entry.alone)
    }
}

/// What a decided command did.
struct Happened<'a, D: Domain> {
    command: &'a CommandOf<D>,
    decided_at: Timestamp,
    before: &'a [Folded<StateOf<D>>],
    after: &'a [Folded<StateOf<D>>],
    events: &'a [AppliedEvent<'a, EventOf<D>>],
}

/// The events of a decision with all that their envelopes need.
struct Outgoing<'a, D: Domain> {
    submission: &'a AskedSubmission<D>,
    decided_at: Timestamp,
}

impl<D: Domain, S: Store<Rows = RowsOf<D>>> Executor<D, S> {
    /// Chooses and decides. The streams of the batch and those to load are busy afterwards.
    pub(super) fn plan(&mut self) -> Plan<D> {
        let mut plan = Plan { decided: Vec::new(), working: HashMap::new(), rows: RowsOf::<D>::default(), missing: Vec::new() };
        // Streams that a command further ahead waits for: those behind it may not overtake it there.
        let mut blocked: HashSet<StreamId> = HashSet::new();
        let mut kept = Vec::new();
        let now = Instant::now();
        for _ in 0..SCAN_COMMANDS_MAX {
            if plan.is_full(self.config.batch_commands_max) {
                break;
            }
            let Some(mut entry) = self.pending.pop_front() else { break };
            if !self.is_wanted(&mut entry, now) {
                continue;
            }
            if self.can_go(&entry, &plan, &blocked) {
                self.decide(entry, &mut plan);
            } else {
                self.ask_for_missing(&entry, &mut plan, &blocked);
                blocked.extend(entry.submission.streams.iter().map(|target| target.stream_id));
                kept.push(entry);
            }
        }
        self.put_back(kept);
        self.busy.extend(plan.working.keys().copied().chain(plan.missing.iter().copied()));
        plan
    }

    fn can_go(&self, entry: &Entry<D>, plan: &Plan<D>, blocked: &HashSet<StreamId>) -> bool {
        if entry.alone && !plan.decided.is_empty() {
            return false;
        }
        entry.submission.streams.iter().all(|target| {
            let stream = &target.stream_id;
            !blocked.contains(stream) && !self.busy.contains(stream) && (plan.working.contains_key(stream) || self.states.contains(stream))
        })
    }

    fn ask_for_missing(&self, entry: &Entry<D>, plan: &mut Plan<D>, blocked: &HashSet<StreamId>) {
        let has_room = |plan: &Plan<D>| self.loads_in_flight < LOADS_IN_FLIGHT_MAX && plan.missing.len() < LOAD_STREAMS_MAX;
        for target in &entry.submission.streams {
            let stream = target.stream_id;
            let is_known = self.states.contains(&stream) || plan.working.contains_key(&stream);
            if !is_known && !self.busy.contains(&stream) && !blocked.contains(&stream) && has_room(plan) && !plan.missing.contains(&stream)
            {
                plan.missing.push(stream);
            }
        }
    }

    /// Decides one command whose streams are all at hand, and adds it to the batch. One that only validates is answered instead.
    fn decide(&mut self, mut entry: Box<Entry<D>>, plan: &mut Plan<D>) {
        let before: SmallVec<[Folded<StateOf<D>>; 2]> = entry
            .submission
            .streams
            .iter()
            .filter_map(|target| plan.working.get(&target.stream_id).or_else(|| self.states.get(&target.stream_id)).cloned())
            .collect();
        let number = i32::try_from(plan.decided.len() + 1).unwrap_or(i32::MAX);
        let validator = entry.validator.take();
        let mut scratch = RowsOf::<D>::default();
        let rows = if validator.is_some() { &mut scratch } else { &mut plan.rows };
        D::Inline::begin(rows, number);
        let (append, after) = self.decide_on(&entry.submission, &before, rows);
        if let Some(validator) = validator {
            let Settled { verdict, reply, .. } = append.settled;
            validator.answer_outcome(match verdict {
                Verdict::Applied => Outcome::Replied { reply, replayed: false },
                Verdict::Refused => Outcome::Refused { status: reply, replayed: false },
            });
            return;
        }
        for (target, folded) in entry.submission.streams.iter().zip(after) {
            plan.working.insert(target.stream_id, folded);
        }
        entry.attempts += 1;
        plan.decided.push(Decided { entry, append });
    }

    /// The decision itself: what to append, and the states after it.
    fn decide_on(
        &self,
        submission: &AskedSubmission<D>,
        before: &[Folded<StateOf<D>>],
        rows: &mut RowsOf<D>,
    ) -> (CommandAppend, SmallVec<[Folded<StateOf<D>>; 2]>) {
        let now = self.clock.now();
        let mut after: SmallVec<[Folded<StateOf<D>>; 2]> = before.iter().cloned().collect();
        let refused = |status: Bytes| self.to_append(submission, Verdict::Refused, status, before, before, SmallVec::new());
        let command = match &submission.command {
            Asked::Decide(command) => command,
            Asked::Refuse(status) => return (refused(status.clone()), after),
        };
        let current = before.first().map_or(0, |folded| folded.version);
        if submission.expected_version.is_some_and(|expected| expected != current) {
            return (refused(crate::respond::etag_mismatch(self.domain.error_domain(), current)), after);
        }
        let states: SmallVec<[&StateOf<D>; 2]> = before.iter().map(|folded| &*folded.state).collect();
        let context = Context { now, command_id: submission.key.command_id() };
        let decision = match D::Decider::decide(States::new(&states), command, &context) {
            Ok(decision) => decision,
            Err(rejection) => return (refused(self.domain.refusal(command, &rejection)), after),
        };
        drop(states);
        let mut applied_events = SmallVec::<[AppliedEvent<'_, EventOf<D>>; 2]>::new();
        for (ordinal, (stream, event)) in (0_u32..).zip(&decision.events) {
            let Some(folded) = after.get_mut(*stream) else { continue };
            D::Decider::evolve(Arc::make_mut(&mut folded.state), event);
            folded.version += 1;
            let event_id = EventId::of(submission.key.command_id(), ordinal);
            applied_events.push(AppliedEvent { event_id, stream: *stream, version: folded.version, event });
        }
        let outgoing = Outgoing::<D> { submission, decided_at: now };
        let events = applied_events.iter().filter_map(|event| outgoing.encode(&self.domain, event)).collect();
        let applied = Happened { command, decided_at: now, before, after: &after, events: &applied_events };
        let reply = self.reply(submission, &applied, rows);
        (self.to_append(submission, Verdict::Applied, reply, before, &after, events), after)
    }

    /// The encoded response, and the inline rows beside it.
    fn reply(&self, submission: &AskedSubmission<D>, happened: &Happened<'_, D>, rows: &mut RowsOf<D>) -> Bytes {
        let streams: SmallVec<[AppliedStream<'_, StateOf<D>>; 2]> = submission
            .streams
            .iter()
            .zip(happened.after)
            .map(|(target, folded)| AppliedStream { target: *target, version: folded.version, state: &*folded.state })
            .collect();
        let moved: SmallVec<[(StreamId, u64); 2]> = streams
            .iter()
            .zip(happened.before)
            .filter(|(stream, before)| stream.version > before.version)
            .map(|(stream, _)| (stream.target.stream_id, stream.version))
            .collect();
        let position = idempo_rpc::position::encode(&moved);
        let applied = Applied::<D> {
            command: happened.command,
            command_id: submission.key.command_id(),
            decided_at: happened.decided_at,
            streams: &streams,
            events: happened.events,
            position: &position,
        };
        self.domain.project(&applied, rows);
        self.domain.reply(&applied)
    }

    fn to_append(
        &self,
        submission: &AskedSubmission<D>,
        verdict: Verdict,
        reply: Bytes,
        before: &[Folded<StateOf<D>>],
        after: &[Folded<StateOf<D>>],
        events: SmallVec<[NewEvent; 2]>,
    ) -> CommandAppend {
        let category = self.domain.category().number;
        let touches = submission
            .streams
            .iter()
            .zip(before.iter().zip(after))
            .map(|(target, (before, after))| Touch {
                target: *target,
                category,
                expected: before.version,
                added: u32::try_from(after.version - before.version).unwrap_or(u32::MAX),
            })
            .collect();
        let fingerprint = submission.key.fingerprint.clone();
        CommandAppend { key: submission.key.clone(), settled: Settled { verdict, fingerprint, reply }, touches, events }
    }
}

impl<D: Domain> Outgoing<'_, D> {
    fn encode(&self, domain: &D, applied: &AppliedEvent<'_, EventOf<D>>) -> Option<NewEvent> {
        let target = *self.submission.streams.get(applied.stream)?;
        let (key, origin) = (&self.submission.key, &self.submission.origin);
        let data = domain.encode(applied.event);
        let event_type = domain.event_type(&data);
        let correlation = origin.correlation_id.unwrap_or_else(|| CorrelationId::new(key.key));
        let envelope = EventEnvelope {
            event_id: Bytes::copy_from_slice(applied.event_id.bytes()),
            stream_id: Bytes::copy_from_slice(target.stream_id.bytes()),
            version: applied.version,
            partition_key: Bytes::copy_from_slice(target.partition_key.as_bytes()),
            decided_at: Some(idempo_rpc::timestamp::to_proto(self.decided_at)),
            command_id: Bytes::copy_from_slice(key.command_id().bytes()),
            correlation_id: Bytes::copy_from_slice(correlation.bytes()),
            causation_id: origin.causation_id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
            traceparent: origin.traceparent.clone(),
            data: Some(data),
        };
        let headers =
            (!origin.traceparent.is_empty()).then(|| crate::headers::encode([(crate::headers::TRACEPARENT, origin.traceparent.as_str())]));
        Some(NewEvent {
            target,
            version: applied.version,
            event_id: applied.event_id,
            event_type,
            topic: domain.topic(),
            headers,
            envelope: envelope.encode_to_vec().into(),
        })
    }
}

/// Applies a stored event to a state.
pub(super) fn fold<D: Domain>(domain: &D, folded: &mut Folded<StateOf<D>>, event: StoredEvent) -> Result<(), Error> {
    let corrupt = |problem: &dyn std::fmt::Display| {
        tracing::error!(stream_id = %event.stream_id, version = event.version, %problem, "a stored event can't be read");
        Error::Corrupt
    };
    if event.version != folded.version + 1 {
        return Err(corrupt(&"its version leaves a gap"));
    }
    let envelope = EventEnvelope::decode(event.envelope.clone()).map_err(|error| corrupt(&error))?;
    let data = envelope.data.ok_or_else(|| corrupt(&"its data is of an unknown type"))?;
    let decoded = domain.decode(data).map_err(|error| corrupt(&error))?;
    D::Decider::evolve(Arc::make_mut(&mut folded.state), &decoded);
    folded.version = event.version;
    Ok(())
}
