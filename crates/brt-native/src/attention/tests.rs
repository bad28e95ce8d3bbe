//! The kernel against its formula in float64 tensor operations: values and all gradients, at odd sizes.

mod case;

use tch::{Device, Kind, Tensor};

use self::case::Case;
use super::{Attention, attention};
use crate::{simd::Level, tests::with_threads};

const KINDS: [Kind; 2] = [Kind::Float, Kind::BFloat16];

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
        for kind in KINDS {
            let case = Case { kind, ..Case::windowed(blocks, batch, heads, window_len, width) };
            case.check();
            Case { is_before_detached: true, ..case }.check();
            Case { has_multiplier: true, ..case }.check();
            Case { has_bias: false, ..case }.check();
            // A window that stands alone: its first query sees nothing.
            Case { has_before: false, window: Some((window_len, 0)), ..case }.check();
        }
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
        for kind in KINDS {
            let case = Case { kind, ..Case::unmasked(blocks, num_queries, piece_len, width) };
            case.check();
            Case { key_blocks: 1, ..case }.check();
            Case { has_multiplier: true, ..case }.check();
            Case { has_before: true, ..case }.check();
        }
    }
}

/// Two threads give what one gives, bit for bit: eight runs of three heads, and one of all.
#[test]
fn the_number_of_threads_changes_nothing() {
    let cases = KINDS.into_iter().flat_map(|kind| [17, 63].map(|len| (kind, len)));
    Level::each(|level| {
        for (kind, len) in cases.clone() {
            let case = Case { kind, ..Case::windowed(2, 8, 3, len, 8) };
            let gradients = |num_threads| with_threads(num_threads, || gradients(&case));
            assert_eq!(gradients(1), gradients(2), "{level:?} {kind:?} {len}");
        }
    });
}

fn gradients(case: &Case) -> Vec<Tensor> {
    tch::manual_seed(2);
    let inputs = case.inputs();
    case.fused(&inputs, None).square().sum(Kind::Float).backward();
    inputs.iter().map(Tensor::grad).collect()
}

/// What is no number is not lost: a query without gives a read without, and no other; keys of the block after it have a gradient
/// (those next to keys that it sees need not: they are multiplied together).
#[test]
fn nan_stays() {
    let cases = KINDS.into_iter().flat_map(|kind| [9, 63].map(|len| (kind, len)));
    Level::each(|level| cases.clone().for_each(|(kind, len)| check_nan(level, kind, len)));
}

fn check_nan(level: Level, kind: Kind, len: i64) {
    let case = Case { kind, ..Case::windowed(2, 1, 1, len, 4) };
    tch::manual_seed(3);
    let inputs = case.inputs();
    let at = len - 4;
    let _ = inputs[0].detach().get(0).get(0).get(0).get(at).fill_(f64::NAN);
    let read = case.fused(&inputs, None);
    read.sum(Kind::Float).backward();
    let is = |x: &Tensor| x.all().int64_value(&[]) == 1;
    for i in 0..2 * len {
        let row = read.view([2 * len, 4]).get(i);
        let is_kept = if i == at { is(&row.isnan()) } else { is(&row.isfinite()) };
        assert!(is_kept, "{level:?} {kind:?}: query {i} of {len}");
    }
    let of_last_block = inputs[1].grad().get(1);
    assert!(is(&of_last_block.isfinite()), "{level:?} {kind:?}: keys of the block after it");
}

/// Heads that follow each other in one scratch have nothing of each other, not even what is no number.
#[test]
fn heads_stay_apart() {
    let windowed = |len, width| Case::windowed(2, 1, 3, len, width);
    let unmasked = |num_queries| Case { batch: 1, ..Case::unmasked(2, num_queries, 21, 40) };
    let cases = [
        windowed(9, 5),
        windowed(63, 33),
        Case { is_before_detached: true, ..windowed(17, 16) },
        Case { has_multiplier: true, ..windowed(17, 16) },
        unmasked(13),
        Case { key_blocks: 1, ..unmasked(53) },
    ];
    Level::each(|level| {
        for case in cases.into_iter().flat_map(|case| KINDS.map(|kind| Case { kind, ..case })) {
            with_threads(1, || {
                let [spoiled, whole] = [f64::NAN, 0.5].map(|value| of_middle_head(&case, value));
                assert_eq!(spoiled, whole, "{level:?}: {case:?}");
            });
        }
    });
}

