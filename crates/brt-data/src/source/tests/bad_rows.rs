//! Lines of JSON that are no documents: what the user is told, and what is left out.

use tempfile::tempdir;

use super::{error, read, skipping, write};
use crate::source::{InvalidUtf8, SourceConfig};

/// Checks the error of the second of three lines, and that with skipping the others are kept.
fn check(line: &[u8], expected: &str, reason: &str) {
    let folder = tempdir().unwrap();
    let rows = [b"{\"text\":\"one\"}\n", line, b"\n{\"text\":\"three\"}\n"].concat();
    let path = write(folder.path(), "a.jsonl", rows);
    let config = SourceConfig::new(&path);
    assert_eq!(error(&config), format!("{}: line 2: {expected}", path.display()));
    let found = read(&skipping(&config)).unwrap();
    assert_eq!(found.texts(), [("a.jsonl:1", "one"), ("a.jsonl:3", "three")]);
    assert_eq!(found.skips(), [(reason, "a.jsonl:2")]);
    assert_eq!(found.num_inputs, 3);
}

#[test]
fn wrong_lines_are_errors_or_left_out() {
    let name_it = "name it with --text-column";
    let column = "expected a text column `text` or `content`, got the columns";
    check(b"{\"a\":1,\"b\":2}", &format!("{column} `a`, `b`; {name_it}"), "no text column");
    check(
        b"{}",
        &format!("expected a text column `text` or `content`, got no columns; {name_it}"),
        "no text column",
    );
    let other = "name another one with --text-column";
    let typed = |got: &str| format!("expected text in column `text`, got {got}; {other}");
    check(b"{\"text\":17}", &typed("`17`"), "text is no string");
    check(b"{\"text\":true}", &typed("`true`"), "text is no string");
    check(b"{\"text\":[\"a\"]}", &typed("an array"), "text is no string");
    check(b"{\"text\":{\"a\":1}}", &typed("an object"), "text is no string");
    let null = "expected text in column `text`, got null; leave such rows out with --on-error skip";
    check(b"{\"text\":null,\"content\":\"x\"}", null, "null text");
    let json = |got: &str| format!("expected a JSON object, got {got}; each line must be one whole object");
    check(b"{\"text\":\"a\"", &json("EOF while parsing an object at line 1 column 11"), "not a JSON object");
    check(b"{\"text\":\"a\"} {", &json("trailing characters at line 1 column 14"), "not a JSON object");
    check(
        b"[1]",
        &json("invalid type: sequence, expected an object at line 1 column 0"),
        "not a JSON object",
    );
    check(b"text", &json("expected ident at line 1 column 2"), "not a JSON object");
    check(b"\"\xff\"", &json("invalid unicode code point at line 1 column 2"), "not a JSON object");
    let utf8 = |got: &str| {
        format!(
            "expected UTF-8, got {got} of the text; convert it, or choose --invalid-utf8 replace or bytes"
        )
    };
    check(b"{\"text\":\"caf\xe9\"}", &utf8("the byte 0xE9 at offset 3"), "not UTF-8");
    check(b"{\"text\":\"a\\ud83d.\"}", &utf8("the unpaired surrogate \\ud83d at offset 1"), "not UTF-8");
    check(b"{\"text\":\"a\\uDE00\"}", &utf8("the unpaired surrogate \\ude00 at offset 1"), "not UTF-8");
}

#[test]
fn what_is_not_utf8_is_replaced_or_kept() {
    let folder = tempdir().unwrap();
    let rows = b"{\"text\":\"caf\xe9 \xed\\ud83d \\ud83d\\ude00\"}\n";
    let mut config = SourceConfig::new(write(folder.path(), "a.jsonl", rows));
    config.invalid_utf8 = InvalidUtf8::Replace;
    assert_eq!(read(&config).unwrap().texts(), [("a.jsonl:1", "caf\u{fffd} \u{fffd}\u{fffd} 😀")]);
    config.invalid_utf8 = InvalidUtf8::Bytes;
    assert_eq!(read(&config).unwrap().docs[0].text, b"caf\xe9 \xed\xed\xa0\xbd \xf0\x9f\x98\x80");
}

