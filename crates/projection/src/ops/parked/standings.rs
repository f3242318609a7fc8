//! Whether dead letters are here still, and how those ended that are not.
//!
//! Somebody else has a list of dead letters from the dead-letter topic, and wants to know which of them are history. That list may be ahead of this
//! database, for the topic has a dead letter before the transaction that keeps it (module `parking`). So that a dead letter is here no more may be
//! said only where it can't be on its way. It is decided in this order, all in one snapshot:
//!
//! 1. **There is no such generation.** Its dead letters went with it, and its number is given to no other one.
//! 2. **Its row is here**: it is held, whatever is being done with it.
//! 3. **The position of the partition is not behind the record**, or there is none: it is coming. Whoever wrote it to the topic has yet to keep it, or
//!    died before, and the record will be tried again; or the database was taken back to an earlier moment. Row and position are of one
//!    transaction, so no snapshot has a position behind the record without the row. An end that is noted is of an earlier life then.
//! 4. **Its end is noted**: it is gone, and that is how.
//! 5. **The record is parked behind another one**: it is held. A drain writes the record that will block a key to the topic before it commits;
//!    where it did not come to that, the record waits in its queue as before, and its position was passed long ago.
//! 6. **Nothing is known of it**: it is gone. It was applied when it was tried again, or with its queue; or its end is forgotten.
//!
//! What was said to be gone comes again only where the consumer goes back; then the record fails again, or is applied, and the topic tells of it anew.

use std::collections::{BTreeMap, BTreeSet};

use idempo_pg::Transaction;
use idempo_proto::ops::v1::parked_letter_standing::Standing;
use idempo_proto::ops::v1::{
    GetParkedLetterStandingsRequest, GetParkedLetterStandingsResponse, ParkedLetterComing, ParkedLetterEnd, ParkedLetterGone,
    ParkedLetterHeld, ParkedLetterStanding,
};
use idempo_rpc::{Violations, timestamp};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::{Request, Status};

use super::wishes::NAMES_MAX;
use super::{ParkedOperations, Place};
use crate::postgres::Tables;
use crate::projector::Projector;

/// How a dead letter stands.
pub(super) enum Stand {
    /// Its consumer has yet to keep it.
    Coming,
    /// Its row is here.
    Here,
    /// Its record is parked behind another one.
    Behind,
    Gone(ParkedLetterGone),
}

/// What is known of a dead letter without its queue.
enum Known {
    Stands(Stand),
    /// No more than that its position is passed: it may be parked behind another one.
    Passed,
}

impl<P: Projector, T: Tables<Writes = P::Writes> + Clone> ParkedOperations<P, T> {
    pub(super) async fn standings(
        &self,
        request: Request<GetParkedLetterStandingsRequest>,
    ) -> Result<GetParkedLetterStandingsResponse, Status> {
        let names = &request.get_ref().names;
        let mut violations = Violations::new();
        let places = self.places(&mut violations, names, NAMES_MAX);
        violations.finish(self.operations.domain)?;
        let mut standings: Vec<Option<Standing>> = vec![None; names.len()];
        let mut generations: BTreeMap<i32, Vec<(usize, Place)>> = BTreeMap::new();
        for (at, place) in places.into_iter().enumerate() {
            let Some(place) = place else { continue };
            generations.entry(place.generation).or_default().push((at, place));
        }
        for (generation, own) in generations {
            let places: Vec<Place> = own.iter().map(|(_, place)| *place).collect();
            let found = self.stands(generation, &places).await.map_err(|error| self.operations.failed(&error))?;
            for ((at, _), found) in own.into_iter().zip(found) {
                if let Some(standing) = standings.get_mut(at) {
                    *standing = Some(found.into());
                }
            }
        }
        let standing = |(name, standing): (&String, Option<Standing>)| ParkedLetterStanding { name: name.clone(), standing };
        Ok(GetParkedLetterStandingsResponse { standings: names.iter().zip(standings).map(standing).collect() })
    }

