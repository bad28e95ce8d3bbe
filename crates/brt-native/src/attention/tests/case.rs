//! One comparison of the kernel with its formula: inputs, both ways, values and gradients.

use tch::{Device, Kind, Tensor};

use super::super::{Attention, Window, attention};
use crate::simd::Level;

/// Float32 rounding through two products and a softmax, of the largest value: 1.8e-6 at most where it was measured.
const ROUNDING: f64 = 2e-6;
/// The same of a temperature's gradient, where the terms of all queries cancel: 3.4e-6 at most.
const CANCELLING: f64 = 4e-6;
/// One rounding to bfloat16 (2⁻⁹) of inputs, which both sides share, and of the result.
const BFLOAT16_ROUNDING: f64 = 4e-3;
/// Where bfloat16 is multiplied in pairs, weights and gradients of logits are rounded, too: 7.3e-3 where it was measured, in a
/// temperature's gradient.
const PAIRS_ROUNDING: f64 = 1e-2;

/// Sizes and options of one comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) blocks: i64,
    /// Blocks of the keys: as many, or one that all queries see.
    pub(super) key_blocks: i64,
    pub(super) batch: i64,
    pub(super) heads: i64,
    pub(super) num_queries: i64,
    pub(super) piece_len: i64,
    pub(super) width: i64,
    pub(super) has_before: bool,
    pub(super) is_before_detached: bool,
    /// Length and offset.
    pub(super) window: Option<(i64, i64)>,
    pub(super) has_bias: bool,
    pub(super) has_multiplier: bool,
    pub(super) kind: Kind,
}

impl Case {
    /// Blocks of W tokens that see W tokens back.
    pub(super) fn windowed(blocks: i64, batch: i64, heads: i64, window_len: i64, width: i64) -> Self {
        Self {
            blocks,
            key_blocks: blocks,
            batch,
            heads,
            num_queries: window_len,
            piece_len: window_len,
            width,
            has_before: true,
            is_before_detached: false,
            window: Some((window_len, window_len)),
            has_bias: true,
            has_multiplier: false,
            kind: Kind::Float,
        }
    }

    /// Queries that see all keys of their block.
    pub(super) fn unmasked(blocks: i64, num_queries: i64, piece_len: i64, width: i64) -> Self {
        Self {
            num_queries,
            piece_len,
            has_before: false,
            window: None,
            has_bias: false,
            ..Self::windowed(blocks, 2, 3, 1, width)
        }
    }

    pub(super) fn num_keys(&self) -> i64 {
        self.piece_len * if self.has_before { 2 } else { 1 }
    }

    /// Inputs that lie in memory as those of a layer do: heads next to each other, not contiguous.
    pub(super) fn inputs(&self) -> Vec<Tensor> {
        let Self { blocks, key_blocks, batch, heads, num_queries, piece_len, width, .. } = *self;
        let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let heads_apart = |n: i64, len: i64| {
            let all = draw(&[n, batch, len, 2 * heads * width]).to_kind(self.kind);
            all.narrow(-1, heads * width, heads * width).unflatten(-1, [heads, width]).transpose(2, 3)
        };
        let queries = heads_apart(blocks, num_queries) / (width as f64).sqrt();
        let mut inputs = vec![queries, heads_apart(key_blocks, piece_len)];
        inputs.push(heads_apart(key_blocks, piece_len));
        if self.has_before {
            inputs.push(draw(&[batch, heads, piece_len, width]));
            inputs.push(draw(&[batch, heads, piece_len, width]));
        }
        inputs.push(draw(&[heads]));
        if let (Some((len, _)), true) = (self.window, self.has_bias) {
            inputs.push(draw(&[heads, len]));
        }
        inputs.into_iter().map(|x| x.detach().set_requires_grad(true)).collect()
    }

    pub(super) fn multiplier(&self) -> Option<Tensor> {
        let size = [self.heads, self.num_queries, self.num_keys()];
        let keep = || Tensor::full(size, 0.75, (Kind::Float, Device::Cpu)).bernoulli() / 0.75;
        self.has_multiplier.then(keep)
    }

    pub(super) fn fused(&self, inputs: &[Tensor], multiplier: Option<&Tensor>) -> Tensor {
        let mut rest = inputs[3..].iter();
        let mut next = || rest.next().expect("an input");
        let before = self.has_before.then(|| [next(), next()]);
        let temperature = Some(next());
        let window =
            self.window.map(|(len, offset)| Window { len, offset, bias: self.has_bias.then(&mut next) });
        attention(&Attention {
            queries: &inputs[0],
            temperature,
            keys: &inputs[1],
            values: &inputs[2],
            before,
            is_before_detached: self.is_before_detached,
            window,
            multiplier,
        })
    }

