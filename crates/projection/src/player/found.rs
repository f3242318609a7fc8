//! The streams that a player's rows follow from, as far as they are found.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use idempo_ids::{PlayerId, StreamId, Uuid};
use idempo_pg::{Client, Transaction};
use prost::bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::{PlayerRows, Unmended};
use crate::event::{Event, Outline};
use crate::halt::Cause;
use crate::projector::{Interest, Projector};
use crate::rebuild::fold::Stored;

/// The most events that are folded for one player. They are in memory.
const EVENTS_MAX: usize = 100_000;
/// The most streams.
const STREAMS_MAX: usize = 1_000;

/// An event, and the thing that it tells of.
struct Told {
    stored: Stored,
    thing: Option<(Uuid, Option<PlayerId>)>,
}

/// Streams with all their events, those beyond what a generation has too: they lead to others.
pub(crate) struct Found<T> {
    player: PlayerId,
    /// The things that the generation lays in the player's hands.
    laid: BTreeSet<Uuid>,
    /// The players into whose hands it lays the things.
    named: BTreeSet<Uuid>,
    streams: BTreeMap<StreamId, Vec<Stored>>,
    told: BTreeMap<StreamId, Vec<(Uuid, Option<PlayerId>)>>,
    events: usize,
    streams_max: usize,
    events_max: usize,
    tables: PhantomData<fn() -> T>,
}

impl<T: PlayerRows> Found<T> {
    /// Nothing but the player.
    pub(crate) fn of(player: PlayerId) -> Self {
        Self::within(player, STREAMS_MAX, EVENTS_MAX)
    }

    /// The same, of whom no more is found than so many streams and events: beyond them it is `PLAYER_TOO_LARGE`.
    pub(crate) fn within(player: PlayerId, streams_max: usize, events_max: usize) -> Self {
        let (laid, named, streams, told) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { player, laid, named, streams, told, events: 0, streams_max, events_max, tables: PhantomData }
    }

    pub(crate) const fn player(&self) -> PlayerId {
        self.player
    }

    /// Whether the event store has nothing of the player.
    pub(crate) fn is_unknown(&self) -> bool {
        self.streams.get(&T::stream_of(self.player)).is_none_or(Vec::is_empty)
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.values().filter(|events| !events.is_empty()).count()
    }

    pub(crate) const fn events(&self) -> usize {
        self.events
    }

