//! What people want of a projection.

use std::time::Duration;

use idempo_proto::ops::v1::{
    CancelRebuildRequest, CancelRebuildResponse, DropGenerationRequest, DropGenerationResponse, PauseProjectionRequest,
    PauseProjectionResponse, RebuildSource, ResumeProjectionRequest, ResumeProjectionResponse, RollBackGenerationRequest,
    RollBackGenerationResponse, StartRebuildRequest, StartRebuildResponse, SwitchGenerationRequest, SwitchGenerationResponse,
    VerificationAgainst, VerifyGenerationRequest, VerifyGenerationResponse,
};
use idempo_rpc::operators::{Attempt, Refused};
use idempo_rpc::status::{StatusBuilder, refusal};
use idempo_rpc::{Caller, Deadline, Violations};
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};
use tonic::{Code, Request, Status};

use super::Operations;
use super::messages::{self, Position};
use super::reads::has_all_of;
use crate::generations::known::Against;
use crate::generations::{Source, State};

/// The most parts of the event store that are read at once, and how many where nothing is said.
const WORKERS_MAX: i64 = 8;
const WORKERS_DEFAULT: i64 = 2;
/// The greatest rate that can be asked for, in events a second.
const EVENTS_PER_SECOND_MAX: i64 = 10_000_000;
/// How long the live generation is held at most, so that another one comes to have what it has, before a switch is refused.
const HOLD_MAX: Duration = Duration::from_secs(3);
/// How often it is tried meanwhile.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Which generation is to be live.
struct Switch {
    expected: i32,
    wanted: i32,
    force: bool,
}

