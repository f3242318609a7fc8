//! Having the rows of one player made anew.

use idempo_ids::PlayerId;
use idempo_proto::ops::v1::{Difference, PlayerTable, RebuildPlayerRequest, RebuildPlayerResponse, VerificationAgainst};
use idempo_rpc::operators::{Attempt, Refused};
use idempo_rpc::{Violations, name, refusal};
use tonic::{Code, Request, Status};

use super::Operations;
use crate::player::{Mended, RowMended, TableMended, Unmended, Wish};

impl Operations {
    pub(super) async fn rebuild_one(&self, request: Request<RebuildPlayerRequest>) -> Result<RebuildPlayerResponse, Status> {
        let (metadata, asked) = (request.metadata(), request.get_ref());
        self.wished("rebuild_player", self.check_name(&asked.name), &request)?;
        let attempt = Attempt { metadata, action: "rebuild_player", target: asked.player.clone(), reason: &asked.reason };
        let outcome = self.mend(&attempt, asked).await;
        self.concluded(&attempt, outcome).await
    }

    async fn mend(&self, attempt: &Attempt<'_>, asked: &RebuildPlayerRequest) -> Result<RebuildPlayerResponse, Refused> {
        let mut violations = Violations::new();
        let caller = attempt.caller(&mut violations);
        let generation = violations.int("generation", i64::from(asked.generation), 0..=i64::from(i32::MAX));
        let player = name::uuids("players/{player}", &asked.player).map(|[player]| PlayerId::new(player));
        let player =
            violations.check(player.is_some(), "player", || "must be players/{player}, with an id".to_owned()).then_some(player).flatten();
        let (caller, generation, player) = violations.accept(self.domain, (caller, generation, player))?;
        let mender = self.menders.as_ref().ok_or_else(|| self.no_source())?;
        let known = self.known().await?;
        let generation = i32::try_from(generation).ok().filter(|number| *number > 0).unwrap_or(known.live);
        self.generation(&known, generation)?;
        let wish = Wish { generation, player, is_trial: asked.validate_only, caller: &caller, reason: attempt.reason };
        let mended = mender.mend(&wish).await.map_err(|unmended| Refused::from(self.unmended(unmended, asked, generation)))?;
        Ok(answer(generation, mended))
    }

    /// The answer where nothing was done.
    fn unmended(&self, unmended: Unmended, asked: &RebuildPlayerRequest, generation: i32) -> Status {
        match unmended {
            Unmended::Unknown => refusal::not_found(self.domain, "PLAYER_NOT_FOUND", "player", &asked.player).into_status(),
            Unmended::Refused(reason, text) => {
                self.refusal(Code::FailedPrecondition, reason, &text).metadata("generation", generation).into_status()
            }
            Unmended::Away(text) => self.refusal(Code::Unavailable, "PLAYER_NOT_REBUILT", &text).into_status(),
        }
    }
}

fn answer(generation: i32, mended: Mended) -> RebuildPlayerResponse {
    let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
    let table = |TableMended { table, rows, missing, changed, superfluous }| PlayerTable {
        table,
        rows,
        rows_missing: missing,
        rows_changed: changed,
        rows_superfluous: superfluous,
    };
    let row = |RowMended { table, key, found, fold }| Difference {
        table,
        key,
        live_row: String::new(),
        row: found.unwrap_or_default(),
        against: VerificationAgainst::Fold.into(),
        fold_row: fold.unwrap_or_default(),
    };
    RebuildPlayerResponse {
        generation,
        streams: count(mended.streams),
        events: count(mended.events),
        things: count(mended.things),
        tables: mended.tables.into_iter().map(table).collect(),
        differences: mended.sample.into_iter().map(row).collect(),
    }
}
