//! The part of an `Event` that we read: what the scheduler and the kubelet say of a pod, for an hour by default.
//! <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>

use serde::Deserialize;

use super::pod::{Timestamp, or_default};
use crate::clock::UnixTime;

/// What happened before says less of why a pod is as it is.
const EVENTS_KEPT: usize = 5;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodEvent {
    /// `Normal` or `Warning`.
    pub r#type: String,
    pub reason: String,
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    #[serde(deserialize_with = "or_default")]
    count: u32,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
    metadata: Metadata,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Series {
    count: u32,
    last_observed_time: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<Timestamp>,
}

impl PodEvent {
    /// When it happened last. Who writes them fills in one field or another.
    pub fn at(&self) -> Option<UnixTime> {
        let of_series = self.series.as_ref().and_then(|series| series.last_observed_time);
        of_series.or(self.last_timestamp).or(self.event_time).or(self.metadata.creation_timestamp).map(|at| at.0)
    }

    /// How often it happened, as one field or another says; 0: nobody counts.
    pub fn count(&self) -> u32 {
        self.series.as_ref().map_or(self.count, |series| series.count)
    }
}

/// The newest of those that were added.
#[derive(Default)]
pub(super) struct PodEvents(Vec<PodEvent>);

impl PodEvents {
    pub(super) fn add(&mut self, events: Vec<PodEvent>) {
        self.0.extend(events);
        // Most have whole seconds. In one, they stay as they came: by their names, which begin with the pod's and go on with the time.
        let at = |event: &PodEvent| event.at().map_or(f64::NEG_INFINITY, |at| at.0.floor());
        self.0.sort_by(|one, other| at(one).total_cmp(&at(other)));
        self.0.drain(..self.0.len().saturating_sub(EVENTS_KEPT));
    }

    pub(super) fn into_vec(self) -> Vec<PodEvent> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_events_are_kept_by_whichever_time_they_have_and_the_last_is_last() {
        let at = |second: u32| format!("2026-01-01T12:00:{second:02}Z");
        let mut events: Vec<PodEvent> = (10..16)
            .rev()
            .map(|second| serde_json::from_value(json!({"reason": second.to_string(), "lastTimestamp": at(second)})).unwrap())
            .collect();
        let series = json!({"reason": "series", "lastTimestamp": null, "eventTime": "2026-01-01T12:00:01.000001Z", "count": null,
            "series": {"count": 3, "lastObservedTime": "2026-01-01T12:00:20.000001Z"}});
        let created = json!({"reason": "created", "eventTime": null, "metadata": {"creationTimestamp": at(12)}});
        events.extend([series, created].map(|event| serde_json::from_value(event).unwrap()));
        let mut newest = PodEvents::default();
        events.into_iter().for_each(|event| newest.add(vec![event]));
        let newest = newest.into_vec();
        let reasons: Vec<&str> = newest.iter().map(|event| event.reason.as_str()).collect();
        assert_eq!(reasons, ["created", "13", "14", "15", "series"]);
        assert_eq!(newest.last().map(PodEvent::count), Some(3));
    }
}
