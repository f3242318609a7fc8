//! The inventory projector's process.

fn main() -> std::process::ExitCode {
    idempo_runtime::run::<idempo_inventory_projector::InventoryProjection>()
}
