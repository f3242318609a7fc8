//! The folder the servers live in, and the user they run as.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Users a server may run as when we are root, in order of preference: PostgreSQL refuses root.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];
/// What the folder of a run is called; the number of its process follows.
const RUN_PREFIX: &str = "run-";
/// What such a folder is called in the system's temporary directory.
const TEMPORARY_PREFIX: &str = "idempo-run-";

/// A user of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Whether what the servers wrote is there the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is deleted at the end, or, when this process is killed, at the beginning of the next run.
    Nothing,
    /// It stays.
    Everything,
}

/// The folder the servers live in, and the user they run as.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) directory: PathBuf,
    /// `None` for our own user.
    pub(crate) user: Option<User>,
    keep: Keep,
}

impl Home {
    /// Makes, or finds, the folder: in `root`, or, where the servers' user can't reach that, in the system's temporary directory.
    pub(crate) fn make(root: &Path, keep: Keep) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        let root = &fs::canonicalize(root).with_context(|| format!("finding {}", root.display()))?;
        let user = unprivileged()?;
        let temporary = std::env::temp_dir();
        remove_stale(root, RUN_PREFIX);
        remove_stale(&temporary, TEMPORARY_PREFIX);
        let (name, temporary_name) = match keep {
            Keep::Nothing => (format!("{RUN_PREFIX}{}", std::process::id()), format!("{TEMPORARY_PREFIX}{}", std::process::id())),
            Keep::Everything => ("up".to_owned(), format!("idempo-up-{:016x}", hash(root))),
        };
        for directory in [root.join(name), temporary.join(temporary_name)] {
            private(&directory, user.as_ref(), keep)?;
            let home = Self { directory, user: user.clone(), keep };
            if home.reaches(&home.directory) {
                return Ok(home);
            }
            remove(&home.directory);
        }
        bail!("the servers' user can reach neither {} nor {}", root.display(), temporary.display())
    }

    /// A folder in this one that belongs to the servers' user.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.directory.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        self.give(&folder)?;
        Ok(folder)
    }

    /// Gives a file or folder to the servers' user.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        give(path, self.user.as_ref())
    }

    /// Whether the servers' user can read, and enter, what is there.
    pub(crate) fn reaches(&self, path: &Path) -> bool {
        let Some(user) = &self.user else { return true };
        let test = Command::new("setpriv")
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .args(["--clear-groups", "--", "test", "-r"])
            .arg(path)
            .stderr(Stdio::null())
            .status();
        test.is_ok_and(|status| status.success())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.keep == Keep::Nothing {
            remove(&self.directory);
        }
    }
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tracing::warn!(directory = %directory.display(), %error, "a folder of ours could not be removed");
    }
}

/// The user that servers run as when we are root, `None` when we are not.
fn unprivileged() -> Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let found = UNPRIVILEGED.iter().find_map(|name| find(&users, name));
    found.map(Some).context("there is neither a user postgres nor a user nobody, and PostgreSQL refuses root")
}

fn find(users: &str, name: &str) -> Option<User> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let (_, uid, gid) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { uid, gid })
    })
}

/// Makes a folder that only the servers' user can enter, or takes the one that is there when it is surely ours.
fn private(directory: &Path, user: Option<&User>, keep: Keep) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => give(directory, user),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && keep == Keep::Everything => {
            // In a directory that everyone may write, it could be someone else's, or a link to a place of theirs.
            let metadata = fs::symlink_metadata(directory)?;
            let owner = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
            anyhow::ensure!(metadata.is_dir() && metadata.uid() == owner, "{} is there and is not ours", directory.display());
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("making {}", directory.display())),
    }
}

fn give(path: &Path, user: Option<&User>) -> Result<()> {
    let Some(user) = user else { return Ok(()) };
    chown(path, Some(user.uid), Some(user.gid)).with_context(|| format!("giving {} to the servers' user", path.display()))
}

/// Removes the folders of runs whose process is gone: those that were killed.
pub(crate) fn remove_stale(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another user's folder is not ours to remove, and the attempt fails.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(find(users, "postgres"), Some(User { uid: 101, gid: 104 }));
        assert_eq!(find(users, "nobody"), None);
    }
}
