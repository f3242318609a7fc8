//! A consumer that has dead letters, as its `ParkedService` shows it, and that fails when it is told to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::parked_letter_standing::Standing;
use idempo_proto::ops::v1::parked_service_server::{ParkedService, ParkedServiceServer};
use idempo_proto::ops::v1::{
    DiscardParkedLettersRequest, DiscardParkedLettersResponse, GetParkedLetterRequest, GetParkedLetterResponse,
    GetParkedLetterStandingsRequest, GetParkedLetterStandingsResponse, ListParkedLettersRequest, ListParkedLettersResponse,
    ParkedDifference, ParkedLetter, ParkedLetterApplied, ParkedLetterComing, ParkedLetterDiscarded, ParkedLetterEnd,
    ParkedLetterFailedAgain, ParkedLetterFailure, ParkedLetterGone, ParkedLetterHeld, ParkedLetterOutcome, ParkedLetterPending,
    ParkedLetterRefused, ParkedLetterRehearsal, ParkedLetterStanding, ParkedRecord, RehearseParkedLettersRequest,
    RehearseParkedLettersResponse, ReplayParkedLettersRequest, ReplayParkedLettersResponse,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// By which token it knows the dead-letter service.
pub(crate) const SERVICE_TOKEN: &str = "token-of-the-dead-letter-service";
/// How often a dead letter is replayed in vain until that is refused.
const REPLAYS_MAX: i32 = 5;

/// What the consumer knows.
#[derive(Default)]
pub(crate) struct State {
    /// Dead letters that it has: how often each was replayed in vain, and how many records are parked behind it.
    pub(crate) held: BTreeMap<String, (i32, i64)>,
    /// How those ended that it had.
    ended: HashMap<String, (ParkedLetterEnd, i64, String)>,
    /// How often each was applied, which must be once at most.
    pub(crate) applied: HashMap<String, u32>,
    /// Those that fail when they are replayed.
    pub(crate) failing: BTreeSet<String>,
    /// So many requests are answered as if it were away, before anything is done.
    pub(crate) away: u32,
    /// So many requests are done, and the answer is lost.
    pub(crate) lost_answers: u32,
    /// So many requests are answered as pending, and done by the next look.
    pub(crate) pending: u32,
    /// How many dead letters each request was about.
    pub(crate) asked: Vec<usize>,
    /// Dead letters whose records it has not come to.
    pub(crate) coming: BTreeSet<String>,
    /// When dead letters ended, as far as it knows.
    ended_at: HashMap<String, Timestamp>,
    /// How many dead letters each question was about how they stand.
    pub(crate) questions: Vec<usize>,
    /// How many answers to them were held back.
    pub(crate) held_back: usize,
    /// What it answers to such questions instead.
    pub(crate) silence: Option<Status>,
}

/// Whom it lets in.
struct Tokens {
    accepted: Vec<String>,
    /// The one that was sent last.
    sent: String,
}

/// The consumer, for as long as the value lives.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    tokens: Arc<Mutex<Tokens>>,
    /// Whether answers that dead letters are gone are held back.
    held_back: watch::Sender<bool>,
    _server: AbortOnDropHandle<()>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = incoming.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let tokens = Arc::new(Mutex::new(Tokens { accepted: vec![SERVICE_TOKEN.to_owned()], sent: String::new() }));
        let (held_back, gate) = watch::channel(false);
        let known = Arc::clone(&tokens);
        let service = ParkedServiceServer::with_interceptor(Parked(Arc::clone(&state), gate), move |request| {
            is_service(&mut locked(&known), request)
        });
        let server = Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = AbortOnDropHandle::new(tokio::spawn(async move { server.await.expect("it serves") }));
        Self { address, state, tokens, held_back, _server: server }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Has it let in whoever has one of these tokens.
    pub(crate) fn accepts(&self, tokens: &[&str]) {
        locked(&self.tokens).accepted = tokens.iter().map(|token| (*token).to_owned()).collect();
    }

    /// The token that was sent last.
    pub(crate) fn sent(&self) -> String {
        locked(&self.tokens).sent.clone()
    }

    /// Has it hold back answers that some dead letters are gone; what they say then is what was so when it was asked.
    pub(crate) fn hold_back(&self, held_back: bool) {
        self.held_back.send_replace(held_back);
    }

    /// Has a dead letter end there, as somebody wanted.
    pub(crate) fn ends(&self, name: &str, end: ParkedLetterEnd, caller: &str, at: Option<Timestamp>) {
        let mut state = self.state();
        state.held.remove(name);
        state.ended.insert(name.to_owned(), (end, 3, caller.to_owned()));
        state.ended_at.extend(at.map(|at| (name.to_owned(), at)));
    }

    /// Has it know a dead letter no more, nor how it ended.
    pub(crate) fn loses(&self, name: &str) {
        self.state().held.remove(name);
    }

    /// How many questions there were about how dead letters stand.
    pub(crate) fn question_count(&self) -> usize {
        self.state().questions.len()
    }

    /// How many dead letters were applied, and how often the one that was applied most often.
    pub(crate) fn applied(&self) -> (usize, Option<u32>) {
        let state = self.state();
        (state.applied.len(), state.applied.values().copied().max())
    }

    /// Has it know of nothing any more.
    pub(crate) fn forget(&self) {
        *self.state() = State::default();
    }

    /// Gives it dead letters with as many records parked behind each.
    pub(crate) fn holds(&self, names: impl IntoIterator<Item = String>, parked: i64) {
        self.state().held.extend(names.into_iter().map(|name| (name, (0, parked))));
    }
}

