//! Who may operate the platform, as the settings say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who may operate the platform. Without any of these, every operation is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorsConfig {
    /// The file of operators, one a line: name, role (`viewer`, `operator` or `service`), SHA-256 of the token in hexadecimal digits, as
    /// `idempo operator new` prints it. It is read again within a second of a change.
    pub file: PathBuf,
    /// Whether everybody who reaches the process may do everything, in whatever name: for a workstation and for tests. Not beside a file.
    pub open: bool,
}

impl OperatorsConfig {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Checks what the types can't say.
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if self.open && self.has_file() {
            return Err("open and file exclude each other".to_owned());
        }
        Ok(())
    }

    pub(super) fn has_file(&self) -> bool {
        !self.file.as_os_str().is_empty()
    }
}
