//! Keys, values and queries of one layer, for tokens and for recurrent states alike.

use brt_native::{HeadNorm, split_heads};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Linear, RmsNorm, init::Init, norm::EPSILON as UNIT_EPSILON, params::Scope};

/// What happens to queries and keys after their projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// Unit vectors; a learned temperature for each head scales the logits (the paper's models).
    Unit,
    /// Left as they are; queries are divided by √D and there is no temperature.
    None,
}

/// How a learned temperature scales logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Temperature {
    /// As it is (the 2022 release).
    Raw,
    /// By its absolute value (the 2025 release).
    Absolute,
}

/// Shape of a [`Projection`].
#[derive(Debug, Clone, Copy)]
pub struct ProjectionConfig {
    /// Width E of the residual stream.
    pub model_dim: i64,
    /// Number of heads H.
    pub num_heads: i64,
    /// Width D of a head; H·D may differ from E.
    pub head_dim: i64,
    /// Normalisation of queries and keys.
    pub qk_norm: QkNorm,
    /// How temperatures act under [`QkNorm::Unit`].
    pub temperature: Temperature,
    /// Number of learned identities added after the norm: the number of states S for a cell, `None` for tokens.
    pub num_states: Option<i64>,
    /// Whether a second set of queries exists, for attention between tokens and states.
    pub cross_queries: CrossQueries,
}

/// Whether a layer has the second set of queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossQueries {
    /// It attends to one thing only.
    Absent,
    /// It attends to a second thing: tokens to states, or states to tokens.
    Present,
}

/// Norm, optional identities, and the projections to keys, values and one or two sets of queries.
#[derive(Debug)]
pub struct Projection {
    norm: RmsNorm,
    state_ids: Option<Tensor>,         // [S, E]
    key: Linear,                       // [HD, E]
    value: Linear,                     // [HD, E]
    query: Linear,                     // [HD, E]
    cross_query: Option<Linear>,       // [HD, E]
    temperature: Option<Tensor>,       // [H]
    cross_temperature: Option<Tensor>, // [H]
    config: ProjectionConfig,
}

/// Keys, values and queries, ready for attention: `[.., H, len, D]` each.
#[derive(Debug)]
pub struct Projected {
    /// Keys, normalised under [`QkNorm::Unit`].
    pub keys: Tensor,
    /// Values.
    pub values: Tensor,
    /// Queries.
    pub queries: Queries,
    /// Second set of queries.
    pub cross_queries: Option<Queries>,
}

/// Queries of heads, and what their logits are multiplied by.
#[derive(Debug)]
pub struct Queries {
    /// Normalised under [`QkNorm::Unit`], else divided by √D, `[.., H, len, D]`.
    pub heads: Tensor,
    /// Temperature of each head under [`QkNorm::Unit`], `[H]`.
    pub temperature: Option<Tensor>,
}

impl Queries {
    /// Returns the queries multiplied by their temperatures, whose logits need nothing more: `[.., H, len, D]`.
    pub fn scaled(&self) -> Tensor {
        match &self.temperature {
            Some(a) => (&self.heads * a.view([-1, 1, 1])).to_kind(self.heads.kind()),
            None => self.heads.shallow_clone(),
        }
    }

    /// Returns queries that order keys as the logits do: a negative temperature turns the order around. Without gradient.
    ///
    /// # Shapes
    /// Result: `[.., H, len, D]`.
    pub fn ordering(&self) -> Tensor {
        match &self.temperature {
            Some(a) => self.heads.detach() * a.detach().sign().view([-1, 1, 1]),
            None => self.heads.detach(),
        }
    }
}

impl Projection {
    /// Returns a projection with drawn weights, gains and temperatures one, identities ~ N(0, 1).
    pub fn new(p: &Scope, config: ProjectionConfig) -> Self {
        let ProjectionConfig { model_dim, num_heads, head_dim, .. } = config;
        let linear = |name: &str| Linear::new(&(p / name), model_dim, num_heads * head_dim);
        let has_cross = config.cross_queries == CrossQueries::Present;
        let unit = config.qk_norm == QkNorm::Unit;
        let temperature = |name: &str| p.param(name, &[num_heads], Init::Ones);
        Self {
            norm: RmsNorm::new(&(p / "norm"), model_dim),
            state_ids: config
                .num_states
                .map(|num| p.param("state_ids", &[num, model_dim], Init::Normal { std: 1. })),
            key: linear("key"),
            value: linear("value"),
            query: linear("query"),
            cross_query: has_cross.then(|| linear("cross_query")),
            temperature: unit.then(|| temperature("temperature")),
            cross_temperature: (unit && has_cross).then(|| temperature("cross_temperature")),
            config,
        }
    }

