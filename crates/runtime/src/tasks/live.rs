//! Which tasks are running: their names, to tell who kept the process from ending.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names of the tasks that are running, in the order they were spawned.
#[derive(Debug, Default, Clone)]
pub(super) struct Live {
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    next: u64,
    by_number: BTreeMap<u64, Cow<'static, str>>,
}

/// A running task's place in the list; it leaves the list when this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    live: Live,
    number: u64,
}

impl Live {
    /// Lists a task that is about to run.
    pub(super) fn enter(&self, name: Cow<'static, str>) -> Entry {
        let mut names = self.lock();
        let number = names.next;
        names.next = number.wrapping_add(1);
        names.by_number.insert(number, name);
        Entry { live: self.clone(), number }
    }

    /// The names of the tasks that are running.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().by_number.values().map(|name| name.clone().into_owned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.live.lock().by_number.remove(&self.number);
    }
}
