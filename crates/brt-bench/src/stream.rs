//! What a token costs after few tokens and after very many.

use std::time::Instant;

use brt_lm::Decoder;
use brt_report::{StreamPoint, StreamResult};
use brt_trainer::{RunConfig, TrainError, load_average, machine_facts};
use tch::{Device, Kind};

use crate::{contestant::noise, decode::model, item::synchronise};

/// Tokens over which one point is measured.
const TOKENS_PER_POINT: u64 = 1000;
/// Points for each tenfold of the length.
const POINTS_PER_DECADE: u32 = 8;

/// Reads a text of `num_tokens` token by token and measures time and memory on the way. `commit` is what the program was
/// built from.
///
/// # Errors
/// A configuration that no model can have.
pub fn stream(
    name: &str,
    config: &RunConfig,
    (num_tokens, kind): (u64, Kind),
    device: Device,
    commit: &str,
) -> Result<StreamResult, TrainError> {
    let load_average = load_average();
    let model = model(config, kind, device)?;
    let decoder = Decoder::new(&model);
    let mut text = decoder.start();
    let tokens: Vec<i64> = noise(4096, config.model.vocab_size).into_iter().map(i64::from).collect();
    let mut points = vec![];
    for end in ends(num_tokens) {
        let mut read = |until: u64| {
            while text.num_tokens() < until {
                let token = tokens[text.num_tokens() as usize % tokens.len()];
                let _ = decoder.step(&mut [&mut text], &[token]);
            }
            synchronise(device);
        };
        read(end - TOKENS_PER_POINT);
        let (start, cpu) = (Instant::now(), brt_native::cpu_secs());
        read(end);
        points.push(StreamPoint {
            num_tokens: end,
            wall_secs_per_token: start.elapsed().as_secs_f64() / TOKENS_PER_POINT as f64,
            cpu_secs_per_token: (brt_native::cpu_secs() - cpu) / TOKENS_PER_POINT as f64,
            resident_bytes: brt_native::resident_bytes(),
        });
    }
    Ok(StreamResult {
        name: name.to_owned(),
        kind: if kind == Kind::BFloat16 { "bf16" } else { "f32" }.into(),
        points,
        load_average,
        machine: machine_facts(device),
        build: brt_trainer::build_facts(commit),
    })
}

/// Returns after how many tokens points are measured: evenly on a logarithmic axis, from the first that can be to the last.
fn ends(num_tokens: u64) -> Vec<u64> {
    let step = |i: u32| TOKENS_PER_POINT as f64 * 10f64.powf(f64::from(i) / f64::from(POINTS_PER_DECADE));
    let mut ends: Vec<u64> = vec![];
    for i in 0.. {
        let end = step(i).round() as u64;
        if end >= num_tokens {
            break;
        }
        if ends.last().is_none_or(|last| end - last >= TOKENS_PER_POINT) {
            ends.push(end);
        }
    }
    ends.push(num_tokens.max(TOKENS_PER_POINT));
    if let [.., before, last] = ends.as_slice()
        && last - before < TOKENS_PER_POINT
    {
        ends.remove(ends.len() - 2);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_do_not_overlap() {
        for num_tokens in [1, 1000, 1500, 10_000, 1_000_000] {
            let ends = ends(num_tokens);
            assert!(ends.windows(2).all(|pair| pair[1] - pair[0] >= TOKENS_PER_POINT), "{ends:?}");
            assert_eq!((ends[0] >= TOKENS_PER_POINT, ends.last()), (true, Some(&num_tokens.max(1000))));
        }
    }
}
