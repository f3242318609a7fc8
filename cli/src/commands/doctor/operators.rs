//! Whether processes ask for a token, and know ours.

use std::time::Duration;

use futures_util::future::join_all;
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::relay_service_client::RelayServiceClient;
use idempo_proto::ops::v1::{GetRelayStatusRequest, ListJobsRequest, ListProjectionsRequest};
use tonic::{Code, Request, Status};

use super::{Check, Finding};
use crate::context::{Context, channel};
use crate::failure::Failure;

/// What a process serves.
#[derive(Clone, Copy)]
enum Served {
    Relay,
    DeadLetters,
    Projection,
}

/// With what it is asked.
#[derive(Clone, Copy)]
enum With {
    /// Our token, where we have one.
    Token,
    Nothing,
}

/// Asks every process of the profile that can be operated, once with our token and once without. Those that are away are told of elsewhere.
pub(super) async fn check(context: &Context, limit: Duration) -> Check {
    let profile = context.profile();
    let relays = profile.relays.iter().map(|address| (Served::Relay, address));
    let dead_letters = profile.dead_letters.iter().map(|address| (Served::DeadLetters, address));
    let projectors = profile.projectors.values().map(|address| (Served::Projection, address));
    let (mut asked, mut open, mut denied) = (0_usize, Vec::new(), String::new());
    let asking = relays.chain(dead_letters).chain(projectors).map(|(served, address)| async move {
        let asked = |with| tokio::time::timeout(limit, is_let_in(served, address, context, with));
        let (without, with) = tokio::join!(asked(With::Nothing), asked(With::Token));
        (address, without.ok().flatten(), with.ok().flatten())
    });
    for (address, without, with) in join_all(asking).await {
        let (Some(without), Some(with)) = (without, with) else { continue };
        asked += 1;
        if without.is_ok() {
            open.push(address.as_str());
        }
        if let Err(failure) = with {
            denied = format!("{address}: {}", failure.message);
        }
    }
    let name = &context.settings.name;
    if !denied.is_empty() {
        Check::new("operators", name, Finding::Wrong, format!("you are not let in at {denied}"))
    } else if !open.is_empty() {
        Check::new("operators", name, Finding::Odd, format!("whoever reaches {} may operate it", open.join(", ")))
    } else if asked == 0 {
        Check::new("operators", name, Finding::Odd, "nobody is reached who could be operated")
    } else {
        Check::new("operators", name, Finding::Fine, "a token is asked for, and yours is known")
    }
}

/// Whether a process answers; `None` where it is away.
async fn is_let_in(served: Served, address: &str, context: &Context, with: With) -> Option<Result<(), Failure>> {
    let channel = channel(address).ok()?;
    let asked = async {
        match served {
            Served::Relay => {
                let request = request(context, with, GetRelayStatusRequest::default());
                RelayServiceClient::new(channel).get_relay_status(request).await.map(drop)
            }
            Served::DeadLetters => {
                let request = request(context, with, ListJobsRequest { page_size: 1, ..ListJobsRequest::default() });
                DeadLetterServiceClient::new(channel).list_jobs(request).await.map(drop)
            }
            Served::Projection => {
                let request = request(context, with, ListProjectionsRequest {});
                ProjectionServiceClient::new(channel).list_projections(request).await.map(drop)
            }
        }
    };
    let answered: Result<(), Status> = asked.await;
    match answered {
        Ok(()) => Some(Ok(())),
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => Some(Err(status.into())),
        Err(_) => None,
    }
}

fn request<M>(context: &Context, with: With, message: M) -> Request<M> {
    match with {
        With::Token => context.request(message),
        With::Nothing => context.request_of_nobody(message),
    }
}
