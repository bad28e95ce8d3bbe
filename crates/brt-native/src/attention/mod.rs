//! Attention in one piece on the CPU: no logits, weights or their gradients are ever stored.

mod backward;
mod band;
mod forward;
mod head;
mod packed;
mod rows;
mod scratch;
#[cfg(test)]
mod tests;
mod tile;
mod view;

use tch::{Device, Kind, Tensor};

pub(crate) use self::rows::softmax;
use self::{
    backward::{Flow, Gradients, Incoming, backward},
    band::{Band, Visible},
    forward::forward,
    head::Job,
    view::{Floats, View},
};
use crate::{
    attach,
    function::needs_gradient,
    memory::{Slots, has_kernels},
    threads,
};

/// What attends to what, of tensors in float32 or bfloat16 on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Queries of each block, normalised, `[n, B, H, q, D]`.
    pub queries: &'a Tensor,
    /// What logits are multiplied by before the bias, `[H]`.
    pub temperature: Option<&'a Tensor>,
    /// Keys of each block, `[n, B, H, k, D]`, or of one that all blocks see, `[1, B, H, k, D]`.
    pub keys: &'a Tensor,
    /// As the keys.
    pub values: &'a Tensor,
    /// Keys and values that stand before the first block, `[B, H, k, D]` each; every block then also sees the block before
    /// it, 2k keys in all.
    pub before: Option<[&'a Tensor; 2]>,
    /// Whether gradients reach the block before.
    pub is_before_detached: bool,
    /// Which keys each query sees; all of them where it is `None`.
    pub window: Option<Window<'a>>,
    /// Multiplies the weights, `[H, q, keys]`, the same in all blocks and rows: dropout.
    pub multiplier: Option<&'a Tensor>,
}

/// Which keys a query sees: key j lies `i + offset − j` tokens behind query i, which sees those from 1 to W tokens behind.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// W.
    pub len: i64,
    /// Distance from the first query back to the first key.
    pub offset: i64,
    /// Added to the logits, `[H, W]`: a value for each distance, from W down to 1.
    pub bias: Option<&'a Tensor>,
}

/// Returns whether [`attention`] can compute with such tensors.
pub fn has_attention(tensor: &Tensor) -> bool {
    has_kernels(tensor)
}

/// Returns `softmax(temperature · queries · keysᵀ + bias) ⊙ multiplier · values`, with one more, invisible logit of −1000 in the
/// softmax: a query that sees no key reads zeros. Sums and softmax are float32. Where queries, keys and values are bfloat16 and the
/// processor multiplies such pairs, weights, gradients of logits and what stands before are rounded to it for their products.
///
/// Only keys that a query sees cost anything. Memory beside inputs, output and their gradients is, for each thread, that of one
/// block of one head and of a few rows of logits; the backward pass computes them again.
///
/// # Shapes
/// As the fields say; result: `[n, B, H, q, D]`, of the kind of the queries, laid out as `[n, B, q, H, D]`.
///
/// # Panics
/// Where shapes, devices or kinds disagree with that.
///
/// ```
/// use brt_native::{Attention, Window, attention};
/// use tch::Tensor;
/// // One head of width 1, two tokens after one more; all logits are 0. The first token sees the one before, the second
/// // the first: never itself.
/// let x = Tensor::from_slice(&[1f32, 2.]).view([1, 1, 1, 2, 1]);
/// let before = Tensor::from_slice(&[7f32, 9.]).view([1, 1, 2, 1]);
/// let read = attention(&Attention {
///     queries: &x.zeros_like(),
///     temperature: None,
///     keys: &x,
///     values: &x,
///     before: Some([&before, &before]),
///     is_before_detached: false,
///     window: Some(Window { len: 1, offset: 2, bias: None }),
///     multiplier: None,
/// });
/// assert_eq!(read.view(-1), Tensor::from_slice(&[9f32, 1.]));
/// ```
#[track_caller]
pub fn attention(inputs: &Attention) -> Tensor {
    inputs.check();
    let bias = inputs.window.and_then(|window| window.bias);
    let mut differentiable = vec![inputs.queries, inputs.keys, inputs.values];
    differentiable.extend(inputs.before.into_iter().flatten());
    differentiable.extend(inputs.temperature);
    differentiable.extend(bias);
    let is_recorded = needs_gradient(&differentiable);
    let (read, log_sums) = tch::no_grad(|| inputs.run(is_recorded));
    let Some(log_sums) = log_sums else { return read };

    let plan = Plan {
        has_before: inputs.before.is_some(),
        has_temperature: inputs.temperature.is_some(),
        window: inputs.window.map(|window| (window.len, window.offset, window.bias.is_some())),
        flow: if inputs.is_before_detached { Flow::Stopped } else { Flow::Through },
        needs: differentiable.iter().map(|x| x.requires_grad()).collect(),
    };
    let mut saved = differentiable.clone();
    saved.push(&log_sums);
    saved.extend(inputs.multiplier);
    attach(&differentiable, vec![read], &saved, move |gradients, saved| plan.backward(&gradients[0], saved))
        .remove(0)
}