    /// The streams with their events, in their order.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (StreamId, &[Stored])> {
        self.streams.iter().map(|(stream, events)| (*stream, events.as_slice()))
    }

    /// What the generation lays in the player's hands, and what the player's events tell of.
    pub(crate) fn things(&self) -> BTreeSet<Uuid> {
        let own = self.told.get(&T::stream_of(self.player)).into_iter().flatten().map(|(thing, _)| *thing);
        self.laid.iter().copied().chain(own).collect()
    }

    /// These things are laid in the player's hands.
    pub(crate) fn lay(&mut self, things: BTreeSet<Uuid>) {
        self.laid = things;
    }

    /// Things are laid in the hands of these players.
    pub(crate) fn name(&mut self, players: BTreeSet<Uuid>) {
        self.named = players;
    }

    /// Looks what the generation lays in the player's hands.
    pub(crate) async fn look(&mut self, client: &mut Client, generation: i32) -> Result<(), Unmended> {
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../sql/no_statement_timeout.sql")).await?;
        let rows = transaction.query(include_str!("../sql/things_of_player.sql"), &[&generation, &self.player.uuid()]).await?;
        self.laid = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        transaction.rollback().await?;
        Ok(())
    }

    /// Looks into whose hands it lays the things.
    pub(crate) async fn look_for_players(&mut self, client: &Client, generation: i32) -> Result<(), Unmended> {
        let things: Vec<Uuid> = self.things().into_iter().collect();
        let rows = client.query(include_str!("../sql/players_of_things.sql"), &[&generation, &things]).await?;
        self.named = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Reads what the event store has beyond what is known of the streams, and of the streams that it leads to, until there is nothing more.
    pub(crate) async fn grow<P: Projector<Writes = T::Writes>>(&mut self, store: &Client) -> Result<(), Unmended> {
        let mut wanted = self.missing();
        wanted.extend(self.streams.keys());
        while !wanted.is_empty() {
            for stream in &wanted {
                self.streams.entry(*stream).or_default();
            }
            if self.streams.len() > self.streams_max {
                return Err(too_large(format!("the rows follow from more than {} streams", self.streams_max)));
            }
            self.read::<P>(store, &wanted).await?;
            wanted = self.missing();
        }
        Ok(())
    }

    /// Streams that are not known, of players to whom the things lead.
    fn missing(&self) -> BTreeSet<StreamId> {
        let things = self.things();
        let passed = self.told.values().flatten().filter(|(thing, _)| things.contains(thing)).filter_map(|(_, other)| *other);
        let players = std::iter::once(self.player).chain(self.named.iter().map(|player| PlayerId::new(*player))).chain(passed);
        players.map(T::stream_of).filter(|stream| !self.streams.contains_key(stream)).collect()
    }

    async fn read<P: Projector>(&mut self, store: &Client, wanted: &BTreeSet<StreamId>) -> Result<(), Unmended> {
        let last = |stream: &StreamId| self.streams.get(stream).and_then(|events| events.last()).map_or(0, |stored| stored.version);
        let ids: Vec<Uuid> = wanted.iter().map(|stream| stream.uuid()).collect();
        let versions: Vec<i64> = wanted.iter().map(last).collect();
        let most = i64::try_from(self.events_max.saturating_sub(self.events).saturating_add(1)).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 3] = [&ids, &versions, &most];
        let statement = store.prepare_cached(include_str!("sql/read_tails.sql")).await?;
        let mut rows = pin!(store.query_raw(&statement, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            if row.try_get(3)? {
                let text = "the event store is a standby, which may be behind the relay".to_owned();
                return Err(Unmended::Refused("EVENT_STORE_STANDBY", text));
            }
            let (stream, envelope): (Uuid, &[u8]) = (row.try_get(0)?, row.try_get(2)?);
            let stored = Stored { stream: StreamId::new(stream), version: row.try_get(1)?, envelope: Bytes::copy_from_slice(envelope) };
            self.add::<P>(stored)?;
            if self.events > self.events_max {
                return Err(too_large(format!("the rows follow from more than {} events", self.events_max)));
            }
        }
        Ok(())
    }

    fn add<P: Projector>(&mut self, stored: Stored) -> Result<(), Unmended> {
        let Told { stored, thing } = Told::of::<P, T>(stored)?;
        self.events = self.events.saturating_add(1);
        self.told.entry(stored.stream).or_default().extend(thing);
        self.streams.entry(stored.stream).or_default().push(stored);
        Ok(())
    }

    /// The versions that the generation has of the streams.
    pub(crate) async fn versions(
        &self,
        transaction: &Transaction<'_>,
        projection: &str,
        generation: i32,
    ) -> Result<BTreeMap<StreamId, i64>, Unmended> {
        let ids: Vec<Uuid> = self.streams.keys().map(|stream| stream.uuid()).collect();
        let rows = transaction.query(include_str!("../sql/versions_of.sql"), &[&projection, &generation, &ids]).await?;
        let version = |row: &tokio_postgres::Row| Ok((StreamId::new(row.try_get::<_, Uuid>(0)?), row.try_get(1)?));
        Ok(rows.iter().map(version).collect::<Result<_, tokio_postgres::Error>>()?)
    }
}

impl Told {
    fn of<P: Projector, T: PlayerRows>(stored: Stored) -> Result<Self, Unmended> {
        let said = |cause: Cause| {
            let Stored { stream, version, .. } = &stored;
            Unmended::Refused(cause.code(), format!("stream {stream}, version {version}: {cause}"))
        };
        let outline = Outline::read(&stored.envelope).map_err(|error| said(error.into()))?;
        let thing = match P::interest(outline.event_type) {
            Interest::Consumed => T::thing_of(&Event::decode(&stored.envelope).map_err(|error| said(error.into()))?),
            // What is unknown is refused where it is folded; beyond that it may be what a later program knows.
            Interest::PassedOver | Interest::Unknown => None,
        };
        Ok(Self { stored, thing })
    }
}

fn too_large(reason: String) -> Unmended {
    Unmended::Refused("PLAYER_TOO_LARGE", reason)
}
