//! Folders of files, trees, one raw file, and what a folder's files tell about its format.

use std::fs;

use tempfile::tempdir;

use super::{config, counts, error, gzip, read, skipping, write, zstd};
use crate::{
    Split,
    source::{BytesRead, SourceConfig, SourceFormat, plan},
};

#[test]
fn each_file_of_a_folder_is_a_document() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    write(path, "b/2.txt", "two");
    write(path, "b.txt", "three");
    write(path, "a.txt.gz", [gzip(b"one "), gzip(b"and more")].concat());
    write(path, "c.txt.ZST", [zstd(b"four "), zstd(b"and more")].concat());
    write(path, "empty", "");
    write(path, ".git/config", "hidden");
    write(path, "b/.hidden", "hidden");
    let config = SourceConfig::new(path);
    let plan = plan(&config).unwrap();
    assert_eq!((plan.format, plan.skipped), (SourceFormat::Files, counts([("hidden", 2)])));
    let found = read(&config).unwrap();
    let expected = [
        ("a.txt.gz", "one and more"),
        ("b.txt", "three"),
        ("b/2.txt", "two"),
        ("c.txt.ZST", "four and more"),
    ];
    assert_eq!(found.texts(), expected);
    assert_eq!(found.skips(), [("empty", "empty")]);
    assert!(found.docs.iter().all(|doc| doc.split.is_none() && doc.group == doc.name));
}

#[test]
fn long_documents_come_in_pieces() {
    let folder = tempdir().unwrap();
    let text = "A line of text, and more of it: é.\n".repeat(300_000);
    let path = write(folder.path(), "a.txt", &text);
    let bytes_read = BytesRead::default();
    let file = config(&path, SourceFormat::Files);
    let events: Vec<_> =
        plan(&file).unwrap().units[0].open(&file, 0, &bytes_read).map(Result::unwrap).collect();
    assert_eq!(events.len(), 2 + text.len().div_ceil(crate::source::pieces::MAX_PIECE_BYTES)); // begin, pieces, end
    assert_eq!(bytes_read.get(), text.len() as u64);
    assert_eq!(read(&file).unwrap().texts(), [("a.txt", text.as_str())]);
    // A row is cut too.
    let rows = write(folder.path(), "a.jsonl", serde_json::json!({ "text": text }).to_string());
    assert_eq!(read(&SourceConfig::new(rows)).unwrap().texts(), [("a.jsonl:1", text.as_str())]);
}

#[test]
fn two_split_folders_divide_a_folder() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    write(path, "train/x/a.txt", "a");
    write(path, "other/b.txt", "b");
    write(path, "test/c.txt", "c");
    let config = SourceConfig::new(path);
    let expected = "/validation: expected a folder with the documents of this split, got nothing at this path; \
                    check its spelling";
    assert_eq!(error(&config), format!("{}{expected}", path.display()));
    write(path, "valid/d.txt", "d");
    let found = read(&config).unwrap();
    let splits: Vec<_> = found.docs.iter().map(|doc| (doc.name.as_str(), doc.split.unwrap())).collect();
    let expected =
        [("test/c.txt", Split::Test), ("train/x/a.txt", Split::Train), ("valid/d.txt", Split::Validation)];
    assert_eq!(splits, expected);
    assert_eq!(plan(&config).unwrap().skipped, counts([("outside the splits", 1)]));
    // One of them may be there by chance.
    fs::remove_dir_all(path.join("valid")).unwrap();
    fs::remove_dir_all(path.join("train")).unwrap();
    let found = read(&config).unwrap();
    assert_eq!(found.docs.len(), 2);
    assert!(found.docs.iter().all(|doc| doc.split.is_none()));
}

#[test]
fn each_sub_folder_of_a_tree_is_a_document() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    write(path, "one/src/b.rs", "fn b() {}\n");
    write(path, "one/a.rs", "fn a() {} // é");
    write(path, "one/a.bin", b"\xff\xfe");
    write(path, "one/a.gz", gzip(b"x"));
    write(path, "one/empty", "");
    write(path, "one-b/z.rs", "z");
    write(path, "two/only.bin", b"\xff");
    write(path, "README.md", "beside");
    let config = config(path, SourceFormat::Tree);
    let found = read(&config).unwrap();
    let one = "// a.rs\nfn a() {} // é\n// src/b.rs\nfn b() {}\n";
    assert_eq!(found.texts(), [("one-b", "// z.rs\nz\n"), ("one", one)]);
    let skips = [
        ("not UTF-8", "one/a.bin"),
        ("not UTF-8", "one/a.gz"),
        ("empty", "one/empty"),
        ("not UTF-8", "two/only.bin"),
        ("empty", "two"),
    ];
    assert_eq!(found.skips(), skips);
    assert_eq!(found.num_inputs, 3);
    assert_eq!(plan(&config).unwrap().skipped, counts([("outside a sub-folder", 1)]));
}

#[test]
fn trees_have_splits_too() {
    let folder = tempdir().unwrap();
    for split in ["train", "val", "test"] {
        write(folder.path(), &format!("{split}/repo/a.rs"), split);
    }
    let found = read(&config(folder.path(), SourceFormat::Tree)).unwrap();
    let splits: Vec<_> = found.docs.iter().map(|doc| (doc.name.as_str(), doc.split)).collect();
    let expected = [
        ("test/repo", Some(Split::Test)),
        ("train/repo", Some(Split::Train)),
        ("val/repo", Some(Split::Validation)),
    ];
    assert_eq!(splits, expected);
    assert_eq!(found.texts()[0].1, "// a.rs\ntest\n");
}

