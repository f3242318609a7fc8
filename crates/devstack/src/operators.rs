//! Who operates the platform on this machine: one operator, one who only looks, and the platform's services among each other. Their tokens are new at
//! each start.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use idempo_rpc::operators::{Role, Token};

/// The operator's name: what stands in every audit.
const OPERATOR: &str = "dev";
/// The name of somebody who may only look.
const VIEWER: &str = "dev-viewer";
/// The name of the dead-letter service towards the consumers that it asks.
const SERVICE: &str = "dlq-admin";

/// The operators of a platform. Their files are gone with this value.
#[derive(Debug)]
pub(crate) struct Operators {
    folder: PathBuf,
    operator: Token,
    viewer: Token,
    service: Token,
}

impl Operators {
    /// Makes tokens, and the files with them, in a folder of their own in this one: a platform may be started while another one ends.
    pub(crate) fn make(parent: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = parent.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        let making = || format!("making {}", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(making)?;
        let operators = Self { folder, operator: Token::generate(), viewer: Token::generate(), service: Token::generate() };
        write(&operators.token_file(), operators.operator.expose())?;
        write(&operators.service_token_file(), operators.service.expose())?;
        operators.write()?;
        Ok(operators)
    }

    /// Gives the operator another token. Processes heed it within seconds.
    pub(crate) fn rotate(&mut self) -> Result<()> {
        self.operator = Token::generate();
        write(&self.token_file(), self.operator.expose())?;
        self.write()
    }

    fn write(&self) -> Result<()> {
        let lines = [
            self.operator.line(OPERATOR, Role::Operator),
            self.viewer.line(VIEWER, Role::Viewer),
            self.service.line(SERVICE, Role::Service),
        ];
        write(&self.file(), &lines.join("\n"))
    }

    /// The operator's token.
    pub(crate) fn token(&self) -> &Token {
        &self.operator
    }

    /// The token of who only looks.
    pub(crate) fn viewer_token(&self) -> &Token {
        &self.viewer
    }

    /// The file that the command line reads the operator's token from.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.join("operator.token")
    }

    /// What tells a process who may operate it.
    pub(crate) fn variable(&self) -> (String, String) {
        ("IDEMPO_OPERATORS__FILE".to_owned(), self.file().display().to_string())
    }

    /// What tells the dead-letter service by which token consumers know it.
    pub(crate) fn service_variable(&self) -> (String, String) {
        ("IDEMPO_CONSUMER_TOKEN_FILE".to_owned(), self.service_token_file().display().to_string())
    }

    fn file(&self) -> PathBuf {
        self.folder.join("operators")
    }

    fn service_token_file(&self) -> PathBuf {
        self.folder.join("service.token")
    }
}

impl Drop for Operators {
    fn drop(&mut self) {
        // The folder may be gone with all that the servers have written.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes a file that only we can read, in the place of what was there: nobody sees half of it.
fn write(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let next = path.with_extension("next");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        writeln!(file, "{text}")?;
        fs::rename(&next, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
