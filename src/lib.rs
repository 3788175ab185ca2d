pub mod clock;
pub mod config;
pub mod ids;
pub mod kube;
pub mod orchestrator;
pub mod secret;

/// The messages of proto/, as prost writes them.
#[expect(missing_docs, clippy::all, reason = "generated")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}
