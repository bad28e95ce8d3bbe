//! Files that are damaged, missing or out of reach: what the user is told, and what is left out.

use std::{fs, os::unix::fs::symlink};

use parquet::file::reader::{FileReader, SerializedFileReader};
use tempfile::tempdir;

use super::{config, counts, error, gzip, read, read_units, skipping, write, zstd};
use crate::source::{InvalidUtf8, SourceConfig, SourceFormat, plan};

const AGAIN: &str = "fetch the file again, or leave the rest of it out with --on-error skip";

/// Three rows, whose last is incompressible and long, so that a cut loses only that one.
fn rows() -> Vec<u8> {
    let next = |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let letter = |x: u64| char::from(b'a' + (x >> 59) as u8 % 26);
    let noise: String = std::iter::successors(Some(1), next).take(20_000).map(letter).collect();
    format!("{{\"text\":\"first\"}}\n{{\"text\":\"second\"}}\n{{\"text\":\"{noise}\"}}\n").into_bytes()
}

#[test]
fn cut_files_are_errors() {
    let folder = tempdir().unwrap();
    let cases = [
        ("a.jsonl.gz", gzip(&rows()), "line 4: expected whole gzip data", "incomplete deflate stream"),
        ("a.jsonl.zst", zstd(&rows()), "line 1: expected whole zstd data", "incomplete frame"),
    ];
    for (name, mut packed, expected, detail) in cases {
        packed.truncate(packed.len() - 9);
        let path = write(folder.path(), name, packed);
        let expected = format!("{expected}, got damaged or cut-off data ({detail}); {AGAIN}");
        assert_eq!(error(&SourceConfig::new(&path)), format!("{}: {expected}", path.display()));
    }
}

#[test]
fn a_cut_file_of_several_members_gives_the_whole_ones() {
    let folder = tempdir().unwrap();
    type Pack = fn(&[u8]) -> Vec<u8>;
    let cases: [(&str, Pack, &str); 2] = [("a.jsonl.gz", gzip, "gzip"), ("a.jsonl.zst", zstd, "zstd")];
    let rows = rows();
    let last = rows.split(|byte| *byte == b'\n').nth(2).unwrap();
    for (name, pack, format) in cases {
        let mut packed =
            [pack(b"{\"text\":\"first\"}\n"), pack(b"{\"text\":\"second\"}\n{\"te"), pack(last)].concat();
        packed.truncate(packed.len() - 5000);
        let path = write(folder.path(), name, &packed);
        let found = read(&skipping(&SourceConfig::new(&path))).unwrap();
        assert_eq!(found.texts(), [(&*format!("{name}:1"), "first"), (&*format!("{name}:2"), "second")]);
        assert_eq!(found.skips(), [(&*format!("damaged {format}"), &*format!("{name}:3"))]);
    }
}

#[test]
fn damaged_documents_are_abandoned() {
    let folder = tempdir().unwrap();
    let noise = rows().repeat(40);
    let mut cut = gzip(&noise);
    cut.truncate(cut.len() - 9);
    write(folder.path(), "a.txt.gz", cut);
    write(folder.path(), "b.txt.zst", "not zstd");
    write(folder.path(), "c.txt", "whole");
    let config = SourceConfig::new(folder.path());
    let path = folder.path().display();
    let message = error(&config);
    assert!(message.starts_with(&format!("{path}/a.txt.gz: expected whole gzip data, got ")), "{message}");
    let found = read(&skipping(&config)).unwrap();
    assert_eq!(found.texts(), [("c.txt", "whole")]);
    assert_eq!(found.skips(), [("damaged gzip", "a.txt.gz"), ("damaged zstd", "b.txt.zst")]);
    assert_eq!(found.num_inputs, 3);
}

#[test]
fn long_windows_are_read() {
    let folder = tempdir().unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap(); // above what the decoder allows by itself
    std::io::Write::write_all(&mut encoder, b"{\"text\":\"long\"}\n").unwrap();
    let path = write(folder.path(), "a.jsonl.zst", encoder.finish().unwrap());
    assert_eq!(read(&SourceConfig::new(path)).unwrap().texts(), [("a.jsonl.zst:1", "long")]);
}

