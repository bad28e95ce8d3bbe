//! Adafactor's update of a matrix with factored second moments, as three passes over memory.

#[cfg(test)]
mod tests;

use tch::{Device, Kind, Tensor};

use crate::{
    memory::{Slots, slice},
    simd::{Simd, kernel},
    threads::{self, TASK_VALUES},
};

/// Numbers of one update of [`update_matrix`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatrixStep {
    /// The update is multiplied by this.
    pub scale: f64,
    /// Decay of the momentum; `None` without momentum.
    pub beta: Option<f64>,
    /// Part of the parameter that is taken off it.
    pub weight_decay: f64,
}

/// Returns whether these functions can compute with a tensor: a contiguous float32 matrix on the CPU.
pub fn is_matrix(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu
        && tensor.kind() == Kind::Float
        && tensor.dim() == 2
        && tensor.is_contiguous()
        && tensor.numel() > 0
}

/// Returns the means of `gradient² + epsilon` over the last axis and over the first, `[m]` and `[n]`.
///
/// # Panics
/// For what is no matrix ([`is_matrix`]); so for all below.
#[track_caller]
pub fn mean_squares(gradient: &Tensor, epsilon: f64) -> [Tensor; 2] {
    let size = Sizes::of(gradient);
    let options = (Kind::Float, Device::Cpu);
    let by_row = Tensor::empty([size.rows as i64], options);
    let by_column = Tensor::zeros([size.num_tasks() as i64, size.columns as i64], options);
    let (g, rows) = (slice::<f32>(gradient), Slots::<f32>::new(&by_row, size.task));
    let columns = Slots::<f32>::new(&by_column, size.columns);
    threads::each(size.num_tasks(), |idx| {
        // SAFETY: each slot is one task's.
        unsafe { add_squares(&g[size.values(idx)], rows.of(idx), columns.of(idx)) };
    });
    let by_column = by_column.sum_dim_intlist(0, false, Kind::Float);
    [by_row / size.columns as f64 + epsilon, by_column / size.rows as f64 + epsilon]
}

/// Returns the root mean squares of `gradient · row_factor · column_factor` and of the parameter.
///
/// # Shapes
/// `gradient`, `parameter`: `[m, n]`; the factors: `[m]` and `[n]`.
#[track_caller]
pub fn matrix_rms(gradient: &Tensor, parameter: &Tensor, factors: [&Tensor; 2]) -> [f64; 2] {
    let size = Sizes::of(gradient);
    assert_eq!(parameter.size(), gradient.size(), "matrix_rms: shapes of gradient and parameter");
    size.check(factors);
    let factors = factors.map(Tensor::contiguous);
    let (g, p) = (slice::<f32>(gradient), slice::<f32>(parameter));
    let [row_factors, column_factors] = [&factors[0], &factors[1]].map(slice::<f32>);
    let by_task = Tensor::zeros([size.num_tasks() as i64, 2], (Kind::Float, Device::Cpu));
    let slots = Slots::<f32>::new(&by_task, 2);
    threads::each(size.num_tasks(), |idx| {
        let rows = &row_factors[size.rows(idx)];
        let mut sums = [0.; 2];
        // SAFETY: each slot is one task's.
        unsafe {
            sum_squares(&g[size.values(idx)], &p[size.values(idx)], rows, column_factors, &mut sums);
            slots.of(idx).copy_from_slice(&sums.map(|sum| sum as f32));
        }
    });
    let mean = by_task.sum_dim_intlist(0, false, Kind::Double) / size.count() as f64;
    [0, 1].map(|idx| mean.double_value(&[idx]).sqrt())
}

