//! Any process of the dead-letter service answers for all dead letters: the first one that is reached is asked.

use std::time::Duration;

use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_proto::ops::v1::{
    DeadLetter, DeadLetterAuditEntry, DeadLetterFilter, DeadLetterGroup, DeadLetterJob, GetDeadLetterRequest, GetDeadLetterResponse,
    GetJobRequest, JobMember, JobState, ListDeadLetterAuditEntriesRequest, ListDeadLetterGroupsRequest, ListDeadLetterGroupsResponse,
    ListDeadLettersRequest, ListJobMembersRequest, ListJobsRequest, MemberState,
};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::context::{Context, channel};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::tell;
use crate::relays::{is_away, missing};

/// How many things are asked for at a time.
const PAGE_SIZE: i32 = 1_000;
/// How many names are compared with one that is none.
const KNOWN_MAX: usize = 1_000;
/// The collections that names begin with.
const LETTERS: &str = "deadLetters/";
const JOBS: &str = "deadLetterJobs/";
const GROUPS: &str = "deadLetterGroups/";

/// A client of one process.
pub(crate) type Client = DeadLetterServiceClient<Channel>;

/// The dead-letter service of the profile.
pub(crate) struct Service<'a> {
    context: &'a Context,
    clients: Vec<(String, Client)>,
    /// Whether nothing is told on stderr.
    is_quiet: bool,
}

/// A name without the collection before it.
pub(crate) fn short(name: &str) -> &str {
    [LETTERS, JOBS, GROUPS].iter().find_map(|collection| name.strip_prefix(collection)).unwrap_or(name)
}

/// The full name of a dead letter.
pub(super) fn letter(name: &str) -> String {
    format!("{LETTERS}{}", short(name))
}

/// The full name of a job.
pub(super) fn job(name: &str) -> String {
    format!("{JOBS}{}", short(name))
}

/// Whether a name is a job's: those of dead letters have dots.
pub(super) fn is_job(name: &str) -> bool {
    !short(name).contains('.')
}

impl<'a> Service<'a> {
    /// The service, as the profile has it.
    ///
    /// # Errors
    /// [`Exit::Usage`] where it has none, or an address is none.
    pub(crate) fn new(context: &'a Context) -> Result<Self, Failure> {
        let addresses = &context.profile().dead_letters;
        if addresses.is_empty() {
            return Err(missing("dead_letters"));
        }
        let clients = addresses.iter().map(|address| Ok((address.clone(), Client::new(channel(address)?))));
        Ok(Self { context, clients: clients.collect::<Result<_, Failure>>()?, is_quiet: false })
    }

