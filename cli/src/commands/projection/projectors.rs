//! The processes that keep the projections. Any of them answers for all projections that it keeps.

use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::{
    Generation, GetGenerationRequest, GetProjectionRequest, GetVerificationRequest, GetVerificationResponse,
    ListProjectionAuditEntriesRequest, ListProjectionsRequest, Projection, ProjectionAuditEntry,
};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::context::{Context, channel};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::relays::{Away, is_away, missing};

/// How many entries are asked for at a time.
const PAGE_SIZE: i32 = 500;

/// A client of one process.
pub(crate) type Client = ProjectionServiceClient<Channel>;

/// The projectors of the profile.
pub(crate) struct Projectors<'a> {
    projectors: Vec<Projector<'a>>,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Projector<'a> {
    context: &'a Context,
    address: String,
    client: Client,
}

/// A projection's name without the collection before it.
pub(crate) fn short(name: &str) -> &str {
    name.strip_prefix("projections/").unwrap_or(name)
}

impl<'a> Projectors<'a> {
    pub(crate) fn new(context: &'a Context) -> Result<Self, Failure> {
        let addresses = &context.profile().projectors;
        if addresses.is_empty() {
            return Err(missing("projectors"));
        }
        let projectors =
            addresses.values().map(|address| Ok(Projector { context, address: address.clone(), client: Client::new(channel(address)?) }));
        Ok(Self { projectors: projectors.collect::<Result<_, Failure>>()? })
    }

    /// What every projector keeps, and which of them say nothing.
    pub(crate) async fn look(&self) -> Result<(Vec<(Projector<'a>, Projection)>, Away), Failure> {
        let (mut all, mut away) = (Vec::new(), Away::new("projector"));
        let mut reached = false;
        for projector in &self.projectors {
            let mut client = projector.client.clone();
            match client.list_projections(projector.context.request(ListProjectionsRequest {})).await {
                Ok(answer) => {
                    reached = true;
                    all.extend(answer.into_inner().projections.into_iter().map(|projection| (projector.clone(), projection)));
                }
                Err(status) if is_away(&status) => away.addresses.push(projector.address.clone()),
                Err(status) => return Err(status.into()),
            }
        }
        if !reached {
            away.tell();
            return Err(Failure::new(Exit::Unavailable, "no projector is reached").hint("`idempo doctor` looks at everything"));
        }
        all.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        Ok((all, away))
    }

    pub(super) async fn list(&self) -> Result<Vec<Projection>, Failure> {
        let (all, away) = self.look().await?;
        away.tell();
        Ok(all.into_iter().map(|(_, projection)| projection).collect())
    }

    /// The projection with this name, `inventory` or `projections/inventory`, with its generations and who keeps it.
    pub(crate) async fn find(&self, name: &str) -> Result<(Projector<'a>, Projection), Failure> {
        let (all, away) = self.look().await?;
        away.tell();
        let known: Vec<String> = all.iter().map(|(_, projection)| short(&projection.name).to_owned()).collect();
        let found = all.into_iter().find(|(_, projection)| short(&projection.name) == short(name));
        let (projector, projection) = found.ok_or_else(|| not_found(short(name), &known, &away))?;
        let projection = projector.projection(&projection.name).await?;
        Ok((projector, projection))
    }
}

/// Nobody who is reached keeps a projection. Somebody who is not may keep it.
fn not_found(name: &str, known: &[String], away: &Away) -> Failure {
    let unknown = Failure::unknown("projection", name, known.iter().map(String::as_str));
    if away.addresses.is_empty() {
        return unknown;
    }
    let text = format!(
        "{} at the projectors that are reached: it may be at the one that is away ({})",
        unknown.message,
        away.addresses.join(", ")
    );
    Failure { hint: unknown.hint, ..Failure::new(Exit::Unavailable, text) }
}

impl Projector<'_> {
    /// Where it serves gRPC.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Asks the process.
    pub(super) async fn ask<M, A>(
        &self,
        message: M,
        call: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        Ok(call(&mut self.client.clone(), self.context.request(message)).await?.into_inner())
    }

    /// Asks the process for a change, once.
    pub(super) async fn change<M, A>(
        &self,
        projection: &str,
        message: M,
        call: impl AsyncFnOnce(&mut Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        let look_at = format!("`idempo projection audit {}`", short(projection));
        let mut client = self.client.clone();
        let answer = self.context.change(&look_at, call(&mut client, self.context.request(message))).await?;
        answer.ok_or_else(|| Failure::new(Exit::Unavailable, format!("the projector at {} is away: nothing was done", self.address)))
    }

    pub(crate) async fn projection(&self, name: &str) -> Result<Projection, Failure> {
        let asked = GetProjectionRequest { name: name.to_owned() };
        Ok(self.ask(asked, async |client, request| client.get_projection(request).await).await?.projection.unwrap_or_default())
    }

    pub(super) async fn generation(&self, name: &str) -> Result<Generation, Failure> {
        let asked = GetGenerationRequest { name: name.to_owned() };
        Ok(self.ask(asked, async |client, request| client.get_generation(request).await).await?.generation.unwrap_or_default())
    }

    pub(super) async fn verification(&self, name: &str) -> Result<GetVerificationResponse, Failure> {
        let asked = GetVerificationRequest { name: name.to_owned() };
        self.ask(asked, async |client, request| client.get_verification(request).await).await
    }

    pub(super) async fn audit(&self, parent: &str, limit: usize) -> Result<Vec<ProjectionAuditEntry>, Failure> {
        let mut entries = Vec::new();
        let mut asked = ListProjectionAuditEntriesRequest { parent: parent.to_owned(), page_size: PAGE_SIZE, page_token: String::new() };
        while entries.len() < limit {
            let page = self.ask(asked.clone(), async |client, request| client.list_projection_audit_entries(request).await).await?;
            entries.extend(page.audit_entries);
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        entries.truncate(limit);
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_that_somebody_who_is_away_may_keep_is_not_said_to_be_none() {
        let known = ["inventory".to_owned()];
        let mut away = Away::new("projector");
        assert_eq!(not_found("wallet", &known, &away).exit, Exit::NotFound);
        away.addresses.push("10.0.0.7:9000".to_owned());
        let failure = not_found("wallet", &known, &away);
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("may be at the one that is away (10.0.0.7:9000)"), "{}", failure.message);
    }
}
