//! Typed fields of a JSON object, with errors that say what was expected.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::RequestError;

/// Longest value that an error quotes, in characters.
const MAX_QUOTED: usize = 60;

/// The fields of an object that have not been read yet.
pub(super) struct Fields {
    values: Map<String, Value>,
    /// What stands before the names: that of the object in which they are.
    prefix: &'static str,
}

impl Fields {
    /// Reads an object; `known`: the fields that it may have.
    pub(super) fn parse(body: &[u8], known: &[&str]) -> Result<Self, RequestError> {
        let value: Value =
            serde_json::from_slice(body).map_err(|e| RequestError::Json { got: e.to_string() })?;
        serde_json::from_slice::<Unrepeated>(body).map_err(|e| RequestError::Json { got: e.to_string() })?;
        match value {
            Value::Object(values) => Self::new(values, "", known),
            other => Err(RequestError::Json { got: quote(&other) }),
        }
    }

    fn new(values: Map<String, Value>, prefix: &'static str, known: &[&str]) -> Result<Self, RequestError> {
        match values.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(Self { values, prefix }),
            Some(key) => {
                let hint = nearest(key, known).map(|near| format!("; did you mean `{near}`?"));
                let field = format!("{prefix}{}", shorten(key));
                Err(RequestError::UnknownField { field, hint: hint.unwrap_or_default() })
            }
        }
    }

    /// Returns a value as `read` understands it; `None` if there is none, or `null`.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        let Some(value) = self.values.remove(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let wrong = || RequestError::value(format!("{}{name}", self.prefix), expected, quote(&value));
        read(&value).map(Some).ok_or_else(wrong)
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<usize>, RequestError> {
        self.read(name, "an integer of at least 0", |v| v.as_u64()?.try_into().ok())
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, RequestError> {
        self.read(name, "a number", Value::as_f64)
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, RequestError> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        self.read(name, "a string", |v| v.as_str().map(str::to_owned))
    }

    /// Returns the fields of an object in a field.
    pub(super) fn object(
        &mut self,
        name: &str,
        prefix: &'static str,
        known: &[&str],
    ) -> Result<Self, RequestError> {
        let values = self.read(name, "an object", |v| v.as_object().cloned())?;
        Self::new(values.unwrap_or_default(), prefix, known)
    }
}

/// Any value whose objects have each field once: of two, one would win without a word.
struct Unrepeated;

impl<'de> Deserialize<'de> for Unrepeated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unrepeated {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names: HashSet<String> = HashSet::new();
        while let Some((name, Self)) = map.next_entry::<String, Self>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format!("`{}` twice", shorten(&name))));
            }
            names.insert(name);
        }
        Ok(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(Self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }
}

/// Returns a value as an error quotes it.
fn quote(value: &Value) -> String {
    shorten(&value.to_string())
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the known name that is one or two slips away.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > MAX_QUOTED {
        return None;
    }
    let near = known.iter().map(|&other| (distance(name, other), other)).min()?;
    (near.0 <= 2 && near.0 < near.1.len()).then_some(near.1)
}

/// Returns how many letters must be put in, taken out or replaced to make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word() {
        let known = ["temperature", "top_p", "n", "stop", "max_tokens"];
        let cases = [
            ("temprature", Some("temperature")),
            ("max_token", Some("max_tokens")),
            ("topp", Some("top_p")),
            ("N", None),
            ("messages", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, &known), expected, "{name}");
        }
        assert_eq!([distance("", "abc"), distance("kitten", "sitting"), distance("a", "a")], [3, 3, 0]);
    }
}