    /// The service where the profile has it, for who has no place to tell of processes that are away.
    ///
    /// # Errors
    /// As [`Service::new`].
    pub(crate) fn quiet(context: &'a Context) -> Result<Option<Self>, Failure> {
        if context.profile().dead_letters.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { is_quiet: true, ..Self::new(context)? }))
    }

    /// Asks the first process that is reached.
    ///
    /// # Errors
    /// What it answered; [`Exit::Unavailable`] where none is reached.
    pub(crate) async fn ask<M: Clone, A>(
        &self,
        message: M,
        call: impl AsyncFn(&mut Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        self.ask_within(None, message, call).await
    }

    /// As [`Service::ask`], with a limit of its own to how long the answer may take.
    pub(super) async fn ask_within<M: Clone, A>(
        &self,
        limit: Option<Duration>,
        message: M,
        call: impl AsyncFn(&mut Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        for (address, client) in &self.clients {
            let mut request = self.context.request(message.clone());
            if let Some(limit) = limit {
                request.set_timeout(limit);
            }
            match call(&mut client.clone(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if is_away(&status) && self.is_quiet => {}
                Err(status) if is_away(&status) => tell(&format!("warning: the dead-letter service at {address} is away")),
                Err(status) => return Err(status.into()),
            }
        }
        Err(Failure::new(Exit::Unavailable, "no dead-letter service is reached").hint("`idempo doctor` looks at everything"))
    }

    pub(crate) async fn groups(&self, topic: &str, consumer_group: &str) -> Result<ListDeadLetterGroupsResponse, Failure> {
        let asked = ListDeadLetterGroupsRequest { topic: topic.to_owned(), consumer_group: consumer_group.to_owned() };
        self.ask(asked, async |client, request| client.list_dead_letter_groups(request).await).await
    }

    /// Dead letters, `limit` at most, and whether there are more.
    pub(crate) async fn letters(&self, filter: &DeadLetterFilter, limit: usize) -> Result<(Vec<DeadLetter>, bool), Failure> {
        let mut found = Vec::new();
        let mut asked = ListDeadLettersRequest { page_size: PAGE_SIZE, page_token: String::new(), filter: Some(filter.clone()) };
        loop {
            let page = self.ask(asked.clone(), async |client, request| client.list_dead_letters(request).await).await?;
            found.extend(page.dead_letters);
            let is_last = page.next_page_token.is_empty();
            if is_last || found.len() > limit {
                let has_more = found.len() > limit;
                found.truncate(limit);
                return Ok((found, has_more));
            }
            asked.page_token = page.next_page_token;
        }
    }

    /// A dead letter with all that is known of it.
    pub(super) async fn letter(&self, name: &str) -> Result<GetDeadLetterResponse, Failure> {
        let asked = GetDeadLetterRequest { name: letter(name) };
        let found = self.ask(asked, async |client, request| client.get_dead_letter(request).await).await;
        self.or_nearest_letter(name, found).await
    }

    /// Where a dead letter is none, says so with the nearest names.
    pub(super) async fn or_nearest_letter<T>(&self, name: &str, answer: Result<T, Failure>) -> Result<T, Failure> {
        let Err(failure) = &answer else { return answer };
        if failure.exit != Exit::NotFound {
            return answer;
        }
        let (known, _) = self.letters(&DeadLetterFilter::default(), KNOWN_MAX).await?;
        if known.iter().any(|known| short(&known.name) == short(name)) {
            // It is another one that was not found.
            return answer;
        }
        Err(Failure::unknown("dead letter", short(name), known.iter().map(|known| short(&known.name))))
    }

    /// A job.
    pub(super) async fn job(&self, name: &str) -> Result<DeadLetterJob, Failure> {
        let asked = GetJobRequest { name: job(name) };
        let found = self.ask(asked, async |client, request| client.get_job(request).await).await;
        let failure = match found {
            Err(failure) if failure.exit == Exit::NotFound || failure.exit == Exit::Usage => failure,
            found => return Ok(found?.job.unwrap_or_default()),
        };
        let known = self.jobs(JobState::Unspecified, KNOWN_MAX).await?;
        if known.iter().any(|known| short(&known.name) == short(name)) {
            return Err(failure);
        }
        Err(Failure::unknown("job", short(name), known.iter().map(|known| short(&known.name))))
    }

    pub(super) async fn jobs(&self, state: JobState, limit: usize) -> Result<Vec<DeadLetterJob>, Failure> {
        let mut jobs = Vec::new();
        let mut asked = ListJobsRequest { page_size: PAGE_SIZE, page_token: String::new(), state: state.into() };
        while jobs.len() < limit {
            let page = self.ask(asked.clone(), async |client, request| client.list_jobs(request).await).await?;
            jobs.extend(page.jobs);
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        jobs.truncate(limit);
        Ok(jobs)
    }

    pub(super) async fn members(&self, parent: &str, state: MemberState, limit: usize) -> Result<Vec<JobMember>, Failure> {
        let mut members = Vec::new();
        let mut asked =
            ListJobMembersRequest { parent: parent.to_owned(), page_size: PAGE_SIZE, page_token: String::new(), state: state.into() };
        while members.len() < limit {
            let page = self.ask(asked.clone(), async |client, request| client.list_job_members(request).await).await?;
            members.extend(page.members);
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        members.truncate(limit);
        Ok(members)
    }

    pub(super) async fn audit(&self, limit: usize) -> Result<Vec<DeadLetterAuditEntry>, Failure> {
        let mut entries = Vec::new();
        let mut asked = ListDeadLetterAuditEntriesRequest { page_size: PAGE_SIZE, page_token: String::new() };
        while entries.len() < limit {
            let page = self.ask(asked.clone(), async |client, request| client.list_dead_letter_audit_entries(request).await).await?;
            entries.extend(page.audit_entries);
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        entries.truncate(limit);
        Ok(entries)
    }

    /// The group with this id.
    ///
    /// # Errors
    /// [`Exit::NotFound`] with the nearest.
    pub(super) async fn group(&self, name: &str) -> Result<DeadLetterGroup, Failure> {
        let known = self.groups("", "").await?.groups;
        let found = known.iter().find(|known| short(&known.name) == short(name)).cloned();
        found.ok_or_else(|| Failure::unknown("group of dead letters", short(name), known.iter().map(|known| short(&known.name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_with_and_without_their_collection() {
        assert_eq!(letter("deadLetters/idempo.inventory.1.economy-events.3.7"), "deadLetters/idempo.inventory.1.economy-events.3.7");
        assert_eq!(letter("g.t.3.7"), "deadLetters/g.t.3.7");
        assert_eq!(job("7"), "deadLetterJobs/7");
        assert!(is_job("deadLetterJobs/7") && is_job("7") && !is_job("g.t.3.7"));
    }
}