impl<'a> Attention<'a> {
    #[track_caller]
    fn check(&self) {
        let size = |name: &str, x: &Tensor, num_axes: usize| {
            assert!(has_attention(x), "{name}: expected float32 or bfloat16 on the CPU");
            let size = x.size();
            assert!(size.len() == num_axes, "{name}: expected {num_axes} dimensions, got {size:?}");
            size
        };
        let queries = size("queries", self.queries, 5);
        let keys = size("keys", self.keys, 5);
        assert_eq!(size("values", self.values, 5), keys, "values: expected the shape of the keys");
        let is_one_of = keys[0] == queries[0] || (keys[0] == 1 && self.before.is_none());
        let is_alike = [1, 2, 4].iter().all(|&axis| keys[axis] == queries[axis]);
        assert!(
            is_one_of && is_alike,
            "keys: expected blocks, rows, heads and width of {queries:?}, got {keys:?}"
        );
        for before in self.before.into_iter().flatten() {
            assert_eq!(size("before", before, 4), keys[1..], "before: expected one block of the keys");
        }
        self.check_numbers(queries[2], queries[3]);
    }

    /// Checks what there is for each head.
    #[track_caller]
    fn check_numbers(&self, heads: i64, num_queries: i64) {
        let numbers = [self.temperature, self.window.and_then(|window| window.bias), self.multiplier];
        for x in numbers.into_iter().flatten() {
            assert!(
                has_attention(x),
                "temperature, bias, multiplier: expected float32 or bfloat16 on the CPU"
            );
        }
        if let Some(window) = self.window {
            let (len, offset) = (window.len, window.offset);
            assert!(
                len >= 0 && offset >= 0,
                "window: expected no negative length and offset, got {len}, {offset}"
            );
        }
        if let Some(temperature) = self.temperature {
            assert_eq!(temperature.size(), [heads], "temperature: expected a value for each head");
        }
        if let Some((window, bias)) = self.window.and_then(|window| Some((window, window.bias?))) {
            assert_eq!(bias.size(), [heads, window.len], "bias: expected a value for each head and distance");
        }
        if let Some(multiplier) = self.multiplier {
            assert_eq!(
                multiplier.size(),
                [heads, num_queries, self.num_keys()],
                "multiplier: expected [H, q, keys]"
            );
        }
    }

    fn num_keys(&self) -> i64 {
        self.keys.size()[3] * if self.before.is_some() { 2 } else { 1 }
    }

    fn job(&self) -> Job {
        let band = |window: Window| Band { window_len: window.len as usize, offset: window.offset as usize };
        let (num_blocks, heads) = (self.queries.size()[0] as usize, self.queries.size()[2] as usize);
        let by_head = |bias: &Tensor| {
            let (len, bias) = (bias.size()[1] as usize, Floats::new(bias));
            (0..heads).map(|head| bias.values()[head * len..][..len].to_vec()).collect()
        };
        Job {
            queries: View::new(self.queries),
            pieces: [self.keys, self.values].map(View::new),
            before: self.before.map(|before| before.map(|x| View::new(&x.unsqueeze(0)))),
            visible: Visible { num_keys: self.num_keys() as usize, band: self.window.map(band) },
            num_blocks,
            num_heads: heads,
            is_shared: self.before.is_none() && self.keys.size()[0] == 1,
            temperature: self.temperature.map(|heads| Floats::new(heads).values().to_vec()),
            bias: self.window.and_then(|window| window.bias).map(by_head),
            multiplier: self.multiplier.map(Floats::new),
        }
    }

