//! The kinds of item types, remembered.
//!
//! A type never changes, so what was once read stays true: only a type that was not found is asked for again.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use idempo_inventory_domain::item_type::{ItemKind, ItemTypeId};
use idempo_pg::{Error, Pool};
use lru::LruCache;

use crate::queries;

/// How many kinds are remembered, those used last.
const KINDS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("more than 0");

/// What kind of items there are of a type. Cheap to clone; all clones are the same memory.
#[derive(Debug, Clone)]
pub(crate) struct Kinds {
    pool: Pool,
    known: Arc<Mutex<LruCache<ItemTypeId, ItemKind>>>,
}

impl Kinds {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, known: Arc::new(Mutex::new(LruCache::new(KINDS_MAX))) }
    }

    /// The kind of a type; `None` where there is no such type now.
    pub(crate) async fn of(&self, item_type: &ItemTypeId) -> Result<Option<ItemKind>, Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(item_type).copied();
        if known.is_some() {
            return Ok(known);
        }
        let client = self.pool.get().await?;
        let found = queries::item_type(&client, item_type).await?.map(|found| found.kind);
        if let Some(kind) = found {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).put(item_type.clone(), kind);
        }
        Ok(found)
    }
}
