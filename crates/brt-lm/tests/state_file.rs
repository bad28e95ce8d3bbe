//! The state of a text as a file.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use brt_lm::{Decoder, LanguageModel, ModelConfig, TextState};
use common::{build, build_seeded, every_model, plain, tokens};

fn some_tokens(len: i64, seed: u64) -> Vec<i64> {
    Vec::try_from(tokens(1, len, seed).get(0)).unwrap()
}

/// A text goes on from its file bit for bit as if nothing had happened, from any place of it, in every kind of model.
#[test]
fn a_text_goes_on_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.brt");
    for (variant, config) in every_model(3, 4, 9) {
        let model = build(config);
        let decoder = Decoder::new(&model);
        for len in [0, 1, 3, 5, 9, 13, 27, 31] {
            let mut text = decoder.start();
            if len > 0 {
                let _ = decoder.feed(&mut text, &some_tokens(len, 1));
            }
            text.save(&path, &model).unwrap();
            let mut again = TextState::load(&path, &model).unwrap();
            assert_eq!(again.num_tokens(), len as u64, "{variant}");
            assert_eq!(
                (again.next_logits(), again.recent()),
                (text.next_logits(), text.recent()),
                "{variant}"
            );
            for token in some_tokens(11, 2) {
                let expected = decoder.step(&mut [&mut text], &[token]);
                assert_eq!(decoder.step(&mut [&mut again], &[token]), expected, "{variant}, {len}");
            }
        }
    }
}

fn error(path: &std::path::Path, model: &LanguageModel) -> String {
    TextState::load(path, model).unwrap_err().to_string()
}

/// A state fits the model alone that made it: neither other weights, nor other options, nor other sizes. Dropout does not
/// matter, and a file of something else is told.
#[test]
fn the_wrong_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.brt");
    let model = build(plain(3));
    let mut text = Decoder::new(&model).start();
    let _ = Decoder::new(&model).feed(&mut text, &[1, 2, 3, 4]);
    text.save(&path, &model).unwrap();

    let doubtful = ModelConfig { logit_divisor: brt_lm::LogitDivisor::SqrtVocabSize, ..plain(3) };
    for other in [build_seeded(plain(3), 4), build(doubtful), build(plain(4))] {
        let error = error(&path, &other);
        let expected = format!(
            "text.brt: expected a state of the model {}, got one of the model {}; a state fits the model alone that made it",
            &other.hash()[..12],
            &model.hash()[..12]
        );
        assert!(error.ends_with(&expected), "{error}");
    }
    assert!(TextState::load(&path, &build(ModelConfig { dropout: 0.5, ..plain(3) })).is_ok());

    let weights = folder.path().join("weights.safetensors");
    brt_ops::checkpoint::save(&weights, &model.params().named()).unwrap();
    let error = error(&weights, &model);
    assert!(
        error.ends_with("expected the state of a text (`brt text state 1`), got other tensors"),
        "{error}"
    );
}

#[test]
fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.brt");
    let model = build(plain(3));
    Decoder::new(&model).start().save(&path, &model).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(error(&path, &model).contains("expected a whole safetensors file"), "{}", error(&path, &model));
    std::fs::remove_file(&path).unwrap();
    assert!(error(&path, &model).contains("text.brt: cannot read"));
}
