//! Attention of one query in each row, every row with keys of its own.

use tch::{Device, Kind, Tensor};

use crate::{
    attention::softmax,
    memory::{Slots, slice, with_kinds},
    simd::{Element, Simd, dot, kernel},
    threads,
};

/// Keys and values that the query of one row sees, in float32 or bfloat16 on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct RowKeys<'a> {
    /// `[1, H, len, D]`, the last axis contiguous.
    pub keys: &'a Tensor,
    /// As the keys.
    pub values: &'a Tensor,
    /// How many of them are seen, from the first on.
    pub num_seen: i64,
    /// Added to the logits, `[H, R]`, from this place of each row on.
    pub bias: Option<(&'a Tensor, i64)>,
}

/// Heads of one row in memory.
struct Row<E> {
    keys: Heads<E>,
    values: Heads<E>,
    num_seen: usize,
    /// First value, values of a head.
    bias: Option<(*const f32, usize)>,
}

/// Where heads lie in a tensor `[1, H, len, D]`.
struct Heads<E> {
    start: *const E,
    head_stride: usize,
    stride: usize,
}

// SAFETY: the memory is only read.
unsafe impl<E> Sync for Row<E> {}

impl<E: Element> Heads<E> {
    fn new(tensor: &Tensor, [num_heads, head_dim]: [i64; 2], num_seen: i64) -> Self {
        let (size, stride) = (tensor.size(), tensor.stride());
        assert!(
            tensor.kind() == E::KIND
                && tensor.device() == Device::Cpu
                && matches!(size.as_slice(), [1, h, len, d] if [*h, *d] == [num_heads, head_dim] && (0..=*len).contains(&num_seen))
                && stride[3] == 1,
            "row_attention: expected {:?} [1, {num_heads}, {num_seen} or more, {head_dim}] on the CPU, got {tensor:?}",
            E::KIND
        );
        Self { start: tensor.data_ptr().cast(), head_stride: stride[1] as usize, stride: stride[2] as usize }
    }
}

/// Returns `softmax(temperature · query · keysᵀ + bias) · values`, with one more, invisible logit of −1000 in the softmax: a
/// query that sees no key reads zeros.
///
/// # Shapes
/// `queries` (float32) and the result: `[B, H, 1, D]`; `temperature`: `[H]`; `rows`: B.
///
/// # Panics
/// Where shapes, devices or kinds disagree with that.
#[track_caller]
pub fn row_attention(queries: &Tensor, temperature: Option<&Tensor>, rows: &[RowKeys]) -> Tensor {
    let [batch, num_heads, one, head_dim] = queries.size().try_into().expect("row_attention: [B, H, 1, D]");
    assert_eq!([batch, one], [rows.len() as i64, 1], "row_attention: expected a query for each row");
    let queries = match temperature {
        Some(temperature) => queries * temperature.view([-1, 1, 1]),
        None => queries.shallow_clone(),
    };
    let queries = queries.contiguous();
    let read = Tensor::empty([batch, num_heads, 1, head_dim], (Kind::Float, Device::Cpu));
    let shape = [num_heads, head_dim];
    with_kinds!([E = rows.first().map_or(Kind::Float, |row| row.keys.kind())] read_rows::<E>(&queries, rows, shape, &read));
    read
}

fn read_rows<E: Element>(queries: &Tensor, rows: &[RowKeys], shape: [i64; 2], read: &Tensor) {
    let [num_heads, width] = shape.map(|n| n as usize);
    let rows: Vec<Row<E>> = rows.iter().map(|row| row.checked(shape)).collect();
    let (all, slots) = (slice::<f32>(queries), Slots::<f32>::new(read, width));
    threads::each(rows.len() * num_heads, |task| {
        let (row, head) = (&rows[task / num_heads], task % num_heads);
        // SAFETY: each slot is one task's; the shapes were checked.
        unsafe { read_head(&all[task * width..(task + 1) * width], row, head, slots.of(task)) };
    });
}

impl RowKeys<'_> {
    #[track_caller]
    fn checked<E: Element>(&self, shape: [i64; 2]) -> Row<E> {
        let bias = self.bias.map(|(bias, start)| {
            let width = bias.size().last().copied().unwrap_or_default();
            assert!(
                bias.size() == [shape[0], width] && start >= 0 && start + self.num_seen <= width,
                "row_attention: expected a bias of {} heads and {} keys from {start} on, got {bias:?}",
                shape[0],
                self.num_seen
            );
            let values = slice::<f32>(bias);
            (values[start as usize..].as_ptr(), width as usize)
        });
        Row {
            keys: Heads::new(self.keys, shape, self.num_seen),
            values: Heads::new(self.values, shape, self.num_seen),
            num_seen: self.num_seen as usize,
            bias,
        }
    }
}

kernel! {
    unsafe fn read_head<E: Element>(query: &[f32], row: &Row<E>, head: usize, read: &mut [f32]) = read_head_by
}

#[inline(always)]
unsafe fn read_head_by<S: Simd, E: Element>(query: &[f32], row: &Row<E>, head: usize, read: &mut [f32]) {
    read.fill(0.);
    if row.num_seen == 0 {
        return;
    }
    // SAFETY: the caller's: heads, keys and bias are inside their tensors.
    unsafe {
        let keys = row.keys.start.add(head * row.keys.head_stride);
        let mut weights = vec![0.; row.num_seen];
        for (j, logit) in weights.iter_mut().enumerate() {
            let key = std::slice::from_raw_parts(keys.add(j * row.keys.stride), query.len());
            *logit = dot::<S, f32, E>(query, key);
        }
        let bias = row
            .bias
            .map(|(start, stride)| std::slice::from_raw_parts(start.add(head * stride), row.num_seen));
        let (_, factor) = softmax::<S>(&mut weights, 1., bias);
        let values = row.values.start.add(head * row.values.head_stride);
        add_values::<S, E>(&weights, factor, (values, row.values.stride), read);
    }
}

/// Adds `factor · Σ weight · value` to what is read.
///
/// # Safety
/// The instruction set is there, and `values` has a row for each weight, as wide as `read`.
#[inline(always)]
unsafe fn add_values<S: Simd, E: Element>(
    weights: &[f32],
    factor: f32,
    (values, stride): (*const E, usize),
    read: &mut [f32],
) {
    let width = read.len();
    let mut start = 0;
    // SAFETY: the caller's.
    unsafe {
        // Four vectors at once, so that sums do not wait for each other.
        while start + 4 * S::LANES <= width {
            let mut sums = [S::splat(0.); 4];
            for (j, weight) in weights.iter().enumerate() {
                let (weight, value) = (S::splat(*weight), values.add(j * stride + start));
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = E::load::<S>(value.add(v * S::LANES)).mul_add(weight, *sum);
                }
            }
            for sum in sums {
                sum.mul(S::splat(factor)).store(read.as_mut_ptr().add(start));
                start += S::LANES;
            }
        }
        for (d, read) in read.iter_mut().enumerate().skip(start) {
            for (j, weight) in weights.iter().enumerate() {
                *read += factor * weight * (*values.add(j * stride + d)).value();
            }
        }
    }
}
