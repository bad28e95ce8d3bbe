//! Configuration files: TOML, `extends = "other.toml"` or several of them, overrides from the command line.

use std::path::{Path, PathBuf};

use toml::{Table, Value, de::DeTable};

use crate::RunConfig;

/// A key to set after the file was read: `--model.window_len 64`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Path of the key, for example `model.window_len`.
    pub key: String,
    /// Its value as TOML; anything that is not TOML is taken as text.
    pub value: String,
}

/// What can be wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The file cannot be read.
    #[error("{path}: cannot read the configuration")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: expected TOML, got: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// Files extend one another in a circle.
    #[error("{path}: expected `extends` to end somewhere, got a circle")]
    Circle {
        /// A file of the circle.
        path: PathBuf,
    },
    /// A key is unknown, missing or of another type.
    #[error("{place}: {message}")]
    Keys {
        /// The file, and the line where the key stands in one.
        place: String,
        /// Which key, what it may be, what it is.
        message: String,
    },
    /// An override names no key of a section.
    #[error("--{key}: expected a key like --section.key, for example --train.num_steps 100")]
    Override {
        /// What was given.
        key: String,
    },
    /// A value that no run can have.
    #[error("{place}: {source}")]
    Value {
        /// The file, and the line where the key stands in one.
        place: String,
        /// The key and its values.
        source: brt_lm::ConfigError,
    },
}

impl RunConfig {
    /// Reads a configuration with the files that it extends, then sets the overrides.
    ///
    /// # Errors
    /// The file and the key, what was expected and what was found.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Self, ConfigFileError> {
        let mut sources = vec![];
        let mut table = load_table(path, &[], &mut sources)?;
        for change in overrides {
            set(&mut table, change)?;
        }
        let place_of = |key: &str| match overrides.iter().any(|change| change.key == key) {
            true => path.display().to_string(),
            false => place(&sources, key).unwrap_or_else(|| path.display().to_string()),
        };
        let config = deserialize(&table).map_err(|(mut key, message)| {
            key.extend(culprit(&table, &key, &message));
            let (key, message) = (key.join("."), with_suggestion(&message));
            let message = if key.is_empty() { message } else { format!("{key}: {message}") };
            ConfigFileError::Keys { place: place_of(&key), message }
        })?;
        config.validate().map_err(|source| {
            let key = format!("{}.{}", source.section, source.key);
            ConfigFileError::Value { place: place_of(&key), source }
        })?;
        Ok(config)
    }

    /// Returns the configuration as TOML, complete.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration is TOML")
    }
}

/// Returns the configuration in a table, or the key at which it is wrong, and why.
fn deserialize(table: &Table) -> Result<RunConfig, (Vec<String>, String)> {
    serde_path_to_error::deserialize(Value::Table(table.clone())).map_err(|error| {
        let key = error.path().to_string();
        let key = key.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        (key, error.inner().to_string().trim().to_owned())
    })
}

/// Returns the key that is wrong in the table at `key`, where the error does not say it: in tables with a `kind`, whose
/// keys are known when the kind is. It is the one without which the error is another.
fn culprit(table: &Table, key: &[String], message: &str) -> Option<String> {
    let mut inner = table;
    for part in key {
        inner = inner.get(part)?.as_table()?;
    }
    if let Some(unknown) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        return inner.contains_key(unknown).then(|| unknown.to_owned());
    }
    if message.starts_with("missing field") {
        return None;
    }
    if message.starts_with("unknown variant") && inner.contains_key("kind") {
        return Some("kind".into());
    }
    let is_culprit = |name: &&String| {
        let mut without = table.clone();
        let place = key.iter().try_fold(&mut without, |place, part| place.get_mut(part)?.as_table_mut());
        place.is_some_and(|place| place.remove(name.as_str()).is_some())
            && deserialize(&without).err().is_none_or(|(_, other)| other != message)
    };
    inner.keys().filter(|name| *name != "kind").find(is_culprit).cloned()
}

/// A file that was read, and its text.
type Source = (PathBuf, String);

/// Returns file and line where a key, or the table that it is missing in, stands: in the topmost file that has it.
fn place(sources: &[Source], key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    (1..=parts.len()).rev().find_map(|len| {
        sources.iter().find_map(|(path, text)| {
            let line = line_of(text, &parts[..len])?;
            Some(format!("{}:{line}", path.display()))
        })
    })
}

/// Returns the line of a key in a text of TOML, from 1.
fn line_of(text: &str, key: &[&str]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    for (idx, part) in key.iter().enumerate() {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == *part)?;
        if idx + 1 == key.len() {
            return Some(text[..name.span().start].matches('\n').count() + 1);
        }
        table = value.get_ref().as_table()?;
    }
    None
}

