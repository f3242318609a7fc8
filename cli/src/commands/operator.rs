//! `idempo operator`: tokens for those who may operate the platform.

use clap::{Subcommand, ValueEnum};
use idempo_rpc::operators::{Role, Token, is_name};
use serde_json::json;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Printer, tell};

/// On operators.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a token, shows it this once, and prints the line that lets its holder in: for the file that `operators.file` names.
    New {
        /// Who: 1 to 64 letters, digits, `.`, `_`, `:` or `-`. It stands in every audit.
        name: String,
        /// What they may do.
        #[arg(long, value_enum)]
        role: RoleName,
    },
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// See everything.
    Viewer,
    /// See and change everything.
    Operator,
    /// Ask for parked dead letters in the names of operators: for the dead-letter service.
    Service,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Service => Self::Service,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`] where the name is none.
pub fn run(command: &Command, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let Command::New { name, role } = command;
    if !is_name(name) {
        return Err(Failure::usage(format!("`{name}` is no name of an operator: 1 to 64 letters, digits, `.`, `_`, `:` or `-`")));
    }
    let (token, role) = (Token::generate(), Role::from(*role));
    let line = token.line(name, role);
    let json = json!({ "name": name, "role": role.name(), "token": token.expose(), "line": line });
    printer.one(&json, &[("token", token.expose().into()), ("line", line.as_str().into())])?;
    tell("the token is for its holder alone and is kept nowhere; the line is for the operators' file, and is no secret");
    Ok(Exit::Done)
}
