//! The kernel against its formula in float64 tensor operations: values and all gradients, at odd sizes.

use tch::{Device, Kind, Tensor};

use super::{Attention, Window, attention};
use crate::simd::Level;

/// Float32 rounding through two products and a softmax, of the largest value.
const ROUNDING: f64 = 2e-6;
/// One rounding to bfloat16 (2⁻⁹) of inputs, which both sides share, and of the result.
const BFLOAT16_ROUNDING: f64 = 4e-3;

/// Sizes and options of one comparison.
#[derive(Debug, Clone, Copy)]
struct Case {
    blocks: i64,
    /// Blocks of the keys: as many, or one that all queries see.
    key_blocks: i64,
    batch: i64,
    heads: i64,
    num_queries: i64,
    piece_len: i64,
    width: i64,
    has_before: bool,
    is_before_detached: bool,
    /// Length and offset.
    window: Option<(i64, i64)>,
    has_bias: bool,
    has_multiplier: bool,
    kind: Kind,
}

impl Case {
    /// Blocks of W tokens that see W tokens back.
    fn windowed(blocks: i64, batch: i64, heads: i64, window_len: i64, width: i64) -> Self {
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
    fn unmasked(blocks: i64, num_queries: i64, piece_len: i64, width: i64) -> Self {
        Self {
            num_queries,
            piece_len,
            has_before: false,
            window: None,
            has_bias: false,
            ..Self::windowed(blocks, 2, 3, 1, width)
        }
    }

    fn num_keys(&self) -> i64 {
        self.piece_len * if self.has_before { 2 } else { 1 }
    }

    /// Inputs that lie in memory as those of a layer do: heads next to each other, not contiguous.
    fn inputs(&self) -> Vec<Tensor> {
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

    fn multiplier(&self) -> Option<Tensor> {
        let size = [self.heads, self.num_queries, self.num_keys()];
        let keep = || Tensor::full(size, 0.75, (Kind::Float, Device::Cpu)).bernoulli() / 0.75;
        self.has_multiplier.then(keep)
    }

    fn fused(&self, inputs: &[Tensor], multiplier: Option<&Tensor>) -> Tensor {
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
    fn composed(&self, inputs: &[Tensor], multiplier: Option<&Tensor>) -> Tensor {
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

    fn check(&self) {
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
        let rounding = if self.kind == Kind::BFloat16 { BFLOAT16_ROUNDING } else { ROUNDING };
        let equal = |name: &str, got: &Tensor, wanted: &Tensor| {
            let error = (got - wanted).abs().max().double_value(&[]);
            // A value for each head is a sum over all queries, whose roundings add up while the terms cancel.
            let num_terms = if wanted.dim() == 1 { self.blocks * self.batch * self.num_queries } else { 1 };
            let size = wanted.abs().max().double_value(&[]).max((num_terms as f64).sqrt() - 1.);
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

#[test]
fn windows_equal_the_formula() {
    Level::each(|_| check_windows());
}

fn check_windows() {
    for (blocks, batch, heads, window_len, width) in [
        (1, 1, 1, 1, 1),
        (2, 1, 2, 3, 5),
        (3, 2, 3, 7, 16),
        (2, 2, 1, 63, 33),
        (3, 1, 2, 64, 64),
        (2, 1, 1, 130, 80),
    ] {
        let case = Case::windowed(blocks, batch, heads, window_len, width);
        case.check();
        Case { is_before_detached: true, ..case }.check();
        Case { has_multiplier: true, ..case }.check();
        Case { has_bias: false, ..case }.check();
        // A window that stands alone: its first query sees nothing.
        Case { has_before: false, window: Some((window_len, 0)), ..case }.check();
        Case { kind: Kind::BFloat16, has_multiplier: true, ..case }.check();
    }
}

#[test]
fn all_keys_equal_the_formula() {
    Level::each(|_| check_all_keys());
}

fn check_all_keys() {
    for (blocks, num_queries, piece_len, width) in
        [(1, 1, 1, 1), (2, 5, 3, 7), (3, 64, 31, 32), (1, 13, 129, 64)]
    {
        let case = Case::unmasked(blocks, num_queries, piece_len, width);
        case.check();
        Case { key_blocks: 1, ..case }.check();
        Case { has_multiplier: true, kind: Kind::BFloat16, ..case }.check();
        Case { has_before: true, ..case }.check();
    }
}

/// Two threads give what one gives, bit for bit.
#[test]
fn the_number_of_threads_changes_nothing() {
    let _turn = crate::tests::take_turn();
    let case = Case::windowed(2, 3, 2, 17, 8);
    let run = |num_threads| {
        let before = tch::get_num_threads();
        tch::set_num_threads(num_threads);
        tch::manual_seed(2);
        let inputs = case.inputs();
        case.fused(&inputs, None).square().sum(Kind::Float).backward();
        tch::set_num_threads(before);
        inputs.iter().map(Tensor::grad).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(2));
}

/// What is no number is not lost: a query without gives a read without, and no other.
#[test]
fn nan_stays() {
    Level::each(|level| {
        let case = Case::windowed(1, 1, 1, 9, 4);
        tch::manual_seed(3);
        let inputs: Vec<Tensor> = case.inputs().iter().map(Tensor::detach).collect();
        let _ = inputs[0].get(0).get(0).get(0).get(5).fill_(f64::NAN);
        let read = case.fused(&inputs, None).view([9, 4]);
        for i in 0..9 {
            let is_nan = read.get(i).isnan().all().int64_value(&[]) == 1;
            let is_finite = read.get(i).isfinite().all().int64_value(&[]) == 1;
            assert!(if i == 5 { is_nan } else { is_finite }, "{level:?}: query {i}");
        }
    });
}

/// A gradient that is the same everywhere comes without memory of its own; heads may lie in any order.
#[test]
fn any_strides_are_read() {
    let _turn = crate::tests::take_turn();
    let case = Case::windowed(2, 2, 3, 9, 8);
    tch::manual_seed(5);
    let inputs = case.inputs();
    let gradients = |inputs: &[Tensor], sum: &dyn Fn(&Tensor) -> Tensor| {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach().set_requires_grad(true)).collect();
        sum(&case.fused(&inputs, None)).backward();
        inputs.iter().map(Tensor::grad).collect::<Vec<_>>()
    };
    let expected = gradients(&inputs, &|read| (read * read.ones_like()).sum(Kind::Float));
    assert_eq!(gradients(&inputs, &|read| read.sum(Kind::Float)), expected);
    let turn = |x: &Tensor| match x.dim() {
        5 => x.transpose(-1, -2).contiguous().transpose(-1, -2),
        _ => x.shallow_clone(),
    };
    let turned: Vec<Tensor> = inputs.iter().map(turn).collect();
    assert!(turned[0].stride()[4] != 1);
    assert_eq!(gradients(&turned, &|read| read.sum(Kind::Float)), expected);
}

/// Of no blocks there is nothing to read, and no gradient.
#[test]
fn no_blocks() {
    let _turn = crate::tests::take_turn();
    let case = Case { blocks: 0, key_blocks: 1, ..Case::unmasked(1, 4, 3, 8) };
    let inputs = case.inputs();
    case.fused(&inputs, None).sum(Kind::Float).backward();
    assert_eq!(inputs[1].grad(), inputs[1].zeros_like());
}

/// Logits below the invisible key's read almost nothing, as in the official code; very large ones do not overflow.
#[test]
fn logits_of_any_size() {
    let x = |values: &[f32]| Tensor::from_slice(values).view([1, 1, 1, -1, 1]);
    let read = |query: f32| {
        let (queries, keys, values) = (x(&[query]), x(&[1., 2.]), x(&[3., 5.]));
        let inputs = Attention {
            queries: &queries,
            temperature: None,
            keys: &keys,
            values: &values,
            before: None,
            is_before_detached: false,
            window: None,
            multiplier: None,
        };
        attention(&inputs).double_value(&[0, 0, 0, 0, 0])
    };
    assert_eq!(read(1e30), 5.);
    assert!((read(-1000.) - 1.5).abs() < 1e-6); // The key's logit is that of the invisible one.
    assert!(read(-2000.) < 1e-30);
}

#[test]
#[should_panic(
    expected = "keys: expected blocks, rows, heads and width of [2, 1, 1, 4, 8], got [2, 1, 2, 4, 8]"
)]
fn other_heads_are_refused() {
    let x = |heads| Tensor::zeros([2, 1, heads, 4, 8], (Kind::Float, Device::Cpu));
    let case = Case { batch: 1, ..Case::unmasked(2, 4, 4, 8) };
    drop(case.fused(&[x(1), x(2), x(2), x(1)], None));
}
