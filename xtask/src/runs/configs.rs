//! Folders of configurations.

use std::{collections::BTreeMap, fs, path::Path};

use crate::failure::{Context, Result};

/// What stands beside configurations and is none: what `cargo xtask tables` makes of them.
pub(crate) const TABLES_FILE: &str = "tables.toml";

/// Reads the text of every configuration of a folder, by name; they may build on each other.
pub(crate) fn read_configs(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = fs::read_dir(folder).context(|| format!("reading {}", folder.display()))?;
    let mut texts = BTreeMap::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        if is_toml && path.file_name().is_some_and(|name| name != TABLES_FILE) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
            texts.insert(name, text);
        }
    }
    Ok(texts)
}
