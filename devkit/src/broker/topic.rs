//! Topic names and topic filters: which are valid, and which filter matches which topic. It knows no session.
//!
//! rumqttc's functions of that name are for clients: its `matches` takes no topic that begins with `$` and panics on some.

/// Slashes and one. As mosquitto: what is deeper is refused, which bounds the work of a match.
const MAX_LEVELS: usize = 201;

/// What a client may publish to.
pub(super) fn is_valid_topic(topic: &str) -> bool {
    is_valid_string(topic) && !topic.is_empty() && !topic.contains(['+', '#']) && topic.split('/').count() <= MAX_LEVELS
}

/// What a client may subscribe to: a wildcard stands alone in its level, `#` in the last one.
pub(super) fn is_valid_filter(filter: &str) -> bool {
    let depth = filter.split('/').count();
    let level_is_valid = |(i, level): (usize, &str)| match level {
        "+" => true,
        "#" => i + 1 == depth,
        _ => !level.contains(['+', '#']),
    };
    is_valid_string(filter) && !filter.is_empty() && depth <= MAX_LEVELS && filter.split('/').enumerate().all(level_is_valid)
}

/// MQTT 3.1.1, 1.5.3: NUL must close the connection, control characters and non-characters may. Mosquitto closes on all of them.
pub(super) fn is_valid_string(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(u32::from(c), 0xFDD0..=0xFDEF) || matches!(u32::from(c) & 0xFFFF, 0xFFFE | 0xFFFF))
}

/// Both are valid.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    // MQTT 3.1.1, 4.7.2: a broker's own topics are not for those who ask for everything.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            // Also of the level above: `a/#` matches `a`.
            ("#", _) => return true,
            (_, None) => return false,
            (wanted, Some(level)) if wanted != "+" && wanted != level => return false,
            (_, Some(_)) => {}
        }
    }
    levels.next().is_none()
}

/// In which order mosquitto comes upon the filters that match one topic: at each level the text itself, then `+`, then `#`; a filter that
/// ends comes after one that goes on with `#`.
pub(super) fn search_order(filter: &str) -> Vec<u8> {
    let level = |level| match level {
        "#" => 2,
        "+" => 1,
        _ => 0,
    };
    filter.split('/').map(level).chain([3]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_matches_the_topics_that_it_should_and_no_other() {
        for (filter, topic, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "A", false),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("a", "/a", false),
            ("/a", "/a", true),
            ("/a", "a", false),
            ("a/", "a", false),
            ("a/", "a/", true),
            ("a//b", "a//b", true),
            ("a//b", "a/b", false),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("/+", "/", true),
            ("+/", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a//c", true),
            ("a/+/c", "a/b/d", false),
            ("#", "a", true),
            ("#", "/a/b", true),
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("/#", "/a", true),
            ("/#", "a", false),
            ("+/#", "a", true),
            ("+/b/#", "a/b", true),
            ("a/+/#", "a", false),
            ("#", "$data/a", false),
            ("+/a", "$data/a", false),
            ("$data/#", "$data/a", true),
            ("$data/+", "$data/a", true),
            ("a/+", "a/$data", true),
            ("ä/+", "ä/ö", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} and {topic}");
        }
    }

    #[test]
    fn a_topic_is_printable_has_a_character_and_no_wildcard() {
        for topic in ["a", "/", "/a", "a//b", "a b", "ä/ö", "$data", &"/".repeat(MAX_LEVELS - 1)] {
            assert!(is_valid_topic(topic), "{topic:?}");
        }
        let control = ["\0", "a\tb", "a\u{7f}", "a\u{85}", "\u{fdd0}", "\u{fffe}", "\u{1ffff}"];
        for topic in ["", "+", "#", "a/+", "a/#", "a+b", "a#"].into_iter().chain(control).chain([&*"/".repeat(MAX_LEVELS)]) {
            assert!(!is_valid_topic(topic), "{topic:?}");
        }
    }

    #[test]
    fn a_wildcard_of_a_filter_fills_its_level_and_a_hash_is_the_last() {
        for filter in ["a", "/", "+", "#", "/#", "+/+", "a/+/b", "a/+/#", "$data/#", &"/".repeat(MAX_LEVELS - 1)] {
            assert!(is_valid_filter(filter), "{filter:?}");
        }
        for filter in ["", "a+", "+a", "a/b+/c", "++", "a#", "#/a", "a/#/b", "##", "/#/", "a\0", "a\t", &"/".repeat(MAX_LEVELS)] {
            assert!(!is_valid_filter(filter), "{filter:?}");
        }
    }
}
