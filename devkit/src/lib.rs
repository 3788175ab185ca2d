//! What surrounds the service, for trying it out and for tests: a broker and a cluster that need nothing, an SO, a model.
//!
//! Broker and cluster are state machines that get their time passed in, so that a test can drive them in simulated time; and a server on
//! loopback around each for whole programs.
//!
//! # A test of your own SO, or of your own model
//!
//! The broker, the cluster and the service run within your test; an image is a program of this machine. Here the SO is devkit's and the
//! model is a program that ends at once; put your own in the place of either.
//!
//! ```
//! use std::time::Duration;
//! use devkit::{broker, cluster, service, so::{Session, So, model_configuration}};
//!
//! let broker = broker::Server::start()?; // at broker.address(), for your SO
//! let cluster = cluster::Server::start([("my-model:1".into(), cluster::Image::of("/bin/true"))].into())?;
//! let _mso = service::Mso::start(&broker, &cluster, "my-so")?;
//! let so = So::connect("127.0.0.1", broker.address().port(), "so", "my-so", Session::Clean)?;
//! let models = vec![model_configuration("m", "my-model:1", [("GREETING", "hello")])];
//! so.deploy("s", &mso::proto::DeployModels { simulator_id: "my-so".into(), model_configurations: models, keep_logs_hours: 0.0 });
//! let ended = so.heard.wait(Duration::from_secs(30), |heard| heard.iter().find(|one| one.topic.ends_with("/m/ModelHasTerminated")).cloned());
//! assert!(ended.is_some_and(|message| message.payload.is_empty()), "a model that ends with 0 is told by an empty message");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`broker::Fault`] says how the broker can misbehave, [`cluster::Fault`] how the cluster can. A model's environment is what its request
//! gives it; the fake model, `src/bin/fake-model.rs`, does what real ones do on the wire.

pub mod api;
pub mod broker;
pub mod cluster;
pub mod feed;
pub mod kubectl;
pub mod mosquitto;
pub mod program;
pub mod service;
pub mod so;
pub mod wait;
