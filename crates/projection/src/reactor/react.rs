//! From a run of records to effects. Pure.

use idempo_ids::EventId;

use super::log::{EFFECT_BYTES_MAX, EFFECTS_OF_EVENT_MAX, Pending, Place};
use super::{EffectId, Reactor};
use crate::batch::{Entry, Home, decode};
use crate::event::Event;
use crate::halt::{Cause, Halt};
use crate::projector::Malformed;

/// A run of records ends when it has so many effects, or so many bytes of them. Its last event may go beyond.
const RUN_EFFECTS_MAX: usize = 4_096;
const RUN_BYTES_MAX: usize = 4_194_304;
/// A trace context that is longer is none.
const TRACEPARENT_BYTES_MAX: usize = 128;

/// The effects of a run of records, up to where it ends.
#[derive(Debug, Default)]
pub(super) struct Reacted {
    pub(super) effects: Vec<Pending>,
    /// The offset after the last record of it; `None` where there is none.
    pub(super) to: Option<i64>,
    /// The event of that record.
    pub(super) last_event: Option<EventId>,
    /// What stops the partition after it.
    pub(super) halt: Option<Halt>,
}

/// The effects of the records from offset `from` on.
pub(super) fn react<R: Reactor>(entries: &[Entry], from: i64, home: Home) -> Reacted {
    let mut reacted = Reacted::default();
    let mut bytes = 0_usize;
    for entry in entries.iter().filter(|entry| entry.offset >= from) {
        if reacted.effects.len() >= RUN_EFFECTS_MAX || bytes >= RUN_BYTES_MAX {
            break;
        }
        let effects = decode(entry, home, R::interest).and_then(|(outline, event)| {
            let effects = event.map(|event| effects_of::<R>(entry.offset, &event)).transpose()?;
            Ok((outline.event_id, effects.unwrap_or_default()))
        });
        match effects {
            Ok((event, effects)) => {
                bytes = effects.iter().fold(bytes, |sum, effect| sum.saturating_add(effect.effect.len()));
                reacted.effects.extend(effects);
                (reacted.to, reacted.last_event) = (Some(entry.offset.saturating_add(1)), Some(event));
            }
            Err(cause) => {
                reacted.halt = Some(Halt { offset: entry.offset, cause });
                break;
            }
        }
    }
    reacted
}

fn effects_of<R: Reactor>(offset: i64, event: &Event) -> Result<Vec<Pending>, Cause> {
    let effects = R::react(event)?;
    if effects.len() > EFFECTS_OF_EVENT_MAX {
        return Err(Malformed("it has more effects than an event may have").into());
    }
    // Whoever writes an event can write anything here; what is no trace context is not worth keeping.
    let is_usable = event.traceparent.len() <= TRACEPARENT_BYTES_MAX && !event.traceparent.contains('\0');
    let traceparent = if is_usable { event.traceparent.as_str() } else { "" };
    let pending = (0_u32..).zip(&effects).map(|(ordinal, effect)| {
        let effect = R::encode(effect);
        if effect.len() > EFFECT_BYTES_MAX {
            return Err(Malformed("one of its effects is larger than an effect may be").into());
        }
        Ok(Pending {
            id: EffectId::of(R::NAME, event.event_id, ordinal),
            place: Place { offset, ordinal: i32::try_from(ordinal).unwrap_or(i32::MAX) },
            event: event.event_id,
            key: event.partition_key,
            decided_at: event.decided_at,
            traceparent: traceparent.to_owned(),
            effect,
        })
    });
    pending.collect()
}
