//! The state of a text as a file.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use brt_lm::{Decoder, LanguageModel, ModelConfig, StateFileInfo, TextState};
use common::{build, build_seeded, every_model, plain, tokens};
use tch::{Device, Kind, Tensor};

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

/// In bfloat16 as well; and a state goes over to the other precision of its model.
#[test]
fn precisions_share_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.brt");
    let config = common::recurrent(brt_lm::Gate::Fixed, brt_lm::CellLayout::Skip, 3, 4);
    let [exact, halved] = [build(config.clone()), build(config).into_bfloat16()];
    for [from, to] in [[&halved, &halved], [&halved, &exact], [&exact, &halved]] {
        let mut text = Decoder::new(from).start();
        let _ = Decoder::new(from).feed(&mut text, &some_tokens(14, 1));
        text.save(&path, from).unwrap();
        let mut again = TextState::load(&path, to).unwrap();
        let logits = Decoder::new(to).step(&mut [&mut again], &[3]);
        let expected = Decoder::new(from).step(&mut [&mut text], &[3]);
        let error = common::difference(&logits, &expected) / expected.abs().max().double_value(&[]);
        let bound = if std::ptr::eq(from, to) { 0. } else { 0.03 }; // The rounding to eight bits.
        assert!(error <= bound, "{error}");
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
    assert!(error.ends_with("expected the state of a text, got other tensors"), "{error}");
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

/// Whatever else a file may say is told before anything goes on from it.
#[test]
fn files_that_no_text_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.brt");
    let model = build(plain(3));
    let mut text = Decoder::new(&model).start();
    let _ = Decoder::new(&model).feed(&mut text, &[1, 2, 3, 4]);
    let info = |change: &dyn Fn(&mut StateFileInfo)| {
        let mut info = StateFileInfo { format: 1, model_hash: model.hash().into(), num_tokens: 4 };
        change(&mut info);
        serde_json::to_string(&info).unwrap()
    };
    let nothing = |_: &mut Vec<(String, Tensor)>| ();
    let replaced = |name: &'static str, tensor: Tensor| {
        move |tensors: &mut Vec<(String, Tensor)>| {
            tensors.iter_mut().filter(|(n, _)| n == name).for_each(|(_, t)| *t = tensor.shallow_clone());
        }
    };
    type Change<'a> = Box<dyn Fn(&mut Vec<(String, Tensor)>) + 'a>;
    let cases: [(String, Change, &str); 7] = [
        (info(&|i| i.format = 2), Box::new(nothing), "got format 2; this version reads format 1"),
        (info(&|i| i.num_tokens = u64::MAX), Box::new(nothing), "got 18446744073709551615 tokens"),
        ("{}".into(), Box::new(nothing), "got missing field `format`"),
        (
            info(&|_| ()),
            Box::new(replaced(
                "layers.0.keys",
                Tensor::full([1, 2, 3, 4], f64::NAN, (Kind::Float, Device::Cpu)),
            )),
            "got numbers in layers.0.keys that are not finite",
        ),
        (
            info(&|_| ()),
            Box::new(replaced("recent", Tensor::from_slice(&[23i64]))),
            "got the token 23, where the model has 23",
        ),
        (
            info(&|_| ()),
            Box::new(replaced("recent", Tensor::from_slice(&[1i64, 1, 1, 1]))),
            "got 4 recent tokens of 4",
        ),
        (
            info(&|_| ()),
            Box::new(replaced("next_logits", Tensor::zeros([5], (Kind::Float, Device::Cpu)))),
            "next_logits: expected Float [23], got Float [5]",
        ),
    ];
    for (info, change, expected) in cases {
        let mut tensors = text.named();
        change(&mut tensors);
        let facts = [("brt_text_state".to_owned(), info)].into();
        brt_ops::checkpoint::save_with(&path, &tensors, facts).unwrap();
        assert!(error(&path, &model).contains(expected), "{}", error(&path, &model));
    }
}

/// Equal states are equal files.
#[test]
fn equal_states_are_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a.brt", "b.brt"].map(|name| folder.path().join(name));
    let model = build(plain(3));
    let mut text = Decoder::new(&model).start();
    let _ = Decoder::new(&model).feed(&mut text, &[1, 2, 3, 4]);
    text.save(&a, &model).unwrap();
    TextState::load(&a, &model).unwrap().save(&b, &model).unwrap();
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}
