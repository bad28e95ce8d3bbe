//! The recurrent cell beside an encoder of your own: anything that gives keys and values of a window will do.
//!
//! Reads eight windows of random "tokens" and prints how far the states move with each.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use brt_cell::{CellConfig, CellLayout, Gate, RecurrentCell};
use brt_ops::{Params, QkNorm, Temperature, Windows};
use tch::{Device, Kind, Tensor};

fn main() {
    let params = Params::new(1, Device::Cpu);
    let config = CellConfig {
        gate: Gate::Fixed,
        layout: CellLayout::Skip,
        num_states: 16,
        model_dim: 64,
        num_heads: 4,
        head_dim: 16,
        ffn_dim: 256,
        qk_norm: QkNorm::Unit,
        temperature: Temperature::Raw,
    };
    let cell = RecurrentCell::new(&params.root(), config);

    let (num_blocks, batch, window_len) = (8, 1, 32);
    let shape = [num_blocks, batch, 4, 2 * window_len, 16]; // [n, B, H, 2W, D]
    let draw = || Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let windows = Windows::alone(brt_ops::unit_norm(&draw()), draw());

    let initial = cell.initial_state().unsqueeze(0); // [B, S, E]
    let scan = cell.scan(&initial, &windows);
    let mut previous = initial;
    for (block, state) in scan.states.into_iter().enumerate() {
        let moved = (&state - &previous).square().mean(Kind::Float).sqrt().double_value(&[]);
        println!("block {block}: states moved by {moved:.3} (root mean square)");
        previous = state;
    }
}
