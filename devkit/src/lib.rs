//! What surrounds the service, for trying it out and for tests: a broker and a cluster that need nothing, an SO, a model.
//!
//! Broker and cluster are state machines that get their time passed in, so that a test can drive them in simulated time; and a server on
//! loopback around each for whole programs.

pub mod api;
pub mod broker;
pub mod cluster;
pub mod feed;
pub mod kubectl;
pub mod mosquitto;
pub mod program;
pub mod wait;