#[test]
fn lines_end_in_every_way() {
    let folder = tempdir().unwrap();
    let rows = "\u{feff}{\"text\":\"one\",\"text\":\"last\"}\r\n\r\n  \n{\"content\":\"two\\r\\n\"}\n\n{\"text\":\"three\"}";
    let found = read(&SourceConfig::new(write(folder.path(), "a.jsonl", rows))).unwrap();
    assert_eq!(found.texts(), [("a.jsonl:1", "last"), ("a.jsonl:4", "two\r\n"), ("a.jsonl:6", "three")]);
    for nothing in ["", "\n\n", "\u{feff}"] {
        let found = read(&SourceConfig::new(write(folder.path(), "a.jsonl", nothing))).unwrap();
        assert_eq!((found.docs.len(), found.skips()), (0, vec![("empty", "a.jsonl")]));
    }
    let empty = read(&SourceConfig::new(write(folder.path(), "a.jsonl", "{\"text\":\"\"}"))).unwrap();
    assert_eq!((empty.docs.len(), empty.skips()), (0, vec![("empty", "a.jsonl:1")]));
}

#[test]
fn lines_are_joined_at_the_borders_of_what_is_read() {
    let folder = tempdir().unwrap();
    // Lines of every length, some longer than what is read at once.
    let texts: Vec<String> =
        (0..1000).map(|i| format!("{i}").repeat(i * 7 % 500 + i / 990 * 100_000)).collect();
    let rows: String = texts.iter().map(|text| format!("{{\"text\":\"{text}\"}}\n")).collect();
    let path = write(folder.path(), "a.jsonl", rows);
    let found = read(&SourceConfig::new(path)).unwrap();
    let expected: Vec<_> = texts.iter().filter(|text| !text.is_empty()).map(String::as_bytes).collect();
    assert_eq!(found.docs.iter().map(|doc| &doc.text[..]).collect::<Vec<_>>(), expected);
}

#[test]
fn long_lines_are_not_read_into_memory() {
    let folder = tempdir().unwrap();
    let line = |len: usize| format!("{{\"text\":\"{}\"}}\n", "x".repeat(len - 11));
    let path = write(folder.path(), "a.jsonl", [line(1000), line(1001), line(900_000), line(12)].concat());
    let mut config = SourceConfig::new(&path);
    config.max_record_bytes = 1000;
    let expected = "line 2: expected a line of at most 1000 bytes, got 1001; raise --max-record-bytes";
    assert_eq!(error(&config), format!("{}: {expected}", path.display()));
    let found = read(&skipping(&config)).unwrap();
    assert_eq!(found.docs.iter().map(|doc| doc.text.len()).collect::<Vec<_>>(), [989, 1]);
    assert_eq!(found.skips(), [("too long", "a.jsonl:2"), ("too long", "a.jsonl:3")]);
}

#[test]
fn columns_are_found_by_their_whole_name_or_nested() {
    let folder = tempdir().unwrap();
    let rows = "{\"a\":{\"b\":{\"c\":\"nested\"},\"x\":1}}\n{\"a.b.c\":\"whole\"}\n{\"a\":{\"b.c\":\"half\"}}\n{\"a\":[{\"b\":1}]}";
    let path = write(folder.path(), "a.jsonl", rows);
    let config = SourceConfig { text_column: Some("a.b.c".to_owned()), ..SourceConfig::new(&path) };
    let found = read(&skipping(&config)).unwrap();
    assert_eq!(found.texts(), [("a.jsonl:1", "nested"), ("a.jsonl:2", "whole"), ("a.jsonl:3", "half")]);
    let expected = "line 4: expected a text column `a.b.c`, got the columns `a`; name it with --text-column";
    assert_eq!(error(&config), format!("{}: {expected}", path.display()));
    let named = SourceConfig { name_column: Some("a.x".to_owned()), ..config };
    assert_eq!(read(&skipping(&named)).unwrap().texts(), [("1", "nested")]);
}