/// Returns what the second of three heads reads, and all of its gradients, where the others have but one number.
fn of_middle_head(case: &Case, others: f64) -> Vec<Tensor> {
    tch::manual_seed(4);
    let inputs = case.inputs();
    let heads_axis = |x: &Tensor| if x.dim() >= 4 { x.dim() as i64 - 3 } else { 0 };
    for x in &inputs {
        for head in [0, 2] {
            let _ = x.detach().select(heads_axis(x), head).fill_(others);
        }
    }
    let read = case.fused(&inputs, case.multiplier().as_ref());
    read.square().sum(Kind::Float).backward();
    let gradients = inputs.iter().map(|x| (x, x.grad())).filter(|(_, gradient)| gradient.defined());
    let gradients = gradients.map(|(x, gradient)| gradient.select(heads_axis(x), 1));
    [read.detach().select(2, 1)].into_iter().chain(gradients).collect()
}

/// Kinds need not be alike: what stands before may be rounded already, or keys not at all.
#[test]
fn kinds_may_differ() {
    Level::each(|level| {
        tch::manual_seed(6);
        let case = Case { kind: Kind::BFloat16, ..Case::windowed(2, 2, 2, 18, 24) };
        let inputs = case.inputs();
        let kinds: [&[usize]; 3] = [&[3, 4], &[0, 3, 4], &[1]];
        let read = |which: &[usize], kind: Kind| {
            let turn = |(idx, x): (usize, &Tensor)| {
                if which.contains(&idx) { x.to_kind(Kind::BFloat16).to_kind(kind) } else { x.shallow_clone() }
            };
            let inputs: Vec<Tensor> = inputs.iter().enumerate().map(turn).collect();
            tch::no_grad(|| case.fused(&inputs, None).to_kind(Kind::Double))
        };
        for which in kinds {
            let [rounded, wide] = [Kind::BFloat16, Kind::Float].map(|kind| read(which, kind));
            let error = (rounded - &wide).abs().max().double_value(&[]);
            assert!(error <= 1e-2 * wide.abs().max().double_value(&[]), "{level:?} {which:?}: {error:e}");
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

/// Logits below the invisible key's read almost nothing, as in the official code; very large ones do not overflow, and are
/// the same in the backward pass.
#[test]
fn logits_of_any_size() {
    let x = |values: &[f32]| Tensor::from_slice(values).view([1, 1, 1, -1, 1]);
    let read = |query: f32, temperature: Option<f32>, values: &Tensor| {
        let temperature = temperature.map(|value| Tensor::from_slice(&[value]));
        attention(&Attention {
            queries: &x(&[query]),
            temperature: temperature.as_ref(),
            keys: &x(&[1., 2.]),
            values,
            before: None,
            is_before_detached: false,
            window: None,
            multiplier: None,
        })
    };
    Level::each(|level| {
        let values = x(&[3., 5.]).set_requires_grad(true);
        let value = |query| read(query, None, &values).double_value(&[0, 0, 0, 0, 0]);
        assert_eq!(value(1e30), 5.);
        assert!((value(-1000.) - 1.5).abs() < 1e-6); // The key's logit is that of the invisible one.
        assert!(value(-2000.) < 1e-30);
        read(1e30, Some(3.), &values).backward();
        let gradient = |j: i64| values.grad().view(-1).double_value(&[j]);
        assert!(gradient(0) < 1e-37 && gradient(1) == 1., "{level:?}: {:?}", values.grad());
    });
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