    /// Returns the matrices of keys, values and queries as one, in the kind in which products are computed: made once for
    /// many calls of [`Self::forward_with`].
    ///
    /// # Shapes
    /// Result: `[L · HD, E]` of L matrices.
    pub fn weights(&self) -> Tensor {
        Linear::joined(&self.matrices())
    }

    fn matrices(&self) -> Vec<&Linear> {
        [&self.key, &self.value, &self.query].into_iter().chain(&self.cross_query).collect()
    }

    /// Returns keys, values and queries of `x`. `after_norm` acts on the normalised input (dropout).
    ///
    /// # Shapes
    /// `x`: `[.., len, E]`; results: `[.., H, len, D]`.
    pub fn forward(&self, x: &Tensor, after_norm: impl Fn(Tensor) -> Tensor) -> Projected {
        let u = self.input(x, after_norm);
        match Linear::few_rows(&self.matrices(), &u) {
            Some(joined) => self.split(&joined),
            None => self.split(&brt_native::linear(&u, &self.weights(), None)),
        }
    }

    /// As [`Self::forward`], with what [`Self::weights`] has returned.
    pub fn forward_with(
        &self,
        weights: &Tensor,
        x: &Tensor,
        after_norm: impl Fn(Tensor) -> Tensor,
    ) -> Projected {
        self.split(&brt_native::linear(&self.input(x, after_norm), weights, None))
    }

    /// Returns what the matrices multiply, `[.., len, E]`.
    fn input(&self, x: &Tensor, after_norm: impl Fn(Tensor) -> Tensor) -> Tensor {
        let u = after_norm(self.norm.forward(x));
        match &self.state_ids {
            Some(ids) => u + ids,
            None => u,
        }
    }

    /// Makes heads of the product with all matrices, `[.., len, L · HD]`.
    fn split(&self, joined: &Tensor) -> Projected {
        let norm = match self.config.qk_norm {
            QkNorm::Unit => HeadNorm::Unit,
            QkNorm::None => HeadNorm::None,
        };
        let shape = [self.config.num_heads, self.config.head_dim];
        let parts = match self.cross_query {
            None => split_heads(joined, [norm, HeadNorm::None, norm], shape, UNIT_EPSILON),
            Some(_) => split_heads(joined, [norm, HeadNorm::None, norm, norm], shape, UNIT_EPSILON),
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().expect("a part for each matrix");
        let (keys, values) = (next(), next());
        let queries = self.queries(next(), self.temperature.as_ref());
        let cross = self.cross_query.as_ref().map(|_| next());
        let cross_queries = cross.map(|heads| self.queries(heads, self.cross_temperature.as_ref()));
        Projected { keys, values, queries, cross_queries }
    }

    /// Returns `bias` scaled as the logits of self-attention are: the temperature multiplies logits and bias alike.
    ///
    /// # Shapes
    /// `bias` and the result: `[H, R]`, for each distance.
    pub fn scale_bias(&self, bias: &Tensor) -> Tensor {
        match &self.temperature {
            Some(a) => bias * self.factor(a).unsqueeze(1),
            None => bias.shallow_clone(),
        }
    }

    fn queries(&self, heads: Tensor, temperature: Option<&Tensor>) -> Queries {
        match temperature {
            Some(a) => Queries { heads, temperature: Some(self.factor(a)) },
            None => Queries { heads: heads / (self.config.head_dim as f64).sqrt(), temperature: None },
        }
    }

    /// Returns the factor of the logits, `[H]`.
    fn factor(&self, temperature: &Tensor) -> Tensor {
        match self.config.temperature {
            Temperature::Raw => temperature.shallow_clone(),
            Temperature::Absolute => temperature.abs(),
        }
    }
}
