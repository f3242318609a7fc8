//! Where a projection and its generations stand.

use idempo_proto::ops::v1::{
    Difference, Generation, GetGenerationRequest, GetGenerationResponse, GetProjectionRequest, GetProjectionResponse,
    GetVerificationRequest, GetVerificationResponse, ListGenerationsRequest, ListGenerationsResponse, ListProjectionsRequest,
    ListProjectionsResponse, Projection,
};
use idempo_rpc::timestamp;
use serde_json::Value;
use tonic::{Request, Status};

use super::Operations;
use super::messages::{self, Position};
use crate::generations::known::Against;
use crate::generations::{self, Known, State};

/// Whether the partitions are answered one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Partitions {
    Shown,
    Summed,
}

impl Operations {
    pub(super) async fn list(&self, _: Request<ListProjectionsRequest>) -> Result<ListProjectionsResponse, Status> {
        let projection = self.projection(Partitions::Summed).await?;
        Ok(ListProjectionsResponse { instance: self.instance.clone(), projections: vec![projection] })
    }

    pub(super) async fn read(&self, request: Request<GetProjectionRequest>) -> Result<GetProjectionResponse, Status> {
        self.check_name(&request.get_ref().name)?;
        Ok(GetProjectionResponse { projection: Some(self.whole().await?) })
    }

    pub(super) async fn list_all(&self, request: Request<ListGenerationsRequest>) -> Result<ListGenerationsResponse, Status> {
        self.check_name(&request.get_ref().parent)?;
        Ok(ListGenerationsResponse { generations: self.projection(Partitions::Summed).await?.generations })
    }

    pub(super) async fn read_generation(&self, request: Request<GetGenerationRequest>) -> Result<GetGenerationResponse, Status> {
        let number = self.number_of(&request.get_ref().name)?;
        Ok(GetGenerationResponse { generation: Some(self.one(number).await?) })
    }

    pub(super) async fn read_verification(&self, request: Request<GetVerificationRequest>) -> Result<GetVerificationResponse, Status> {
        let number = self.number_of(&request.get_ref().name)?;
        let known = self.known().await?;
        let generation = self.generation(&known, number)?;
        let client = self.client().await?;
        let read = async {
            let statement = client.prepare_cached(include_str!("../sql/read_differences.sql")).await?;
            let row = client.query_opt(&statement, &[&self.projection, &number]).await?;
            row.map(|row| row.try_get::<_, String>(0)).transpose()
        };
        let sample = read.await.map_err(|error| self.failed_statement(error))?.unwrap_or_default();
        let sample: Vec<Value> = serde_json::from_str(&sample).unwrap_or_default();
        let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let difference = |of: &Value| {
            let is_of_fold = text(of, "against") == Against::Fold.name();
            Difference {
                table: text(of, "table"),
                key: text(of, "key"),
                live_row: text(of, "live_row"),
                row: text(of, "row"),
                against: messages::against_of(if is_of_fold { Against::Fold } else { Against::Live }).into(),
                fold_row: text(of, "fold_row"),
            }
        };
        Ok(GetVerificationResponse {
            verification: Some(generation.verification.as_ref().map(messages::verification).unwrap_or_default()),
            differences: sample.iter().map(difference).collect(),
        })
    }

    /// One generation, with its partitions.
    pub(super) async fn one(&self, number: i32) -> Result<Generation, Status> {
        let projection = self.whole().await?;
        let found = projection.generations.into_iter().find(|generation| generation.generation == number);
        found.ok_or_else(|| self.no_generation(&self.generation_name(number)))
    }

    /// The projection with all that is known of it.
    pub(super) async fn whole(&self) -> Result<Projection, Status> {
        self.projection(Partitions::Shown).await
    }

    async fn projection(&self, partitions: Partitions) -> Result<Projection, Status> {
        let known = self.known().await?;
        let ends = self.ends.known().await;
        let numbers: Vec<i32> = known.generations.iter().map(|generation| generation.number).collect();
        let positions = self.positions(&numbers).await.map_err(|error| self.failed(&error))?;
        let mut projection = Projection {
            name: self.resource(),
            topic: self.layout.options.topic.clone(),
            live_generation: known.live,
            previous_generation: known.previous.unwrap_or_default(),
            logic: self.logic.to_owned(),
            paused: known.pause.is_some(),
            ..Projection::default()
        };
        if let Some(pause) = &known.pause {
            projection.paused_by.clone_from(&pause.by);
            projection.pause_reason.clone_from(&pause.reason);
            projection.pause_time = Some(timestamp::to_proto(pause.at));
        }
        for generation in &known.generations {
            let own: Vec<&Position> = positions.iter().filter(|at| at.generation == generation.number).collect();
            let mut answered = self.message(&known, generation, &own, &positions, &ends).await.map_err(|error| self.failed(&error))?;
            if generation.number == known.live {
                (projection.lag_events, projection.lag_ms) = (answered.lag_events, answered.lag_ms);
                let stopped = answered.partitions.iter().filter(|partition| !partition.stop_code.is_empty()).count();
                projection.stopped_partitions = i32::try_from(stopped).unwrap_or(i32::MAX);
            }
            if partitions == Partitions::Summed {
                answered.partitions.clear();
            }
            projection.generations.push(answered);
        }
        Ok(projection)
    }

    async fn message(
        &self,
        known: &Known,
        generation: &generations::Generation,
        own: &[&Position],
        all: &[Position],
        ends: &[i64],
    ) -> Result<Generation, idempo_pg::Error> {
        let span = (generation.created_at, self.clock.now());
        let due = if generation.state == State::Live { self.layout.options.partitions } else { 0 };
        let partitions = messages::partitions(own, due, ends, span);
        let rebuild = match &generation.rebuild {
            None => None,
            Some(rebuild) => {
                let client = self.control.get().await?;
                let statement = client.prepare_cached(include_str!("../sql/rebuild_progress.sql")).await?;
                let row = client.query_opt(&statement, &[&self.projection, &generation.number]).await?;
                row.map(|row| messages::rebuild(rebuild, &row, own)).transpose()?
            }
        };
        Ok(Generation {
            name: self.generation_name(generation.number),
            generation: generation.number,
            state: messages::state_of(generation).into(),
            logic: generation.logic.clone().unwrap_or_default(),
            create_time: Some(timestamp::to_proto(generation.created_at)),
            live_time: generation.live_at.map(timestamp::to_proto),
            rebuild,
            verification: generation.verification.as_ref().map(messages::verification),
            lag_events: messages::lag_of(&partitions),
            lag_ms: messages::lag_ms_of(&partitions),
            switchable: matches!(generation.state, State::Ready | State::Retired)
                && generation.is_verified_beside(known.live)
                && has_all_of(known.live, own, all)
                && partitions.iter().all(|partition| partition.stop_code.is_empty()),
            partitions,
        })
    }

    /// Where these generations stand.
    pub(super) async fn positions(&self, numbers: &[i32]) -> Result<Vec<Position>, idempo_pg::Error> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/positions.sql")).await?;
        let rows = client.query(&statement, &[&self.projection, &numbers]).await?;
        Ok(rows.iter().map(Position::of).collect::<Result<_, _>>()?)
    }
}

/// Whether what stands at `own` has all that the live generation has.
pub(super) fn has_all_of(live: i32, own: &[&Position], all: &[Position]) -> bool {
    let next = |partition: i32| own.iter().find(|at| at.partition == partition).map_or(0, |at| at.next_offset);
    all.iter().filter(|at| at.generation == live).all(|at| next(at.partition) >= at.next_offset)
}
