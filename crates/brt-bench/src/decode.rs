//! Reading and writing texts: a prompt, and one token of each of several texts.

use brt_lm::{Decoder, LanguageModel, TextState};
use brt_report::BenchGroup;
use brt_trainer::{RunConfig, TrainError};
use tch::{Device, Kind};

use crate::{contestant::noise, item::Item};

/// Texts that are written side by side.
const NUM_TEXTS: [usize; 3] = [1, 8, 32];
/// Tokens of a prompt.
const PROMPT_LEN: usize = 1024;

/// Returns what decoding is made of, with matrices of each kind.
pub(crate) fn items(
    name: &str,
    config: &RunConfig,
    kinds: &[Kind],
    device: Device,
) -> Result<Vec<Item>, TrainError> {
    let mut items = vec![];
    for &kind in kinds {
        // Closures that live as long as the program's measurement; a few models are not worth counting.
        let model: &'static LanguageModel = Box::leak(Box::new(model(config, kind, device)?));
        items.push(prompt(name, model, kind));
        items.extend(NUM_TEXTS.map(|num| tokens(name, model, kind, num)));
    }
    Ok(items)
}

/// Returns an untrained model with matrices of a kind.
pub(crate) fn model(config: &RunConfig, kind: Kind, device: Device) -> Result<LanguageModel, TrainError> {
    let model = LanguageModel::new(config.model.clone(), 1, device)?;
    Ok(if kind == Kind::BFloat16 { model.into_bfloat16() } else { model })
}

/// Returns some tokens.
fn text(model: &LanguageModel, len: usize) -> Vec<i64> {
    noise(len, model.config().vocab_size).into_iter().map(i64::from).collect()
}

fn prompt(name: &str, model: &'static LanguageModel, kind: Kind) -> Item {
    let (decoder, text) = (Decoder::new(model), text(model, PROMPT_LEN));
    Item {
        group: BenchGroup::Decode,
        name: format!("prompt of {PROMPT_LEN} tokens, {name}"),
        kind,
        flops: (model.config().training_flops_per_token() / 3) as f64 * PROMPT_LEN as f64,
        bytes: 0.,
        work: Box::new(move || {
            let _ = decoder.feed(&mut decoder.start(), &text).double_value(&[0]);
            Ok(())
        }),
    }
}

/// Each text stands at another place of its block.
fn tokens(name: &str, model: &'static LanguageModel, kind: Kind, num: usize) -> Item {
    let window_len = model.config().window_len as usize;
    let decoder = Decoder::new(model);
    let start = |idx: usize| {
        let mut state = decoder.start();
        let _ = decoder.feed(&mut state, &text(model, 2 * window_len + idx * window_len / num));
        state
    };
    let mut texts: Vec<TextState> = (0..num).map(start).collect();
    let next = text(model, num);
    let matrices = model.params().named().into_iter().filter(|(_, p)| p.dim() == 2);
    Item {
        group: BenchGroup::Decode,
        name: format!("one token of each of {num} text(s), {name}"),
        kind,
        flops: 0.,
        bytes: matrices.map(|(_, p)| (p.numel() * p.kind().elt_size_in_bytes()) as f64).sum(),
        work: Box::new(move || {
            let mut rows: Vec<&mut TextState> = texts.iter_mut().collect();
            let _ = decoder.step(&mut rows, &next).double_value(&[0, 0]);
            Ok(())
        }),
    }
}
