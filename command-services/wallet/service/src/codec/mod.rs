//! The only code that knows both the wallet's domain and its protobuf messages.

mod events;
mod numbers;
mod project;
mod refusals;
mod replies;

use bytes::Bytes;
use idempo_event_store::{Applied, Category, DecodeError, Domain, StreamTarget};
use idempo_ids::{HoldId, PlayerId};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_wallet_domain::{Command, Event, Rejection, Rules};
use smallvec::SmallVec;

use crate::inline::{Ledger, Rows};

pub(crate) use numbers::{account_from_number, asset_from_number, asset_number, asset_of, resolution_from_number};
pub(crate) use replies::balance;

/// The service's name in errors.
pub(crate) const DOMAIN: &str = "wallet.idempo";

/// The wallets' streams. A wallet belongs to its player, whose id is its stream's partition key.
pub(crate) const CATEGORY: Category = Category { number: 1, name: "wallet" };

/// The number of `economy-events` in `schemas/topics.yaml`.
const TOPIC: i16 = 3;

/// The streams that a command names, in the order in which its decision sees them.
pub(crate) fn streams(command: &Command) -> SmallVec<[StreamTarget; 2]> {
    [Some(command.wallet), command.peer()].into_iter().flatten().map(|player| CATEGORY.stream(player.uuid())).collect()
}

/// A wallet's resource name.
pub(crate) fn wallet_name(player: PlayerId) -> String {
    format!("wallets/{player}")
}

/// A hold's resource name.
pub(crate) fn hold_name(player: PlayerId, hold: HoldId) -> String {
    format!("wallets/{player}/holds/{hold}")
}

/// Binds the wallet's rules to their stored form.
#[derive(Debug)]
pub struct WalletDomain;

impl Domain for WalletDomain {
    type Decider = Rules;
    type Inline = Ledger;

    fn category(&self) -> Category {
        CATEGORY
    }

    fn error_domain(&self) -> &'static str {
        DOMAIN
    }

    fn topic(&self) -> i16 {
        TOPIC
    }

    fn encode(&self, event: &Event) -> Data {
        events::encode(event)
    }

    fn decode(&self, data: Data) -> Result<Event, DecodeError> {
        events::decode(&data)
    }

    fn event_type(&self, data: &Data) -> i16 {
        events::event_type(data)
    }

    fn reply(&self, applied: &Applied<'_, Self>) -> Bytes {
        replies::reply(applied)
    }

    fn refusal(&self, command: &Command, rejection: &Rejection) -> Bytes {
        refusals::refusal(command, rejection).encode()
    }

    fn project(&self, applied: &Applied<'_, Self>, rows: &mut Rows) {
        project::project(applied, rows);
    }
}
