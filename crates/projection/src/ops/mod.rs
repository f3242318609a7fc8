//! `idempo.ops.v1.ProjectionService`: what people see of a projection's generations, and what they do to them.
//!
//! Every process of the projection serves it. It works through the database alone: what is asked for is stored there in one transaction with its
//! audit entry, and whoever follows the generations or has the turn heeds it. A mutation that is refused leaves an audit entry as well, but for
//! one that names no projection of ours: it is logged. Nobody comes to it but whom the operators' file lets in ([`idempo_rpc::operators`]).

mod audit;
mod ends;
mod messages;
mod parked;
mod players;
mod reads;
mod wishes;

pub use parked::ParkedOperations;

use std::sync::Arc;

use idempo_clock::SharedClock;
use idempo_kafka::TopicEnds;
use idempo_pg::{Client, Pool};
use idempo_proto::ops::v1 as message;
use idempo_proto::ops::v1::projection_service_server::ProjectionService;
use idempo_rpc::{Operators, refusal, status};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::generations::{Generation, Generations, Known, Layout};
use crate::player::{Menders, PlayerMender, PlayerRows};
use crate::postgres::Tables;
use crate::projector::Projector;
use crate::rebuild::Unusable;
use ends::LateEnds;

/// The service, for one projection.
pub struct Operations {
    /// The domain of the service's errors.
    domain: &'static str,
    operators: Arc<Operators>,
    projection: &'static str,
    logic: &'static str,
    layout: Layout,
    has_source: bool,
    instance: String,
    control: Pool,
    clock: SharedClock,
    ends: LateEnds,
    bell: Arc<Notify>,
    menders: Option<Arc<dyn Menders>>,
}

impl Operations {
    /// The service for the projection `P`, whose errors are of `domain`, for `operators`. `instance` is this process; `has_source` says whether it
    /// can read the event store.
    ///
    /// # Errors
    /// Where the settings of the brokers or the database are unusable.
    pub fn new<P: Projector, T: Tables<Writes = P::Writes> + Clone>(
        (domain, operators): (&'static str, Arc<Operators>),
        layout: Layout,
        (instance, has_source): (String, bool),
        generations: &Generations<T>,
        clock: SharedClock,
    ) -> Result<Self, Unusable> {
        let options = &layout.options;
        let ends = LateEnds::new(TopicEnds::new(&options.kafka, &options.topic, options.partitions)?);
        let control = layout.control()?;
        let bell = generations.bell();
        let (projection, logic) = (P::NAME, P::LOGIC);
        Ok(Self { domain, operators, projection, logic, layout, has_source, instance, control, clock, ends, bell, menders: None })
    }

    /// The same, with somebody who makes the rows of single players anew; that is refused without.
    #[must_use]
    pub fn with_players<P: Projector, T: PlayerRows<Writes = P::Writes>>(self, mender: PlayerMender<P, T>) -> Self {
        Self { menders: Some(Arc::new(mender)), ..self }
    }

    fn resource(&self) -> String {
        format!("projections/{}", self.projection)
    }

    fn generation_name(&self, number: i32) -> String {
        format!("{}/generations/{number}", self.resource())
    }

    /// Whether this is the projection's name: `projections/{projection}`.
    fn check_name(&self, name: &str) -> Result<(), Status> {
        let [projection] = idempo_rpc::name::parse("projections/{projection}", name).unwrap_or_default();
        if projection == self.projection { Ok(()) } else { Err(self.no_projection(name)) }
    }

    /// The number of a generation of this projection: `projections/{projection}/generations/{generation}`.
    fn number_of(&self, name: &str) -> Result<i32, Status> {
        let Some([projection, generation]) = idempo_rpc::name::parse("projections/{projection}/generations/{generation}", name) else {
            return Err(self.no_projection(name));
        };
        if projection != self.projection {
            return Err(self.no_projection(name));
        }
        let number = idempo_rpc::name::number(generation).and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| self.no_generation(name))
    }

    fn no_projection(&self, name: &str) -> Status {
        refusal::not_found(self.domain, "PROJECTION_NOT_FOUND", "projection", name).metadata("projections", self.projection).into_status()
    }

    fn no_generation(&self, name: &str) -> Status {
        refusal::not_found(self.domain, "GENERATION_NOT_FOUND", "generation", name).into_status()
    }

    async fn client(&self) -> Result<Client, Status> {
        self.control.get().await.map_err(|error| self.failed(&error))
    }

    async fn known(&self) -> Result<Known, Status> {
        let known = Known::read(&self.control, self.projection).await.map_err(|error| self.failed(&error))?;
        known.ok_or_else(|| self.no_projection(&self.resource()))
    }

    fn generation<'a>(&self, known: &'a Known, number: i32) -> Result<&'a Generation, Status> {
        known.generation(number).ok_or_else(|| self.no_generation(&self.generation_name(number)))
    }

    /// The answer where the database has failed.
    fn failed(&self, error: &idempo_pg::Error) -> Status {
        status::of_error(error, self.domain)
    }

    /// The answer where a statement has failed.
    fn failed_statement(&self, error: tokio_postgres::Error) -> Status {
        self.failed(&error.into())
    }
}

/// Declares each RPC as the method of [`Operations`] with its name, for whom it is admitted.
macro_rules! rpcs {
    ($($rpc:ident = $handler:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl ProjectionService for Operations {
            $(async fn $rpc(&self, request: Request<message::$request>) -> Result<Response<message::$response>, Status> {
                let request = self.admitted(request).await?;
                self.$handler(request).await.map(Response::new)
            })+
        }
    };
}

rpcs! {
    list_projections = list(ListProjectionsRequest) -> ListProjectionsResponse;
    get_projection = read(GetProjectionRequest) -> GetProjectionResponse;
    list_generations = list_all(ListGenerationsRequest) -> ListGenerationsResponse;
    get_generation = read_generation(GetGenerationRequest) -> GetGenerationResponse;
    start_rebuild = start(StartRebuildRequest) -> StartRebuildResponse;
    rebuild_player = rebuild_one(RebuildPlayerRequest) -> RebuildPlayerResponse;
    cancel_rebuild = cancel(CancelRebuildRequest) -> CancelRebuildResponse;
    verify_generation = verify(VerifyGenerationRequest) -> VerifyGenerationResponse;
    get_verification = read_verification(GetVerificationRequest) -> GetVerificationResponse;
    switch_generation = switch(SwitchGenerationRequest) -> SwitchGenerationResponse;
    roll_back_generation = roll_back(RollBackGenerationRequest) -> RollBackGenerationResponse;
    drop_generation = drop(DropGenerationRequest) -> DropGenerationResponse;
    pause_projection = pause(PauseProjectionRequest) -> PauseProjectionResponse;
    resume_projection = resume(ResumeProjectionRequest) -> ResumeProjectionResponse;
    list_projection_audit_entries = list_audit(ListProjectionAuditEntriesRequest) -> ListProjectionAuditEntriesResponse;
}
