//! The operator's desk: while faults go on, somebody plans and begins jobs on whatever dead letters are open, slowly, over the public API of the
//! dead-letter service; and in the end settles all that is left.
//!
//! What is poison is replayed in vain once, as people do before they understand, where chance in its offset has it so; then it is discarded. What the
//! read model has refused is replayed until it is taken. Whatever is not answered is asked for again: a job that was planned and whose answer was lost
//! stays planned, and changes nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_proto::ops::v1::{
    ApplyJobRequest, DeadLetter, DeadLetterFilter, DeadLetterState, GetJobRequest, JobAction, JobState, ListDeadLettersRequest,
    PlanJobRequest,
};
use idempo_rpc::operators::{Authorize, Token};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How many dead letters are in a job while faults go on, and how many a second it takes: slowly enough to be interrupted.
const MEMBERS: usize = 6;
const MEMBERS_PER_SECOND: i32 = 4;
/// How many dead letters are looked at, and are in a job, in the end.
const PAGE: i32 = 1_000;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often a job is asked to begin that does not answer.
const BEGIN_TRIES_MAX: u32 = 100;
/// How often a job is looked at before it is left alone.
const LOOKS_MAX: u32 = 600;
/// The code of what the read model refuses.
const ROWS_REFUSED: &str = "READ_MODEL_REFUSED";

type Client = DeadLetterServiceClient<InterceptedService<Channel, Authorize>>;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One slow job after another.
    Slowly,
    /// Nothing, once the job under way has ended.
    Rest,
    /// Everything, at once.
    AtOnce,
}

/// Somebody who settles dead letters. It ends when this is dropped.
pub(crate) struct Desk {
    mode: watch::Sender<Mode>,
    rests: watch::Receiver<bool>,
    working: JoinHandle<()>,
    client: Client,
}

impl Desk {
    /// Begins to work.
    pub(crate) fn open(address: &str, token: Token) -> Result<Self> {
        let endpoint = Endpoint::from_shared(address.to_owned())?.connect_timeout(PATIENCE).timeout(PATIENCE);
        let client = DeadLetterServiceClient::with_interceptor(endpoint.connect_lazy(), Authorize(Some(token)));
        let (mode, wanted) = watch::channel(Mode::Slowly);
        let (sender, rests) = watch::channel(false);
        let working = tokio::spawn(work(client.clone(), wanted, sender));
        Ok(Self { mode, rests, working, client })
    }

    /// Lets the job under way end, and begins none. `false` where it has not ended within `limit`.
    pub(crate) async fn rest(&mut self, limit: Duration) -> bool {
        self.mode.send_replace(Mode::Rest);
        tokio::time::timeout(limit, self.rests.wait_for(|rests| *rests)).await.is_ok_and(|rests| rests.is_ok())
    }

    /// Settles what is open, as fast as it can be.
    pub(crate) fn at_once(&self) {
        self.mode.send_replace(Mode::AtOnce);
    }

    /// How many dead letters are open, a page of them at most.
    pub(crate) async fn open_letters(&mut self) -> Result<usize> {
        Ok(open(&mut self.client).await?.len())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.working.abort();
    }
}