impl Operations {
    pub(super) async fn start(&self, request: Request<StartRebuildRequest>) -> Result<StartRebuildResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        self.wished("rebuild", self.check_name(&asked.name), &request)?;
        let attempt = Attempt { metadata, action: "rebuild", target: String::new(), reason: &asked.reason };
        let outcome = self.start_rebuild(&attempt, asked).await;
        let number = self.concluded(&attempt, outcome).await?;
        Ok(StartRebuildResponse { generation: Some(self.one(number).await?) })
    }

    pub(super) async fn cancel(&self, request: Request<CancelRebuildRequest>) -> Result<CancelRebuildResponse, Status> {
        let asked = request.get_ref();
        let number = self.wished("cancel", self.number_of(&asked.name), &request)?;
        self.give_up(&request, "cancel", number, &asked.reason).await.map(|()| CancelRebuildResponse {})
    }

    pub(super) async fn drop(&self, request: Request<DropGenerationRequest>) -> Result<DropGenerationResponse, Status> {
        let asked = request.get_ref();
        let number = self.wished("drop", self.number_of(&asked.name), &request)?;
        self.give_up(&request, "drop", number, &asked.reason).await.map(|()| DropGenerationResponse {})
    }

    pub(super) async fn verify(&self, request: Request<VerifyGenerationRequest>) -> Result<VerifyGenerationResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let number = self.wished("verify", self.number_of(&asked.name), &request)?;
        let attempt = Attempt { metadata, action: "verify", target: number.to_string(), reason: &asked.reason };
        let outcome = async {
            let mut violations = Violations::new();
            let caller = attempt.caller(&mut violations);
            let against = violations.optional_enumeration::<VerificationAgainst>("against", asked.against);
            let (caller,) = violations.accept(self.domain, (caller,))?;
            let against = if matches!(against, Some(Some(VerificationAgainst::Fold))) { Against::Fold } else { Against::Live };
            if against == Against::Fold {
                self.check_source()?;
            }
            let sql = include_str!("../sql/request_verification.sql");
            let row = self.ask(sql, &[&self.projection, &number, &against.name(), &caller, &attempt.reason]).await?;
            self.done(&row, number)
        };
        let outcome = outcome.await;
        self.concluded(&attempt, outcome).await?;
        let known = self.known().await?;
        let verification = self.generation(&known, number)?.verification.as_ref().map(messages::verification);
        Ok(VerifyGenerationResponse { verification })
    }

    pub(super) async fn switch(&self, request: Request<SwitchGenerationRequest>) -> Result<SwitchGenerationResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let wanted = self.wished("switch", self.number_of(&asked.name), &request)?;
        let attempt = Attempt { metadata, action: "switch", target: wanted.to_string(), reason: &asked.reason };
        let switch = Switch { expected: asked.live_generation, wanted, force: asked.force };
        let outcome = self.set_live(&attempt, &switch, Deadline::of(&request)).await;
        self.concluded(&attempt, outcome).await?;
        Ok(SwitchGenerationResponse { projection: Some(self.whole().await?) })
    }

    pub(super) async fn roll_back(&self, request: Request<RollBackGenerationRequest>) -> Result<RollBackGenerationResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        self.wished("roll_back", self.check_name(&asked.name), &request)?;
        let attempt = Attempt { metadata, action: "roll_back", target: String::new(), reason: &asked.reason };
        let switch = Switch { expected: 0, wanted: 0, force: asked.force };
        let outcome = self.set_live(&attempt, &switch, Deadline::of(&request)).await;
        self.concluded(&attempt, outcome).await?;
        Ok(RollBackGenerationResponse { projection: Some(self.whole().await?) })
    }

    pub(super) async fn pause(&self, request: Request<PauseProjectionRequest>) -> Result<PauseProjectionResponse, Status> {
        let asked = request.get_ref();
        self.wished("pause", self.check_name(&asked.name), &request)?;
        self.set_paused(&request, &asked.reason, true).await.map(|()| PauseProjectionResponse {})
    }

    pub(super) async fn resume(&self, request: Request<ResumeProjectionRequest>) -> Result<ResumeProjectionResponse, Status> {
        let asked = request.get_ref();
        self.wished("resume", self.check_name(&asked.name), &request)?;
        self.set_paused(&request, &asked.reason, false).await.map(|()| ResumeProjectionResponse {})
    }

    /// What a mutation is for. What is not ours has no audit: what was tried is logged.
    pub(super) fn wished<V, M>(&self, action: &'static str, found: Result<V, Status>, request: &Request<M>) -> Result<V, Status> {
        if found.is_err() {
            let caller = Caller::of(request.metadata());
            let caller = caller.as_ref().map_or("", Caller::as_str);
            tracing::warn!(projection = self.projection, caller, action, "an operation on an unknown projection or generation was refused");
        }
        found
    }

    async fn start_rebuild(&self, attempt: &Attempt<'_>, asked: &StartRebuildRequest) -> Result<i32, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let source = violations.optional_enumeration::<RebuildSource>("source", asked.source);
        let from_kafka = matches!(source, Some(Some(RebuildSource::Kafka)));
        let workers = violations.int("workers", i64::from(asked.workers), if from_kafka { 0..=0 } else { 0..=WORKERS_MAX });
        let rate = violations.int("events_per_second_max", asked.events_per_second_max, 0..=EVENTS_PER_SECOND_MAX);
        let (caller, workers, rate) = violations.accept(self.domain, (caller, workers, rate))?;
        let (source, log_starts) = if from_kafka { (Source::Kafka, self.log_starts().await?) } else { (Source::EventStore, Vec::new()) };
        if !from_kafka {
            self.check_source()?;
        }
        let workers = match (source, workers) {
            (Source::EventStore, 0) => WORKERS_DEFAULT,
            (_, workers) => workers,
        };
        let workers = i32::try_from(workers).unwrap_or(1);
        let topic = &self.layout.options.topic;
        let parameters: [&(dyn ToSql + Sync); 9] =
            [&self.projection, &self.logic, &source.name(), topic, &workers, &rate, &log_starts, &caller, &attempt.reason];
        let row = self.ask(include_str!("../sql/start_rebuild.sql"), &parameters).await?;
        let (outcome, number, detail): (String, Option<i32>, String) =
            (self.column(&row, 0)?, self.column(&row, 1)?, self.column(&row, 2)?);
        match outcome.as_str() {
            "DONE" => Ok(number.unwrap_or_default()),
            "REBUILD_UNDER_WAY" => {
                let text = format!("generation {} is being built already, as {detail} asked for", number.unwrap_or_default());
                let refused = self.refusal(Code::FailedPrecondition, "REBUILD_UNDER_WAY", &text);
                Err(Refused::Noted(refused.metadata("caller", &detail).metadata("generation", number.unwrap_or_default()).into_status()))
            }
            _ => {
                let text = format!("Kafka does not hold all events any more: {detail}");
                Err(Refused::Noted(self.refusal(Code::FailedPrecondition, "HISTORY_INCOMPLETE", &text).into_status()))
            }
        }
    }

    /// Whether this process can read the event store.
    fn check_source(&self) -> Result<(), Status> {
        if self.has_source { Ok(()) } else { Err(self.no_source()) }
    }

    pub(super) fn no_source(&self) -> Status {
        let text = "this projection is not told where the event store is";
        self.refusal(Code::FailedPrecondition, "EVENT_STORE_NOT_CONFIGURED", text).into_status()
    }

    /// The first offset that the brokers still have, for each partition.
    async fn log_starts(&self) -> Result<Vec<i64>, Status> {
        let found = self.ends.watermarks().await.map_err(|error| idempo_rpc::status::of_error(&error, self.domain))?;
        Ok(found.into_iter().map(|(low, _)| low).collect())
    }

    async fn give_up<M>(&self, request: &Request<M>, action: &'static str, number: i32, reason: &str) -> Result<(), Status> {
        let attempt = Attempt { metadata: request.metadata(), action, target: number.to_string(), reason };
        let outcome = async {
            let caller = self.caller_of(&attempt)?;
            let sql = include_str!("../sql/give_up_generation.sql");
            let row = self.ask(sql, &[&self.projection, &number, &action, &caller, &reason]).await?;
            self.done(&row, number)
        };
        let outcome = outcome.await;
        self.concluded(&attempt, outcome).await
    }

    async fn set_paused<M>(&self, request: &Request<M>, reason: &str, pause: bool) -> Result<(), Status> {
        let action = if pause { "pause" } else { "resume" };
        let attempt = Attempt { metadata: request.metadata(), action, target: String::new(), reason };
        let outcome = async {
            let caller = self.caller_of(&attempt)?;
            self.ask(include_str!("../sql/set_paused.sql"), &[&self.projection, &pause, &caller, &reason]).await?;
            Ok(())
        };
        let outcome = outcome.await;
        self.concluded(&attempt, outcome).await
    }

    /// Makes a generation live. Two consumers of a busy topic are hardly ever at the same place: where the one that is to be live lacks something, the
    /// live one is held until it has come to have it, for a moment.
    async fn set_live(&self, attempt: &Attempt<'_>, switch: &Switch, deadline: Deadline) -> Result<(), Refused> {
        let caller = self.caller_of(attempt)?;
        let known = self.known().await?;
        let wanted = if attempt.action == "roll_back" { known.previous.unwrap_or_default() } else { switch.wanted };
        let give_up_at = Instant::now() + HOLD_MAX.min(deadline.wait_budget());
        // What is refused in any case is not worth holding anybody for.
        let is_allowed = known.generation(wanted).is_some_and(|generation| {
            let is_chosen = attempt.action == "roll_back" || generation.is_verified_beside(known.live);
            matches!(generation.state, State::Ready | State::Retired) && is_chosen && !switch.force
        });
        let is_held = is_allowed && !self.has_caught_up(known.live, wanted).await? && self.hold(known.live).await?;
        while is_held && Instant::now() < give_up_at && !self.has_caught_up(known.live, wanted).await? {
            sleep(RETRY_INTERVAL).await;
        }
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&self.projection, &switch.expected, &switch.wanted, &switch.force, &attempt.action, &caller, &attempt.reason];
        let row = self.ask(include_str!("../sql/set_live.sql"), &parameters).await;
        if is_held {
            self.ask_nothing(include_str!("../sql/release.sql"), &[&self.projection, &vec![known.live]]).await?;
        }
        self.done(&row?, wanted)
    }

    async fn has_caught_up(&self, live: i32, wanted: i32) -> Result<bool, Status> {
        let positions = self.positions(&[live, wanted]).await.map_err(|error| self.failed(&error))?;
        let own: Vec<&Position> = positions.iter().filter(|at| at.generation == wanted).collect();
        Ok(has_all_of(live, &own, &positions))
    }

    /// Holds a generation's consumers where they stand.
    async fn hold(&self, generation: i32) -> Result<bool, Refused> {
        let partitions: Vec<i32> = (0..self.layout.options.partitions).collect();
        let (generations, offsets) = (vec![generation; partitions.len()], vec![0_i64; partitions.len()]);
        let hold_ms = i64::try_from(HOLD_MAX.as_millis()).unwrap_or(i64::MAX);
        self.ask_nothing(include_str!("../sql/hold.sql"), &[&self.projection, &generations, &partitions, &offsets, &hold_ms]).await?;
        Ok(true)
    }

    /// Notes a refusal that is not noted yet; what was not refused is told to this process at once.
    pub(super) async fn concluded<V>(&self, attempt: &Attempt<'_>, outcome: Result<V, Refused>) -> Result<V, Status> {
        if outcome.is_ok() {
            self.bell.notify_one();
        }
        attempt.concluded(self, outcome).await
    }

    fn caller_of(&self, attempt: &Attempt<'_>) -> Result<String, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let (caller,) = violations.accept(self.domain, (caller,))?;
        Ok(caller)
    }

    async fn ask(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Refused> {
        let client = self.client().await.map_err(Refused::Noted)?;
        let asked = async {
            let statement = client.prepare_cached(sql).await?;
            client.query_one(&statement, parameters).await
        };
        // What failed has no entry, and none can be made: the answer says that nothing is known.
        asked.await.map_err(|error| Refused::Noted(self.failed_statement(error)))
    }

    async fn ask_nothing(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<(), Refused> {
        let client = self.client().await.map_err(Refused::Noted)?;
        let asked = async {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, parameters).await
        };
        asked.await.map(|_| ()).map_err(|error| Refused::Noted(self.failed_statement(error)))
    }

    fn column<'a, V: FromSql<'a>>(&self, row: &'a Row, at: usize) -> Result<V, Refused> {
        row.try_get(at).map_err(|error| Refused::Noted(self.failed_statement(error)))
    }

    pub(super) fn refusal(&self, code: Code, reason: &str, text: &str) -> StatusBuilder {
        refusal(code, reason, self.domain, text)
    }

    /// Whether a function of the schema has done what it was asked for, or why not.
    fn done(&self, row: &Row, number: i32) -> Result<(), Refused> {
        let (outcome, detail): (String, String) = (self.column(row, 0)?, self.column(row, 1)?);
        let precondition = |reason, text: &str| self.refusal(Code::FailedPrecondition, reason, text).metadata("generation", number);
        let refused = match outcome.as_str() {
            "DONE" => return Ok(()),
            "GENERATION_NOT_FOUND" => return Err(Refused::Noted(self.no_generation(&self.generation_name(number)))),
            "GENERATION_STATE" => {
                let text = format!("the generation is {detail}, in which state this can't be done to it");
                precondition("GENERATION_STATE", &text).metadata("state", detail)
            }
            "GENERATION_UNVERIFIED" => {
                let text = format!("the generation was not found equal to the live one or to the fold ({detail})");
                precondition("GENERATION_UNVERIFIED", &text).metadata("verification", detail)
            }
            "GENERATION_LAGGING" => precondition("GENERATION_LAGGING", "the generation does not have all that the live one has"),
            "LIVE_GENERATION_MISMATCH" => self
                .refusal(Code::Aborted, "LIVE_GENERATION_MISMATCH", "another generation is live by now")
                .metadata("live_generation", detail),
            _ => precondition("NO_PREVIOUS_GENERATION", "there is no generation to go back to"),
        };
        Err(Refused::Noted(refused.into_status()))
    }
}
