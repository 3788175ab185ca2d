//! What the tests of the whole service share: a namespace and a simulator name of one's own, the service's process, the SO that a test plays.
//!
//! They need a cluster (`KUBECONFIG`, kubectl), a broker, and images, which the environment names:
//! - `MSO_TEST_MODEL_IMAGE`: the fake model's image, as a pod names it;
//! - `MSO_TEST_IMAGE`: the service's, for the tests that run it as a pod;
//! - `MSO_TEST_BROKER`: the broker's `host:port`, `127.0.0.1:1883` unless set;
//! - `MSO_TEST_BROKER_IN_POD`: the same as a pod reaches it.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod feed;
pub(crate) mod service;
pub(crate) mod so;
pub(crate) mod stage;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mso::clock;

/// For whatever a test waits for, while others keep the machine busy: only a failure takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A test without one of these cannot go on.
pub(crate) fn required(name: &str, what: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: it names {what}"))
}

pub(crate) fn model_image() -> String {
    required("MSO_TEST_MODEL_IMAGE", "the fake model's image, as a pod names it")
}

pub(crate) fn service_image() -> String {
    required("MSO_TEST_IMAGE", "the image of mso, as a pod names it")
}

/// Part of a name that no other test has, here or in another process.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let seconds = clock::now().unix.0 as u64 % 0xf_ffff;
    format!("{seconds:x}-{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Asks again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(300);
    let until = clock::now().instant + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(clock::now().instant < until, "waited in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}

pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("the system has one more thread");
}