struct Parked(Arc<Mutex<State>>, watch::Receiver<bool>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Parked {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }

    /// Does something with each of the dead letters, in the way that the state says.
    fn done(&self, names: &[String], each: impl Fn(&mut State, &str) -> Outcome) -> Result<Vec<ParkedLetterOutcome>, Status> {
        let mut state = self.state();
        state.asked.push(names.len());
        if state.away > 0 {
            state.away -= 1;
            return Err(Status::unavailable("the consumer is away"));
        }
        let is_pending = state.pending > 0;
        state.pending = state.pending.saturating_sub(1);
        let outcome = |name: &String| {
            let outcome = each(&mut state, name);
            let outcome = if is_pending { Outcome::Pending(ParkedLetterPending {}) } else { outcome };
            ParkedLetterOutcome { name: name.clone(), outcome: Some(outcome) }
        };
        let outcomes = names.iter().map(outcome).collect();
        if state.lost_answers > 0 {
            state.lost_answers -= 1;
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(outcomes)
    }
}

impl State {
    fn gone(&self, name: &str) -> Outcome {
        let (end, records, caller) = self.ended.get(name).cloned().unwrap_or((ParkedLetterEnd::Unspecified, 0, String::new()));
        Outcome::Gone(ParkedLetterGone { end: end.into(), records, caller, ..Default::default() })
    }

    fn standing(&self, name: &str) -> Standing {
        if self.held.contains_key(name) {
            return Standing::Held(ParkedLetterHeld {});
        }
        if self.coming.contains(name) {
            return Standing::Coming(ParkedLetterComing {});
        }
        let end_time = self.ended_at.get(name).copied().map(idempo_rpc::timestamp::to_proto);
        match self.gone(name) {
            Outcome::Gone(gone) => Standing::Gone(ParkedLetterGone { end_time, ..gone }),
            other => unreachable!("{other:?}"),
        }
    }

    fn replay(&mut self, name: &str, force: bool, caller: &str) -> Outcome {
        let Some((replay_count, parked)) = self.held.get_mut(name) else { return self.gone(name) };
        if *replay_count >= REPLAYS_MAX && !force {
            return Outcome::Refused(ParkedLetterRefused { code: "REPLAYED_TOO_OFTEN".to_owned(), reason: "five times".to_owned() });
        }
        if self.failing.contains(name) {
            *replay_count += 1;
            let replay_count = *replay_count;
            return Outcome::FailedAgain(ParkedLetterFailedAgain {
                code: "VERSION_GAP".to_owned(),
                reason: "still".to_owned(),
                replay_count,
            });
        }
        let records = *parked + 1;
        self.held.remove(name);
        *self.applied.entry(name.to_owned()).or_default() += 1;
        self.ended.insert(name.to_owned(), (ParkedLetterEnd::Applied, records, caller.to_owned()));
        Outcome::Applied(ParkedLetterApplied { records, blocked_by: String::new() })
    }

    fn discard(&mut self, name: &str, caller: &str) -> Outcome {
        let Some((_, records_applied)) = self.held.remove(name) else { return self.gone(name) };
        self.ended.insert(name.to_owned(), (ParkedLetterEnd::Discarded, records_applied, caller.to_owned()));
        Outcome::Discarded(ParkedLetterDiscarded { records_applied, blocked_by: String::new() })
    }
}

/// Lets in the dead-letter service, by its token.
fn is_service(tokens: &mut Tokens, request: Request<()>) -> Result<Request<()>, Status> {
    let sent = request.metadata().get("authorization").and_then(|token| token.to_str().ok()).unwrap_or_default();
    tokens.sent = sent.trim_start_matches("Bearer ").to_owned();
    if tokens.accepted.contains(&tokens.sent) { Ok(request) } else { Err(Status::unauthenticated("no token of the service")) }
}

fn caller_of<T>(request: &Request<T>) -> String {
    request.metadata().get("idempo-caller").and_then(|caller| caller.to_str().ok()).unwrap_or_default().to_owned()
}

#[tonic::async_trait]
impl ParkedService for Parked {
    async fn list_parked_letters(&self, _: Request<ListParkedLettersRequest>) -> Result<Response<ListParkedLettersResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get_parked_letter(&self, request: Request<GetParkedLetterRequest>) -> Result<Response<GetParkedLetterResponse>, Status> {
        let name = request.into_inner().name;
        let Some((_, parked)) = self.state().held.get(&name).copied() else { return Err(Status::not_found("not here")) };
        let letter = ParkedLetter { name, parked_records: parked, ..Default::default() };
        let parked_records = (0..parked).map(|at| ParkedRecord { offset: 1_000 + at, ..Default::default() }).collect();
        Ok(Response::new(GetParkedLetterResponse { parked_letter: Some(letter), parked_records, ..Default::default() }))
    }

    async fn get_parked_letter_standings(
        &self,
        request: Request<GetParkedLetterStandingsRequest>,
    ) -> Result<Response<GetParkedLetterStandingsResponse>, Status> {
        let names = request.into_inner().names;
        let answer = {
            let mut state = self.state();
            state.questions.push(names.len());
            let standing = |name: String| ParkedLetterStanding { standing: Some(state.standing(&name)), name };
            match &state.silence {
                Some(status) => Err(status.clone()),
                None => Ok(GetParkedLetterStandingsResponse { standings: names.into_iter().map(standing).collect() }),
            }
        };
        let is_gone = |standing: &ParkedLetterStanding| matches!(standing.standing, Some(Standing::Gone(_)));
        if *self.1.borrow() && answer.as_ref().is_ok_and(|answer| answer.standings.iter().any(is_gone)) {
            self.state().held_back += 1;
            // Nobody holds anything back any more when the test is over.
            let _ = self.1.clone().wait_for(|held_back| !held_back).await;
        }
        answer.map(Response::new)
    }

    async fn replay_parked_letters(
        &self,
        request: Request<ReplayParkedLettersRequest>,
    ) -> Result<Response<ReplayParkedLettersResponse>, Status> {
        let caller = caller_of(&request);
        let asked = request.into_inner();
        let outcomes = self.done(&asked.names, |state, name| state.replay(name, asked.force, &caller))?;
        Ok(Response::new(ReplayParkedLettersResponse { outcomes }))
    }

    async fn discard_parked_letters(
        &self,
        request: Request<DiscardParkedLettersRequest>,
    ) -> Result<Response<DiscardParkedLettersResponse>, Status> {
        let caller = caller_of(&request);
        let outcomes = self.done(&request.into_inner().names, |state, name| state.discard(name, &caller))?;
        Ok(Response::new(DiscardParkedLettersResponse { outcomes }))
    }

    async fn rehearse_parked_letters(
        &self,
        request: Request<RehearseParkedLettersRequest>,
    ) -> Result<Response<RehearseParkedLettersResponse>, Status> {
        let state = self.state();
        let rehearse = |name: String| {
            let found = state.held.get(&name);
            let failure = ParkedLetterFailure { offset: 7, code: "VERSION_GAP".to_owned(), reason: "still".to_owned() };
            ParkedLetterRehearsal {
                gone: found.is_none(),
                would_fail: state.failing.contains(&name).then_some(failure),
                would_apply_records: found.filter(|_| !state.failing.contains(&name)).map_or(0, |(_, parked)| parked + 1),
                name,
            }
        };
        let row = |name: &String| ParkedDifference { table: "item".to_owned(), key: format!("{{\"id\": {name:?}}}"), ..Default::default() };
        let names = request.into_inner().names;
        let differences = names.iter().map(row).collect();
        let rehearsals = names.into_iter().map(rehearse).collect();
        Ok(Response::new(RehearseParkedLettersResponse { rehearsals, differences, rows_changed: 0 }))
    }
}
