//! Sends requests, again where the outcome is unknown, and writes down every send.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use idempo_checker::history::{Answer, Attempt, Expected, History, Purpose, Read};
use idempo_checker::method::Method;
use idempo_checker::position;
use idempo_ids::Uuid;
use tonic::Code;

use super::Progress;
use crate::wire::Line;

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits that gives up on purpose: too short for most answers.
const IMPATIENCE: Duration = Duration::from_millis(2);
/// The first pause before the same is sent again.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause before the same is sent again.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often the same is sent again before a client gives up: for two minutes at least, which is longer than any fault of a run.
const RETRIES_MAX: usize = 125;

/// A request to be settled.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    /// The method.
    pub(super) method: Method,
    /// The idempotency key.
    pub(super) key: Option<Uuid>,
    /// The encoded request.
    pub(super) request: Bytes,
    /// What it should come to.
    pub(super) expected: Expected,
    /// Why it is sent.
    pub(super) purpose: Purpose,
    /// How long to wait for the first answer.
    pub(super) patience: Patience,
}

/// How long a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as is reasonable.
    Enough,
    /// Too short for most answers, once.
    None,
}

/// Sends for one client and keeps its history.
pub(super) struct Recorder {
    client: u16,
    line: Line,
    began: Instant,
    progress: Arc<Progress>,
    /// What was sent so far.
    pub(super) history: History,
}

impl Recorder {
    /// A recorder with an empty history whose times count from `began`.
    pub(super) fn new(client: u16, line: Line, began: Instant, progress: Arc<Progress>) -> Self {
        Self { client, line, began, progress, history: History::default() }
    }

    /// Whether nothing new is to be begun.
    pub(super) fn is_stopped(&self) -> bool {
        self.progress.is_stopped()
    }

    /// Whether what every command has changed is to be read.
    pub(super) fn looks_always(&self) -> bool {
        self.progress.is_looking_always()
    }

    /// Sends a command until it is settled or the retries are used up, and gives the last answer.
    pub(super) async fn settle(&mut self, sending: &Sending) -> Answer {
        let attempts = self.attempts(sending).await;
        self.keep(attempts)
    }

    /// Sends the same command twice at the same moment, and gives the first one's answer.
    pub(super) async fn settle_twins(&mut self, sending: &Sending) -> Answer {
        let twin = Sending { purpose: Purpose::Twin, patience: Patience::Enough, ..sending.clone() };
        let (first, second) = futures_util::join!(self.attempts(sending), self.attempts(&twin));
        self.keep(second);
        self.keep(first)
    }

    fn keep(&mut self, attempts: Vec<Attempt>) -> Answer {
        let last = attempts.last().map(|attempt| attempt.answer.clone());
        if last.as_ref().is_some_and(Answer::is_definite) && attempts.first().is_some_and(|attempt| attempt.purpose == Purpose::First) {
            self.progress.count_one();
        }
        self.history.attempts.extend(attempts);
        last.unwrap_or(Answer::Unknown { code: Code::Unknown, reason: String::new() })
    }

