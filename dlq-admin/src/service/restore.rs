//! Restoring what was settled, as far as its consumer has it still.

use std::collections::HashMap;
use std::time::Duration;

use idempo_dead_letter::DeadLetterId;
use idempo_proto::ops::v1::{DeadLetter, GetParkedLetterRequest, RestoreDeadLettersRequest, RestoreDeadLettersResponse};
use idempo_rpc::operators::{Attempt, Refused, target_of};
use idempo_rpc::status::refusal;
use idempo_rpc::{Deadline, Violations};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Status};

use super::{DOMAIN, Named, Service, failed_statement, letter_not_found, named};
use crate::consumers::asked_by;

/// The most dead letters of one request: their consumers are asked about each.
const RESTORED_MAX: usize = 100;

impl Service {
    pub(super) async fn restore(&self, request: Request<RestoreDeadLettersRequest>) -> Result<RestoreDeadLettersResponse, Status> {
        let until = Instant::now() + Deadline::of(&request).wait_budget();
        let (metadata, asked) = (request.metadata(), request.get_ref());
        let attempt = Attempt { metadata, action: "restore", target: target_of(&asked.names), reason: &asked.reason };
        let outcome = self.try_restore(&attempt, asked, until).await;
        let dead_letters = attempt.concluded(self, outcome).await?;
        Ok(RestoreDeadLettersResponse { dead_letters })
    }

    async fn try_restore(
        &self,
        attempt: &Attempt<'_>,
        asked: &RestoreDeadLettersRequest,
        until: Instant,
    ) -> Result<Vec<DeadLetter>, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let names = named(&mut violations, &asked.names, RESTORED_MAX);
        let (caller, ids) = violations.accept(DOMAIN, (caller, names))?;
        // What is not here is refused before anybody is asked about it.
        let known: HashMap<String, DeadLetter> =
            self.letters_of(ids.clone()).await?.into_iter().map(|letter| (letter.name.clone(), letter)).collect();
        if let Some(missing) = asked.names.iter().find(|name| !known.contains_key(*name)) {
            return Err(Refused::ToNote(letter_not_found(missing)));
        }
        let mut held = Vec::with_capacity(ids.len());
        for id in &ids {
            held.push(self.is_held(id, &caller, until).await?);
        }
        let Named { groups, topics, partitions, offsets } = ids.iter().cloned().collect();
        let sql = include_str!("../sql/restore_letters.sql");
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
            [&groups, &topics, &partitions, &offsets, &held, &attempt.target, &caller, &attempt.reason];
        let row = self.query_one(sql, &parameters).await.map_err(Refused::Noted)?;
        let read = || Ok((row.try_get::<_, String>(0)?, row.try_get::<_, Option<String>>(1)?));
        let (outcome, culprit) = read().map_err(|error| Refused::Noted(failed_statement(error)))?;
        let culprit = culprit.unwrap_or_default();
        match outcome.as_str() {
            "DONE" => self.letters_of(ids).await.map_err(Refused::Noted),
            "DEAD_LETTER_NOT_FOUND" => Err(Refused::Noted(letter_not_found(&culprit))),
            _ => {
                let message = format!("{culprit} is in a job that is being applied");
                let refused = refusal(Code::FailedPrecondition, "DEAD_LETTER_IN_JOB", DOMAIN, message).metadata("name", &culprit);
                Err(Refused::Noted(refused.precondition("MEMBERS", culprit, "DEAD_LETTER_IN_JOB").into_status()))
            }
        }
    }

    /// Whether the consumer has the dead letter. Where nobody is known to ask, it has not: then it can't be replayed either.
    ///
    /// # Errors
    /// `CONSUMER_UNAVAILABLE` where it does not say: a dead letter is not called lost because its consumer is away.
    async fn is_held(&self, id: &DeadLetterId, caller: &str, until: Instant) -> Result<bool, Status> {
        let Some(mut consumer) = self.consumers.of(&id.group) else { return Ok(false) };
        let limit = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let request = asked_by(caller, limit, GetParkedLetterRequest { name: id.to_string() });
        let problem = match timeout_at(until, consumer.get_parked_letter(request)).await {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(status)) if status.code() == Code::NotFound => return Ok(false),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        let message = format!("the consumer of {} does not say whether it has {id}: {problem}", id.group);
        Err(refusal(Code::Unavailable, "CONSUMER_UNAVAILABLE", DOMAIN, message).metadata("consumer_group", &id.group).into_status())
    }
}
