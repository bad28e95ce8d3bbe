//! Parts that several jobs prepare make the corpus that one makes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use brt_data::{
    CorpusSource, Job, PrepareConfig, SourceConfig, SourceFormat, Tokenizer, merge, prepare, verify,
};
use common::{contents, files, many_files, near_copies_in};
use tempfile::{TempDir, tempdir};

/// Prepares all parts and returns their folders.
fn parts(config: &PrepareConfig, folder: &Path, count: usize) -> Vec<PathBuf> {
    for idx in 1..=count {
        prepare(&PrepareConfig { job: Some(Job { idx, count }), ..config.clone() }, folder).unwrap();
    }
    (1..=count).map(|idx| folder.join(format!("part-{idx}-of-{count}"))).collect()
}

fn merged(parts: &[PathBuf], out: &Path) -> Result<brt_data::Manifest, String> {
    merge(&parts.iter().map(PathBuf::as_path).collect::<Vec<_>>(), out, &mut |_, _| ())
        .map_err(|error| error.to_string())
}

#[test]
fn all_parts_are_the_whole() {
    let folder = many_files();
    let config = PrepareConfig { shard_bytes: 900, ..files(&folder) };
    let alone = tempdir().unwrap();
    let expected = prepare(&config, alone.path()).unwrap();
    for count in [1, 3, 7] {
        let (work, out) = (tempdir().unwrap(), tempdir().unwrap());
        let mut parts = parts(&config, work.path(), count);
        parts.reverse();
        let got = merged(&parts, out.path()).unwrap();
        verify(out.path(), &mut |_, _| ()).unwrap();
        assert_eq!(contents(out.path()), contents(alone.path()));
        assert_eq!((&got.splits, &got.skipped), (&expected.splits, &expected.skipped));
        assert_eq!((&got.near_copies, &got.inputs_sha256), (&expected.near_copies, &expected.inputs_sha256));
        // Once more: it is there.
        assert_eq!(merged(&parts, out.path()).unwrap(), got);
    }
}

/// Near copies are found across the parts of several jobs as in one.
#[test]
fn near_copies_are_found_across_jobs() {
    let (folder, alone, work, out) =
        (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    near_copies_in(folder.path());
    let config = PrepareConfig { shard_bytes: 1, ..files(&folder) };
    let expected = prepare(&config, alone.path()).unwrap();
    let got = merged(&parts(&config, work.path(), 3), out.path()).unwrap();
    assert_eq!(got.num_near_copies, 1);
    assert_eq!(
        (got.near_copies, got.num_near_copies, got.num_not_compared),
        (expected.near_copies, expected.num_near_copies, expected.num_not_compared)
    );
}

/// What is merged is what the jobs wrote, or an error: also their records, and also what is there already.
#[test]
fn damage_to_a_part_or_to_the_whole_is_found() {
    let folder = many_files();
    let (work, out) = (tempdir().unwrap(), tempdir().unwrap());
    let parts = parts(&files(&folder), work.path(), 2);
    let record = parts[1].join("part.json");
    let sound = fs::read_to_string(&record).unwrap();
    fs::write(&record, sound.replacen("\"num_words\": ", "\"num_words\": 1", 1)).unwrap();
    let error = merged(&parts, out.path()).unwrap_err();
    assert!(error.starts_with(&format!("{}: expected sha256 ", record.display())), "{error}");
    fs::write(&record, sound).unwrap();
    merged(&parts, out.path()).unwrap();

    let tokens = fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().path());
    let tokens = tokens.filter(|path| path.extension().is_some_and(|e| e == "tokens")).min().unwrap();
    let bytes = fs::read(&tokens).unwrap();
    fs::remove_file(&tokens).unwrap(); // The part shares the file.
    fs::write(&tokens, &bytes[..bytes.len() - 2]).unwrap();
    let error = merged(&parts, out.path()).unwrap_err();
    assert!(error.starts_with(&format!("{}: expected {} bytes", tokens.display(), bytes.len())), "{error}");
}

