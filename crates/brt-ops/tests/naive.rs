//! Fast paths against loops over tokens, values and gradients, at odd sizes.

use brt_ops::{Carry, WindowTables, Windows, attention, naive, position::Buckets};
use tch::{Device, Kind, Tensor};

/// Absolute; values are of size 1 to 4, sums of up to 126 products in float32.
const TOLERANCE: f64 = 4e-5;
/// Step and tolerance of central differences in float64, relative to the largest value.
const STEP: f64 = 1e-5;
const DIFFERENCES_TOLERANCE: f64 = 1e-4;

const TEMPERATURE: f64 = 1.7;

/// One head: `[len, D]` as rows of float64.
fn rows(x: &Tensor) -> Vec<Vec<f64>> {
    x.to_kind(Kind::Double).try_into().expect("a matrix")
}

struct Case {
    window_len: i64,
    inputs: Vec<Tensor>, // queries, keys, values [n, 1, 1, W, D]; cached keys, values [1, 1, W, D]
    table: Tensor,       // [1, 32]
}

impl Case {
    fn new(window_len: i64, num_blocks: i64) -> Self {
        let (options, dim) = ((Kind::Float, Device::Cpu), 5);
        tch::manual_seed(window_len * 100 + num_blocks);
        let blocks = [num_blocks, 1, 1, window_len, dim];
        let mut inputs: Vec<Tensor> = (0..3).map(|_| Tensor::randn(blocks, options)).collect();
        inputs.extend((0..2).map(|_| Tensor::randn([1, 1, window_len, dim], options)));
        Self { window_len, inputs, table: Tensor::randn([1, 32], options) }
    }

    fn fast(&self, inputs: &[Tensor], table: &Tensor) -> Tensor {
        let tables = WindowTables::block(self.window_len, Device::Cpu);
        let flat = table.index_select(1, &tables.buckets().view(-1));
        let bias = tables.mask_bias(&(flat.unflatten(1, [self.window_len, -1]) * TEMPERATURE));
        let windows = Windows::new([&inputs[1], &inputs[2]], [&inputs[3], &inputs[4]], Carry::Differentiable);
        let queries = &inputs[0] * TEMPERATURE;
        attention(&queries, &windows.keys, &windows.values, Some(&bias), None)
    }

    fn naive(&self, inputs: &[Tensor], table: &Tensor) -> Vec<Vec<f64>> {
        let flat = |x: &Tensor| rows(&x.reshape([-1, x.size()[x.dim() - 1]]));
        let [q, k, v, ck, cv] = [0, 1, 2, 3, 4].map(|i| flat(&inputs[i]));
        let table: Vec<f64> = table.get(0).to_kind(Kind::Double).try_into().expect("a vector");
        let bias = |distance: usize| table[Buckets::PAPER.causal(distance as i64) as usize];
        naive::windowed_attention(&q, [&k, &v], [&ck, &cv], bias, TEMPERATURE)
    }
}

#[test]
fn windowed_attention_equals_loops() {
    for (window_len, num_blocks) in [(1, 1), (1, 3), (3, 2), (63, 1), (63, 3)] {
        let case = Case::new(window_len, num_blocks);
        let got = rows(&case.fast(&case.inputs, &case.table).reshape([window_len * num_blocks, -1]));
        let want = case.naive(&case.inputs, &case.table);
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() <= TOLERANCE, "W {window_len}, n {num_blocks}: {got} {want}");
        }
    }
}

/// Autograd of the fast path against central differences of the loops, in the direction of a random change of every
/// input at once and of each input alone.
#[test]
fn gradients_equal_differences_of_loops() {
    for (window_len, num_blocks) in [(1, 2), (3, 3), (7, 2)] {
        let case = Case::new(window_len, num_blocks);
        let mut leaves: Vec<Tensor> =
            case.inputs.iter().map(|x| x.to_kind(Kind::Double).set_requires_grad(true)).collect();
        let table = case.table.to_kind(Kind::Double).set_requires_grad(true);
        let output = case.fast(&leaves, &table);
        let weights = Tensor::randn(output.size(), (Kind::Double, Device::Cpu));
        (&output * &weights).sum(Kind::Double).backward();
        leaves.push(table);

        let weights = rows(&weights.reshape([window_len * num_blocks, -1]));
        let loss = |inputs: &[Tensor]| -> f64 {
            let output = case.naive(&inputs[..5], &inputs[5]);
            output.iter().flatten().zip(weights.iter().flatten()).map(|(y, w)| y * w).sum()
        };
        for changed in 0..leaves.len() {
            let direction = leaves[changed].detach().randn_like();
            let moved = |sign: f64| -> Vec<Tensor> {
                let shift = |(i, x): (usize, &Tensor)| {
                    if i == changed { x.detach() + &direction * (sign * STEP) } else { x.detach() }
                };
                leaves.iter().enumerate().map(shift).collect()
            };
            let want = (loss(&moved(1.)) - loss(&moved(-1.))) / (2. * STEP);
            let got = (leaves[changed].grad() * &direction).sum(Kind::Double).double_value(&[]);
            let size = want.abs().max(1.);
            assert!((got - want).abs() <= DIFFERENCES_TOLERANCE * size, "input {changed}: {got} {want}");
        }
    }
}

#[test]
fn attention_to_states_equals_loops() {
    for (queries, keys) in [(1, 1), (3, 63), (63, 3)] {
        tch::manual_seed(queries);
        let draw = |len| Tensor::randn([1, 1, len, 5], (Kind::Float, Device::Cpu));
        let (q, k, v) = (draw(queries), draw(keys), draw(keys));
        let flat = |x: &Tensor| rows(&x.reshape([-1, 5]));
        let got = flat(&attention(&(&q * TEMPERATURE), &k, &v, None, None));
        let want = naive::full_attention(&flat(&q), &flat(&k), &flat(&v), TEMPERATURE);
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() <= TOLERANCE, "{got} {want}");
        }
    }
}
