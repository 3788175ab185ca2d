//! The whole service against a real broker and a real cluster. Each test has a namespace and a simulator name of its own, so they run side by side.

#[path = "../support/mod.rs"]
mod support;

mod as_a_pod;
mod other_pods;
mod outages;
mod requests;
mod simulations;