/// Returns a folder with a file of rows of 20 repositories, which interleave.
fn repositories() -> (TempDir, PrepareConfig) {
    let folder = tempdir().unwrap();
    let row = |i: usize| {
        let (repository, path) = (i * 7 % 20, i * 13 % 11);
        format!(r#"{{"text": "text {i}\n", "repo": "r{repository}", "path": "src/{path:02}.rs"}}"#) + "\n"
    };
    for file in 0..3 {
        let rows: String = (0..200).map(|i| row(i * 3 + file)).collect();
        fs::write(folder.path().join(format!("{file}.jsonl")), rows).unwrap();
    }
    let source = SourceConfig {
        format: SourceFormat::Jsonl,
        group_by: Some("repo".into()),
        ..SourceConfig::new(folder.path())
    };
    (folder, PrepareConfig::new(CorpusSource::Files(source)))
}

#[test]
fn rows_of_a_repository_come_together_whatever_the_number_of_jobs() {
    let (_folder, config) = repositories();
    let alone = tempdir().unwrap();
    let manifest = prepare(&config, alone.path()).unwrap();
    assert_eq!(manifest.num_documents(), 20);
    let first = contents(alone.path())
        .into_iter()
        .flat_map(|(_, documents)| documents)
        .find(|d| d.0 == "r0")
        .unwrap();
    let paths: Vec<&str> = first.2.lines().filter(|line| line.starts_with("// ")).collect();
    assert!(paths.len() == 30 && paths.is_sorted(), "{paths:?}");
    let (work, out) = (tempdir().unwrap(), tempdir().unwrap());
    merged(&parts(&config, work.path(), 4), out.path()).unwrap();
    assert_eq!(contents(out.path()), contents(alone.path()));
}

#[test]
fn gaps_doubles_and_mixed_parts_are_refused() {
    let folder = many_files();
    let (work, other, out) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let config = files(&folder);
    let parts_of_three = parts(&config, work.path(), 3);
    let advice = "; run the jobs that are missing, and merge the parts of one run";

    let error = merged(&parts_of_three[..2], out.path()).unwrap_err();
    assert!(
        error.ends_with(&format!("part-1-of-3: expected the parts of 3 jobs, got none of job 3{advice}")),
        "{error}"
    );
    let twice: Vec<_> = [0, 1, 2, 1].map(|i: usize| parts_of_three[i].clone()).to_vec();
    let error = merged(&twice, out.path()).unwrap_err();
    assert!(error.ends_with(&format!("expected each job once, got job 2 twice{advice}")), "{error}");

    let raw = PrepareConfig { tokenizer: Tokenizer::bytes(), ..config.clone() };
    let mixed = parts(&raw, other.path(), 3);
    let mixed = [parts_of_three[0].clone(), parts_of_three[1].clone(), mixed[2].clone()];
    let error = merged(&mixed, out.path()).unwrap_err();
    assert!(error.contains("part-3-of-3: expected the tokenizer "), "{error}");

    let two = parts(&config, other.path(), 2);
    let error = merged(&[parts_of_three[0].clone(), two[1].clone()], out.path()).unwrap_err();
    assert!(
        error.contains("part-2-of-2: expected a part of the same inputs, options and number of jobs"),
        "{error}"
    );

    let error = merged(&[work.path().join("part-9-of-9")], out.path()).unwrap_err();
    assert!(error.contains("part.json: expected the part.json of a finished job, got nothing"), "{error}");

    let tokens = fs::read_dir(&parts_of_three[2]).unwrap().map(|entry| entry.unwrap().path());
    let tokens = tokens.filter(|path| path.extension().is_some_and(|e| e == "tokens")).min().unwrap();
    let mut bytes = fs::read(&tokens).unwrap();
    bytes[0] ^= 1;
    fs::write(&tokens, bytes).unwrap();
    let error = merged(&parts_of_three, out.path()).unwrap_err();
    assert!(error.starts_with(&format!("{}: expected sha256 ", tokens.display())), "{error}");
    assert!(!out.path().join("manifest.json").exists());
}
