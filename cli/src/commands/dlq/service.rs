//! Any process of the dead-letter service answers for all dead letters: the first one that is reached is asked. One that may have heard of a change is
//! the last one that is told of it: whether it was made is then to be looked at, and not to be tried again elsewhere.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};

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
pub(super) const KNOWN_MAX: usize = 1_000;
/// How many dead letters are looked up at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// Where it is seen whether a job was made, begun or cancelled.
pub(super) const SEEN_IN_JOBS: &str = "`idempo dlq jobs`";
/// Where it is seen whether anything else was done.
pub(super) const SEEN_IN_AUDIT: &str = "`idempo dlq audit`";
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
    /// The processes of which it was told that they are away: once is enough where a job is asked about over and over.
    told: Mutex<BTreeSet<String>>,
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
        Ok(Self { context, clients: clients.collect::<Result<_, Failure>>()?, is_quiet: false, told: Mutex::default() })
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

    /// Asks the first process that answers. Nothing is changed by it, so one that may have heard it is no hindrance to ask another.
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
                Err(status) if is_away(&status) => self.tell_away(address),
                Err(status) => return Err(status.into()),
            }
        }
        Err(unreached())
    }

    /// Asks the first process that is reached to change something. One that may have heard of it is the last one that is asked. `look_at` as in
    /// [`Context::change`].
    ///
    /// # Errors
    /// As [`Context::change`]; [`Exit::Unavailable`] where none is reached.
    pub(super) async fn change<M: Clone, A>(
        &self,
        message: M,
        look_at: &str,
        call: impl AsyncFn(&mut Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        for (address, client) in &self.clients {
            let asked = self.context.request(message.clone());
            match self.context.change(look_at, call(&mut client.clone(), asked)).await? {
                Some(answer) => return Ok(answer),
                None => self.tell_away(address),
            }
        }
        Err(unreached())
    }

    fn tell_away(&self, address: &str) {
        let is_new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned());
        if is_new && !self.is_quiet {
            tell(&format!("warning: the dead-letter service at {address} is away"));
        }
    }

    pub(crate) async fn groups(&self, topic: &str, consumer_group: &str) -> Result<ListDeadLetterGroupsResponse, Failure> {
        let asked = ListDeadLetterGroupsRequest { topic: topic.to_owned(), consumer_group: consumer_group.to_owned() };
        self.ask(asked, async |client, request| client.list_dead_letter_groups(request).await).await
    }

    /// Dead letters, `limit` at most, and whether there are more.
    pub(crate) async fn letters(&self, filter: &DeadLetterFilter, limit: usize) -> Result<(Vec<DeadLetter>, bool), Failure> {
        let pages = async |page_size, page_token| {
            let asked = ListDeadLettersRequest { page_size, page_token, filter: Some(filter.clone()) };
            let page = self.ask(asked, async |client, request| client.list_dead_letters(request).await).await?;
            Ok((page.dead_letters, page.next_page_token))
        };
        up_to(limit, pages).await
    }

    /// Dead letters by their names, in this order.
    ///
    /// # Errors
    /// [`Exit::NotFound`] with the nearest names where one is none.
    pub(super) async fn letters_named(&self, names: &[String]) -> Result<Vec<DeadLetter>, Failure> {
        let found = futures_util::stream::iter(names.iter().map(|name| self.letter(name))).buffered(LOOKUPS_AT_ONCE);
        found.map_ok(|found| found.dead_letter.unwrap_or_default()).try_collect().await
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
        let (known, _) = self.jobs(JobState::Unspecified, KNOWN_MAX).await?;
        if known.iter().any(|known| short(&known.name) == short(name)) {
            return Err(failure);
        }
        Err(Failure::unknown("job", short(name), known.iter().map(|known| short(&known.name))))
    }

    /// Jobs, newest first, `limit` at most, and whether there are more.
    pub(super) async fn jobs(&self, state: JobState, limit: usize) -> Result<(Vec<DeadLetterJob>, bool), Failure> {
        let pages = async |page_size, page_token| {
            let asked = ListJobsRequest { page_size, page_token, state: state.into() };
            let page = self.ask(asked, async |client, request| client.list_jobs(request).await).await?;
            Ok((page.jobs, page.next_page_token))
        };
        up_to(limit, pages).await
    }

    /// Members of a job, `limit` at most, and whether there are more.
    pub(super) async fn members(&self, parent: &str, state: MemberState, limit: usize) -> Result<(Vec<JobMember>, bool), Failure> {
        let pages = async |page_size, page_token| {
            let asked = ListJobMembersRequest { parent: parent.to_owned(), page_size, page_token, state: state.into() };
            let page = self.ask(asked, async |client, request| client.list_job_members(request).await).await?;
            Ok((page.members, page.next_page_token))
        };
        up_to(limit, pages).await
    }

    /// Audit entries, newest first, `limit` at most, and whether there are more.
    pub(super) async fn audit(&self, limit: usize) -> Result<(Vec<DeadLetterAuditEntry>, bool), Failure> {
        let pages = async |page_size, page_token| {
            let asked = ListDeadLetterAuditEntriesRequest { page_size, page_token };
            let page = self.ask(asked, async |client, request| client.list_dead_letter_audit_entries(request).await).await?;
            Ok((page.audit_entries, page.next_page_token))
        };
        up_to(limit, pages).await
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

/// What a list has on its pages, `limit` things at most, and whether it has more. `ask` takes how many a page has, and where it begins.
async fn up_to<T>(limit: usize, ask: impl AsyncFn(i32, String) -> Result<(Vec<T>, String), Failure>) -> Result<(Vec<T>, bool), Failure> {
    // No more than are wanted; the same for every page, because a token is of pages of one size.
    let page_size = i32::try_from(limit.max(1)).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = ask(page_size, token).await?;
        found.extend(page);
        let has_more = !next.is_empty() || found.len() > limit;
        if next.is_empty() || found.len() >= limit {
            found.truncate(limit);
            return Ok((found, has_more));
        }
        token = next;
    }
}

fn unreached() -> Failure {
    Failure::new(Exit::Unavailable, "no dead-letter service is reached").hint("`idempo doctor` looks at everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_is_read_as_far_as_is_wanted_and_says_whether_there_is_more() {
        let of = |size: usize| {
            async move |page_size: i32, token: String| {
                let from = token.parse::<usize>().unwrap_or(0);
                let to = (from + usize::try_from(page_size).unwrap_or(0)).min(size);
                Ok(((from..to).collect::<Vec<_>>(), if to < size { to.to_string() } else { String::new() }))
            }
        };
        for (limit, size, count, more) in [
            (3, 2, 2, false),
            (3, 3, 3, false),
            (3, 4, 3, true),
            (0, 1, 0, true),
            (0, 0, 0, false),
            (2_500, 2_400, 2_400, false),
            (1_500, 2_400, 1_500, true),
        ] {
            let (found, has_more) = up_to(limit, of(size)).await.expect("a list");
            assert_eq!((found.len(), has_more), (count, more), "{limit} of {size}");
        }
    }

    #[test]
    fn names_are_taken_with_and_without_their_collection() {
        assert_eq!(letter("deadLetters/idempo.inventory.1.economy-events.3.7"), "deadLetters/idempo.inventory.1.economy-events.3.7");
        assert_eq!(letter("g.t.3.7"), "deadLetters/g.t.3.7");
        assert_eq!(job("7"), "deadLetterJobs/7");
        assert!(is_job("deadLetterJobs/7") && is_job("7") && !is_job("g.t.3.7"));
    }
}
