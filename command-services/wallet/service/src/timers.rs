//! What happens by itself: holds that have reached the end of their life expire.
//!
//! The domain lets a hold expire once, whoever asks; a hold that was resolved otherwise since the look is refused, and so settled.

use idempo_decider::Timestamp;
use idempo_event_store::StreamTarget;
use idempo_event_store::timer::{Due, DueWork, Observation};
use idempo_ids::Uuid;
use idempo_pg::{Client, Error};
use idempo_wallet_domain::{Action, Command, HoldLookup};
use smallvec::SmallVec;

use crate::codec::{WalletDomain, streams};
use crate::metrics;
use crate::queries::{self, PendingHold};

/// Lets holds expire.
#[derive(Debug)]
pub(crate) struct HoldExpiry;

impl Due for PendingHold {
    fn id(&self) -> Uuid {
        self.hold.uuid()
    }

    fn due_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl DueWork for HoldExpiry {
    type Domain = WalletDomain;
    type Item = PendingHold;

    const NAME: &'static str = "hold-expiry";
    const SCOPE: [u8; 16] = *b"wallet/expirehol";
    const LABEL: &'static str = "expire";

    async fn next(client: &Client, after: (Timestamp, Uuid), limit: i64) -> Result<Vec<PendingHold>, Error> {
        queries::pending_holds(client, after, limit).await
    }

    fn command(hold: &PendingHold, seen_at: Timestamp) -> (Command, SmallVec<[StreamTarget; 2]>) {
        let lookup = HoldLookup { version: hold.placed_version, resolution: None };
        let command = Command { wallet: hold.player, action: Action::ExpireHold { hold: hold.hold, seen_at, lookup } };
        let streams = streams(&command);
        (command, streams)
    }

    fn observe(observation: Observation) {
        match observation {
            Observation::Looked { due } => metrics::holds_due(due),
            Observation::Done { late } => metrics::hold_expired(late),
            Observation::Failed => metrics::hold_expiry_failed(),
        }
    }
}
