//! I1 in the answers: what a reply says of a wallet is what the wallet had at that version.

use std::collections::{BTreeMap, HashMap, HashSet};

use idempo_proto::wallet::v1::{self as message, Wallet};
use prost::Message as _;
use uuid::Uuid;

use super::answers::same_payload;
use super::called;
use crate::facts::StoredEvent;
use crate::history::{Answer, Attempt, History};
use crate::ids;
use crate::ledger::{Account, Balance};
use crate::method::Method;
use crate::verdict::Verdict;

/// The wallets that replies show, by stream and version, still to be compared with the events.
pub struct Shown<'a> {
    wallets: HashMap<(Uuid, u64), Vec<(&'a Attempt, Wallet)>>,
    verdict: Verdict,
}

impl<'a> Shown<'a> {
    /// The wallets in the replies of a history.
    #[must_use]
    pub fn of(history: &'a History) -> Self {
        let claim = "a reply shows the wallet at its version, available = posted − held";
        let mut shown = Self { wallets: HashMap::new(), verdict: Verdict::new("I1", claim, "replies") };
        let mut seen = HashSet::new();
        for attempt in same_payload(history) {
            let (Answer::Replied { reply, .. }, Some(command)) = (&attempt.answer, attempt.command) else { continue };
            if !shows_a_wallet(attempt.method) || !seen.insert(command) {
                continue;
            }
            let wallet = wallet_in(attempt.method, reply);
            let place = wallet.as_ref().and_then(|wallet| place(attempt, wallet));
            shown.verdict.look(place.is_some(), || format!("{} was told of no wallet that its position has", called(attempt)));
            if let (Some(place), Some(wallet)) = (place, wallet) {
                shown.wallets.entry(place).or_default().push((attempt, wallet));
            }
        }
        shown
    }

    /// Compares what was shown of an event's wallet with what is there after it.
    pub fn see(&mut self, event: &StoredEvent, balances: &BTreeMap<Account, Balance>) {
        for (attempt, wallet) in self.wallets.remove(&(event.stream_id, event.version)).into_iter().flatten() {
            for balance in &wallet.balances {
                let due = balances.get(&(event.partition_key(), balance.asset)).copied().unwrap_or_default();
                let said = (i128::from(balance.posted), i128::from(balance.held), i128::from(balance.available));
                self.verdict.require(said == (due.posted, due.held, due.posted - due.held), || {
                    format!("{} was told of posted, held and available {said:?}, where {due:?} was", called(attempt))
                });
            }
        }
    }

    /// What was found. That the versions are there at all is I4's to say.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        self.verdict
    }
}

const fn shows_a_wallet(method: Method) -> bool {
    matches!(
        method,
        Method::OpenWallet
            | Method::GrantFunds
            | Method::BurnFunds
            | Method::TransferFunds
            | Method::PlaceHold
            | Method::CaptureHold
            | Method::ReleaseHold
    )
}

fn wallet_in(method: Method, reply: &[u8]) -> Option<Wallet> {
    match method {
        Method::OpenWallet => message::OpenWalletResponse::decode(reply).ok()?.wallet,
        Method::GrantFunds => message::GrantFundsResponse::decode(reply).ok()?.wallet,
        Method::BurnFunds => message::BurnFundsResponse::decode(reply).ok()?.wallet,
        Method::TransferFunds => message::TransferFundsResponse::decode(reply).ok()?.from_wallet,
        Method::PlaceHold => message::PlaceHoldResponse::decode(reply).ok()?.wallet,
        Method::CaptureHold => message::CaptureHoldResponse::decode(reply).ok()?.wallet,
        Method::ReleaseHold => message::ReleaseHoldResponse::decode(reply).ok()?.wallet,
        _ => None,
    }
}

/// The stream and version of a wallet in a reply, which the reply's position has too.
fn place(attempt: &Attempt, wallet: &Wallet) -> Option<(Uuid, u64)> {
    let player = Uuid::try_parse(wallet.name.strip_prefix("wallets/")?).ok()?;
    let place = (ids::stream("wallet", player), wallet.etag.parse().ok()?);
    attempt.position.contains(&place).then_some(place)
}
