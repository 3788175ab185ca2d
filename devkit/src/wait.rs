//! Asking again until there is an answer.

use std::io;
use std::thread;
use std::time::Duration;

use mso::clock;

const PORT_LIMIT: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// `None`: there was no answer within `limit`. It asks once more at its end.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = clock::now().instant + limit;
    let mut pause = PAUSE_FIRST;
    loop {
        let is_last = clock::now().instant >= end;
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if is_last {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Somebody else may have it for a moment, as the near end of a connection of theirs; after ten seconds it is an error.
pub(crate) fn for_port<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let bind_again = || match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        result => Some(result),
    };
    until(PORT_LIMIT, bind_again).unwrap_or_else(|| Err(io::ErrorKind::AddrInUse.into()))
}
