//! Rows that are brought together.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::tempdir;

use super::{Read, counts, read_units, resume, skipping, write};
use crate::{
    Split,
    manifest::sha256_hex,
    source::{BytesRead, SkipCounts, SourceConfig, SourceError, plan, spill},
};

fn grouped(path: impl Into<PathBuf>, column: &str) -> SourceConfig {
    SourceConfig { group_by: Some(column.to_owned()), ..SourceConfig::new(path) }
}

/// Brings together and reads the rows of one job.
fn read_job(
    config: &SourceConfig,
    folder: &Path,
    job: (usize, usize),
) -> Result<(Read, SkipCounts), SourceError> {
    let mut num_skips = 0;
    let plan = plan(config)?;
    let is_new = !folder.join("spill.json").exists();
    let spill = spill(&plan, config, folder, job, &BytesRead::default(), &mut |_, _| num_skips += 1)?;
    if is_new {
        assert_eq!(num_skips, spill.skipped.values().sum::<u64>());
    }
    Ok((read_units(&spill.units, config)?, spill.skipped))
}

fn read_grouped(config: &SourceConfig) -> Result<(Read, SkipCounts), SourceError> {
    read_job(config, tempdir().unwrap().path(), (0, 1))
}

/// The same two repositories in three layouts; bytes and hashes as Python joined them.
#[test]
fn repositories_are_what_python_joins() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources");
    let cases = [
        ("redpajama_github", "meta.repo_name"),
        ("the_stack_v1", "max_stars_repo_name"),
        ("the_stack_v2_style", "repo_name"),
    ];
    for (name, column) in cases {
        let (read, skipped) = read_grouped(&grouped(samples.join(name), column)).unwrap();
        let found: Vec<_> = read
            .docs
            .iter()
            .map(|doc| (doc.name.as_str(), doc.text.len(), sha256_hex(&doc.text)[..16].to_owned()))
            .collect();
        let expected = [
            ("acme/alpha", 4474, "89eb6fc96cc5b14a".to_owned()),
            ("acme/beta", 2490, "5aa7c1b5512b1b88".to_owned()),
        ];
        assert_eq!((found, skipped), (expected.to_vec(), counts([])), "{name}");
    }
    let nested = grouped(samples.join("parquet_variants/nested.parquet"), "meta.repo_name");
    let (read, _) = read_grouped(&nested).unwrap();
    assert_eq!(read.texts(), [("r", "// a\nthree\n// b\none\n"), ("s", "// x\ntwo\n")]);
}

/// Writes files of rows whose groups interleave; returns the folder's configuration.
fn interleaved(folder: &Path) -> SourceConfig {
    for file_idx in 0..3 {
        let row = |i: usize| {
            let path =
                if i.is_multiple_of(5) { "null".to_owned() } else { format!("\"/p{}\"", (i * 7) % 10) };
            format!("{{\"repo\":\"r{}\",\"path\":{path},\"content\":\"file {file_idx} row {i}\"}}\n", i % 13)
        };
        let rows: String = (0..100).map(row).collect();
        write(
            folder,
            &format!("{file_idx}.jsonl"),
            rows + "{\"repo\":\"r1\",\"path\":\"e\",\"content\":\"\"}\nbroken\n",
        );
    }
    skipping(&grouped(folder, "repo"))
}

#[test]
fn jobs_share_the_groups() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let mut config = interleaved(folder.path());
    let (whole, skipped) = read_grouped(&config).unwrap();
    assert_eq!(skipped, counts([("empty", 3), ("not a JSON object", 3)]));
    assert_eq!(whole.docs.len(), 13);
    // Rows without a path come first, then those of one path in their order.
    let text = String::from_utf8(whole.docs[0].text.clone()).unwrap();
    assert!(text.starts_with("file 0 row 0\nfile 0 row 65\nfile 1 row 0\n"), "{text}");
    assert!(text.contains("// p1\nfile 0 row 13\n// p1\nfile 1 row 13\n// p1\nfile 2 row 13\n"), "{text}");

    let (mut docs, mut num_skipped) = (vec![], 0);
    for job_idx in 0..4 {
        let (read, skipped) = read_job(&config, &out.path().join(job_idx.to_string()), (job_idx, 4)).unwrap();
        docs.extend(read.docs);
        num_skipped += skipped.values().sum::<u64>();
    }
    assert_eq!((docs, num_skipped), (whole.docs, 6));

    config.on_error = crate::source::OnError::Stop;
    let error = read_grouped(&config).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}/0.jsonl: line 102: expected a JSON object", folder.path().display())),
        "{error}"
    );
}