    async fn attempts(&self, sending: &Sending) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        let mut pauses = pauses();
        let mut patience = if sending.patience == Patience::None { IMPATIENCE } else { PATIENCE };
        loop {
            let invoked_us = self.now_us();
            let answer = self.line.send(sending.method, sending.request.clone(), patience).await;
            let purpose = if attempts.is_empty() { sending.purpose } else { Purpose::Retry };
            let position = match &answer {
                Answer::Replied { reply, .. } => sending.method.position_in(reply).ok().and_then(|text| position::decode(&text)),
                _ => None,
            };
            let is_definite = answer.is_definite();
            attempts.push(Attempt {
                client: self.client,
                method: sending.method,
                key: sending.key,
                command: sending.key.map(|key| self.line.command_id(sending.method, key)),
                request: sending.request.clone(),
                purpose,
                expected: sending.expected.clone(),
                invoked_us,
                settled_us: self.now_us(),
                answer,
                position: position.unwrap_or_default(),
            });
            patience = PATIENCE;
            match pauses.next() {
                Some(pause) if !is_definite && !self.progress.is_given_up() => tokio::time::sleep(pause).await,
                _ => return attempts,
            }
        }
    }

    /// Reads until there is a definite answer or the retries are used up.
    pub(super) async fn read(&self, method: Method, request: Bytes) -> Reading {
        let invoked_us = self.now_us();
        let _under_way = self.progress.reading(invoked_us);
        let mut pauses = pauses();
        let mut retries = 0;
        loop {
            let answer = self.line.send(method, request.clone(), PATIENCE).await;
            match pauses.next() {
                Some(pause) if !answer.is_definite() && !self.progress.is_given_up() => tokio::time::sleep(pause).await,
                _ => return Reading { client: self.client, method, invoked_us, settled_us: self.now_us(), answer, retries },
            }
            retries += 1;
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn pauses() -> impl Iterator<Item = Duration> + use<> {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_PAUSE_MIN)
        .with_max_delay(RETRY_PAUSE_MAX)
        .with_max_times(RETRIES_MAX)
        .with_jitter()
        .build()
}

/// A read's answer, before it is known what it should have shown.
#[derive(Debug)]
pub(super) struct Reading {
    client: u16,
    method: Method,
    invoked_us: u64,
    settled_us: u64,
    retries: u32,
    /// What came.
    pub(super) answer: Answer,
}

impl Reading {
    /// The read as the history keeps it, still without what was wanted and seen.
    pub(super) fn of(&self, subject: String, min_position: &str) -> Read {
        let refused = match &self.answer {
            Answer::Refused { refusal, .. } => refusal.reason.clone(),
            _ => String::new(),
        };
        Read {
            client: self.client,
            method: self.method,
            subject,
            invoked_us: self.invoked_us,
            settled_us: self.settled_us,
            wanted: Vec::new(),
            awaited: position::decode(min_position).unwrap_or_default(),
            refused,
            seen: None,
            mark: 0,
            floor: 0,
            lag_events: None,
            retries: self.retries,
        }
    }
}

#[cfg(test)]
mod tests {
    use idempo_proto::wallet::v1::{GrantFundsRequest, GrantFundsResponse};
    use prost::Message as _;
    use tonic::Status;

    use super::*;
    use crate::load::fake;

    fn reply() -> Bytes {
        let position = position::encode(&[(Uuid::from_bytes([1; 16]), 3)]);
        GrantFundsResponse { position, ..GrantFundsResponse::default() }.encode_to_vec().into()
    }

    fn sending() -> Sending {
        Sending {
            method: Method::GrantFunds,
            key: Some(Uuid::from_bytes([9; 16])),
            request: GrantFundsRequest { amount: 5, ..GrantFundsRequest::default() }.encode_to_vec().into(),
            expected: Expected::Applied,
            purpose: Purpose::First,
            patience: Patience::Enough,
        }
    }

    #[tokio::test]
    async fn the_same_bytes_are_sent_again_until_the_answer_is_definite() {
        let answers = [Err(Status::unavailable("away")), Err(Status::resource_exhausted("full")), Ok(reply())];
        let (line, received) = fake::serve(answers).await;
        let progress = Arc::new(Progress::default());
        let mut recorder = Recorder::new(0, line, Instant::now(), progress.clone());
        let answer = recorder.settle(&sending()).await;
        assert_eq!(answer, Answer::Replied { reply: reply(), replayed: false });
        assert_eq!(*received.lock().expect("no test panicked"), vec![sending().request; 3]);
        let purposes: Vec<Purpose> = recorder.history.attempts.iter().map(|attempt| attempt.purpose).collect();
        assert_eq!(purposes, vec![Purpose::First, Purpose::Retry, Purpose::Retry]);
        let positions: Vec<usize> = recorder.history.attempts.iter().map(|attempt| attempt.position.len()).collect();
        assert_eq!(positions, vec![0, 0, 1]);
        assert_eq!(progress.settled(), 1);
    }

    #[tokio::test]
    async fn a_refusal_is_not_sent_again() {
        let (line, received) = fake::serve([Err(Status::failed_precondition("no"))]).await;
        let mut recorder = Recorder::new(0, line, Instant::now(), Arc::new(Progress::default()));
        assert!(matches!(recorder.settle(&sending()).await, Answer::Refused { .. }));
        assert_eq!(received.lock().expect("no test panicked").len(), 1);
    }

    #[tokio::test]
    async fn twins_are_both_written_down_and_count_once() {
        let (line, received) = fake::serve([Ok(reply())]).await;
        let progress = Arc::new(Progress::default());
        let mut recorder = Recorder::new(0, line, Instant::now(), progress.clone());
        recorder.settle_twins(&sending()).await;
        assert_eq!(received.lock().expect("no test panicked").len(), 2);
        let mut purposes: Vec<Purpose> = recorder.history.attempts.iter().map(|attempt| attempt.purpose).collect();
        purposes.sort_by_key(|purpose| *purpose != Purpose::First);
        assert_eq!(purposes, vec![Purpose::First, Purpose::Twin]);
        assert_eq!(progress.settled(), 1);
    }
}
