//! Folders of configurations.

use std::{collections::BTreeMap, fs, path::Path};

use crate::failure::{Context, Result};

/// What stands beside configurations and is none: what `cargo xtask tables` makes of them.
pub(crate) const TABLES_FILE: &str = "tables.toml";

/// Reads the text of every configuration of a folder and of those in it, by path without `.toml`: they may build on
/// each other.
pub(crate) fn read_configs(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    read_into(folder, "", &mut texts)?;
    Ok(texts)
}

fn read_into(folder: &Path, prefix: &str, texts: &mut BTreeMap<String, String>) -> Result {
    let entries = fs::read_dir(folder).context(|| format!("reading {}", folder.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            read_into(&path, &format!("{prefix}{name}/"), texts)?;
        } else if let Some(stem) = name.strip_suffix(".toml").filter(|_| name != TABLES_FILE) {
            let text = fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
            texts.insert(format!("{prefix}{stem}"), text);
        }
    }
    Ok(())
}

/// Returns the lines of a configuration that say something.
pub(crate) fn keys(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_folders_are_read_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sizes")).unwrap();
        for name in ["a.toml", "sizes/300m.toml", "tables.toml", "README.md"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let texts = read_configs(folder.path()).unwrap();
        assert_eq!(texts.keys().collect::<Vec<_>>(), ["a", "sizes/300m"]);
    }
}
