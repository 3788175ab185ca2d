//! What comes in, in order, for those who wait for some of it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use mso::clock;

/// For any number of threads. It keeps everything.
pub struct Feed<T> {
    items: Mutex<Vec<T>>,
    came: Condvar,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), came: Condvar::new() }
    }
}

impl<T> Feed<T> {
    pub fn push(&self, item: T) {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).push(item);
        self.came.notify_all();
    }

    pub fn read<R>(&self, read: impl FnOnce(&[T]) -> R) -> R {
        read(&self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks `find` now and after each item that comes. `None`: nothing was found within `limit`.
    pub fn wait<R>(&self, limit: Duration, mut find: impl FnMut(&[T]) -> Option<R>) -> Option<R> {
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
