//! The inventory service's process.

fn main() -> std::process::ExitCode {
    idempo_runtime::run::<idempo_inventory::Inventory>()
}
