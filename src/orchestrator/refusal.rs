//! What a failed call means: what stands in the way, and whether waiting helps. Pure.
//!
//! Kubernetes has no codes for most of this; the texts are those of its admission plugins.

use std::fmt;
use std::time::Duration;

use super::pod_state::one_line;
use crate::config::Limits;
use crate::kube::error::{Error, Status};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub reason: Reason,
    /// One line, for a person.
    pub message: String,
    pub remedy: Remedy,
}

/// As it stands in the log and in a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    AlreadyExists,
    ApiUnavailable,
    ExceededQuota,
    Forbidden,
    InvalidPod,
    NamespaceNotFound,
    NamespaceTerminating,
    PodAdmissionFailed,
    QuotaRequiresResources,
    ResourceQuotaConflict,
    Throttled,
    Unauthorized,
    UnexpectedAnswer,
}

impl Reason {
    /// How long it may stand in the way before those who wait behind it fail, whatever they wait for; none: for ever.
    pub(super) fn limit(self, limits: &Limits) -> Option<Duration> {
        match self {
            Self::ApiUnavailable => limits.api,
            Self::ExceededQuota => limits.quota,
            Self::Throttled => None,
            Self::AlreadyExists
            | Self::Forbidden
            | Self::InvalidPod
            | Self::NamespaceNotFound
            | Self::NamespaceTerminating
            | Self::PodAdmissionFailed
            | Self::QuotaRequiresResources
            | Self::ResourceQuotaConflict
            | Self::Unauthorized
            | Self::UnexpectedAnswer => limits.denied,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Remedy {
    /// Another pod has the name, or ours has it already.
    AskWhoHasTheName,
    /// A passing matter of this one call.
    Again(Duration),
    /// Calls with the same verb wait together.
    HoldVerb(Pause),
    /// Every call waits.
    HoldAll(Pause),
    /// Waiting does not help.
    GiveUp,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pause {
    pub base: Duration,
    pub cap: Duration,
    /// What the server asked for.
    pub at_least: Duration,
}

impl Pause {
    fn new(base_ms: u64, cap_seconds: u64) -> Self {
        let (base, cap) = (Duration::from_millis(base_ms), Duration::from_secs(cap_seconds));
        Self { base, cap, at_least: Duration::ZERO }
    }
}

pub(super) fn refusal(error: &Error) -> Refusal {
    let (reason, remedy) = match error {
        Error::Lost(_) | Error::Unreadable(_) => (Reason::ApiUnavailable, Remedy::HoldAll(Pause::new(500, 30))),
        Error::Refused(status) => refused(status),
    };
    let hint = if reason == Reason::Unauthorized { "; check KUBERNETES_API_TOKEN, or the file with the token" } else { "" };
    Refusal { reason, message: message(error) + hint, remedy }
}

fn refused(status: &Status) -> (Reason, Remedy) {
    let says = |text: &str| status.message.contains(text);
    match status.code {
        401 => (Reason::Unauthorized, Remedy::HoldAll(Pause::new(500, 30))),
        403 if says("exceeded quota") => (Reason::ExceededQuota, Remedy::HoldVerb(Pause::new(1000, 60))),
        403 if says("failed quota") => (Reason::QuotaRequiresResources, Remedy::GiveUp),
        403 if status.details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => {
            (Reason::NamespaceTerminating, Remedy::GiveUp)
        }
        403 if says(" cannot ") && says(" resource ") => (Reason::Forbidden, Remedy::HoldVerb(Pause::new(30_000, 30))),
        403 => (Reason::PodAdmissionFailed, Remedy::GiveUp),
        404 => (Reason::NamespaceNotFound, Remedy::GiveUp),
        409 if status.details.kind == "resourcequotas" => (Reason::ResourceQuotaConflict, Remedy::Again(Duration::from_secs(1))),
        409 => (Reason::AlreadyExists, Remedy::AskWhoHasTheName),
        400 if says("denied the request") => (Reason::PodAdmissionFailed, Remedy::GiveUp),
        400 | 413 | 422 => (Reason::InvalidPod, Remedy::GiveUp),
        500 if says("request is too large") || says("message larger than max") => (Reason::InvalidPod, Remedy::GiveUp),
        500 if says("failed calling webhook") => (Reason::ApiUnavailable, Remedy::HoldVerb(Pause::new(500, 30))),
        429 | 503 if status.retry_after.is_some() || status.code == 429 => {
            let at_least = status.retry_after.unwrap_or_default();
            (Reason::Throttled, Remedy::HoldAll(Pause { at_least, ..Pause::new(1000, 60) }))
        }
        500.. => (Reason::ApiUnavailable, Remedy::HoldAll(Pause::new(500, 30))),
        _ => (Reason::UnexpectedAnswer, Remedy::GiveUp),
    }
}

/// The fields that were refused, where the server names them.
fn message(error: &Error) -> String {
    let causes = match error {
        Error::Refused(status) => status.details.causes.iter().filter(|cause| !cause.field.is_empty()).collect(),
        Error::Lost(_) | Error::Unreadable(_) => Vec::new(),
    };
    if causes.is_empty() {
        return one_line(&error.to_string());
    }
    let fields: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    one_line(&fields.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::error::{Cause, Details};

    fn status(code: u16, message: &str) -> Status {
        Status { code, message: message.to_owned(), ..Status::default() }
    }

    #[test]
    fn each_answer_has_its_reason_and_its_remedy() {
        let namespace_gone = Status {
            details: Details { causes: vec![Cause { reason: "NamespaceTerminating".into(), ..Cause::default() }], ..Details::default() },
            ..status(403, "unable to create new content in namespace dots because it is being terminated")
        };
        let quota_conflict = Status { details: Details { kind: "resourcequotas".into(), ..Details::default() }, ..status(409, "…") };
        let throttled = Status { retry_after: Some(Duration::from_secs(7)), ..status(429, "too many requests") };
        let starting = Status { retry_after: Some(Duration::from_secs(1)), ..status(503, "starting") };
        let cases: Vec<(&str, Error, &str, &str)> = vec![
            ("the name is taken", refused(status(409, "pods \"p\" already exists")), "AlreadyExists", "AskWhoHasTheName"),
            ("two creates met at the quota", refused(quota_conflict), "ResourceQuotaConflict", "Again(1s)"),
            (
                "6: quota is used up",
                refused(status(403, "pods \"p\" is forbidden: exceeded quota: q")),
                "ExceededQuota",
                "HoldVerb, at most 900s",
            ),
            (
                "7: quota demands limits",
                refused(status(403, "failed quota: q: must specify limits.cpu")),
                "QuotaRequiresResources",
                "GiveUp",
            ),
            ("pod security", refused(status(403, "violates PodSecurity \"restricted:latest\"")), "PodAdmissionFailed", "GiveUp"),
            (
                "8: a webhook says no",
                refused(status(400, "admission webhook \"w\" denied the request: no")),
                "PodAdmissionFailed",
                "GiveUp",
            ),
            (
                "9: the Role lacks it",
                refused(status(403, "User \"u\" cannot create resource \"pods\"")),
                "Forbidden",
                "HoldVerb, at most 120s",
            ),
            (
                "the Role lacks it for a list",
                refused(status(403, "User \"u\" cannot list resource \"pods\"")),
                "Forbidden",
                "HoldVerb, at most 120s",
            ),
            ("the namespace goes", refused(namespace_gone), "NamespaceTerminating", "GiveUp"),
            ("no such namespace", refused(status(404, "namespaces \"x\" not found")), "NamespaceNotFound", "GiveUp"),
            ("a bad field", refused(status(422, "Pod \"p\" is invalid")), "InvalidPod", "GiveUp"),
            ("too large for the API server", refused(status(413, "too large")), "InvalidPod", "GiveUp"),
            ("too large for etcd", refused(status(500, "etcdserver: request is too large")), "InvalidPod", "GiveUp"),
            ("the token has expired", refused(status(401, "Unauthorized")), "Unauthorized", "HoldAll, at most 120s"),
            ("too many requests", refused(throttled), "Throttled", "HoldAll, at least 7s"),
            ("503 that says when", refused(starting), "Throttled", "HoldAll, at least 1s"),
            ("503 that does not", refused(status(503, "no")), "ApiUnavailable", "HoldAll, at most 300s"),
            ("a webhook is away", refused(status(500, "failed calling webhook \"w\"")), "ApiUnavailable", "HoldVerb, at most 300s"),
            ("no answer", Error::Lost("timed out".into()), "ApiUnavailable", "HoldAll, at most 300s"),
            ("half an answer", Error::Unreadable("EOF".into()), "ApiUnavailable", "HoldAll, at most 300s"),
            ("a redirect", refused(status(302, "")), "UnexpectedAnswer", "GiveUp"),
        ];
        for (row, error, reason, remedy) in cases {
            let refusal = refusal(&error);
            assert_eq!((refusal.reason.to_string().as_str(), in_words(&refusal).as_str()), (reason, remedy), "{row}");
        }
    }

    #[test]
    fn an_invalid_pod_names_its_fields() {
        let cause =
            Cause { reason: "FieldValueInvalid".into(), field: "spec.containers[0].image".into(), message: "Required value".into() };
        let invalid = Status { details: Details { causes: vec![cause], ..Details::default() }, ..status(422, "Pod is invalid") };
        assert_eq!(refusal(&refused(invalid)).message, "spec.containers[0].image: Required value");
    }

    fn refused(status: Status) -> Error {
        Error::Refused(Box::new(status))
    }

    fn in_words(refusal: &Refusal) -> String {
        let limits = |pause: &Pause| match refusal.reason.limit(&Limits::default()) {
            Some(limit) => format!("at most {limit:?}"),
            None => format!("at least {:?}", pause.at_least),
        };
        match &refusal.remedy {
            Remedy::HoldVerb(pause) => format!("HoldVerb, {}", limits(pause)),
            Remedy::HoldAll(pause) => format!("HoldAll, {}", limits(pause)),
            other => format!("{other:?}"),
        }
    }
}
