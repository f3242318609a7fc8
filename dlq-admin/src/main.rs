//! The dead-letter service's process.

fn main() -> std::process::ExitCode {
    idempo_runtime::run::<idempo_dlq_admin::DlqAdmin>()
}
