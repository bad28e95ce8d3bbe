//! Where the text of runs comes from.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::failure::{Context, Result, fail};

/// What may stand before a path; `folder` is another word for `files`.
const FORMATS: [&str; 9] = ["auto", "files", "folder", "tree", "raw", "jsonl", "parquet", "pg19", "latex"];

/// A text. Paths are absolute, so that the same words in another folder are not taken for the same text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Corpus {
    /// To be prepared, as `brt data prepare --corpus` takes it.
    Named(String),
    /// The folder of a prepared corpus.
    Prepared(PathBuf),
}

impl Default for Corpus {
    fn default() -> Self {
        Self::Named("code".into())
    }
}

impl Corpus {
    /// Checks the flags `--corpus` and `--data`; without either it is `code`.
    pub(crate) fn new(name: Option<&str>, data: Option<&Path>) -> Result<Self> {
        match (name, data) {
            (Some(_), Some(_)) => fail("--corpus and --data: expected one of them, got both"),
            (_, Some(data)) => Ok(Self::Prepared(whole("--data", data)?)),
            (Some(name), None) => Self::named(name),
            (None, None) => Ok(Self::default()),
        }
    }

    fn named(name: &str) -> Result<Self> {
        if ["code", "books", "latex"].contains(&name) {
            return Ok(Self::Named(name.into()));
        }
        let source = match name.split_once(':') {
            Some((format, path)) if FORMATS.contains(&format) => {
                let format = if format == "folder" { "files" } else { format };
                format!("{format}:{}", whole("--corpus", Path::new(path))?.display())
            }
            _ if Path::new(name).exists() || Path::new(name).is_absolute() => {
                whole("--corpus", Path::new(name))?.display().to_string()
            }
            _ => {
                let expected = "code, books, latex, FORMAT:PATH or a path";
                return fail(format!("--corpus: expected {expected}, got {name}"));
            }
        };
        Ok(Self::Named(source))
    }

    /// Fails where there is nothing to read: before anything is made of it, not where its runs are there.
    pub(crate) fn check(&self) -> Result {
        let (flag, path) = match self {
            Self::Prepared(folder) => ("--data", folder.as_path()),
            Self::Named(source) if Path::new(source).is_absolute() => ("--corpus", Path::new(source)),
            Self::Named(source) => match source.split_once(':') {
                Some((_, path)) => ("--corpus", Path::new(path)),
                None => return Ok(()),
            },
        };
        if path.exists() {
            Ok(())
        } else {
            fail(format!("{flag}: no such file or folder: {}", path.display()))
        }
    }

    /// Returns whether a text is the one that a plan recorded, perhaps in the words of the user.
    pub(crate) fn is_recorded_as(text: &str, recorded: &str) -> bool {
        text == recorded || Self::named(recorded).is_ok_and(|corpus| corpus.to_string() == text)
    }

    /// Returns the folder of the prepared corpus: of one that is prepared for the runs in `out`, inside of it.
    pub(crate) fn folder(&self, out: &Path) -> PathBuf {
        match self {
            Self::Named(_) => out.join("corpus"),
            Self::Prepared(folder) => folder.clone(),
        }
    }

    /// Returns the corpus as part of a folder's name, and for readers who have nothing of this machine's paths.
    pub(crate) fn short_name(&self) -> String {
        let named = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Self::Prepared(folder) => format!("data-{}", named(folder)),
            Self::Named(source) if Path::new(source).is_absolute() => {
                format!("path-{}", named(Path::new(source)))
            }
            Self::Named(source) => match source.split_once(':') {
                Some((format, path)) => format!("{format}-{}", named(Path::new(path))),
                None => source.clone(),
            },
        }
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(source) => f.write_str(source),
            Self::Prepared(folder) => write!(f, "{}", folder.display()),
        }
    }
}

/// Returns the whole path, without links where it is there.
fn whole(flag: &str, path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .context(|| format!("{flag} {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> std::result::Result<(String, String), String> {
        match Corpus::new(Some(name), None) {
            Ok(corpus) => Ok((corpus.to_string(), corpus.short_name())),
            Err(failure) => Err(failure.message),
        }
    }

    #[test]
    fn paths_are_absolute_and_names_short() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let books = root.join("my:books");
        std::fs::create_dir(&books).unwrap();
        let books = books.display();
        assert_eq!(named("latex").unwrap(), ("latex".into(), "latex".into()));
        assert_eq!(
            named(&format!("folder:{books}/.")).unwrap(),
            (format!("files:{books}"), "files-my:books".into())
        );
        assert_eq!(
            named(&format!("{books}/../my:books")).unwrap(),
            (books.to_string(), "path-my:books".into())
        );
        let prepared = Corpus::new(None, Some(&root.join("my:books"))).unwrap();
        assert_eq!(
            (prepared.short_name(), prepared.folder(&root)),
            ("data-my:books".into(), root.join("my:books"))
        );
        assert_eq!(Corpus::new(None, None).unwrap().folder(&root), root.join("corpus"));
    }

    #[test]
    fn what_is_no_corpus_is_refused_before_anything_is_built() {
        let refused = |name: &str| named(name).unwrap_err();
        assert!(
            refused("file:books")
                .contains("expected code, books, latex, FORMAT:PATH or a path, got file:books")
        );
        let gone = Corpus::new(Some("jsonl:/none/at/all"), None).unwrap().check().unwrap_err();
        assert_eq!(gone.message, "--corpus: no such file or folder: /none/at/all");
        assert!(Corpus::default().check().is_ok());
        assert!(Corpus::new(Some("code"), Some(Path::new("."))).is_err());
    }
}
