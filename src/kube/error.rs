//! How a call can fail. The API server's `Status` is kept whole, and asked.
//!
//! What ureq says is put into words for a person here, and nowhere else.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use serde::Deserialize;

use super::watch::PageMetadata;

#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The API server, or a proxy before it, answered that it did not do what was asked.
    Refused(Box<Status>),
    /// No whole answer came: no connection, a time limit, an answer cut off. What was asked may have been done.
    Lost(String),
    /// An answer came that cannot be read: not JSON, not what the API describes, or over a limit.
    Unreadable(String),
}

impl Error {
    /// The HTTP status code, where an answer came.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// 404: the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Another object has the name, or this is another object than the one that was meant.
    ///
    /// 409; but for a patch with another object's uid the API server (seen with 1.34) answers 422 with the cause
    /// `metadata.uid: field is immutable`.
    pub fn is_conflict(&self) -> bool {
        let of_uid = |status: &Status| status.code == 422 && status.details.causes.iter().any(|cause| cause.field == "metadata.uid");
        self.status().is_some_and(|status| status.code == 409 || of_uid(status))
    }

    /// Others wrote at the same time, more often than the API server tries.
    pub fn is_write_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409 && status.message.contains("the object has been modified"))
    }

    /// The API server may have done what was asked.
    pub fn may_be_done(&self) -> bool {
        self.code().is_none_or(|code| code >= 500)
    }

    /// 410: the resource version is too old to watch or to continue a list from.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// 410 to a later page: what continues the list with the rest of it as it is now, which is of another moment than the pages before.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>
    pub fn rest_of_list(&self) -> Option<&str> {
        self.status().map(|status| status.metadata.r#continue.as_str()).filter(|rest| self.is_expired() && !rest.is_empty())
    }

    /// The resource version is one that the API server has not come to yet, as after etcd was restored from a backup.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#unavailable-resource-versions>
    pub fn is_from_the_future(&self) -> bool {
        self.status().is_some_and(|status| status.details.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge"))
    }

    /// How long the API server asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.status().and_then(|status| status.retry_after)
    }

    fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused(status) => Some(status),
            Self::Lost(_) | Self::Unreadable(_) => None,
        }
    }

    /// `address` is whom we spoke to.
    pub(super) fn from_http(error: ureq::Error, address: &str) -> Self {
        if let Some(error) = of_tls(&error) {
            return Self::Lost(format!("{address}: {}", tls_problem(error)));
        }
        let why = match error {
            ureq::Error::BodyExceedsLimit(limit) => return Self::Unreadable(format!("{address}: more than {limit} bytes")),
            error @ (ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => {
                return Self::Unreadable(format!("{address}: not the HTTP that we know: {error}"));
            }
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(phase) => format!("time limit: {phase}"),
            other => other.to_string(),
        };
        Self::Lost(format!("{address}: {why}"))
    }

    /// While a body was read.
    pub(super) fn from_body(error: io::Error, address: &str) -> Self {
        Self::from_http(ureq::Error::from(error), address)
    }

    /// While JSON was read from a body.
    pub(super) fn from_json(error: serde_json::Error, address: &str) -> Self {
        match error.classify() {
            serde_json::error::Category::Io => Self::from_body(error.into(), address),
            serde_json::error::Category::Eof => Self::Lost(format!("{address}: the answer is cut off")),
            serde_json::error::Category::Syntax | serde_json::error::Category::Data => Self::Unreadable(format!("{address}: {error}")),
        }
    }
}

/// The API server's certificate was refused, and nothing was sent.
pub(super) fn is_untrusted(error: &ureq::Error) -> bool {
    matches!(of_tls(error), Some(rustls::Error::InvalidCertificate(_)))
}

fn of_tls(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        ureq::Error::Rustls(error) => Some(error),
        _ => None,
    }
}

fn tls_problem(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(problem) = error else { return format!("TLS: {error}") };
    match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not trusted: KUBERNETES_HOST must be a name in it; {error}")
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not trusted by this machine's clock, unless that is wrong: {error}")
        }
        _ => format!("its certificate is not trusted: the CA that signed it must be in the file that KUBERNETES_CA_FILE names; {error}"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "{status}"),
            Self::Lost(why) => write!(f, "no answer: {why}"),
            Self::Unreadable(why) => write!(f, "unreadable answer: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// A word for programs: `AlreadyExists`, `Forbidden`, `Expired`. Empty where a proxy answered.
    pub reason: String,
    pub message: String,
    pub metadata: PageMetadata,
    pub details: Details,
    /// The Retry-After header.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Details {
    pub kind: String,
    pub causes: Vec<Cause>,
}

/// One field that the API server refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Cause {
    pub reason: String,
    pub field: String,
    pub message: String,
}

impl Status {
    /// What a body says that came with this HTTP status code. A proxy's page is no `Status`: then its beginning is the message.
    pub(super) fn read(code: u16, body: &[u8]) -> Self {
        /// Enough for the title of a proxy's page.
        const MESSAGE_CHARS: usize = 200;
        let beginning = || {
            let text = String::from_utf8_lossy(body);
            let words = text.split(|char: char| char.is_whitespace() || char.is_control()).filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join(" ").chars().take(MESSAGE_CHARS).collect()
        };
        let says_something = |status: &Self| !(status.reason.is_empty() && status.message.is_empty());
        let status = serde_json::from_slice(body).ok().filter(says_something);
        let mut status = status.unwrap_or_else(|| Self { message: beginning(), ..Self::default() });
        // A webhook's words may hold lines and escapes of their own.
        let printable = |text: &str| text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        status.message = printable(&status.message);
        for cause in &mut status.details.causes {
            cause.message = printable(&cause.message);
        }
        Self { code, ..status }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, body: &str) -> Error {
        Error::Refused(Box::new(Status::read(code, body.as_bytes())))
    }

    #[test]
    fn a_status_is_kept_whole_and_asked() {
        let exists = refused(409, r#"{"kind":"Status","message":"pods \"a\" already exists","reason":"AlreadyExists","code":409}"#);
        assert!(exists.is_conflict());
        assert_eq!(exists.to_string(), r#"409 AlreadyExists: pods "a" already exists"#);
        let body = r#"{"reason":"Invalid","details":{"causes":[{"reason":"FieldValueInvalid","field":"metadata.uid"}]},"code":422}"#;
        assert!(refused(422, body).is_conflict(), "a patch of another pod");
        let body =
            r#"{"reason":"Invalid","details":{"causes":[{"reason":"FieldValueInvalid","field":"spec.containers[0].image"}]},"code":422}"#;
        assert!(!refused(422, body).is_conflict());
        let body = r#"{"reason":"Timeout","details":{"causes":[{"reason":"ResourceVersionTooLarge"}],"retryAfterSeconds":1},"code":504}"#;
        assert!(refused(504, body).is_from_the_future());
        assert!(refused(410, r#"{"reason":"Expired","code":410}"#).is_expired());
    }

    #[test]
    fn what_a_proxy_answers_is_shown_by_its_beginning() {
        let page = format!("<html>\n<title>502 Bad\tGateway</title>{}", "\u{1b}x ".repeat(1000));
        let error = refused(502, &page);
        assert_eq!(error.code(), Some(502));
        let text = error.to_string();
        assert!(text.starts_with("502: <html> <title>502 Bad Gateway</title>") && text.len() < 300, "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(refused(503, "").to_string(), "503");
        assert_eq!(refused(503, "[1]").to_string(), "503: [1]");
        assert_eq!(refused(403, r#"{"code":200,"message":"no"}"#).to_string(), "403: no");
    }
}
