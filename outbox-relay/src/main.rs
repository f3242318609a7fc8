//! The relay's process.

fn main() -> std::process::ExitCode {
    idempo_runtime::run::<idempo_outbox_relay::Relay>()
}