    /// How dead letters of one generation stand, in their order.
    pub(super) async fn stands(&self, generation: i32, places: &[Place]) -> Result<Vec<Stand>, idempo_pg::Error> {
        let mut client = self.operations.control.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../../sql/begin_standings.sql")).await?;
        transaction.batch_execute(include_str!("../../sql/begin_lookup.sql")).await?;
        let rows = self.rows_of(&transaction, include_str!("../../sql/letter_standings.sql"), generation, places).await?;
        let known = rows.iter().zip(places).map(|(row, place)| self.known_of(row, *place)).collect::<Result<Vec<_>, _>>()?;
        let passed: Vec<Place> =
            known.iter().zip(places).filter(|(known, _)| matches!(known, Known::Passed)).map(|(_, place)| *place).collect();
        let mut parked: BTreeSet<(i32, i64)> = BTreeSet::new();
        if !passed.is_empty() {
            transaction.batch_execute(include_str!("../../sql/begin_parked_among.sql")).await?;
            for row in self.rows_of(&transaction, include_str!("../../sql/parked_among.sql"), generation, &passed).await? {
                parked.insert((row.try_get(0)?, row.try_get(1)?));
            }
        }
        transaction.rollback().await?;
        let stand = |(known, place): (Known, &Place)| match known {
            Known::Stands(stand) => stand,
            Known::Passed if parked.contains(&(place.partition, place.offset)) => Stand::Behind,
            Known::Passed => gone(ParkedLetterEnd::Unspecified),
        };
        Ok(known.into_iter().zip(places).map(stand).collect())
    }

    /// The rows that a statement has of some places.
    async fn rows_of(
        &self,
        transaction: &Transaction<'_>,
        sql: &str,
        generation: i32,
        places: &[Place],
    ) -> Result<Vec<Row>, idempo_pg::Error> {
        let (projection, topic) = (self.operations.projection, self.topic());
        let partitions: Vec<i32> = places.iter().map(|place| place.partition).collect();
        let offsets: Vec<i64> = places.iter().map(|place| place.offset).collect();
        let parameters: [&(dyn ToSql + Sync); 5] = [&projection, &generation, &topic, &partitions, &offsets];
        let statement = transaction.prepare_cached(sql).await?;
        Ok(transaction.query(&statement, &parameters).await?)
    }

    /// What a row of `letter_standings` says.
    fn known_of(&self, row: &Row, place: Place) -> Result<Known, tokio_postgres::Error> {
        if !row.try_get::<_, bool>("has_generation")? {
            return Ok(Known::Stands(gone(ParkedLetterEnd::GenerationGone)));
        }
        if row.try_get::<_, Option<bool>>("is_held")?.unwrap_or_default() {
            return Ok(Known::Stands(Stand::Here));
        }
        if !row.try_get::<_, Option<bool>>("is_passed")?.unwrap_or_default() {
            return Ok(Known::Stands(Stand::Coming));
        }
        let Some(is_discarded) = row.try_get::<_, Option<bool>>("discarded")? else { return Ok(Known::Passed) };
        let blocked_by = row.try_get::<_, Option<i64>>("blocked_by")?;
        Ok(Known::Stands(Stand::Gone(ParkedLetterGone {
            end: if is_discarded { ParkedLetterEnd::Discarded } else { ParkedLetterEnd::Applied }.into(),
            records: row.try_get("applied_records")?,
            end_time: row.try_get::<_, Option<Timestamp>>("ended_at")?.map(timestamp::to_proto),
            caller: row.try_get("wished_by")?,
            blocked_by: blocked_by.map(|offset| self.name_of(Place { offset, ..place })).unwrap_or_default(),
        })))
    }
}

fn gone(end: ParkedLetterEnd) -> Stand {
    Stand::Gone(ParkedLetterGone { end: end.into(), ..ParkedLetterGone::default() })
}

impl From<Stand> for Standing {
    fn from(stand: Stand) -> Self {
        match stand {
            Stand::Coming => Self::Coming(ParkedLetterComing {}),
            Stand::Here | Stand::Behind => Self::Held(ParkedLetterHeld {}),
            Stand::Gone(gone) => Self::Gone(gone),
        }
    }
}
