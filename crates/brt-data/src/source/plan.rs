//! Lists what there is to read, before anything is read.

use std::path::Path;

use super::{
    SkipCounts, SourceConfig, SourceError, SourceFormat, Unit,
    decompress::Packing,
    names::Authors,
    unit::Kind,
    walk::{FileEntry, Listing, split_of_folder, split_of_path, splits_of_folders},
};
use crate::Split;

/// What there is to read.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The layout, never [`SourceFormat::Auto`].
    pub(crate) format: SourceFormat,
    /// The work, in the order of its documents.
    pub(crate) units: Vec<Unit>,
    /// Files that are not read, by reason.
    pub(crate) skipped: SkipCounts,
}

/// Lists the units of a source, sorted by name: the same on every machine.
///
/// # Errors
/// What the user has to change: the path, the format, or the layout.
pub(crate) fn plan(config: &SourceConfig) -> Result<Plan, SourceError> {
    let path = config.path.as_path();
    let Ok(metadata) = std::fs::metadata(path) else {
        return Err(SourceError::Missing { path: path.to_path_buf(), expected: "a file or a folder" });
    };
    let listing =
        if metadata.is_dir() { Listing::new(path, config.on_error)? } else { Listing::of_file(path)? };
    let format = match config.format {
        SourceFormat::Auto if metadata.is_dir() => detect(path, &listing)?,
        SourceFormat::Auto => FileKind::of(&path.to_string_lossy()).format().unwrap_or(SourceFormat::Raw),
        format => format,
    };
    check(config, format, metadata.is_dir())?;
    let (units, skipped) = match format {
        SourceFormat::Jsonl | SourceFormat::Parquet if metadata.is_dir() => rows(path, format, listing)?,
        SourceFormat::Tree => trees(path, listing)?,
        SourceFormat::Files | SourceFormat::Auto if metadata.is_dir() => files(path, listing)?,
        _ => (
            listing.files.into_iter().map(|file| Unit::of_file(file, format, None)).collect(),
            listing.skipped,
        ),
    };
    Ok(Plan { format, units, skipped })
}

/// Refuses options that do not go together.
fn check(config: &SourceConfig, format: SourceFormat, is_folder: bool) -> Result<(), SourceError> {
    let refuse = |option: String, expected| Err(SourceError::Format { option, expected, got: format });
    let has_rows = matches!(format, SourceFormat::Jsonl | SourceFormat::Parquet);
    let path = config.path.display().to_string();
    match format {
        _ if config.group_by.is_some() && !has_rows => {
            refuse("group-by".to_owned(), "the format jsonl or parquet")
        }
        SourceFormat::Tree if !is_folder => refuse(path, "a folder"),
        SourceFormat::Raw if is_folder => refuse(path, "a file"),
        _ => Ok(()),
    }
}

/// What a file's name tells of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Parquet,
    Jsonl,
    /// JSON lines in some corpora, a description in others.
    Json,
    /// Files that lie beside the rows of a corpus.
    Description,
    Text,
}

impl FileKind {
    /// Returns the kind of the file of this name.
    fn of(name: &str) -> Self {
        let name = name.to_lowercase();
        let (packing, stem) = Packing::of(&name);
        let file = stem.rsplit('/').next().unwrap_or(stem);
        let starts = ["readme", "license", "licence"];
        match file.rsplit_once('.').map(|(_, extension)| extension) {
            Some("parquet") if packing == Packing::Plain => Self::Parquet,
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("json") if packing != Packing::Plain => Self::Jsonl,
            Some("json") => Self::Json,
            Some("md" | "yaml" | "yml") => Self::Description,
            _ if starts.iter().any(|start| file.starts_with(start)) => Self::Description,
            _ => Self::Text,
        }
    }

    /// Returns the format of a file that is given alone.
    fn format(self) -> Option<SourceFormat> {
        match self {
            Self::Parquet => Some(SourceFormat::Parquet),
            Self::Jsonl | Self::Json => Some(SourceFormat::Jsonl),
            Self::Description | Self::Text => None,
        }
    }
}

/// Returns the format that the names of a folder's files tell.
fn detect(path: &Path, listing: &Listing) -> Result<SourceFormat, SourceError> {
    let first = |kind| listing.files.iter().find(|file| FileKind::of(&file.name) == kind);
    let rows = [FileKind::Parquet, FileKind::Jsonl].map(first);
    let found: Vec<_> = rows.into_iter().chain([first(FileKind::Text)]).flatten().collect();
    match (rows, found.len()) {
        ([Some(_), None], 1) => Ok(SourceFormat::Parquet),
        ([None, Some(_)], 1) => Ok(SourceFormat::Jsonl),
        ([None, None], 0) if first(FileKind::Json).is_some() => Ok(SourceFormat::Jsonl),
        ([None, None], _) => Ok(SourceFormat::Files),
        _ => {
            let got: Vec<_> = found.iter().map(|file| format!("`{}`", file.name)).collect();
            Err(SourceError::MixedFormats { path: path.to_path_buf(), got: got.join(" and ") })
        }
    }
}

