//! Label selectors, as `labelSelector=` carries them. Pure.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::names;

/// All requirements must hold. None selects everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    Exists,
    DoesNotExist,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
}

impl Selector {
    /// # Errors
    /// What a real API server says of it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text);
        let mut parser = Parser { tokens: &tokens };
        let mut requirements = Vec::new();
        if parser.peek().is_empty() {
            return Ok(Self::default());
        }
        loop {
            if !(is_word(parser.peek()) || parser.peek() == "!") {
                let expected = if requirements.is_empty() { "!, identifier, or 'end of string'" } else { "identifier after ','" };
                return Err(format!("found '{}', expected: {expected}", parser.peek()));
            }
            requirements.push(parser.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?);
            match parser.next() {
                "" => return Ok(Self { requirements }),
                "," => {}
                other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
            }
        }
    }

    /// `labels` is a JSON object, or null.
    pub(super) fn matches(&self, labels: &Value) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key).and_then(Value::as_str);
            match &requirement.operator {
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

const SPECIAL: &str = "(),!=";

/// Words and marks; `==` and `!=` are one each.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let length = match rest {
            _ if rest.starts_with("==") || rest.starts_with("!=") => 2,
            _ if rest.starts_with(|char| SPECIAL.contains(char)) => 1,
            _ => rest.find(|char: char| char.is_whitespace() || SPECIAL.contains(char)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && !token.starts_with(|char| SPECIAL.contains(char))
}

struct Parser<'a> {
    tokens: &'a [&'a str],
}

impl<'a> Parser<'a> {
    /// Empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.first().copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.tokens = self.tokens.get(1..).unwrap_or_default();
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == "!";
        if absent {
            self.next();
        }
        let key = self.next();
        let problems = names::qualified_name_problems(key);
        if !problems.is_empty() {
            return Err(format!("<nil>: Invalid value: {}: {}", json!(key), problems.join("; ")));
        }
        let operator = match self.peek() {
            _ if absent => Operator::DoesNotExist,
            "" | "," => Operator::Exists,
            "=" | "==" => {
                self.next();
                Operator::In(BTreeSet::from([self.value(key)?]))
            }
            "!=" => {
                self.next();
                Operator::NotIn(BTreeSet::from([self.value(key)?]))
            }
            "in" => {
                self.next();
                Operator::In(self.values(key)?)
            }
            "notin" => {
                self.next();
                Operator::NotIn(self.values(key)?)
            }
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Requirement { key: key.to_owned(), operator })
    }

    /// May be empty.
    fn value(&mut self, key: &str) -> Result<String, String> {
        let value = if is_word(self.peek()) { self.next() } else { "" };
        let problems = names::label_value_problems(value);
        if !problems.is_empty() {
            return Err(format!("values[0][{key}]: Invalid value: {}: {}", json!(value), problems.join("; ")));
        }
        Ok(value.to_owned())
    }

    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        match self.next() {
            "(" => {}
            other => return Err(format!("found '{other}' expected: '('")),
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value(key)?);
            match self.next() {
                ")" => return Ok(values),
                "," => {}
                other => return Err(format!("found '{other}', expected: ',' or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_selected_as_by_a_real_api_server() {
        let labels = json!({"app": "l", "n": "1", "empty": ""});
        #[rustfmt::skip]
        let cases = [
            ("", true), ("app=l", true), ("app==l,n!=2", true), ("n in (1,2)", true), ("n notin (1, 2)", false), ("app", true), ("!n", false),
            ("n,app = l", true), ("x=", false), ("empty=", true), ("x!=1", true), ("x notin (a)", true), ("n in (1, 2),app=l", true), ("app=m", false),
        ];
        for (text, expected) in cases {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
        assert!(Selector::parse("!x").unwrap().matches(&Value::Null));
    }

    #[test]
    fn what_is_no_selector_is_refused_in_a_real_ones_words() {
        let cases = [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("=x", "found '=', expected: !, identifier, or 'end of string'"),
            ("app=l,", "found '', expected: identifier after ','"),
            ("n in (1", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("app=l m", "found 'm', expected: ',' or 'end of string'"),
            ("app=l,,n=1", "found ',', expected: identifier after ','"),
            ("(", "found '(', expected: !, identifier, or 'end of string'"),
        ];
        for (text, expected) in cases {
            assert_eq!(Selector::parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