/// Takes `scale · gradient · row_factor · column_factor`, averaged by the momentum, off the parameter, in place.
///
/// # Shapes
/// As [`matrix_rms`]; `momentum`: `[m, n]`, present where `step.beta` is.
#[track_caller]
pub fn update_matrix(
    gradient: &Tensor,
    parameter: &Tensor,
    momentum: Option<&Tensor>,
    factors: [&Tensor; 2],
    step: MatrixStep,
) {
    let size = Sizes::of(gradient);
    assert_eq!(parameter.size(), gradient.size(), "update_matrix: shapes of gradient and parameter");
    assert_eq!(momentum.is_some(), step.beta.is_some(), "update_matrix: momentum and its decay");
    let mut memories = vec![gradient.data_ptr(), parameter.data_ptr()];
    memories.extend(momentum.map(Tensor::data_ptr));
    memories.sort_unstable();
    memories.dedup();
    assert_eq!(
        memories.len(),
        2 + momentum.iter().len(),
        "update_matrix: expected tensors of their own memory"
    );
    size.check(factors);
    let factors = factors.map(Tensor::contiguous);
    let [row_factors, column_factors] = [&factors[0], &factors[1]].map(slice::<f32>);
    let (g, parameters) = (slice::<f32>(gradient), Slots::<f32>::new(parameter, size.task_len()));
    let momentum = momentum.map(|momentum| {
        assert_eq!(momentum.size(), gradient.size(), "update_matrix: shapes of gradient and momentum");
        Slots::<f32>::new(momentum, size.task_len())
    });
    threads::each(size.num_tasks(), |idx| {
        let rows = &row_factors[size.rows(idx)];
        // SAFETY: each slot is one task's.
        unsafe {
            let momentum = momentum.as_ref().map(|momentum| momentum.of(idx));
            update_rows(&g[size.values(idx)], parameters.of(idx), momentum, rows, column_factors, step);
        }
    });
}

/// Sizes of a matrix, and of its parts that tasks compute.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    columns: usize,
    /// Rows of one task.
    task: usize,
}

impl Sizes {
    #[track_caller]
    fn of(matrix: &Tensor) -> Self {
        assert!(is_matrix(matrix), "expected a contiguous float32 matrix on the CPU, got {matrix:?}");
        let (rows, columns) = (matrix.size()[0] as usize, matrix.size()[1] as usize);
        Self { rows, columns, task: (TASK_VALUES / columns).max(1) }
    }

    /// Checks that there is a factor for each row and each column.
    #[track_caller]
    fn check(&self, factors: [&Tensor; 2]) {
        let got = factors.map(Tensor::size);
        assert_eq!(
            got,
            [[self.rows as i64], [self.columns as i64]],
            "factors: expected one for each row and column"
        );
    }

    fn count(&self) -> usize {
        self.rows * self.columns
    }

    fn num_tasks(&self) -> usize {
        self.rows.div_ceil(self.task)
    }

    fn task_len(&self) -> usize {
        self.task * self.columns
    }

    fn rows(&self, idx: usize) -> std::ops::Range<usize> {
        idx * self.task..self.rows.min((idx + 1) * self.task)
    }

    fn values(&self, idx: usize) -> std::ops::Range<usize> {
        let rows = self.rows(idx);
        rows.start * self.columns..rows.end * self.columns
    }
}

kernel! {
    /// Writes the sum of squares of each row, and adds to those of the columns.
    unsafe fn add_squares(g: &[f32], rows: &mut [f32], columns: &mut [f32]) = add_squares_by
}

#[inline(always)]
unsafe fn add_squares_by<S: Simd>(g: &[f32], rows: &mut [f32], columns: &mut [f32]) {
    let width = columns.len();
    let whole = width - width % S::LANES;
    for (g, row) in g.chunks_exact(width).zip(rows) {
        // SAFETY: the caller's; all reads and writes end before the whole vectors do.
        let mut sum = unsafe {
            let mut sums = S::splat(0.);
            for j in (0..whole).step_by(S::LANES) {
                let x = S::load(g.as_ptr().add(j));
                let square = x.mul(x);
                sums = sums.add(square);
                let to = columns.as_mut_ptr().add(j);
                S::load(to).add(square).store(to);
            }
            sums.sum()
        };
        for j in whole..width {
            sum += g[j] * g[j];
            columns[j] += g[j] * g[j];
        }
        *row = sum;
    }
}

