//! Questions at a terminal. The answer is read by a thread of its own, so that Ctrl-C ends the command while it stands.

use std::io::{self, Write as _};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::Exit;
use crate::failure::Failure;

/// Asks, and waits for a line. To be called by what the runtime of several threads drives.
///
/// # Errors
/// [`Exit::Interrupted`] where Ctrl-C comes first; [`Exit::Failed`] where nothing can be read.
pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    // Heard from before the question is seen: whoever sees it may interrupt it.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut asked = io::stderr();
    write!(asked, "{question}")?;
    asked.flush()?;
    let (sender, answer) = oneshot::channel();
    // It outlives an interrupted question, for nothing ends a read of a terminal; the process ends without it.
    std::thread::Builder::new().name("question".to_owned()).spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).map(|_| line);
        let _ = sender.send(read);
    })?;
    let interrupted = async move {
        interrupts.recv().await;
    };
    tokio::task::block_in_place(|| Handle::current().block_on(answered(answer, interrupted)))
}

/// The answer, or that somebody did not want to give one.
async fn answered(answer: oneshot::Receiver<io::Result<String>>, interrupted: impl Future<Output = ()>) -> Result<String, Failure> {
    tokio::select! {
        biased;
        () = interrupted => {
            // What is said next begins a line.
            let _ = writeln!(io::stderr());
            Err(Failure::new(Exit::Interrupted, "interrupted: nothing was done"))
        }
        line = answer => Ok(line.map_err(|_| Failure::new(Exit::Failed, "the answer can't be read"))??),
    }
}

/// Whether an answer is a yes.
pub(crate) fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn whoever_interrupts_a_question_has_not_said_yes() {
        let (sender, answer) = oneshot::channel();
        sender.send(Ok("y\n".to_owned())).expect("sent");
        let failure = block_on(answered(answer, async {})).expect_err("interrupted");
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Interrupted, "interrupted: nothing was done"));
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        let (sender, answer) = oneshot::channel();
        sender.send(Ok(" Yes\n".to_owned())).expect("sent");
        assert!(is_yes(&block_on(answered(answer, std::future::pending())).expect("an answer")));
        for no in ["", "\n", "n\n", "yeah\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
