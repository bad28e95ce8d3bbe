//! Gradients of several processes.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::{
    super::{GradientReducer, ProcessGroup},
    well_on_each,
};

/// Values between -1 and 1.
fn values(seed: f64, shape: &[i64]) -> Tensor {
    let n: i64 = shape.iter().product();
    ((Tensor::arange(n, (Kind::Float, Device::Cpu)) + seed) * 1.3).sin().view(shape)
}

/// Two weights of every part, one of first parts alone, and one of none.
fn weights() -> Vec<Tensor> {
    let shapes: [&[i64]; 4] = [&[5, 7], &[7, 3], &[5], &[2]];
    let weight = |(idx, shape): (usize, &&[i64])| values(1. + idx as f64, shape).set_requires_grad(true);
    shapes.iter().enumerate().map(weight).collect()
}

fn loss(w: &[Tensor], x: &Tensor) -> Tensor {
    x.matmul(&w[0]).tanh().matmul(&w[1]).square().sum(Kind::Float)
}

fn loss_of_first_part(w: &[Tensor], x: &Tensor) -> Tensor {
    x.matmul(&w[2]).sin().sum(Kind::Float)
}

/// The gradients of parts of a batch on several processes, added up before they are summed, are those of the batch: also
/// where parameters get theirs in several backward passes within the one of the step.
#[test]
fn gradients_are_those_of_the_whole_batch() {
    for world_size in [2, 3] {
        well_on_each("reducer::gradients_are_those_of_the_whole_batch", world_size, |group| {
            for (num_parts, is_recomputed) in [(1, false), (2, false), (2, true)] {
                check_gradients(&group, num_parts, is_recomputed);
            }
        });
    }
}

/// Buckets are so small that each parameter has its own.
fn check_gradients(group: &Rc<ProcessGroup>, num_parts: usize, is_recomputed: bool) {
    let (w, whole) = (weights(), weights());
    let mut reducer = GradientReducer::with_buckets_of(64, Rc::clone(group), &w).unwrap();
    let mut places = vec![];
    for step in 0..4 {
        reducer.clear();
        crate::drop_gradients(&whole);
        let batch = values(f64::from(step), &[12, 5]);
        let rows = 12 / (group.world_size() * num_parts) as i64;
        let rows_of =
            |rank: usize, part: usize| batch.narrow(0, (rank * num_parts + part) as i64 * rows, rows);
        for part in 0..num_parts {
            if part + 1 == num_parts {
                reducer.begin();
            }
            let x = rows_of(group.rank(), part);
            crate::segments(|segments| {
                let first = if part == 0 { loss_of_first_part(&w, &x) } else { Tensor::from(0f32) };
                if !is_recomputed {
                    return segments.backward(&(loss(&w, &x) + first));
                }
                let halves = x.set_requires_grad(true).chunk(2, 0);
                let half = |half: &Tensor| {
                    let w: Vec<Tensor> = w.iter().map(Tensor::shallow_clone).collect();
                    segments.recompute(&[half], 1, move |x, _| vec![loss(&w, &x[0])]).remove(0)
                };
                segments.backward(&(half(&halves[0]) + half(&halves[1]) + first));
            });
        }
        assert_eq!(reducer.wait().unwrap(), 4 * (5 * 7 + 7 * 3 + 5 + 2));
        let first_parts = (0..group.world_size()).map(|rank| loss_of_first_part(&whole, &rows_of(rank, 0)));
        first_parts.fold(loss(&whole, &batch), |sum, nats| sum + nats).backward();
        assert!(!w[3].grad().defined());
        for (w, whole) in w.iter().zip(&whole).take(3) {
            let difference = (w.grad() - whole.grad()).abs().max().double_value(&[]);
            assert!(
                difference < 1e-5,
                "step {step}, {num_parts} parts, recomputed: {is_recomputed}: {difference}"
            );
            let all = group.all_gather(&w.grad()).unwrap();
            assert!(all.iter().all(|gradient| *gradient == all[0]), "not the same bits on all processes");
            places.push(w.grad().data_ptr());
        }
    }
    assert!(places.chunks(3).all(|step| step == &places[..3]), "gradients have moved");
}

/// Gradients that are not those of the first step, or of other processes, or elsewhere, are errors instead of wrong sums.
#[test]
fn gradients_that_do_not_fit_are_told() {
    well_on_each("reducer::gradients_that_do_not_fit_are_told", 2, |group| {
        let x = values(1., &[4, 5]);
        let error_of = |work: &dyn Fn(&[Tensor], &mut GradientReducer)| {
            let w = weights();
            let mut reducer = GradientReducer::new(Rc::clone(&group), &w).unwrap();
            work(&w, &mut reducer);
            reducer.wait().unwrap_err().to_string()
        };
        let error = error_of(&|w, reducer| {
            reducer.begin();
            loss(w, &x).backward();
        });
        assert!(error.contains("expected gradients to be cleared before a step"), "{error}");
        let error = error_of(&|w, reducer| {
            reducer.clear();
            reducer.begin();
            if group.rank() == 0 { loss(w, &x) } else { loss_of_first_part(w, &x) }.backward();
        });
        assert!(error.contains("expected gradients of the same parameters on all processes"), "{error}");
        let error = error_of(&|w, reducer| {
            for step in 0..2 {
                reducer.clear();
                reducer.begin();
                if step == 0 {
                    loss(w, &x).backward();
                    reducer.wait().unwrap();
                } else {
                    (loss(w, &x) + loss_of_first_part(w, &x)).backward();
                }
            }
        });
        assert!(error.contains("expected gradients of the same parameters as in the first step"), "{error}");
    });
}
