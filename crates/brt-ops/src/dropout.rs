//! Dropout with the masks that the paper's code shares between rows and positions.

use tch::{Device, Kind, Tensor};

/// Whether a model is trained (dropout acts) or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout acts.
    Train,
    /// Dropout does nothing.
    Eval,
}

/// Longest period of an activation mask, in tokens.
const TILE_LEN: i64 = 128;
/// Shortest period that halving leads to.
const MIN_TILE_LEN: i64 = 8;

/// Drops activations of a segment with one mask for all rows that repeats along the sequence with a period of
/// 128 tokens, or less where 128 does not divide the segment.
///
/// # Shapes
/// `x` and the result: `[n, B, W, E]`; token `i` of the segment is `[i / W, .., i % W, ..]`.
///
/// # Source
/// Official code, `nn_components.tiled_dropout`.
pub fn tiled_dropout(x: &Tensor, rate: f64, mode: Mode) -> Tensor {
    if mode == Mode::Eval || rate == 0. {
        return x.shallow_clone();
    }
    let [num_blocks, _, window_len, width] = crate::dims("x", x);
    let segment_len = num_blocks * window_len;
    let tile_len = tile_len(segment_len);
    let tile = keep_multiplier(&[tile_len, width], rate, x.device()); // [tile, E]
    let mask = tile.repeat([segment_len / tile_len, 1]); // [N, E]
    x * mask.view([num_blocks, 1, window_len, width]).to_kind(x.kind())
}

/// Returns the period of activation masks in tokens: 128, or the whole of a shorter segment, halved until it divides the
/// segment (2025 release; that of 2022 refuses what 128 does not divide).
///
/// **Differs:** where not even 8 divides the segment, its longest divisor below.
fn tile_len(segment_len: i64) -> i64 {
    let mut len = TILE_LEN.min(segment_len);
    while segment_len % len != 0 && len > MIN_TILE_LEN {
        len /= 2;
    }
    (1..=len).rev().find(|len| segment_len % len == 0).unwrap_or(1)
}

/// Returns the multiplier of attention probabilities, shared by all rows and blocks; `None` where nothing is dropped.
///
/// # Shapes
/// Result: `[H, queries, keys]`.
pub fn attention_multiplier(shape: [i64; 3], rate: f64, mode: Mode, device: Device) -> Option<Tensor> {
    (mode == Mode::Train && rate > 0.).then(|| keep_multiplier(&shape, rate, device))
}

/// Returns 0 with probability `rate`, else `1 / (1 - rate)`.
fn keep_multiplier(shape: &[i64], rate: f64, device: Device) -> Tensor {
    Tensor::full(shape, 1. - rate, (Kind::Float, device)).bernoulli() / (1. - rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::seeded;

    #[test]
    fn tiles_divide_their_segment() {
        let lens = [4096, 256, 100, 128 + 64, 200, 128 + 4, 1];
        assert_eq!(lens.map(tile_len), [128, 128, 100, 64, 8, 6, 1]);
    }

    #[test]
    fn masks_are_shared_by_rows_and_repeat_along_the_segment() {
        let x = Tensor::ones([4, 3, 64, 5], (Kind::Float, Device::Cpu));
        let y = seeded(1, "mask", || tiled_dropout(&x, 0.25, Mode::Train)); // N = 256: two periods of 128 tokens.
        assert_eq!(y.select(1, 0), y.select(1, 2));
        assert_eq!(y.narrow(0, 0, 2), y.narrow(0, 2, 2));
        assert_ne!(y.narrow(0, 0, 1), y.narrow(0, 1, 1));
        let kept = y.not_equal(0.).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((kept - 0.75).abs() < 0.06, "kept {kept}");
        assert!((y.max().double_value(&[]) - 1. / 0.75).abs() < 1e-6);
        assert_eq!(tiled_dropout(&x, 0.25, Mode::Eval), x);
    }
}