#[test]
fn text_that_is_not_utf8_is_an_error_replaced_or_kept() {
    let folder = tempdir().unwrap();
    let path = write(folder.path(), "a.txt", b"caf\xe9 \xe2\x82");
    let mut config = config(&path, SourceFormat::Files);
    let advice = "convert it, or choose --invalid-utf8 replace or bytes";
    assert_eq!(
        error(&config),
        format!("{}: expected UTF-8, got the byte 0xE9 at offset 3; {advice}", path.display())
    );
    assert_eq!(read(&skipping(&config)).unwrap().skips(), [("not UTF-8", "a.txt")]);
    config.invalid_utf8 = InvalidUtf8::Replace;
    assert_eq!(read(&config).unwrap().texts(), [("a.txt", "caf\u{fffd} \u{fffd}")]);
    config.invalid_utf8 = InvalidUtf8::Bytes;
    assert_eq!(read(&config).unwrap().docs[0].text, b"caf\xe9 \xe2\x82");

    // Far behind the first pieces, in the last document of a raw file.
    let text = [b"a line of text\n".repeat(700_000), b"\xe9\n".to_vec()].concat();
    let raw = SourceConfig::new(write(folder.path(), "raw.txt", &text));
    let offset = text.len() - 2;
    let expected = format!("/raw.txt: expected UTF-8, got the byte 0xE9 at offset {offset}; {advice}");
    assert_eq!(error(&raw), format!("{}{expected}", folder.path().display()));
    let found = read(&skipping(&raw)).unwrap();
    assert_eq!((found.docs.len(), found.skips()), (2, vec![("not UTF-8", "raw.txt:test")]));
}

#[test]
fn missing_files_are_errors() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("nothing");
    let expected = "expected a file or a folder, got nothing at this path; check its spelling";
    assert_eq!(error(&SourceConfig::new(&path)), format!("{}: {expected}", path.display()));
    let config_of = |format| config(folder.path(), format);
    let path = folder.path().display();
    write(folder.path(), ".hidden", "x");
    let cases = [
        (SourceFormat::Auto, "file"),
        (SourceFormat::Parquet, ".parquet file"),
        (SourceFormat::Jsonl, ".jsonl, .ndjson or .json file (plain, .gz or .zst)"),
        (SourceFormat::Tree, "sub-folder with files"),
    ];
    for (format, expected) in cases {
        let expected = format!("{path}: expected at least one {expected}, got none (left out: 1 hidden)");
        assert_eq!(error(&config_of(format)), expected);
    }
    let expected = "expected a file, got the format `raw`; choose one with `files:`, `tree:`, `raw:`, `jsonl:` or `parquet:` before the path";
    assert_eq!(error(&config_of(SourceFormat::Raw)), format!("{path}: {expected}"));
    let file = write(folder.path(), "a", "x");
    let expected = "expected a folder, got the format `tree`; choose one with `files:`, `tree:`, `raw:`, `jsonl:` or `parquet:` before the path";
    assert_eq!(error(&config(&file, SourceFormat::Tree)), format!("{}: {expected}", file.display()));
}

#[test]
fn a_file_that_vanishes_is_an_error_or_left_out() {
    for format in [SourceFormat::Files, SourceFormat::Jsonl, SourceFormat::Parquet, SourceFormat::Tree] {
        let folder = tempdir().unwrap();
        let name = match format {
            SourceFormat::Files => "a.txt",
            SourceFormat::Jsonl => "a.jsonl",
            SourceFormat::Parquet => "a.parquet",
            _ => "sub/a.txt",
        };
        let path = write(folder.path(), name, "x");
        let config = config(folder.path(), format);
        let plan = plan(&config).unwrap();
        fs::remove_file(&path).unwrap();
        let error = read_units(&plan.units, &config).unwrap_err().to_string();
        let expected = format!("{}: cannot open", path.display());
        assert_eq!(error, expected);
        let found = read_units(&plan.units, &skipping(&config)).unwrap();
        assert_eq!(found.skips()[0], ("cannot open", name));
        assert_eq!(found.docs, []);
    }
}

