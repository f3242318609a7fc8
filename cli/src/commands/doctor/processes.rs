//! Whether processes answer, and say that they serve.

use idempo_proto::ops::v1::ListDeadLetterGroupsRequest;
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Check, Finding};
use crate::context::{Context, channel};
use crate::failure::Failure;

/// Open dead letters are players whose read models stand still: nothing is wrong with the service, and somebody has to look.
pub(super) async fn dead_letters(address: &str, context: &Context) -> Check {
    let asked = async {
        let mut client = DeadLetterServiceClient::new(channel(address)?);
        Ok::<_, Failure>(client.list_dead_letter_groups(context.request(ListDeadLetterGroupsRequest::default())).await?.into_inner())
    };
    match asked.await {
        Ok(answer) if answer.total_count == 0 => Check::new("dead letters", address, Finding::Fine, "none are open"),
        Ok(answer) => {
            let detail = format!("{} are open, in {} groups: `idempo dlq groups`", answer.total_count, answer.groups.len());
            Check::new("dead letters", address, Finding::Odd, detail)
        }
        Err(failure) => Check::failed("dead letters", address, failure),
    }
}

pub(super) async fn health(what: &'static str, name: &str, address: &str) -> Check {
    let asked = async {
        let mut client = HealthClient::new(channel(address)?);
        Ok::<_, Failure>(client.check(HealthCheckRequest::default()).await?.into_inner().status())
    };
    match asked.await {
        Ok(ServingStatus::Serving) => Check::new(what, name, Finding::Fine, format!("serves at {address}")),
        Ok(status) => Check::new(what, name, Finding::Wrong, format!("says {} at {address}", status.as_str_name())),
        Err(failure) => {
            let Check { finding, detail, .. } = Check::failed(what, name, failure);
            Check::new(what, name, finding, format!("{address}: {detail}"))
        }
    }
}
