//! GetStatement.

use idempo_proto::wallet::v1::{GetStatementRequest, GetStatementResponse};
use idempo_rpc::{Violations, status};
use jiff::{SignedDuration, Timestamp};
use tonic::{Code, Request, Response, Status};

use super::{Handlers, away, fields, wallet_not_found};
use crate::codec::DOMAIN;
use crate::queries;

/// The longest period of a statement.
const PERIOD_MAX: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Sums a period of a wallet.
pub(crate) async fn get_statement(
    handlers: &Handlers,
    request: Request<GetStatementRequest>,
) -> Result<Response<GetStatementResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let player = fields::wallet(&mut violations, "wallet", &asked.wallet);
    let asset = fields::asset(&mut violations, "asset", asked.asset);
    let period = period(&mut violations, asked);
    let position = violations.position("min_position", &asked.min_position);
    let (player, asset, (start, end), position) = violations.accept(DOMAIN, (player, asset, period, position))?;
    let client = handlers.reader_at(&asked.min_position, &position).await?;
    if queries::opened_at(&client, player).await.map_err(|error| away(&error))?.is_none() {
        return Err(wallet_not_found(player));
    }
    let statement = queries::statement(&client, player, asset, start, end).await.map_err(|error| away(&error))?;
    statement.map(Response::new).ok_or_else(|| {
        let text = "the sums of this period are above 64 bits; ask for a shorter one";
        status::refusal(Code::OutOfRange, "STATEMENT_TOO_LARGE", DOMAIN, text).into_status()
    })
}

fn period(violations: &mut Violations, asked: &GetStatementRequest) -> Option<(Timestamp, Timestamp)> {
    let start = violations.timestamp("start_time", asked.start_time.as_ref());
    let end = violations.timestamp("end_time", asked.end_time.as_ref());
    let (start, end) = (start?, end?);
    let length = end.duration_since(start);
    let fits = length > SignedDuration::ZERO && length <= PERIOD_MAX;
    violations.check(fits, "end_time", || "must be after start_time, by 366 days at most".to_owned()).then_some((start, end))
}