#[test]
fn buckets_resume_behind_every_group() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let mut config = interleaved(folder.path());
    config.max_record_bytes = 300; // some groups are too long
    let (read, _) = read_job(&config, out.path(), (0, 1)).unwrap();
    assert!(!read.docs.is_empty() && !read.skips.is_empty(), "{} {}", read.docs.len(), read.skips.len());
    let plan = plan(&config).unwrap();
    let spill = spill(&plan, &config, out.path(), (0, 1), &BytesRead::default(), &mut |_, _| ()).unwrap();
    spill.units.iter().for_each(|unit| resume::check(unit, &config));
}

#[test]
fn a_whole_spill_is_used_again_and_another_one_is_made_anew() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let config = interleaved(folder.path());
    let first = read_job(&config, out.path(), (0, 1)).unwrap();
    let marker = out.path().join("spill.json");
    let bucket = out.path().join("bucket-0000.rows");
    let written = || fs::metadata(&bucket).unwrap().modified().unwrap();
    let before = written();
    assert_eq!(read_job(&config, out.path(), (0, 1)).unwrap(), first);
    assert_eq!(written(), before);

    let bytes = fs::read(&bucket).unwrap();
    for damage in 0..3 {
        match damage {
            0 => fs::remove_file(&marker).unwrap(),
            1 => fs::write(&bucket, &bytes[1..]).unwrap(),
            _ => fs::write(&marker, "{}").unwrap(),
        }
        assert_eq!(read_job(&config, out.path(), (0, 1)).unwrap(), first, "{damage}");
        assert_eq!(fs::read(&bucket).unwrap(), bytes);
    }
    write(folder.path(), "3.jsonl", "{\"repo\":\"new\",\"content\":\"x\"}");
    assert_eq!(read_job(&config, out.path(), (0, 1)).unwrap().0.docs.len(), 14);
}

#[test]
fn groups_have_splits_and_limits() {
    let folder = tempdir().unwrap();
    write(folder.path(), "train.jsonl", "{\"r\":\"a\",\"text\":\"0123456789\"}\n{\"r\":7,\"text\":\"b\"}");
    write(folder.path(), "test.jsonl", "{\"r\":\"c\",\"text\":\"c\"}\n{\"r\":null,\"text\":\"c\"}");
    let mut config = skipping(&grouped(folder.path(), "r"));
    let (read, skipped) = read_grouped(&config).unwrap();
    let splits: Vec<_> = read.docs.iter().map(|doc| (doc.group.as_str(), doc.split.unwrap())).collect();
    assert_eq!(splits, [("7", Split::Train), ("a", Split::Train), ("c", Split::Test)]);
    assert_eq!(skipped, counts([("no group column", 1)]));

    write(folder.path(), "test.jsonl", "{\"r\":\"c\",\"text\":\"c\"}\n{\"r\":\"a\",\"text\":\"c\"}");
    assert_eq!(read_grouped(&config).unwrap().0.skips(), [("in more than one split", "a")]);
    let stopping = SourceConfig { on_error: crate::source::OnError::Stop, ..config.clone() };
    let expected = ": group `a`: expected rows of one split, got rows of test and train; it would be";
    let error = read_grouped(&stopping).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}{expected}", folder.path().display())), "{error}");

    write(folder.path(), "train.jsonl", "{\"r\":\"a\",\"text\":\"0123456789\"}\n".repeat(10));
    write(folder.path(), "test.jsonl", "{\"r\":\"c\",\"text\":\"c\"}");
    config.max_record_bytes = 99;
    assert_eq!(read_grouped(&config).unwrap().0.skips(), [("too long", "a")]);
    config.on_error = crate::source::OnError::Stop;
    let expected = ": group `a`: expected a group of at most 99 bytes, got 100; raise --max-record-bytes";
    assert_eq!(
        read_grouped(&config).unwrap_err().to_string(),
        format!("{}{expected}", folder.path().display())
    );
}

#[test]
fn rows_without_the_columns_are_errors() {
    let folder = tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", "{\"repo\":\"a\",\"meta\":{\"path\":[]},\"text\":\"c\"}");
    let message = |config: &SourceConfig, expected: &str| {
        let error = read_grouped(config).unwrap_err().to_string();
        assert_eq!(error, format!("{}{expected}", path.display()));
    };
    let got = "got the columns `repo`, `meta`, `text`; name it with";
    message(&grouped(&path, "name"), &format!(": line 1: expected a group column `name`, {got} --group-by"));
    message(
        &grouped(&path, "repo"),
        ": line 1: expected text in column `meta.path`, got an array; name another one with --path-column",
    );
    let named = SourceConfig { path_column: Some("file".to_owned()), ..grouped(&path, "repo") };
    message(&named, &format!(": line 1: expected a path column `file`, {got} --path-column"));
    let files = SourceConfig { format: crate::source::SourceFormat::Raw, ..grouped(&path, "repo") };
    let expected = "group-by: expected the format jsonl or parquet, got the format `raw`; choose one with `files:`, `tree:`, `raw:`, `jsonl:` or `parquet:` before the path";
    assert_eq!(plan(&files).unwrap_err().to_string(), expected);
}
