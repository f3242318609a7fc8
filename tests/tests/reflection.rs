//! What any gRPC client learns of a process without having its protos.

use anyhow::{Context as _, Result};
use idempo_tests::World;
use prost::Message as _;
use prost_types::FileDescriptorProto;

use crate::processes::SERVICES;

/// A method of each service, and its request.
const METHODS: [(&str, &str, &str); 7] = [
    ("idempo.wallet.v1.WalletService", "TransferFunds", ".idempo.wallet.v1.TransferFundsRequest"),
    ("idempo.inventory.v1.InventoryService", "TransferItem", ".idempo.inventory.v1.TransferItemRequest"),
    ("idempo.inventory.v1.InventoryQueryService", "ListItems", ".idempo.inventory.v1.ListItemsRequest"),
    ("idempo.ops.v1.ProjectionService", "StartRebuild", ".idempo.ops.v1.StartRebuildRequest"),
    ("idempo.ops.v1.ParkedService", "ReplayParkedLetters", ".idempo.ops.v1.ReplayParkedLettersRequest"),
    ("idempo.ops.v1.RelayService", "SkipRows", ".idempo.ops.v1.SkipRowsRequest"),
    ("idempo.ops.v1.DeadLetterService", "ApplyJob", ".idempo.ops.v1.ApplyJobRequest"),
];

/// Asks by one version of the reflection protocol: `list` for the names of services, `file` for the files around a symbol.
macro_rules! version {
    ($version:ident) => {
        mod $version {
            use anyhow::{Context as _, Result, bail};
            use tonic::transport::Channel;
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            async fn ask(channel: Channel, request: MessageRequest) -> Result<MessageResponse> {
                let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
                let mut client = ServerReflectionClient::new(channel);
                let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
                answers.message().await?.and_then(|answer| answer.message_response).context("no answer")
            }

            pub(super) async fn list(channel: Channel) -> Result<Vec<String>> {
                match ask(channel, MessageRequest::ListServices(String::new())).await? {
                    MessageResponse::ListServicesResponse(list) => Ok(list.service.into_iter().map(|service| service.name).collect()),
                    other => bail!("instead of services: {other:?}"),
                }
            }

            pub(super) async fn file(channel: Channel, symbol: &str) -> Result<Vec<Vec<u8>>> {
                match ask(channel, MessageRequest::FileContainingSymbol(symbol.to_owned())).await? {
                    MessageResponse::FileDescriptorResponse(files) => Ok(files.file_descriptor_proto),
                    other => bail!("instead of {symbol}: {other:?}"),
                }
            }
        }
    };
}

version!(v1);
version!(v1alpha);

pub(crate) async fn every_service_and_its_methods_can_be_looked_up(world: &mut World) -> Result<()> {
    for (process, services) in SERVICES {
        let channel = || world.channel(process);
        for listed in [v1::list(channel()?).await.context(process)?, v1alpha::list(channel()?).await.context(process)?] {
            let expected: Vec<&str> = services.iter().copied().chain(["grpc.health.v1.Health"]).collect();
            assert_eq!(listed, expected, "{process}");
        }
        for (service, method, request) in METHODS.into_iter().filter(|(service, ..)| services.contains(service)) {
            let symbol = format!("{service}.{method}");
            for files in [v1::file(channel()?, &symbol).await?, v1alpha::file(channel()?, &symbol).await?] {
                assert_eq!(input_of(&files, service, method)?, request, "{symbol}");
            }
        }
        // What is in an answer, an event or a refusal can be read by who has never seen it.
        for message in ["idempo.event.v1.EventEnvelope", "google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"] {
            for files in [v1::file(channel()?, message).await?, v1alpha::file(channel()?, message).await?] {
                assert!(!files.is_empty(), "{process}: {message}");
            }
        }
    }
    Ok(())
}

/// What a method takes, according to the files.
fn input_of(files: &[Vec<u8>], service: &str, method: &str) -> Result<String> {
    let files: Vec<FileDescriptorProto> =
        files.iter().map(|file| FileDescriptorProto::decode(file.as_slice())).collect::<Result<_, _>>()?;
    let (package, name) = service.rsplit_once('.').context("a full name")?;
    let services = files.iter().filter(|file| file.package() == package).flat_map(|file| &file.service);
    let methods = services.filter(|service| service.name() == name).flat_map(|service| &service.method);
    methods
        .clone()
        .find(|found| found.name() == method)
        .map(|found| found.input_type().to_owned())
        .context("the method is not in the files")
}