kernel! {
    /// Adds the sums of squares of the scaled gradient and of the parameter.
    unsafe fn sum_squares(
        g: &[f32],
        p: &[f32],
        row_factors: &[f32],
        column_factors: &[f32],
        sums: &mut [f64; 2],
    ) = sum_squares_by
}

#[inline(always)]
unsafe fn sum_squares_by<S: Simd>(
    g: &[f32],
    p: &[f32],
    row_factors: &[f32],
    column_factors: &[f32],
    sums: &mut [f64; 2],
) {
    let width = column_factors.len();
    let whole = width - width % S::LANES;
    let rows = g.chunks_exact(width).zip(p.chunks_exact(width)).zip(row_factors);
    for ((g, p), row_factor) in rows {
        // SAFETY: the caller's; all reads end before the whole vectors do.
        let [mut of_update, mut of_parameter] = unsafe {
            let (mut updates, mut parameters) = (S::splat(0.), S::splat(0.));
            for j in (0..whole).step_by(S::LANES) {
                let (g, p) = (S::load(g.as_ptr().add(j)), S::load(p.as_ptr().add(j)));
                let y = g.mul(S::load(column_factors.as_ptr().add(j)));
                updates = y.mul_add(y, updates);
                parameters = p.mul_add(p, parameters);
            }
            [updates.sum(), parameters.sum()]
        };
        for j in whole..width {
            of_update += (g[j] * column_factors[j]).powi(2);
            of_parameter += p[j] * p[j];
        }
        sums[0] += f64::from(of_update) * f64::from(*row_factor).powi(2);
        sums[1] += f64::from(of_parameter);
    }
}

kernel! {
    /// Rows of one task.
    unsafe fn update_rows(
        g: &[f32],
        p: &mut [f32],
        momentum: Option<&mut [f32]>,
        row_factors: &[f32],
        column_factors: &[f32],
        step: MatrixStep,
    ) = update_rows_by
}

#[inline(always)]
unsafe fn update_rows_by<S: Simd>(
    g: &[f32],
    p: &mut [f32],
    mut momentum: Option<&mut [f32]>,
    row_factors: &[f32],
    column_factors: &[f32],
    step: MatrixStep,
) {
    let width = column_factors.len();
    let whole = width - width % S::LANES;
    let (keep, new) = step.beta.map_or((0., 1.), |beta| (beta as f32, (1. - beta) as f32));
    let remain = (1. - step.weight_decay) as f32;
    for (i, row_factor) in row_factors.iter().enumerate() {
        let at = i * width..(i + 1) * width;
        let (g, p) = (&g[at.clone()], &mut p[at.clone()]);
        let mut momentum = momentum.as_deref_mut().map(|momentum| &mut momentum[at]);
        let factor = row_factor * step.scale as f32 * new;
        // SAFETY: the caller's; all reads and writes end before the whole vectors do.
        unsafe {
            let (factors, keeps, remains) = (S::splat(factor), S::splat(keep), S::splat(remain));
            for j in (0..whole).step_by(S::LANES) {
                let mut update =
                    S::load(g.as_ptr().add(j)).mul(S::load(column_factors.as_ptr().add(j))).mul(factors);
                if let Some(momentum) = momentum.as_deref_mut() {
                    let momentum = momentum.as_mut_ptr().add(j);
                    update = S::load(momentum).mul_add(keeps, update);
                    update.store(momentum);
                }
                let to = p.as_mut_ptr().add(j);
                update.mul_add(S::splat(-1.), S::load(to).mul(remains)).store(to);
            }
        }
        for j in whole..width {
            let mut update = g[j] * column_factors[j] * factor;
            if let Some(momentum) = momentum.as_deref_mut() {
                update += momentum[j] * keep;
                momentum[j] = update;
            }
            p[j] = p[j] * remain - update;
        }
    }
}
