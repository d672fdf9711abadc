//! Reads a YAML tree by the keys that are expected, and collects every mistake with its line and column.
//!
//! A mistake never stops the reading: the value falls back to its default and the next key is read, so one start
//! tells all that is wrong with a file. Unknown keys are mistakes, with the nearest known key as a hint.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

/// One mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Key path, e.g. `kubelet.devicePlugins`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// A mapping that is being read, and the mistakes found so far.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    position: (usize, usize),
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
    mistakes: Vec<Mistake>,
}

#[derive(Debug)]
struct Entry<'a> {
    key: &'a MarkedYaml<'a>,
    value: &'a MarkedYaml<'a>,
}

fn position(node: &MarkedYaml<'_>) -> (usize, usize) {
    (node.span.start.line(), node.span.start.col() + 1)
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null))
}

fn kind(node: &MarkedYaml<'_>) -> &'static str {
    match &node.data {
        YamlData::Value(Scalar::Null) => "nothing",
        YamlData::Value(Scalar::Boolean(_)) => "true or false",
        YamlData::Value(Scalar::Integer(_)) => "a whole number",
        YamlData::Value(Scalar::FloatingPoint(_)) => "a decimal number",
        YamlData::Value(Scalar::String(_)) => "a text",
        YamlData::Sequence(_) => "a list",
        YamlData::Mapping(_) => "a mapping",
        _ => "something else",
    }
}

/// Reads a whole file with `read`; all mistakes or the result.
///
/// # Errors
/// Every mistake of the file, in the order of lines.
pub(super) fn read_file<T>(
    text: &str,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, Vec<Mistake>> {
    let documents = MarkedYaml::load_from_str(text).map_err(|error| {
        let at = error.marker();
        vec![Mistake {
            line: at.line(),
            column: at.col() + 1,
            key: String::new(),
            text: format!("not YAML: {}", error.info()),
        }]
    })?;
    let empty = MarkedYaml::value_from_str("~");
    let root = documents.first().unwrap_or(&empty);
    let mut section = Section::of(String::new(), root);
    if let Some(second) = documents.get(1) {
        section.mistake_at(position(second), "", "a file holds one document".to_owned());
    }
    let result = read(&mut section);
    let mut mistakes = section.finish();
    if mistakes.is_empty() {
        return Ok(result);
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(mistakes)
}

impl<'a> Section<'a> {
    fn of(path: String, node: &'a MarkedYaml<'a>) -> Self {
        let mut section = Self {
            path,
            position: position(node),
            entries: Vec::new(),
            known: Vec::new(),
            mistakes: Vec::new(),
        };
        match &node.data {
            YamlData::Mapping(mapping) => {
                section.entries = mapping
                    .iter()
                    .map(|(key, value)| Entry { key, value })
                    .collect();
            }
            _ if is_null(node) => {}
            _ => {
                let text = format!("a mapping is expected here, not {}", kind(node));
                section.mistake_at(section.position, "", text);
            }
        }
        section
    }

    fn join(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{key}", self.path),
        }
    }

    fn mistake_at(&mut self, (line, column): (usize, usize), key: &str, text: String) {
        let key = self.join(key);
        self.mistakes.push(Mistake {
            line,
            column,
            key,
            text,
        });
    }

    /// The value of a key; a key without a value counts as absent.
    fn value(&mut self, key: &'static str) -> Option<&'a MarkedYaml<'a>> {
        self.known.push(key);
        let entry = self
            .entries
            .iter()
            .find(|entry| text_of(entry.key) == Some(key))?;
        (!is_null(entry.value)).then_some(entry.value)
    }

    /// Adds a mistake about a key that was read and is wrong by itself or beside others.
    pub(super) fn mistake(&mut self, key: &'static str, text: String) {
        let at = self
            .entries
            .iter()
            .find(|entry| text_of(entry.key) == Some(key))
            .map_or(self.position, |entry| position(entry.value));
        self.mistake_at(at, key, text);
    }

    /// Reads a nested mapping; an absent one is an empty one.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let absent = MarkedYaml::value_from_str("~");
        let node = self.value(key);
        let mut section = Section::of(self.join(key), node.unwrap_or(&absent));
        let result = read(&mut section);
        let mistakes = section.finish();
        self.mistakes.extend(mistakes);
        result
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.value(key) else {
            return default;
        };
        if let YamlData::Value(Scalar::Boolean(value)) = node.data {
            return value;
        }
        self.mistake(
            key,
            format!("true or false is expected, not {}", kind(node)),
        );
        default
    }

    /// A text that `T` understands.
    pub(super) fn parsed<T>(&mut self, key: &'static str, default: T) -> T
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.optional(key).unwrap_or(default)
    }

    /// A text that `T` understands, or nothing.
    pub(super) fn optional<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let node = self.value(key)?;
        let Some(text) = text_of(node) else {
            self.mistake(key, format!("a text is expected, not {}", kind(node)));
            return None;
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.mistake(key, error.to_string());
                None
            }
        }
    }

    /// A duration such as `500ms`, `5s` or `2m`, within bounds.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        bounds: std::ops::RangeInclusive<Duration>,
    ) -> Duration {
        let Some(DurationText(value)) = self.optional(key) else {
            return default;
        };
        if bounds.contains(&value) {
            return value;
        }
        let text = format!(
            "{value:?} is outside {:?} to {:?}",
            bounds.start(),
            bounds.end()
        );
        self.mistake(key, text);
        default
    }

    /// A list of values that `read` understands; each wrong item is a mistake of its own.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(node) = self.value(key) else {
            return Vec::new();
        };
        let YamlData::Sequence(items) = &node.data else {
            self.mistake(key, format!("a list is expected, not {}", kind(node)));
            return Vec::new();
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let text = match &item.data {
                YamlData::Value(Scalar::Integer(number)) => Ok(number.to_string()),
                _ => text_of(item)
                    .map(ToOwned::to_owned)
                    .ok_or_else(|| format!("a single value is expected, not {}", kind(item))),
            };
            match text.and_then(|text| read(&text)) {
                Ok(value) => values.push(value),
                Err(text) => self.mistake_at(position(item), key, text),
            }
        }
        values
    }

    /// Unknown keys become mistakes; gives back all mistakes.
    fn finish(mut self) -> Vec<Mistake> {
        let unknown: Vec<(usize, usize, String)> = self
            .entries
            .iter()
            .filter(|entry| text_of(entry.key).is_none_or(|key| !self.known.contains(&key)))
            .map(|entry| {
                let (line, column) = position(entry.key);
                let key = text_of(entry.key).unwrap_or("?").to_owned();
                (line, column, key)
            })
            .collect();
        for (line, column, key) in unknown {
            let hint = nearest(&key, &self.known).map_or_else(
                || format!("known keys here: {}", self.known.join(", ")),
                |known| format!("did you mean `{known}`?"),
            );
            self.mistake_at((line, column), "", format!("unknown key `{key}`; {hint}"));
        }
        self.mistakes
    }
}

fn text_of<'a>(node: &'a MarkedYaml<'_>) -> Option<&'a str> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text),
        _ => None,
    }
}

/// The known key that a misspelt one is nearest to, if any is near.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|candidate| {
            (
                distance(&key.to_lowercase(), &candidate.to_lowercase()),
                *candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

struct DurationText(Duration);

impl FromStr for DurationText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let error = || format!("{text:?} is not a duration such as 500ms, 5s, 2m or 1h");
        let number: u64 = number.parse().map_err(|_| error())?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(error()),
        };
        number
            .checked_mul(milliseconds)
            .map(|total| Self(Duration::from_millis(total)))
            .ok_or_else(error)
    }
}
