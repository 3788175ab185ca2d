//! The Model Services Orchestrator.
//!
//! One thread owns all state and decides: [`state`] runs the [`orchestrator`], which is pure. Around it stand edges that translate and
//! decide nothing, each a thread or a few: [`mqtt`] to the broker, [`pods`] from the Kubernetes API (list and watch), [`deployer`] to it
//! (create, patch, delete, read logs; and the record of each simulation, ConfigMaps, from which the next process goes on). Between them go
//! an [`Event`](orchestrator::event::Event) in and a [`Command`](orchestrator::event::Command) out; a command's outcome comes back as an
//! event. Events are bounded and block the edge that sends them; commands are bounded by what they are about, so that the state thread
//! never blocks. How they all are, [`status`] tells whoever asks; it only looks.
//!
//! ```text
//!             broker                              Kubernetes API
//!               │  ▲                               ▲        │ list + watch
//!    PUBLISH in │  │ PUBLISH out       create, …,  │        ▼
//!          ┌────▼──┴───┐                 logs  ┌───┴────┐ ┌──────┐
//!          │   mqtt    │                       │deployer│ │ pods │
//!          └────┬──▲───┘                       └──▲──┬──┘ └──┬───┘
//!         Event │  │ Command::Publish  ::Call     │  │ Event │ Event
//!               ▼  │                              │  ▼       ▼
//!          ┌───────┴──────────────────────────────┴────────────────┐
//!          │ state: Orchestrator   handle(event, now) → commands   │
//!          └──────────────────────────┬────────────────────────────┘
//!                                     │ Readiness, as of the last event
//!                                 ┌───▼────┐  heartbeats
//!           GET /livez, /readyz ──▶ status ◀────────────── every thread
//!                                 └────────┘
//! ```
//!
//! In reading order: [`ids`], [`config`], [`orchestrator`], [`state`], [`mqtt`], [`kube`], [`pods`], [`deployer`], [`supervise`],
//! [`service`], [`status`]; and [`check`] and [`explain`], apart from all that.

pub mod check;
pub mod clock;
pub mod config;
pub mod deployer;
pub mod explain;
pub mod ids;
pub mod kube;
pub mod logging;
pub mod mqtt;
pub mod orchestrator;
pub mod pods;
pub mod secret;
pub mod service;
pub mod state;
pub mod status;
pub mod supervise;

/// The messages of proto/, as prost writes them.
#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}
