//! What the tests of the whole service share: a stage to play on, the service's process, the SO that a test plays.
//!
//! There are two grounds, and each test is written for both; one that only one of them can play says which and why.
//! - devkit's broker and cluster, in the test's own process: nothing else is needed;
//! - mosquitto and the cluster that `KUBECONFIG` names, where `MSO_TEST_GROUND=real`. The variables that this takes are in docs/testing.md.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod broker;
pub(crate) mod link;
pub(crate) mod manifests;
pub(crate) mod namespace;
pub(crate) mod service;
pub(crate) mod stage;
pub(crate) mod webhook;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use devkit::wait;
use mso::clock;

/// For whatever a test waits for, while others keep the machine busy: only a failure takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The image of the fake model on devkit's ground.
pub(crate) const FAKE_MODEL: &str = "fake-model";

/// Where the tests are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    Devkit,
    Real,
}

pub(crate) fn ground() -> Ground {
    match std::env::var("MSO_TEST_GROUND").as_deref() {
        Err(_) | Ok("devkit") => Ground::Devkit,
        Ok("real") => Ground::Real,
        Ok(other) => panic!("MSO_TEST_GROUND is {other:?}: it takes devkit or real"),
    }
}

/// A test without one of these cannot go on.
pub(crate) fn required(name: &str, what: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: it names {what}"))
}

impl Ground {
    /// As a pod names it.
    pub(crate) fn model_image(self) -> String {
        match self {
            Self::Devkit => FAKE_MODEL.to_owned(),
            Self::Real => required("MSO_TEST_MODEL_IMAGE", "the fake model's image, as a pod names it"),
        }
    }
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
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait::until(LIMIT, ask).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// Of a process: of the fields in `/proc/<pid>/status`, in kB.
pub(crate) fn memory_kb(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel says so");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("it is a number")
}

pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("the system has one more thread");
}