async fn work(mut client: Client, mut wanted: watch::Receiver<Mode>, rests: watch::Sender<bool>) {
    let mut turn = 0;
    loop {
        let mode = *wanted.borrow_and_update();
        rests.send_replace(mode == Mode::Rest);
        if mode == Mode::Rest {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        turn += 1;
        // Whatever is not answered is tried again: what is the matter then is for the checker to find out.
        if !settle_some(&mut client, mode, turn).await.unwrap_or(false) {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// What is done to some dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// They are replayed, though nothing was mended.
    InVain,
    /// They are replayed, and again until they are applied.
    Replay,
    /// They are discarded.
    Discard,
}

impl Deed {
    const ALL: [Self; 3] = [Self::InVain, Self::Replay, Self::Discard];

    const fn reason(self) -> &'static str {
        match self {
            Self::InVain => "let us see whether it goes now",
            Self::Replay => "its rows are taken again",
            Self::Discard => "no event of ours: somebody else wrote it",
        }
    }

    fn of(letter: &DeadLetter, mode: Mode) -> Self {
        if letter.code == ROWS_REFUSED {
            Self::Replay
        } else if mode == Mode::Slowly && letter.replay_count == 0 && letter.offset % 2 == 0 {
            Self::InVain
        } else {
            Self::Discard
        }
    }
}

/// Makes a job of some dead letters that are open, and sees it to its end. `false` where there are none.
async fn settle_some(client: &mut Client, mode: Mode, turn: usize) -> Result<bool> {
    let letters = open(client).await?;
    let most = if mode == Mode::AtOnce { letters.len() } else { MEMBERS };
    // They take turns, so that none waits for the others to be done.
    for deed in Deed::ALL.into_iter().cycle().skip(turn % Deed::ALL.len()).take(Deed::ALL.len()) {
        let names: Vec<String> =
            letters.iter().filter(|letter| Deed::of(letter, mode) == deed).take(most).map(|letter| letter.name.clone()).collect();
        if !names.is_empty() {
            do_it(client, deed, names, mode).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

async fn open(client: &mut Client) -> Result<Vec<DeadLetter>> {
    let filter = DeadLetterFilter { state: DeadLetterState::Open.into(), ..DeadLetterFilter::default() };
    let asked = ListDeadLettersRequest { page_size: PAGE, filter: Some(filter), ..ListDeadLettersRequest::default() };
    Ok(client.list_dead_letters(asked).await?.into_inner().dead_letters)
}

async fn do_it(client: &mut Client, deed: Deed, names: Vec<String>, mode: Mode) -> Result<()> {
    let action = if deed == Deed::Discard { JobAction::Discard } else { JobAction::Replay };
    let plan = PlanJobRequest { action: action.into(), names, filter: None, reason: deed.reason().to_owned() };
    let job = client.plan_job(plan).await?.into_inner().job.context("a plan is answered with its job")?.name;
    begin(client, &job, deed, mode).await?;
    for _ in 0..LOOKS_MAX {
        // While nobody answers, nobody knows.
        if let Ok(answer) = client.get_job(GetJobRequest { name: job.clone() }).await
            && let Some(job) = answer.into_inner().job
            && matches!(job.state(), JobState::Done | JobState::Cancelled)
        {
            return Ok(());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    bail!("{job} does not end")
}

async fn begin(client: &mut Client, job: &str, deed: Deed, mode: Mode) -> Result<()> {
    let asked = ApplyJobRequest {
        name: job.to_owned(),
        members_per_second_max: if mode == Mode::AtOnce { 0 } else { MEMBERS_PER_SECOND },
        members_max: 0,
        // What the read model refused while it could not do otherwise does not count against it.
        force: deed == Deed::Replay,
        reason: deed.reason().to_owned(),
    };
    for _ in 0..BEGIN_TRIES_MAX {
        match client.apply_job(asked.clone()).await {
            Ok(_) => return Ok(()),
            // It has begun, and the answer was lost.
            Err(status) if idempo_rpc::status::reason(&status).as_deref() == Some("JOB_STATE") => return Ok(()),
            Err(status) if is_settled(&status) => return Err(status).context("beginning a job"),
            Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
        }
    }
    bail!("{job} can't be begun")
}

/// Whether asking again would come to the same.
fn is_settled(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::FailedPrecondition | Code::NotFound | Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_replayed_once_at_most_and_events_are_never_discarded() {
        let letter = |code: &str, offset, replay_count| DeadLetter { code: code.to_owned(), offset, replay_count, ..DeadLetter::default() };
        assert_eq!(Deed::of(&letter("UNDECODABLE_RECORD", 4, 0), Mode::Slowly), Deed::InVain);
        assert_eq!(Deed::of(&letter("UNDECODABLE_RECORD", 4, 1), Mode::Slowly), Deed::Discard);
        assert_eq!(Deed::of(&letter("UNDECODABLE_RECORD", 5, 0), Mode::Slowly), Deed::Discard);
        assert_eq!(Deed::of(&letter("UNDECODABLE_RECORD", 4, 0), Mode::AtOnce), Deed::Discard);
        for mode in [Mode::Slowly, Mode::AtOnce] {
            assert_eq!(Deed::of(&letter(ROWS_REFUSED, 4, 4), mode), Deed::Replay);
        }
    }
}