/// Units and what was left out.
type Units = (Vec<Unit>, SkipCounts);

/// Lists one unit per file of rows; their paths tell the splits if there are two.
fn rows(path: &Path, format: SourceFormat, mut listing: Listing) -> Result<Units, SourceError> {
    let kinds: Vec<_> = listing.files.iter().map(|file| FileKind::of(&file.name)).collect();
    let (wanted, expected) = match format {
        SourceFormat::Parquet => (FileKind::Parquet, ".parquet file"),
        _ if kinds.contains(&FileKind::Jsonl) => (FileKind::Jsonl, ""),
        _ => (FileKind::Json, ".jsonl, .ndjson or .json file (plain, .gz or .zst)"),
    };
    listing.retain("not of the format", |file| FileKind::of(&file.name) == wanted);
    not_empty(path, &listing, expected)?;
    let splits: Vec<_> = listing.files.iter().map(|file| split_of_path(&file.name)).collect();
    if !has_splits(splits.iter().copied()) {
        let units = listing.files.into_iter().map(|file| Unit::of_file(file, format, None));
        return Ok((units.collect(), listing.skipped));
    }
    let example = listing.files.iter().zip(&splits).find(|(_, split)| split.is_some());
    let example = example.map(|(file, _)| file.name.clone()).unwrap_or_default();
    let unit = |(file, split): (FileEntry, Option<Split>)| match split {
        Some(_) => Ok(Unit::of_file(file, format, split)),
        None => Err(SourceError::NoSplit { place: file.place(), example: example.clone() }),
    };
    let units = listing.files.into_iter().zip(splits).map(unit).collect::<Result<_, _>>()?;
    Ok((units, listing.skipped))
}

/// Lists one unit per file, in the subfolders of the splits if there are any.
fn files(path: &Path, mut listing: Listing) -> Result<Units, SourceError> {
    let is_split = keep_splits(path, &mut listing)?;
    not_empty(path, &listing, "file")?;
    let authors = if is_split { Authors::read(path) } else { Authors::default() };
    let unit = |file: FileEntry| {
        let group = authors.author(&file.name).map(str::to_owned);
        let split = is_split.then(|| split_of_folder(&file.name)).flatten();
        Unit { name: file.name.clone(), num_bytes: file.num_bytes, split, kind: Kind::File { file, group } }
    };
    Ok((listing.files.into_iter().map(unit).collect(), listing.skipped))
}

/// Lists one unit per sub-folder, of the splits if there are any.
fn trees(path: &Path, mut listing: Listing) -> Result<Units, SourceError> {
    let is_split = keep_splits(path, &mut listing)?;
    let depth = if is_split { 2 } else { 1 };
    let folder_len = |name: &str| name.match_indices('/').nth(depth - 1).map(|(at, _)| at);
    listing.retain("outside a sub-folder", |file| folder_len(&file.name).is_some());
    not_empty(path, &listing, "sub-folder with files")?;
    let mut units: Vec<Unit> = Vec::new();
    for file in listing.files {
        let name = file.name[..folder_len(&file.name).unwrap_or_default()].to_owned();
        let split = is_split.then(|| split_of_folder(&file.name)).flatten();
        match units.last_mut() {
            Some(Unit { name: last, num_bytes, kind: Kind::Tree { files }, .. }) if *last == name => {
                *num_bytes += file.num_bytes;
                files.push(file);
            }
            _ => {
                let num_bytes = file.num_bytes;
                units.push(Unit { name, num_bytes, split, kind: Kind::Tree { files: vec![file] } });
            }
        }
    }
    Ok((units, listing.skipped))
}

/// Returns whether a folder is divided into splits, and keeps only those: two of their subfolders tell it from a
/// folder that happens to have one called `test`.
fn keep_splits(path: &Path, listing: &mut Listing) -> Result<bool, SourceError> {
    let found = splits_of_folders(path);
    if !has_splits(found.iter().copied().map(Some)) {
        return Ok(false);
    }
    if let Some(missing) = Split::ALL.into_iter().find(|split| !found.contains(split)) {
        let path = path.join(missing.name());
        return Err(SourceError::Missing { path, expected: "a folder with the documents of this split" });
    }
    listing.retain("outside the splits", |file| split_of_folder(&file.name).is_some());
    Ok(true)
}

/// Returns whether at least two different splits occur.
fn has_splits(splits: impl Iterator<Item = Option<Split>>) -> bool {
    let splits: std::collections::BTreeSet<_> = splits.flatten().collect();
    splits.len() >= 2
}

/// Refuses a folder without a file to read.
fn not_empty(path: &Path, listing: &Listing, expected: &'static str) -> Result<(), SourceError> {
    if !listing.files.is_empty() {
        return Ok(());
    }
    let left_out: Vec<_> =
        listing.skipped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let hint =
        if left_out.is_empty() { String::new() } else { format!(" (left out: {})", left_out.join(", ")) };
    Err(SourceError::NoDocuments { path: path.to_path_buf(), expected, hint })
}
