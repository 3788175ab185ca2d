//! What a list and a watch answer. Nothing here decides what comes after an error: that is pods.rs.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;

use super::error::{Error, Status};
use super::pod::{Pod, or_default};
use crate::clock::UnixTime;

/// etcd takes 1.5 MiB for an object, and JSON may write one byte as six. Without a limit a line without an end would fill us up.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Our pods at one moment.
#[derive(Clone, Debug, Default)]
pub struct PodList {
    pub pods: Vec<Pod>,
    /// From where to watch. Opaque.
    pub resource_version: String,
    /// When the API server sent it, by its own clock.
    pub server_time: Option<UnixTime>,
}

/// Of a list of pods or of records.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    pub metadata: PageMetadata,
    #[serde(deserialize_with = "or_default")]
    pub items: Vec<T>,
}

/// Also of a refusal.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PageMetadata {
    pub resource_version: String,
    /// Empty on the last page.
    pub r#continue: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// Added or modified.
    Changed(Pod),
    /// Gone, as it last was.
    Deleted(Pod),
    /// Nothing happened up to this resource version.
    Bookmark(String),
}

impl WatchEvent {
    /// From where to watch after this event.
    pub fn resource_version(&self) -> &str {
        match self {
            Self::Changed(pod) | Self::Deleted(pod) => &pod.metadata.resource_version,
            Self::Bookmark(version) => version,
        }
    }
}

/// A watch that runs. It ends with `None` where the API server ended it in order; after an error it is of no use.
pub struct Watch {
    lines: BufReader<Box<dyn Read + Send>>,
    /// Named in errors.
    address: String,
    /// When the watch began, by the API server's clock.
    pub server_time: Option<UnixTime>,
}

impl Watch {
    /// `address` is whom we spoke to, for errors.
    pub fn new(body: impl Read + Send + 'static, address: &str, server_time: Option<UnixTime>) -> Self {
        Self { lines: BufReader::new(Box::new(body)), address: address.to_owned(), server_time }
    }

    fn read(&mut self) -> Result<Option<WatchEvent>, Error> {
        let mut line = Vec::new();
        let mut limited = self.lines.by_ref().take(LINE_BYTES_MAX as u64);
        limited.read_until(b'\n', &mut line).map_err(|error| Error::from_body(error, &self.address))?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => self.parse(&line).map(Some),
            Some(_) if line.len() == LINE_BYTES_MAX => {
                Err(Error::Unreadable(format!("{}: an event of more than {LINE_BYTES_MAX} bytes", self.address)))
            }
            Some(_) => Err(Error::Lost(format!("{}: the watch broke off within an event", self.address))),
        }
    }

    fn parse(&self, line: &[u8]) -> Result<WatchEvent, Error> {
        #[derive(Deserialize)]
        #[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
        enum Line {
            Added(Pod),
            Modified(Pod),
            Deleted(Pod),
            Bookmark(Pod),
            Error(Status),
        }
        let unreadable = |problem: &dyn std::fmt::Display| Error::Unreadable(format!("{}: a watch event: {problem}", self.address));
        let event = match serde_json::from_slice(line).map_err(|error| unreadable(&error))? {
            Line::Added(pod) | Line::Modified(pod) => WatchEvent::Changed(pod.checked()?),
            Line::Deleted(pod) => WatchEvent::Deleted(pod.checked()?),
            Line::Bookmark(pod) => WatchEvent::Bookmark(pod.metadata.resource_version),
            Line::Error(status) => return Err(Error::Refused(Box::new(status))),
        };
        if event.resource_version().is_empty() {
            return Err(unreadable(&"no resource version"));
        }
        Ok(event)
    }
}

impl Iterator for Watch {
    type Item = Result<WatchEvent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(text: &str) -> Watch {
        Watch::new(std::io::Cursor::new(text.to_owned()), "https://api", None)
    }

    #[test]
    fn each_line_is_an_event_and_the_end_is_clean() {
        let pod = r#""metadata":{"name":"a","uid":"u","resourceVersion":"7","managedFields":[{"f:x":{}}]},"spec":{},"status":{"phase":"Running"}"#;
        let text = format!(
            "{{\"type\":\"ADDED\",\"object\":{{{pod}}}}}\n{{\"object\":{{{pod}}},\"type\":\"MODIFIED\"}}\n{{\"type\":\"DELETED\",\"object\":{{{pod}}}}}\n\
             {{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"Pod\",\"metadata\":{{\"resourceVersion\":\"8\"}},\"spec\":{{\"containers\":null}}}}}}\n"
        );
        let events: Vec<_> = watch(&text).map(Result::unwrap).collect();
        let [WatchEvent::Changed(added), WatchEvent::Changed(_), WatchEvent::Deleted(_), WatchEvent::Bookmark(version)] = events.as_slice()
        else {
            panic!("{events:?}")
        };
        assert_eq!((added.metadata.name.as_str(), added.status.phase.as_str(), version.as_str()), ("a", "Running", "8"));
    }

    #[test]
    fn what_is_wrong_with_a_watch_is_told_apart() {
        let expired =
            r#"{"type":"ERROR","object":{"kind":"Status","message":"too old resource version: 1 (2)","reason":"Expired","code":410}}"#;
        let cases: &[(&str, String, &str)] = &[
            ("the version is too old", format!("{expired}\n"), "410 Expired: too old resource version: 1 (2)"),
            ("cut off within a line", r#"{"type":"ADD"#.to_owned(), "no answer: https://api: the watch broke off within an event"),
            ("no JSON", "<html>\n".to_owned(), "unreadable answer: https://api: a watch event: expected value"),
            (
                "an unknown type",
                "{\"type\":\"MOVED\",\"object\":{}}\n".to_owned(),
                "unreadable answer: https://api: a watch event: unknown variant",
            ),
            ("no pod", "{\"type\":\"ADDED\",\"object\":{}}\n".to_owned(), "unreadable answer: a pod without name or uid"),
            (
                "a bookmark of nothing",
                "{\"type\":\"BOOKMARK\",\"object\":{}}\n".to_owned(),
                "unreadable answer: https://api: a watch event: no resource",
            ),
        ];
        for (phrase, text, expected) in cases {
            let error = watch(text).next().unwrap().unwrap_err();
            assert!(error.to_string().starts_with(expected), "{phrase}: {error}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up_at_the_limit() {
        let mut watch = Watch::new(std::io::repeat(b' '), "https://api", None);
        assert!(matches!(watch.next(), Some(Err(Error::Unreadable(_)))));
    }

    #[test]
    fn an_empty_list_may_say_null() {
        let page: Page<Pod> = serde_json::from_str(r#"{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":null}"#).unwrap();
        assert!(page.items.is_empty() && page.metadata.r#continue.is_empty());
        assert!(serde_json::from_str::<Page<Pod>>("{}").is_err());
    }
}
