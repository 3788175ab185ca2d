//! What the API server answers to one call, read. Pure: nothing here knows of connections. Lists and watches are read in watch.rs.

use std::time::Duration;

use super::error::{Error, Status};
use super::pod::Pod;
use super::record::ConfigMap;
use crate::ids::SimulatorName;
use crate::orchestrator::event::{Answer, PodCall, RecordAnswer, RecordCall};

/// What a call about a pod came to, by the body of a success. `address` is whom we spoke to, for errors.
///
/// # Errors
/// It cannot be read.
pub fn of_call(call: &PodCall, body: &[u8], address: &str) -> Result<Answer, Error> {
    if let PodCall::Delete { .. } = call {
        return Ok(Answer::Done);
    }
    let pod: Pod = serde_json::from_slice(body).map_err(|error| Error::from_json(error, address))?;
    Ok(Answer::Pod(Box::new(pod.checked()?)))
}

/// What a call about a record came to, by the body of a success.
///
/// # Errors
/// It cannot be read, or the name is somebody else's.
pub fn of_record_call(call: &RecordCall, body: &[u8], simulator: &SimulatorName, address: &str) -> Result<RecordAnswer, Error> {
    if let RecordCall::Delete { .. } = call {
        return Ok(RecordAnswer::Done);
    }
    let found: ConfigMap = serde_json::from_slice(body).map_err(|error| Error::from_json(error, address))?;
    Ok(RecordAnswer::Record(Box::new(found.expected(simulator)?)))
}

/// What an answer that is no success says.
pub fn refusal(code: u16, retry_after: Option<Duration>, body: &[u8]) -> Error {
    Error::Refused(Box::new(Status { retry_after, ..Status::read(code, body) }))
}
