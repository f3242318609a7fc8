//! What happens by itself: reservations that have reached the end of their life expire.
//!
//! The domain lets a reservation expire once, whoever asks; one that ended otherwise since the look is refused, and so settled.

use idempo_decider::Timestamp;
use idempo_event_store::StreamTarget;
use idempo_event_store::timer::{Due, DueWork, Observation};
use idempo_ids::Uuid;
use idempo_inventory_domain::inventory::{Action, Command, ReservationLookup};
use idempo_pg::{Client, Error};
use smallvec::SmallVec;

use crate::codec::{InventoryDomain, streams};
use crate::metrics;
use crate::queries::{self, OpenReservation};

/// Lets reservations expire.
#[derive(Debug)]
pub(crate) struct ReservationExpiry;

impl Due for OpenReservation {
    fn id(&self) -> Uuid {
        self.reservation.uuid()
    }

    fn due_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl DueWork for ReservationExpiry {
    type Domain = InventoryDomain;
    type Item = OpenReservation;

    const NAME: &'static str = "reservation-expiry";
    const SCOPE: [u8; 16] = *b"inventory/expiry";
    const LABEL: &'static str = "expire";

    async fn next(client: &Client, after: (Timestamp, Uuid), limit: i64) -> Result<Vec<OpenReservation>, Error> {
        queries::open_reservations(client, after, limit).await
    }

    fn command(reservation: &OpenReservation, seen_at: Timestamp) -> (Command, SmallVec<[StreamTarget; 2]>) {
        // What is not open in the state has ended, however long ago: any refusal settles it, so nothing needs to be looked up.
        let lookup = ReservationLookup::default();
        let action = Action::Expire { reservation: reservation.reservation, seen_at, lookup };
        let command = Command { player: reservation.player, action };
        let streams = streams(&command);
        (command, streams)
    }

    fn observe(observation: Observation) {
        match observation {
            Observation::Looked { due } => metrics::reservations_due(due),
            Observation::Done { late } => metrics::reservation_expired(late),
            Observation::Failed => metrics::reservation_expiry_failed(),
        }
    }
}
