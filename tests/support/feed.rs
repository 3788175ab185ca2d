//! What comes in from outside, in order, for tests that wait for some of it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use mso::clock;

pub(crate) struct Feed<T> {
    items: Mutex<Vec<T>>,
    came: Condvar,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), came: Condvar::new() }
    }
}

impl<T> Feed<T> {
    pub(crate) fn push(&self, item: T) {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).push(item);
        self.came.notify_all();
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&[T]) -> R) -> R {
        read(&self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None`: it did not come in time.
    pub(crate) fn wait<R>(&self, limit: Duration, mut find: impl FnMut(&[T]) -> Option<R>) -> Option<R> {
        let until = clock::now().instant + limit;
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&items) {
                return Some(found);
            }
            let left = until.checked_duration_since(clock::now().instant)?;
            items = self.came.wait_timeout(items, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
