//! Keys, values and queries of one layer, for tokens and for recurrent states alike.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Linear, RmsNorm, init::Init, params::Scope, unit_norm};

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
    /// Queries, normalised and scaled.
    pub queries: Tensor,
    /// Second set of queries, normalised and scaled.
    pub cross_queries: Option<Tensor>,
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

    /// Returns keys, values and queries of `x`. `after_norm` acts on the normalised input (dropout).
    ///
    /// # Shapes
    /// `x`: `[.., len, E]`; results: `[.., H, len, D]`.
    pub fn forward(&self, x: &Tensor, after_norm: impl Fn(Tensor) -> Tensor) -> Projected {
        let mut u = after_norm(self.norm.forward(x)); // [.., len, E]
        if let Some(ids) = &self.state_ids {
            u = u + ids;
        }
        let (keys, values, queries, cross_queries) = match &self.cross_query {
            None => {
                let [k, v, q] = Linear::forward_fused([&self.key, &self.value, &self.query], &u);
                (k, v, q, None)
            }
            Some(cross) => {
                let [k, v, q, q2] = Linear::forward_fused([&self.key, &self.value, &self.query, cross], &u);
                (k, v, q, Some(q2))
            }
        };
        Projected {
            keys: self.normalise(self.split_heads(&keys)),
            values: self.split_heads(&values),
            queries: self.scale_queries(&queries, self.temperature.as_ref()),
            cross_queries: cross_queries.map(|q2| self.scale_queries(&q2, self.cross_temperature.as_ref())),
        }
    }

    /// Returns `bias` scaled as the logits of self-attention are: the temperature multiplies logits and bias alike.
    ///
    /// # Shapes
    /// `bias` and the result: `[H, R]`, for each distance.
    pub fn scale_bias(&self, bias: &Tensor) -> Tensor {
        match &self.temperature {
            Some(a) => bias * self.factor(a).squeeze_dim(2),
            None => bias.shallow_clone(),
        }
    }

    /// Returns queries that order keys as those before scaling do: a negative temperature turns the order around.
    ///
    /// # Shapes
    /// `queries` and the result: `[.., H, len, D]`.
    pub fn ordering_queries(&self, queries: &Tensor) -> Tensor {
        match &self.temperature {
            Some(a) => queries.detach() * self.factor(a).detach().sign(),
            None => queries.detach(),
        }
    }

    /// `[.., len, HD]` → `[.., H, len, D]`.
    fn split_heads(&self, x: &Tensor) -> Tensor {
        x.unflatten(-1, [self.config.num_heads, self.config.head_dim]).transpose(-3, -2)
    }

    fn normalise(&self, x: Tensor) -> Tensor {
        match self.config.qk_norm {
            QkNorm::Unit => unit_norm(&x),
            QkNorm::None => x,
        }
    }

    /// Splits, normalises and scales: the temperature multiplies the logits, so it can multiply the queries.
    fn scale_queries(&self, queries: &Tensor, temperature: Option<&Tensor>) -> Tensor {
        let queries = self.normalise(self.split_heads(queries)); // [.., H, len, D]
        match temperature {
            Some(a) => queries * self.factor(a),
            None => queries / (self.config.head_dim as f64).sqrt(),
        }
    }

    /// Returns the factor of the logits, `[H, 1, 1]`.
    fn factor(&self, temperature: &Tensor) -> Tensor {
        let a = temperature.view([-1, 1, 1]);
        match self.config.temperature {
            Temperature::Raw => a,
            Temperature::Absolute => a.abs(),
        }
    }
}
