pub mod error;
pub mod pod;
