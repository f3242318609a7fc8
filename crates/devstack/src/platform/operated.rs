//! The platform's operators, as its tests and the command line need to know them.

use std::path::PathBuf;

use anyhow::Result;
use idempo_rpc::operators::Token;

use super::Platform;

impl Platform {
    /// The token of its operator, `dev`, without which nobody operates it.
    #[must_use]
    pub fn operator_token(&self) -> &Token {
        self.operators.token()
    }

    /// The token of `dev-viewer`, who may only look.
    #[must_use]
    pub fn viewer_token(&self) -> &Token {
        self.operators.viewer_token()
    }

    /// The file that the command line reads the operator's token from. It is there as long as this value.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.operators.token_file()
    }

    /// Gives the operator another token, while every process runs on. They heed it within seconds.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn rotate_operator_token(&mut self) -> Result<()> {
        self.operators.rotate()
    }
}
