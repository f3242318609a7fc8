//! The token with which consumers are asked, as its file has it.
//!
//! A token takes the place of another while everything runs on: the operators' files of the consumers have both for a while, the file here comes to
//! have the other one, and the first is taken out of theirs. So the file is looked at again and again, as the consumers look at theirs. One that has
//! become unreadable or holds no token leaves the last token in force, and is complained of.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use idempo_rpc::operators::{InvalidToken, Token};
use tokio_util::sync::CancellationToken;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::config::Config;
use crate::intake::chain;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest file, in bytes.
const FILE_BYTES_MAX: usize = 4_096;

/// Why there is no token in a file that should have one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the file {} with the token for consumers can't be read", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the file {} with the token for consumers is longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("the file {} has no token for consumers", path.display())]
    Malformed { path: PathBuf, source: InvalidToken },
}

/// The token with which consumers are asked, where there is one.
#[derive(Debug)]
pub(crate) struct ConsumerToken {
    /// Where it is read from; none where the settings have the token itself, or there is none.
    file: Option<PathBuf>,
    current: RwLock<Option<Token>>,
}

impl ConsumerToken {
    /// The token that the settings have, or that is in the file which they name. Reads the file.
    ///
    /// # Errors
    /// Where the file can't be read, or has no token.
    pub(crate) fn new(config: &Config) -> Result<Arc<Self>, Error> {
        let file = Some(config.consumer_token_file.clone()).filter(|path| !path.as_os_str().is_empty());
        let current = match &file {
            Some(path) => Some(token_of(path, std::fs::read(path))?),
            None => config.consumer_token.clone(),
        };
        Ok(Arc::new(Self { file, current: RwLock::new(current) }))
    }

    /// Takes over the file's token whenever it is another one, until `cancel`.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn follow(&self, cancel: CancellationToken) {
        let Some(path) = &self.file else { return cancel.cancelled().await };
        let mut told = String::new();
        while cancel.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
            self.take_over(token_of(path, tokio::fs::read(path).await), &mut told);
        }
    }

    /// Takes over what was read, where it is a token. `told`: what was complained of last.
    fn take_over(&self, read: Result<Token, Error>, told: &mut String) {
        match read {
            Ok(token) => {
                crate::metrics::token_file_broken(false);
                let is_other = self.current().is_none_or(|current| current.expose() != token.expose());
                if is_other || !told.is_empty() {
                    tracing::info!("the file with the token for consumers was read again");
                }
                if is_other {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
                }
                told.clear();
            }
            Err(error) => {
                crate::metrics::token_file_broken(true);
                let problem = chain(&error);
                if problem != *told {
                    tracing::warn!(error = problem, "the token for consumers can't be read again: the last one is used still");
                    *told = problem;
                }
            }
        }
    }

    fn current(&self) -> Option<Token> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn token_of(path: &Path, read: std::io::Result<Vec<u8>>) -> Result<Token, Error> {
    let path = || path.to_owned();
    let read = read.map_err(|source| Error::Unreadable { path: path(), source })?;
    if read.len() > FILE_BYTES_MAX {
        return Err(Error::TooLong { path: path() });
    }
    Token::of(&String::from_utf8_lossy(&read)).map_err(|source| Error::Malformed { path: path(), source })
}

/// A client's interceptor: puts the token, as it is by then, into every request.
#[derive(Debug, Clone)]
pub(crate) struct Authorized(pub(crate) Arc<ConsumerToken>);

impl Interceptor for Authorized {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0.current() {
            token.authorize(request.metadata_mut());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(token: &Arc<ConsumerToken>) -> String {
        let request = Authorized(Arc::clone(token)).call(Request::new(())).expect("a request");
        let sent = request.metadata().get("authorization").expect("a token");
        sent.to_str().expect("ASCII").trim_start_matches("Bearer ").to_owned()
    }

    #[test]
    fn another_token_in_the_file_takes_the_place_of_the_first_and_what_is_none_does_not() {
        let path = std::env::temp_dir().join(format!("idempo-dlq-admin-token-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).expect("it is written");
        let (first, second) = (Token::generate(), Token::generate());
        write(&format!("{}\n", first.expose()));
        let token = ConsumerToken::new(&Config { consumer_token_file: path.clone(), ..Config::default() }).expect("a token");
        assert_eq!(sent(&token), first.expose());
        let mut told = String::new();
        for (text, expected, complaint) in [
            (second.expose(), &second, ""),
            ("short", &second, "has no token"),
            (&"x".repeat(FILE_BYTES_MAX + 1), &second, "is longer"),
            (first.expose(), &first, ""),
        ] {
            write(text);
            token.take_over(token_of(&path, std::fs::read(&path)), &mut told);
            assert_eq!(sent(&token), expected.expose());
            assert!(told.contains(complaint) && told.is_empty() == complaint.is_empty(), "{told}");
            assert!(!told.contains("short"), "{told}");
        }
        std::fs::remove_file(&path).expect("it is removed");
        token.take_over(token_of(&path, std::fs::read(&path)), &mut told);
        assert!(told.contains("can't be read") && sent(&token) == first.expose());
        assert!(ConsumerToken::new(&Config { consumer_token_file: path, ..Config::default() }).is_err());
    }
}
