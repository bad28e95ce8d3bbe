//! Takes the needed columns out of a JSON object, and leaves the rest unparsed.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::columns::{Columns, Value, list_columns};

/// Longest line in bytes whose columns an error names.
const MAX_LISTED_BYTES: usize = 1 << 20;

/// Returns the values of the columns in a line, or what is wrong with its JSON.
///
/// A text that is not UTF-8, or that escapes half of a surrogate pair, comes as its bytes: the caller decides.
pub(super) fn values(line: &[u8], columns: &Columns) -> Result<Vec<Value>, serde_json::Error> {
    let error = match parse(line, columns, Strings::Checked) {
        Ok(values) => return Ok(values),
        Err(error) => error,
    };
    let has_surrogate =
        memchr::memmem::find(line, b"\\ud").or_else(|| memchr::memmem::find(line, b"\\uD")).is_some();
    if !has_surrogate && std::str::from_utf8(line).is_ok() {
        return Err(error);
    }
    parse(line, columns, Strings::Bytes).map_err(|_| error)
}

/// Whether the text of a row must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strings {
    Checked,
    Bytes,
}

/// Parses a line.
fn parse(line: &[u8], columns: &Columns, strings: Strings) -> Result<Vec<Value>, serde_json::Error> {
    let mut values = vec![Value::Missing; columns.names.len()];
    let column = |(idx, name)| {
        let as_bytes = strings == Strings::Bytes && columns.is_text(idx);
        Wanted { idx, name, as_bytes }
    };
    let wanted = columns.names.iter().map(String::as_str).enumerate().map(column).collect();
    let mut parser = serde_json::Deserializer::from_slice(line);
    Object { wanted, values: &mut values }.deserialize(&mut parser)?;
    parser.end()?;
    Ok(values)
}

/// Returns the names of an object's columns, for an error.
pub(super) fn keys(line: &[u8]) -> String {
    // A long line is not parsed as a whole, which would take many times its length.
    let line = if line.len() <= MAX_LISTED_BYTES { line } else { b"" };
    let object: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(line);
    object
        .map_or_else(|_| "other columns".to_owned(), |object| list_columns(object.keys().map(String::as_str)))
}

/// A column that is searched in an object.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    idx: usize,
    name: &'a str, // the part that is left in this object
    as_bytes: bool,
}

/// An object in which columns are searched.
struct Object<'a> {
    wanted: Vec<Wanted<'a>>,
    values: &'a mut [Value],
}

/// What is to be done with the value of a key.
enum Key<'a> {
    Column(Wanted<'a>),
    Nested(Vec<Wanted<'a>>),
    Ignored,
}

impl<'a> Key<'a> {
    /// Returns what to do with the value of `key`: a column's whole name goes before the start of another one.
    fn of(key: &str, wanted: &[Wanted<'a>]) -> Self {
        if let Some(column) = wanted.iter().find(|column| column.name == key) {
            return Self::Column(*column);
        }
        let nested = |column: &Wanted<'a>| {
            let name = column.name.strip_prefix(key)?.strip_prefix('.')?;
            Some(Wanted { name, ..*column })
        };
        let nested: Vec<_> = wanted.iter().filter_map(nested).collect();
        if nested.is_empty() { Self::Ignored } else { Self::Nested(nested) }
    }
}

/// Reads a key.
struct KeySeed<'s, 'a>(&'s [Wanted<'a>]);

impl<'de, 'a> DeserializeSeed<'de> for KeySeed<'_, 'a> {
    type Value = Key<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'a>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'a> Visitor<'_> for KeySeed<'_, 'a> {
    type Value = Key<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Key<'a>, E> {
        Ok(std::str::from_utf8(key).map_or(Key::Ignored, |key| Key::of(key, self.0)))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key<'a>, E> {
        Ok(Key::of(key, self.0))
    }
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed(&self.wanted))? {
            match key {
                Key::Column(column) => {
                    self.values[column.idx] = map.next_value_seed(Cell(column.as_bytes))?
                }
                Key::Nested(wanted) => {
                    let object = Object { wanted, values: &mut *self.values };
                    map.next_value_seed(Nested(object))?;
                }
                Key::Ignored => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads the value of a column; as bytes if it is a string that is not to be checked.
struct Cell(bool);

impl<'de> DeserializeSeed<'de> for Cell {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0 { deserializer.deserialize_bytes(self) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Cell {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.as_bytes().to_vec()))
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<Value, E> {
        Ok(Value::Text(text.to_vec()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        IgnoredAny.visit_map(map)?;
        Ok(Value::Other("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        IgnoredAny.visit_seq(seq)?;
        Ok(Value::Other("an array"))
    }
}

/// Reads an object in which columns are nested; what is no object has none of them.
struct Nested<'a>(Object<'a>);

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        // With a key that occurs twice the last one counts.
        let Object { wanted, values } = &mut self.0;
        wanted.iter().for_each(|column| values[column.idx] = Value::Missing);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        IgnoredAny.visit_seq(seq).map(drop)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}
