//! Runs tests that share one stack, one after the other.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Failed, Trial};
use tokio::runtime::{Builder, Runtime};

use crate::world::World;

/// A test on the shared stack.
pub type Test = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// What the tests share.
pub struct Suite {
    runtime: Runtime,
    stack: std::sync::Mutex<Stack>,
}

enum Stack {
    /// No test has needed it yet.
    Unused,
    /// It runs.
    Up(Box<World>),
    /// It could not be started, or was stopped.
    Gone(&'static str),
}

impl Suite {
    /// A suite whose stack is not started yet.
    ///
    /// # Errors
    /// When there can be no async runtime.
    pub fn new() -> Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the runtime")?;
        Ok(Arc::new(Self { runtime, stack: std::sync::Mutex::new(Stack::Unused) }))
    }

    /// Tests by name, to be run in this order.
    pub fn trials(self: &Arc<Self>, tests: impl IntoIterator<Item = (&'static str, Test)>) -> Vec<Trial> {
        let trial = |(name, test): (&'static str, Test)| {
            let suite = Arc::clone(self);
            Trial::test(name, move || suite.run(test).map_err(|error| Failed::from(format!("{error:?}"))))
        };
        tests.into_iter().map(trial).collect()
    }

    /// A test that stops the stack.
    pub fn last<F: Future<Output = Result<()>> + 'static>(self: &Arc<Self>, name: &'static str, test: fn(World) -> F) -> Trial {
        let suite = Arc::clone(self);
        Trial::test(name, move || suite.end(test).map_err(|error| Failed::from(format!("{error:?}"))))
    }

    fn run(&self, test: Test) -> Result<()> {
        // A test that panicked has left the stack as it was.
        let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
        self.start(&mut stack)?;
        match &mut *stack {
            Stack::Up(world) => self.runtime.block_on(test(world)),
            Stack::Unused => bail!("the stack was not started"),
            Stack::Gone(why) => bail!("{why}"),
        }
    }

    fn end<F: Future<Output = Result<()>>>(&self, test: fn(World) -> F) -> Result<()> {
        let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
        self.start(&mut stack)?;
        match std::mem::replace(&mut *stack, Stack::Gone("the stack was stopped")) {
            Stack::Up(world) => self.runtime.block_on(test(*world)),
            Stack::Unused => bail!("the stack was not started"),
            Stack::Gone(why) => bail!("{why}"),
        }
    }

    fn start(&self, stack: &mut Stack) -> Result<()> {
        if matches!(stack, Stack::Unused) {
            *stack = Stack::Gone("the stack could not be started");
            *stack = Stack::Up(Box::new(self.runtime.block_on(World::start())?));
        }
        Ok(())
    }
}
