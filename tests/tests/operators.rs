//! Who operates the platform: nobody without a token, nobody beyond their role, and every try is in an audit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use idempo_proto::ops::v1::relay_service_client::RelayServiceClient;
use idempo_proto::ops::v1::{GetRelayStatusRequest, PauseOutboxRequest};
use idempo_rpc::operators::{Operation, Token, operation};
use idempo_rpc::{RawCodec, descriptor};
use idempo_tests::World;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::processes::SERVICES;

/// The package of the operators' services.
const PACKAGE: &str = "idempo.ops.v1.";
/// How long processes may take to heed another token.
const HEED_LIMIT: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// What every request names, where its method takes a name: an outbox of the relays, and nothing elsewhere.
const NAME: &str = "outboxes/wallet";

/// The audits: a database, and its table.
const AUDITS: [(&str, &str); 3] = [("wallet_db", "outbox.audit"), ("inventory_view_db", "projection.audit"), ("ops_db", "ops.audit")];

/// Every method of a process that is for operators.
fn methods(process: &str) -> Vec<&'static str> {
    let services = SERVICES.iter().filter(|(name, _)| *name == process).flat_map(|(_, services)| *services);
    let services: Vec<&str> = services.copied().filter(|service| service.starts_with(PACKAGE)).collect();
    descriptor::methods().filter(|method| method.rsplit_once('/').is_some_and(|(service, _)| services.contains(&service))).collect()
}

/// A request of a method, with a name and a reason where it has such fields.
fn message(method: &str) -> Bytes {
    let request = descriptor::request_of(method).unwrap_or_default();
    let mut message = Vec::new();
    for (field, text) in [("parent", NAME), ("name", NAME), ("reason", "a test")] {
        if let Some(number) = descriptor::field_number(request, field) {
            prost::encoding::string::encode(number, &text.to_owned(), &mut message);
        }
    }
    message.into()
}

/// How a call ends: its code, and the reason for it.
async fn call(world: &World, process: &str, method: &'static str, token: Option<&Token>) -> Result<(Code, String)> {
    let mut client = tonic::client::Grpc::new(world.channel(process)?);
    client.ready().await?;
    let mut request = Request::new(message(method));
    request.metadata_mut().insert("idempo-caller", "mallory".parse()?);
    if let Some(token) = token {
        token.authorize(request.metadata_mut());
    }
    let path = PathAndQuery::try_from(format!("/{method}"))?;
    // One message there and any number back: that is how all of them look from here.
    let answer = client.server_streaming(request, path, RawCodec).await;
    Ok(match answer {
        Ok(mut answer) => match answer.get_mut().message().await {
            Ok(_) => (Code::Ok, String::new()),
            Err(status) => ended(&status),
        },
        Err(status) => ended(&status),
    })
}

fn ended(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

/// How often each action of each caller is in the audits with an outcome.
async fn noted(world: &World, outcome: &str) -> Result<BTreeMap<(String, String), i64>> {
    let mut all = BTreeMap::new();
    for (database, table) in AUDITS {
        let sql = format!("SELECT caller, action, count(*) FROM {table} WHERE outcome = $1 GROUP BY 1, 2");
        for row in world.auditor(database).await?.query(&sql, &[&outcome]).await? {
            *all.entry((row.try_get(0)?, row.try_get(1)?)).or_default() += row.try_get::<_, i64>(2)?;
        }
    }
    Ok(all)
}

pub(crate) async fn every_operation_refuses_who_may_not_do_it_and_notes_what_was_to_be_changed(world: &mut World) -> Result<()> {
    let processes = ["relay-1", "inventory-projector", "dlq-admin"];
    let served: usize = processes.iter().map(|process| methods(process).len()).sum();
    let known = descriptor::methods().filter(|method| method.starts_with(PACKAGE)).count();
    ensure!(served == known && known > 40, "{served} operations are served, {known} are in the descriptor set");
    let mut changes: BTreeMap<&str, i64> = BTreeMap::new();
    let stranger = Token::generate();
    for process in processes {
        for method in methods(process) {
            let rule = operation(method).with_context(|| format!("{method} has no rule"))?;
            let (without, viewer) =
                (call(world, process, method, None).await?, call(world, process, method, Some(world.platform.viewer_token())).await?);
            ensure!(without == (Code::Unauthenticated, "OPERATOR_UNKNOWN".to_owned()), "{method} without a token: {without:?}");
            match rule {
                Operation::Read => {
                    ensure!(!matches!(viewer.0, Code::PermissionDenied | Code::Unauthenticated), "{method} by a viewer: {viewer:?}");
                    let other = call(world, process, method, Some(&stranger)).await?;
                    ensure!(other.1 == "OPERATOR_UNKNOWN", "{method} with somebody's token: {other:?}");
                }
                Operation::Change(action) => {
                    *changes.entry(action).or_default() += 1;
                    let denied = (Code::PermissionDenied, "OPERATOR_ROLE_REQUIRED".to_owned());
                    ensure!(viewer == denied, "{method} by a viewer: {viewer:?}");
                }
            }
        }
    }
    for (outcome, caller) in [("OPERATOR_UNKNOWN", "(unknown)"), ("OPERATOR_ROLE_REQUIRED", "dev-viewer")] {
        let noted = noted(world, outcome).await?;
        let expected = changes.iter().map(|(action, count)| ((caller.to_owned(), (*action).to_owned()), *count)).collect();
        ensure!(noted == expected, "{outcome}: {noted:?} is noted, and {expected:?} was tried");
    }
    Ok(())
}

pub(crate) async fn a_token_takes_the_place_of_another_while_all_run_on(world: &mut World) -> Result<()> {
    let last = world.platform.operator_token().clone();
    let look = async |world: &World, token: &Token| {
        let mut request = Request::new(GetRelayStatusRequest::default());
        token.authorize(request.metadata_mut());
        RelayServiceClient::new(world.channel("relay-1")?).get_relay_status(request).await.context("looking")
    };
    look(world, &last).await?;
    world.platform.rotate_operator_token()?;
    let began = Instant::now();
    while look(world, world.platform.operator_token()).await.is_err() {
        ensure!(began.elapsed() < HEED_LIMIT, "the other token is not heeded");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    ensure!(look(world, &last).await.is_err(), "the token that is gone lets nobody in");
    // Whoever speaks with a token goes by its name, and not by the one that they give.
    let mut request = Request::new(PauseOutboxRequest { name: "outboxes/nothing".to_owned(), reason: "a test".to_owned() });
    request.metadata_mut().insert("idempo-caller", "mallory".parse()?);
    world.platform.operator_token().authorize(request.metadata_mut());
    let refused = RelayServiceClient::new(world.channel("relay-1")?).pause_outbox(request).await.map(drop).map_err(|status| status.code());
    ensure!(refused == Err(Code::NotFound), "{refused:?}");
    // Every other process heeds it too, before the next test asks them.
    for process in ["relay-2", "inventory-projector", "dlq-admin"] {
        let began = Instant::now();
        let method = *methods(process).iter().find(|method| operation(method) == Some(Operation::Read)).context("a method")?;
        while call(world, process, method, Some(world.platform.operator_token())).await?.0 == Code::Unauthenticated {
            ensure!(began.elapsed() < HEED_LIMIT, "{process} does not heed the other token");
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
    Ok(())
}
