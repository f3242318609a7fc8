//! ReleaseReservation.

use idempo_inventory_domain::inventory::{Action, Command};
use idempo_proto::inventory::v1::{ReleaseReservationRequest, ReleaseReservationResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.inventory.v1.InventoryService/ReleaseReservation";

/// Ends a reservation.
pub(crate) async fn release_reservation(
    handlers: &Handlers,
    request: Request<ReleaseReservationRequest>,
) -> Result<Response<ReleaseReservationResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let reservation = fields::reservation(&mut violations, "reservation", &asked.reservation);
    let checked = violations.accept(DOMAIN, (reservation,));
    let (attempt, ((player, reservation),)) = handlers.accept(attempt, checked).await?;
    let lookup = handlers.reservation_lookup(player, reservation).await?;
    handlers.submit(attempt, Command { player, action: Action::Release { reservation, lookup } }).await
}
