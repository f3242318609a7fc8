//! Requests to the wallet service.

use anyhow::{Context as _, Result};
use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1 as api;

use crate::world::World;

impl World {
    /// Opens a wallet and puts coins into it; its name.
    ///
    /// # Errors
    /// When the service refuses or is away.
    pub async fn wallet(&self, coins: i64) -> Result<String> {
        let mut wallets = self.wallets()?;
        let player_id = self.id().to_string();
        let opened = wallets.open_wallet(self.open(&player_id)).await?.into_inner().wallet.context("an opened wallet")?;
        if coins > 0 {
            wallets.grant_funds(self.grant(&opened.name, coins)).await?;
        }
        Ok(opened.name)
    }

    /// A request to open a player's wallet, with a new key.
    #[must_use]
    pub fn open(&self, player_id: &str) -> api::OpenWalletRequest {
        api::OpenWalletRequest { request_id: self.request_id(), player_id: player_id.to_owned(), validate_only: false }
    }

    /// A request to grant coins, with a new key.
    #[must_use]
    pub fn grant(&self, wallet: &str, amount: i64) -> api::GrantFundsRequest {
        api::GrantFundsRequest {
            request_id: self.request_id(),
            wallet: wallet.to_owned(),
            asset: Asset::Coin.into(),
            amount,
            ..Default::default()
        }
    }

    /// A request to transfer coins, with a new key.
    #[must_use]
    pub fn transfer(&self, from: &str, to: &str, amount: i64) -> api::TransferFundsRequest {
        api::TransferFundsRequest {
            request_id: self.request_id(),
            from_wallet: from.to_owned(),
            to_wallet: to.to_owned(),
            asset: Asset::Coin.into(),
            amount,
            ..Default::default()
        }
    }

    /// How many coins a wallet has, at `min_position` or later.
    ///
    /// # Errors
    /// When the service refuses or is away.
    pub async fn coins(&self, wallet: &str, min_position: &str) -> Result<i64> {
        let request = api::GetWalletRequest { name: wallet.to_owned(), min_position: min_position.to_owned(), ..Default::default() };
        let wallet = self.wallets()?.get_wallet(request).await?.into_inner().wallet.context("a wallet")?;
        let coins = wallet.balances.iter().find(|balance| balance.asset() == Asset::Coin).context("a balance of coins")?;
        Ok(coins.posted)
    }
}
