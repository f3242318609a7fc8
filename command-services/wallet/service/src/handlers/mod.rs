//! One function for each RPC: checks the request field by field, makes a command or a query of it, and answers.
//!
//! How refusals bind their keys. What the wallet's state decides (funds, holds, reversals) is refused by the domain; what the request alone decides
//! (an amount of zero, below zero or too large, payer equal to payee, a malformed name) is refused here with INVALID_ARGUMENT. Both are stored under
//! the request's key, as long as the key itself is one: the same key gets the same answer, and with another payload ALREADY_EXISTS.

mod burn_funds;
mod capture_hold;
mod fields;
mod get_hold;
mod get_statement;
mod get_wallet;
mod grant_funds;
mod list_entries;
mod mutation;
mod open_wallet;
mod place_hold;
mod release_hold;
mod reverse_transaction;
mod transfer_funds;

pub(crate) use burn_funds::burn_funds;
pub(crate) use capture_hold::capture_hold;
pub(crate) use get_hold::get_hold;
pub(crate) use get_statement::get_statement;
pub(crate) use get_wallet::get_wallet;
pub(crate) use grant_funds::grant_funds;
pub(crate) use list_entries::list_entries;
pub(crate) use open_wallet::open_wallet;
pub(crate) use place_hold::place_hold;
pub(crate) use release_hold::release_hold;
pub(crate) use reverse_transaction::reverse_transaction;
pub(crate) use transfer_funds::transfer_funds;

use idempo_clock::SharedClock;
use idempo_event_store::Handle;
use idempo_ids::{PlayerId, StreamId};
use idempo_pg::{Client, Pool};
use idempo_rpc::{refusal, status};
use tonic::Status;

use crate::codec::{DOMAIN, WalletDomain, wallet_name};
use crate::queries;

/// What the handlers work with.
pub(crate) struct Handlers {
    commands: Handle<WalletDomain>,
    pool: Pool,
    clock: SharedClock,
}

impl Handlers {
    pub(crate) const fn new(commands: Handle<WalletDomain>, pool: Pool, clock: SharedClock) -> Self {
        Self { commands, pool, clock }
    }

    /// A connection to read with.
    async fn reader(&self) -> Result<Client, Status> {
        self.pool.get().await.map_err(|error| away(&error))
    }

    /// A connection to read with, once what the caller has seen is there.
    ///
    /// The tables are written in the transaction of the events, so a version that was answered is there: what is not there is a position of
    /// another database, or of one that was restored to an earlier time. Waiting would not bring it.
    async fn reader_at(&self, min_position: &str, streams: &[(StreamId, u64)]) -> Result<Client, Status> {
        let client = self.reader().await?;
        if !streams.is_empty() && !queries::position_reached(&client, streams).await.map_err(|error| away(&error))? {
            return Err(refusal::projection_behind(DOMAIN, "wallet", min_position, 0).into_status());
        }
        Ok(client)
    }
}

/// The answer where the database did not.
fn away(error: &idempo_pg::Error) -> Status {
    status::of_error(error, DOMAIN)
}

fn wallet_not_found(player: PlayerId) -> Status {
    refusal::not_found(DOMAIN, "WALLET_NOT_FOUND", "wallet", &wallet_name(player)).into_status()
}