    /// The formula, term by term.
    pub(super) fn composed(&self, inputs: &[Tensor], multiplier: Option<&Tensor>) -> Tensor {
        let mut rest = inputs[3..].iter();
        let before = self.has_before.then(|| [(); 2].map(|()| rest.next().expect("an input")));
        let seen = |own: &Tensor, idx: usize| match before {
            None => own.shallow_clone(),
            Some(before) => {
                let earlier = own.narrow(0, 0, self.blocks - 1);
                let earlier = if self.is_before_detached { earlier.detach() } else { earlier };
                let first = before[idx].unsqueeze(0);
                let first = if self.is_before_detached { first.detach() } else { first };
                Tensor::cat(&[&Tensor::cat(&[&first, &earlier], 0), own], 3)
            }
        };
        let (keys, values) = (seen(&inputs[1], 0), seen(&inputs[2], 1));
        let temperature = rest.next().expect("a temperature").view([-1, 1, 1]);
        let mut logits = inputs[0].matmul(&keys.transpose(-2, -1)) * temperature; // [n, B, H, q, k]
        if let Some((len, offset)) = self.window {
            let options = (Kind::Int64, Device::Cpu);
            let i = Tensor::arange(self.num_queries, options).unsqueeze(1) + offset;
            let distance = i - Tensor::arange(self.num_keys(), options).unsqueeze(0); // [q, k]
            if let Some(bias) = rest.next() {
                let idx = (len - &distance).clamp(0, len - 1).view(-1);
                logits = logits + bias.index_select(1, &idx).unflatten(1, distance.size());
            }
            let is_seen = distance.greater(0).logical_and(&distance.less_equal(len));
            logits = logits.where_scalarother(&is_seen, -1e6);
        }
        let mut size = logits.size();
        size[4] = 1;
        let invisible = Tensor::full(&size, -1000., (Kind::Double, Device::Cpu));
        let weights = Tensor::cat(&[&logits, &invisible], -1).softmax(-1, Kind::Double);
        let mut weights = weights.narrow(-1, 0, self.num_keys());
        if let Some(multiplier) = multiplier {
            weights = weights * multiplier;
        }
        weights.matmul(&values)
    }

    pub(super) fn check(&self) {
        tch::manual_seed(1);
        let inputs = self.inputs();
        let exact: Vec<_> =
            inputs.iter().map(|x| x.detach().to_kind(Kind::Double).set_requires_grad(true)).collect();
        let multiplier = self.multiplier();
        let (read, wanted) =
            (self.fused(&inputs, multiplier.as_ref()), self.composed(&exact, multiplier.as_ref()));
        assert_eq!(read.kind(), self.kind);
        let gradient = Tensor::randn(read.size(), (Kind::Float, Device::Cpu)).to_kind(self.kind);
        (&read * &gradient).sum(Kind::Float).backward();
        (&wanted * gradient.to_kind(Kind::Double)).sum(Kind::Double).backward();
        let rounding = match (self.kind, Level::best()) {
            (Kind::BFloat16, Level::Portable | Level::Avx512Bf16) => PAIRS_ROUNDING,
            (Kind::BFloat16, _) => BFLOAT16_ROUNDING,
            _ => ROUNDING,
        };
        let equal = |name: &str, got: &Tensor, wanted: &Tensor| {
            let error = (got - wanted).abs().max().double_value(&[]);
            // A value for each head is a sum over all queries, whose roundings add up while the terms cancel.
            let num_terms = if wanted.dim() == 1 { self.blocks * self.batch * self.num_queries } else { 1 };
            let size = wanted.abs().max().double_value(&[]).max((num_terms as f64).sqrt() - 1.);
            let rounding = if wanted.dim() == 1 { rounding.max(CANCELLING) } else { rounding };
            assert!(error <= rounding * size, "{self:?}: {name}: error {error:e} of {size}");
        };
        equal("value", &read, &wanted);
        for (idx, (x, exact)) in inputs.iter().zip(&exact).enumerate() {
            let is_detached = self.is_before_detached && (idx == 3 || idx == 4);
            if is_detached {
                assert!(!x.grad().defined(), "{self:?}: a detached block has no gradient");
            } else {
                assert_eq!(x.grad().kind(), x.kind());
                equal(&format!("gradient {idx}"), &x.grad(), &exact.grad());
            }
        }
        let unrecorded = tch::no_grad(|| self.fused(&inputs, multiplier.as_ref()));
        assert_eq!(unrecorded, read, "{self:?}: without a graph");
    }
}