/// Reads a file and lays it over the files that it extends, of which later ones lie above earlier ones. `above`: the
/// files that led here. `sources` gets all files that were read, those above first.
fn load_table(path: &Path, above: &[&Path], sources: &mut Vec<Source>) -> Result<Table, ConfigFileError> {
    if above.contains(&path) || above.len() > 16 {
        return Err(ConfigFileError::Circle { path: path.into() });
    }
    let above: Vec<&Path> = above.iter().copied().chain([path]).collect();
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigFileError::Read { path: path.into(), source })?;
    let mut table: Table = toml::from_str(&text).map_err(|error| ConfigFileError::Syntax {
        path: path.into(),
        message: error.to_string().lines().collect::<Vec<_>>().join(" "),
    })?;
    sources.push((path.into(), text));
    let names = match table.remove("extends") {
        None => return Ok(table),
        Some(Value::Array(names)) => names,
        Some(name) => vec![name],
    };
    let mut merged = Table::new();
    let mut below = vec![];
    for name in names {
        let Value::String(name) = name else {
            let message = format!("extends: expected the name of a file or a list of names, got {name}");
            return Err(ConfigFileError::Keys { place: path.display().to_string(), message });
        };
        let mut files = vec![];
        merge(&mut merged, load_table(&path.with_file_name(name), &above, &mut files)?);
        below.splice(0..0, files); // Later ones lie above earlier ones.
    }
    sources.append(&mut below);
    merge(&mut merged, table);
    Ok(merged)
}

/// Lays `above` over `below`: tables key by key, anything else replaces. A table that names its `kind` (a schedule)
/// replaces the whole table, since its keys depend on the kind.
fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(b)), Value::Table(a)) if !a.contains_key("kind") => merge(b, a),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn set(table: &mut Table, change: &Override) -> Result<(), ConfigFileError> {
    let error = || ConfigFileError::Override { key: change.key.clone() };
    let (sections, key) = change.key.rsplit_once('.').ok_or_else(error)?;
    let mut place = table;
    for section in sections.split('.') {
        let entry = place.entry(section).or_insert_with(|| Value::Table(Table::new()));
        place = entry.as_table_mut().ok_or_else(error)?;
    }
    let parsed: Result<Table, _> = toml::from_str(&format!("value = {}", change.value));
    let value = parsed.ok().and_then(|mut t| t.remove("value"));
    place.insert(key.into(), value.unwrap_or_else(|| Value::String(change.value.clone())));
    Ok(())
}

/// Puts serde's message on one line and adds the closest known key to one about an unknown key.
fn with_suggestion(message: &str) -> String {
    let line = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut names = line.split('`').skip(1).step_by(2);
    let (Some(unknown), true) = (names.next(), line.starts_with("unknown field")) else { return line };
    let closest = names.min_by_key(|name| edit_distance(unknown, name));
    match closest {
        Some(name) if edit_distance(unknown, name) <= unknown.len() / 2 => {
            format!("{line}; did you mean `{name}`?")
        }
        _ => line,
    }
}

/// Returns the number of letters to insert, delete or replace.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        for (a, b, distance) in [("", "abc", 3), ("window_len", "windw_len", 1), ("kitten", "sitting", 3)] {
            assert_eq!(edit_distance(a, b), distance);
        }
    }

    #[test]
    fn unknown_keys_get_a_suggestion() {
        let message = "unknown field `windw_len`, expected one of `vocab_size`, `window_len`\nin `model`\n";
        assert_eq!(
            with_suggestion(message),
            "unknown field `windw_len`, expected one of `vocab_size`, `window_len` in `model`; \
             did you mean `window_len`?"
        );
    }

    #[test]
    fn files_extend_and_overrides_win() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("base.toml", "[model]\na = 1\nb = 2\n[schedule]\nkind = 'cosine'\nmax_lr = 1.0\n");
        write("option.toml", "extends = 'base.toml'\n[model]\na = 4\nb = 4\n");
        write(
            "run.toml",
            "extends = ['base.toml', 'option.toml']\n[model]\nb = 3\n[schedule]\nkind = 'rsqrt'\n",
        );
        write("circle.toml", "extends = 'circle.toml'\n");
        let mut table = load_table(&folder.path().join("run.toml"), &[], &mut vec![]).unwrap();
        let change = |key: &str, value: &str| Override { key: key.into(), value: value.into() };
        set(&mut table, &change("model.a", "[5]")).unwrap();
        set(&mut table, &change("model.c", "lstm")).unwrap();
        let expected = "[model]\na = [5]\nb = 3\nc = 'lstm'\n[schedule]\nkind = 'rsqrt'\n";
        assert_eq!(table, toml::from_str::<Table>(expected).unwrap());

        let error = load_table(&folder.path().join("circle.toml"), &[], &mut vec![]).unwrap_err();
        assert!(error.to_string().ends_with("expected `extends` to end somewhere, got a circle"));
        let error = set(&mut table, &change("steps", "1")).unwrap_err();
        assert!(error.to_string().starts_with("--steps: expected a key like --section.key"));
    }
}
