//! The whole service among its neighbours. Each test has a broker or a simulator name, and a namespace, of its own, so that they run side
//! by side.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod api_server;
mod as_a_pod;
mod failures;
mod faults;
mod other_pods;
mod outages;
mod records;
mod requests;
mod restarts;
mod simulations;
mod two_services;
