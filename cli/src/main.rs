//! The `idempo` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    idempo_cli::main()
}
