//! `idempo.ops.v1.ParkedService`: the dead letters of a projection, and what people do about them.
//!
//! Every process of the projection serves it, through the database alone: a wish is stored there in one transaction with its audit entry, refused
//! ones too, and the process that has the partition heeds it (module `parking`).

mod reads;
mod rehearse;
mod standings;
mod wishes;

use std::marker::PhantomData;
use std::sync::Arc;

use idempo_dead_letter::DeadLetterId;
use idempo_proto::ops::v1 as message;
use idempo_proto::ops::v1::parked_service_server::ParkedService;
use idempo_rpc::{name, refusal};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::Operations;
use crate::generations::Generations;
use crate::postgres::Tables;
use crate::projector::Projector;

/// The service, for one projection.
pub struct ParkedOperations<P, T> {
    operations: Arc<Operations>,
    tables: T,
    wished: watch::Sender<u64>,
    projector: PhantomData<fn() -> P>,
}

/// A dead letter of this projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    generation: i32,
    partition: i32,
    offset: i64,
}

impl<P: Projector, T: Tables<Writes = P::Writes> + Clone> ParkedOperations<P, T> {
    /// The service beside `operations`, of the generations that this process follows.
    #[must_use]
    pub fn new(operations: Arc<Operations>, generations: &Generations<T>, tables: T) -> Self {
        Self { operations, tables, wished: generations.wished(), projector: PhantomData }
    }

    fn topic(&self) -> &str {
        &self.operations.layout.options.topic
    }

    /// The dead letter with this name, if it is one of this projection's consumers.
    fn place_of(&self, id: &DeadLetterId) -> Option<Place> {
        let options = &self.operations.layout.options;
        let number = id.group.strip_prefix(&options.group_id)?.strip_prefix(".g")?;
        let generation = i32::try_from(name::number(number)?).ok()?;
        (id.topic == options.topic).then_some(Place { generation, partition: id.partition, offset: id.offset })
    }

    fn name_of(&self, Place { generation, partition, offset }: Place) -> String {
        let group = self.operations.layout.options_of(generation).group_id;
        DeadLetterId { group, topic: self.topic().to_owned(), partition, offset }.to_string()
    }

    fn no_letter(&self, name: &str) -> Status {
        refusal::not_found(self.operations.domain, "DEAD_LETTER_NOT_FOUND", "dead letter", name).into_status()
    }
}

/// Declares each RPC as the method of [`ParkedOperations`] with its name, for whom it is admitted.
macro_rules! rpcs {
    ($($rpc:ident = $handler:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl<P: Projector, T: Tables<Writes = P::Writes> + Clone> ParkedService for ParkedOperations<P, T> {
            $(async fn $rpc(&self, request: Request<message::$request>) -> Result<Response<message::$response>, Status> {
                let request = self.operations.admitted(request).await?;
                self.$handler(request).await.map(Response::new)
            })+
        }
    };
}

rpcs! {
    list_parked_letters = list(ListParkedLettersRequest) -> ListParkedLettersResponse;
    get_parked_letter = read(GetParkedLetterRequest) -> GetParkedLetterResponse;
    get_parked_letter_standings = standings(GetParkedLetterStandingsRequest) -> GetParkedLetterStandingsResponse;
    replay_parked_letters = replay(ReplayParkedLettersRequest) -> ReplayParkedLettersResponse;
    discard_parked_letters = discard(DiscardParkedLettersRequest) -> DiscardParkedLettersResponse;
    rehearse_parked_letters = rehearse(RehearseParkedLettersRequest) -> RehearseParkedLettersResponse;
}