#[test]
fn a_raw_file_is_cut_after_90_and_95_parts_of_a_hundred() {
    let folder = tempdir().unwrap();
    let text: String = (0..100_000).map(|i| format!("Line {i} é.\n")).collect();
    for (name, packed) in [
        ("a.txt", text.clone().into_bytes()),
        ("a.gz", gzip(text.as_bytes())),
        ("a.zst", zstd(text.as_bytes())),
    ] {
        let config = SourceConfig::new(write(folder.path(), name, packed));
        assert_eq!(plan(&config).unwrap().format, SourceFormat::Raw);
        let found = read(&config).unwrap();
        let splits: Vec<_> = found.docs.iter().map(|doc| (doc.name.as_str(), doc.split.unwrap())).collect();
        let names = Split::ALL.map(|split| format!("{name}:{split}"));
        assert_eq!(
            splits,
            [(&*names[0], Split::Train), (&*names[1], Split::Validation), (&*names[2], Split::Test)]
        );
        let texts: Vec<_> = found.docs.iter().map(|doc| doc.text.clone()).collect();
        assert_eq!(texts.concat(), text.as_bytes());
        let starts = [90, 95].map(|percent| text.len() * percent / 100);
        let starts = starts.map(|start| (start..).find(|&at| text.is_char_boundary(at)).unwrap());
        assert_eq!([texts[0].len(), texts[0].len() + texts[1].len()], starts);
    }
}

#[test]
fn a_raw_file_is_cut_between_characters() {
    let folder = tempdir().unwrap();
    let path = write(folder.path(), "a", "€".repeat(1000));
    let found = read(&config(&path, SourceFormat::Raw)).unwrap();
    assert_eq!(found.docs.iter().map(|doc| doc.text.len()).collect::<Vec<_>>(), [2700, 150, 150]);
    // Ninety parts of a hundred end 2 bytes, then 1 byte before the next character.
    for (num_chars, expected) in [(1004, [2712, 150, 150]), (1001, [2703, 150, 150])] {
        let path = write(folder.path(), "b", "€".repeat(num_chars));
        let found = read(&config(&path, SourceFormat::Raw)).unwrap();
        assert_eq!(found.docs.iter().map(|doc| doc.text.len()).collect::<Vec<_>>(), expected);
    }
    let path = write(folder.path(), "c", "x");
    let found = read(&config(&path, SourceFormat::Raw)).unwrap();
    assert_eq!((found.docs.len(), found.skips.len(), found.num_inputs), (1, 2, 3));
}

#[test]
fn the_format_is_in_the_names() {
    let cases: [(&[&str], Result<SourceFormat, &str>); 9] = [
        (&["a.parquet", "README.md", "dataset_infos.json"], Ok(SourceFormat::Parquet)),
        (&["a.jsonl", "b.ndjson.zst", "LICENSE"], Ok(SourceFormat::Jsonl)),
        (&["c4-train.00000-of-01024.json.gz"], Ok(SourceFormat::Jsonl)),
        (&["a.json"], Ok(SourceFormat::Jsonl)),
        (&["a.json", "b.txt"], Ok(SourceFormat::Files)),
        (&["README.md"], Ok(SourceFormat::Files)),
        (&["a.txt.gz"], Ok(SourceFormat::Files)),
        (&["a.parquet", "b.jsonl"], Err("`a.parquet` and `b.jsonl`")),
        (&["a.jsonl", "b.txt"], Err("`a.jsonl` and `b.txt`")),
    ];
    for (names, expected) in cases {
        let folder = tempdir().unwrap();
        for name in names {
            write(folder.path(), name, "x");
        }
        let found = plan(&SourceConfig::new(folder.path()))
            .map(|plan| plan.format)
            .map_err(|error| error.to_string());
        let path = folder.path().display();
        let expected = expected.map_err(|got| {
            format!("{path}: expected files of one format, got {got}; choose one with `files:`, `tree:`, `raw:`, `jsonl:` or `parquet:` before the path")
        });
        assert_eq!(found, expected, "{names:?}");
    }
}

#[test]
fn paths_tell_the_splits_of_rows() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    for name in ["train_0.jsonl", "sub/val/x.jsonl", "test.jsonl.gz"] {
        write(
            path,
            name,
            if name.ends_with("gz") { gzip(b"{\"text\":\"a\"}") } else { b"{\"text\":\"a\"}".to_vec() },
        );
    }
    write(path, "info.json", "{}");
    let config = SourceConfig::new(path);
    let found = read(&config).unwrap();
    let splits: Vec<_> = found.docs.iter().map(|doc| (doc.name.as_str(), doc.split.unwrap())).collect();
    let expected = [
        ("sub/val/x.jsonl:1", Split::Validation),
        ("test.jsonl.gz:1", Split::Test),
        ("train_0.jsonl:1", Split::Train),
    ];
    assert_eq!(splits, expected);
    assert_eq!(plan(&config).unwrap().skipped, counts([("not of the format", 1)]));
    write(path, "training.jsonl", "{}");
    let expected = "/training.jsonl: expected a split in the path (train, validation or test) as in \
                    sub/val/x.jsonl, got none; rename or move it";
    assert_eq!(error(&skipping(&config)), format!("{}{expected}", path.display()));
}