/// A link to a split's folder is that split.
#[test]
fn linked_splits_are_read() {
    let (folder, elsewhere) = (tempdir().unwrap(), tempdir().unwrap());
    write(elsewhere.path(), "a.txt", "training");
    for split in ["validation", "test"] {
        write(folder.path(), &format!("{split}/b.txt"), split);
    }
    symlink(elsewhere.path(), folder.path().join("train")).unwrap();
    let config = config(folder.path(), SourceFormat::Files);
    let texts = [("test/b.txt", "test"), ("train/a.txt", "training"), ("validation/b.txt", "validation")];
    assert_eq!(read(&config).unwrap().texts(), texts);
    assert_eq!(plan(&config).unwrap().skipped, counts([]));
}

#[test]
fn links_do_not_lead_in_circles() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    write(path, "a/b.txt", "text");
    symlink("..", path.join("a/up")).unwrap();
    symlink("nowhere", path.join("broken")).unwrap();
    symlink("self", path.join("self")).unwrap();
    symlink("a/b.txt", path.join("link.txt")).unwrap();
    let config = SourceConfig::new(path);
    assert_eq!(read(&config).unwrap().texts(), [("a/b.txt", "text"), ("link.txt", "text")]);
    assert_eq!(plan(&config).unwrap().skipped, counts([("broken link", 2), ("link to a folder", 1)]));
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_or_left_out() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    let path = write(folder.path(), "a.txt", "x");
    write(folder.path(), "b.txt", "y");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: the superuser may read everything");
        return;
    }
    let config = SourceConfig::new(folder.path());
    assert_eq!(error(&config), format!("{}: cannot open", path.display()));
    let found = read(&skipping(&config)).unwrap();
    assert_eq!((found.texts(), found.skips()), (vec![("b.txt", "y")], vec![("cannot open", "a.txt")]));
}

#[test]
fn damaged_parquet_is_an_error_or_left_out() {
    let samples =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources/parquet_variants");
    let whole = fs::read(samples.join("snappy_string.parquet")).unwrap();
    let folder = tempdir().unwrap();
    let path = write(folder.path(), "a.parquet", &whole[..whole.len() - 100]);
    let config = SourceConfig::new(&path);
    let detail = "Parquet error: Invalid Parquet file. Corrupt footer";
    let expected = format!(": expected whole parquet data, got damaged or cut-off data ({detail}); {AGAIN}");
    assert_eq!(error(&config), format!("{}{expected}", path.display()));
    assert_eq!(read(&skipping(&config)).unwrap().skips(), [("damaged parquet", "a.parquet")]);

    // The second group of rows is damaged: the first one is kept.
    let table = SerializedFileReader::try_from(samples.join("snappy_string.parquet").as_path()).unwrap();
    let (start, len) = table.metadata().row_group(1).column(0).byte_range();
    let mut damaged = whole.clone();
    damaged[(start + len / 2) as usize..(start + len) as usize].fill(0xff);
    write(folder.path(), "a.parquet", &damaged);
    let found = read(&skipping(&config)).unwrap();
    assert_eq!((found.docs.len(), found.num_inputs), (10, 11));
    assert_eq!(found.skips(), [("damaged parquet", "a.parquet:11")]);
}

#[test]
fn tables_of_different_schemas_are_errors_or_left_out() {
    let samples =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources/parquet_variants");
    let folder = tempdir().unwrap();
    for name in ["lz4_required", "no_text", "number", "zstd_binary_v2_plain"] {
        fs::copy(samples.join(name).with_extension("parquet"), folder.path().join(format!("{name}.parquet")))
            .unwrap();
    }
    let config = SourceConfig::new(folder.path());
    let expected = "/no_text.parquet: expected a text column `text` or `content`, got the columns `title`, `body`; \
                    name it with --text-column";
    assert_eq!(error(&config), format!("{}{expected}", folder.path().display()));
    let found = read(&skipping(&config)).unwrap();
    assert_eq!(found.docs.len(), 50);
    assert_eq!(
        found.skips(),
        [("no text column", "no_text.parquet"), ("text is no string", "number.parquet")]
    );
}