    /// Returns what the queries read, and, where it is asked for, the logarithms of the sums of exponentials, `[B, H, n, q]`.
    fn run(&self, wants_log_sums: bool) -> (Tensor, Option<Tensor>) {
        let [n, batch, heads, num_queries, width] = sizes(self.queries);
        let (job, out) = (self.job(), View::empty([n, batch, heads, num_queries, width], self.queries));
        let log_sums = Tensor::empty([batch, heads, n, num_queries], (Kind::Float, Device::Cpu));
        let sums = Slots::<f32>::new(&log_sums, (n * num_queries) as usize);
        threads::each_run((batch * heads) as usize, |run| {
            // SAFETY: each head is in one run.
            unsafe { forward(&job, run, &out, &sums) }
        });
        (out.into_tensor(), wants_log_sums.then_some(log_sums))
    }
}

fn sizes(x: &Tensor) -> [i64; 5] {
    x.size().try_into().expect("five dimensions were checked")
}

/// What the backward pass must know beside its tensors.
struct Plan {
    has_before: bool,
    has_temperature: bool,
    /// Length, offset, and whether there is a bias.
    window: Option<(i64, i64, bool)>,
    flow: Flow,
    /// Which of the inputs need a gradient.
    needs: Vec<bool>,
}

impl Plan {
    fn backward(&self, gradient: &Option<Tensor>, saved: &[Tensor]) -> Vec<Option<Tensor>> {
        let Some(gradient) = gradient else { return self.needs.iter().map(|_| None).collect() };
        tch::no_grad(|| self.gradients(gradient, saved))
    }

    /// Returns what was attended to, and the logarithms of the sums of exponentials.
    fn inputs<'a>(&self, saved: &'a [Tensor]) -> (Attention<'a>, &'a Tensor) {
        let mut rest = saved.iter();
        let mut next = || rest.next().expect("a saved tensor for each input");
        let (queries, keys, values) = (next(), next(), next());
        let before = self.has_before.then(|| [next(), next()]);
        let temperature = self.has_temperature.then(&mut next);
        let window =
            self.window.map(|(len, offset, has_bias)| Window { len, offset, bias: has_bias.then(&mut next) });
        let log_sums = next();
        let multiplier = rest.next();
        let is_before_detached = self.flow == Flow::Stopped;
        (
            Attention { queries, temperature, keys, values, before, is_before_detached, window, multiplier },
            log_sums,
        )
    }

    fn gradients(&self, gradient: &Tensor, saved: &[Tensor]) -> Vec<Option<Tensor>> {
        let (inputs, log_sums) = self.inputs(saved);
        let Attention { queries, keys, values, before, temperature, window, .. } = inputs;
        let (job, gradient) = (inputs.job(), View::new(gradient));
        let [n, batch, heads, _, _] = sizes(queries);
        let empty: fn(&Tensor) -> View = |like| View::empty(sizes(like), like);
        let zeros: fn(&Tensor) -> View = |like| View::new(&like.zeros_like());
        let needs_before = self.has_before && self.flow == Flow::Through && (self.needs[3] || self.needs[4]);
        let to = Gradients {
            queries: empty(queries),
            pieces: [keys, values].map(if n == 0 { zeros } else { empty }),
            before: before.filter(|_| needs_before).map(|before| before.map(|x| empty(&x.unsqueeze(0)))),
        };
        let bias = window.and_then(|window| window.bias);
        // For each head of each row its bias, and in the end its temperature.
        let bias_len = bias.map_or(0, |bias| bias.size()[1]);
        let by_head = Tensor::zeros([batch, heads, bias_len + 1], (Kind::Float, Device::Cpu));
        let (log_sums, slots) = (Floats::new(log_sums), Slots::<f32>::new(&by_head, bias_len as usize + 1));
        let from = Incoming { gradients: &gradient, log_sums: log_sums.values(), flow: self.flow };
        threads::each_run((batch * heads) as usize, |run| {
            // SAFETY: each head is in one run.
            unsafe { backward(&job, run, from, &to, &slots) }
        });
        let by_head = by_head.sum_dim_intlist(0, false, Kind::Float); // [H, W + 1]
        let Gradients { queries, pieces: [keys, values], before } = to;
        let mut all = vec![Some(queries.into_tensor()), Some(keys.into_tensor()), Some(values.into_tensor())];
        match before {
            Some(before) => all.extend(before.map(|x| Some(x.into_tensor().squeeze_dim(0)))),
            None if self.has_before => all.extend([None, None]),
            None => (),
        }
        all.extend(temperature.map(|t| Some(by_head.select(1, bias_len).to_kind(t.kind()))));
        all.extend(bias.map(|bias| Some(by_head.narrow(1, 0, bias_len).to_kind(bias.kind()))));
        all.into_iter().zip(&self.needs).map(|(gradient, needs)| gradient.filter(|_| *needs)).collect()
    }
}
