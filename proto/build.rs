//! Compiles the protobuf files without a protoc binary, and builds in the descriptor set.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 10] = [
    "idempo/event/v1/envelope.proto",
    "idempo/event/v1/inventory.proto",
    "idempo/event/v1/wallet.proto",
    "idempo/inventory/v1/inventory_service.proto",
    "idempo/inventory/v1/inventory_query_service.proto",
    "idempo/ops/v1/dead_letter.proto",
    "idempo/ops/v1/parked.proto",
    "idempo/ops/v1/projection.proto",
    "idempo/ops/v1/relay.proto",
    "idempo/wallet/v1/wallet_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=idempo");
    let files = FILES.into_iter().chain(["idempo/position/v1/position.proto"]);
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
