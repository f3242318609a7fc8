//! A reactor that is easy to check: one push for each grant.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use idempo_clock::SystemClock;
use idempo_errors::{Class, Classified};
use idempo_ids::{EventId, Uuid};
use idempo_projection::{AfterFailure, EffectId, Event, Interest, Malformed, ReactionProgress, Reactor};
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use prost::Message as _;
use tokio::sync::watch;

use crate::support::granted;

/// What is pushed: to whom, and of which version of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) player: Uuid,
    pub(crate) version: u64,
    pub(crate) ordinal: u8,
}

/// How the receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    /// It is taken, and the answer is lost.
    Unheard,
    Away,
    Refused,
}

#[derive(Debug, thiserror::Error)]
#[error("the receiver says {0:?}")]
pub(crate) struct Unpushed(Answer);

impl Classified for Unpushed {
    fn class(&self) -> Class {
        if self.0 == Answer::Refused { Class::Denied } else { Class::Unavailable }
    }

    fn code(&self) -> &'static str {
        "PUSH_REFUSED"
    }
}

type Answers = dyn FnMut(&Push) -> Answer + Send;

/// Pushes, where `WAIT` says whether a key waits for its failed effects.
pub(crate) struct Pusher<const WAIT: bool> {
    /// What was taken, in its order, each as often as it was.
    taken: Mutex<Vec<(EffectId, Push)>>,
    tries: Mutex<usize>,
    answers: Mutex<Box<Answers>>,
    /// Whether nobody answers.
    pub(crate) mute: watch::Sender<bool>,
}

impl<const WAIT: bool> Pusher<WAIT> {
    pub(crate) fn new(answers: impl FnMut(&Push) -> Answer + Send + 'static) -> Arc<Self> {
        let mute = watch::channel(false).0;
        Arc::new(Self { taken: Mutex::default(), tries: Mutex::default(), answers: Mutex::new(Box::new(answers)), mute })
    }

    pub(crate) fn willing() -> Arc<Self> {
        Self::new(|_| Answer::Taken)
    }

    pub(crate) fn answer_by(&self, answers: impl FnMut(&Push) -> Answer + Send + 'static) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(answers);
    }

    pub(crate) fn taken(&self) -> Vec<(EffectId, Push)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn tries(&self) -> usize {
        *self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom something was pushed to, and of which version, each as often as it was.
    pub(crate) fn pushes(&self, player: Uuid) -> Vec<u64> {
        self.taken().into_iter().filter(|(_, push)| push.player == player).map(|(_, push)| push.version).collect()
    }
}

impl<const WAIT: bool> Reactor for Pusher<WAIT> {
    type Effect = Push;
    type Error = Unpushed;

    const NAME: &'static str = "pusher";
    const AFTER_FAILURE: AfterFailure = if WAIT { AfterFailure::Wait } else { AfterFailure::GoOn };
    const AGE_MAX: Duration = Duration::from_secs(20 * 365 * 86_400);
    const TIME_MAX: Duration = Duration::from_secs(30);

    fn interest(event_type: u16) -> Interest {
        match event_type {
            100..=199 => Interest::PassedOver,
            201 => Interest::Consumed,
            _ => Interest::Unknown,
        }
    }

    /// As many as the quantity says, up to 3.
    fn react(event: &Event) -> Result<Vec<Push>, Malformed> {
        let Data::ItemGranted(granted) = &event.data else { return Err(Malformed("no grant")) };
        let Some(What::Quantity(quantity)) = granted.portion.as_ref().and_then(|portion| portion.what.as_ref()) else {
            return Err(Malformed("no quantity"));
        };
        let count = u8::try_from(*quantity).unwrap_or(u8::MAX).min(3);
        Ok((0..count).map(|ordinal| Push { player: event.partition_key, version: event.version, ordinal }).collect())
    }

    fn encode(push: &Push) -> Bytes {
        [push.player.as_bytes(), &push.version.to_be_bytes()[..], &[push.ordinal]].concat().into()
    }

    fn decode(effect: &Bytes) -> Result<Push, Malformed> {
        let bytes: [u8; 25] = effect.as_ref().try_into().map_err(|_| Malformed("length"))?;
        let (player, rest) = bytes.split_at(16);
        let version = u64::from_be_bytes(rest[..8].try_into().map_err(|_| Malformed("version"))?);
        Ok(Push { player: Uuid::from_slice(player).map_err(|_| Malformed("player"))?, version, ordinal: rest[8] })
    }

    async fn perform(&self, id: EffectId, push: &Push) -> Result<(), Unpushed> {
        // An error would say that the test is over.
        let _ = self.mute.subscribe().wait_for(|mute| !mute).await;
        *self.tries.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let answer = (self.answers.lock().unwrap_or_else(PoisonError::into_inner))(push);
        if matches!(answer, Answer::Taken | Answer::Unheard) {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).push((id, push.clone()));
        }
        if answer == Answer::Taken { Ok(()) } else { Err(Unpushed(answer)) }
    }
}

pub(crate) fn reaction_progress() -> Arc<ReactionProgress> {
    Arc::new(ReactionProgress::new(SystemClock::shared(), Pusher::<false>::NAME))
}

/// The id of the effect with this number of the grant with this version.
pub(crate) fn effect_of(number: u128, version: u64, ordinal: u32) -> EffectId {
    let event = Event::decode(&granted(number, version, 1).into()).expect("an event").event_id;
    EffectId::of(Pusher::<false>::NAME, event, ordinal)
}

/// A grant of another time, in seconds since 1970.
pub(crate) fn granted_at(number: u128, version: u64, seconds: i64) -> Vec<u8> {
    let mut envelope = EventEnvelope::decode(&*granted(number, version, 1)).expect("an envelope");
    envelope.decided_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    envelope.encode_to_vec()
}

/// The event of a grant.
pub(crate) fn event_of(number: u128, version: u64) -> EventId {
    Event::decode(&granted(number, version, 1).into()).expect("an event").event_id
}
