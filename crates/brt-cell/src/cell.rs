//! The cell: states read themselves and a window of tokens, and are gated into the next states.

use brt_ops::{
    CrossQueries, Projected, Projection, ProjectionConfig, QkNorm, Scope, Sight, Temperature, Windows,
    attention, dims, expect_shape, init::Init, probe,
};
use tch::{Kind, Tensor};

use crate::{CellLayout, Gate, update::Update};

/// Shape and options of a cell.
#[derive(Debug, Clone, Copy)]
pub struct CellConfig {
    /// Kind of gate.
    pub gate: Gate,
    /// Layout of the update.
    pub layout: CellLayout,
    /// Number of state vectors S.
    pub num_states: i64,
    /// Width E of a state.
    pub model_dim: i64,
    /// Number of heads H.
    pub num_heads: i64,
    /// Width D of a head.
    pub head_dim: i64,
    /// Hidden width M of the feed-forward layer, where the layout has one.
    pub ffn_dim: i64,
    /// Normalisation of queries and keys.
    pub qk_norm: QkNorm,
    /// How temperatures act.
    pub temperature: Temperature,
}

/// Recurrent cell.
#[derive(Debug)]
pub struct RecurrentCell {
    initial_state: Tensor, // [S, E]
    attention: Projection,
    update: Update,
}

/// What a segment leaves of the states: for each block the keys and values that its tokens may read, and the end.
#[derive(Debug)]
pub struct Scan {
    /// Keys of the states as they were before each block, `[n, B, H, S, D]`.
    pub keys: Tensor,
    /// Values likewise, `[n, B, H, S, D]`.
    pub values: Tensor,
    /// States after each block, `[B, S, E]` each.
    pub states: Vec<Tensor>,
}

impl RecurrentCell {
    /// Returns a cell with drawn weights.
    pub fn new(p: &Scope, config: CellConfig) -> Self {
        let CellConfig { num_states, model_dim, num_heads, head_dim, qk_norm, temperature, .. } = config;
        let projection = ProjectionConfig {
            model_dim,
            num_heads,
            head_dim,
            qk_norm,
            temperature,
            num_states: Some(num_states),
            cross_queries: CrossQueries::Present,
        };
        Self {
            initial_state: p.param("initial_state", &[num_states, model_dim], Init::Normal { std: 0.1 }),
            attention: Projection::new(&(p / "attention"), projection),
            update: Update::new(p, &config),
        }
    }

    /// Returns the learned state with which every document starts, `[S, E]`.
    pub fn initial_state(&self) -> &Tensor {
        &self.initial_state
    }

    /// Returns `state` with the initial state in the rows where a document starts.
    ///
    /// # Shapes
    /// `state` and the result: `[B, S, E]`; `start_of_sequence` (bool): `[B]`.
    #[track_caller]
    pub fn reset_rows(&self, state: &Tensor, start_of_sequence: &Tensor) -> Tensor {
        let [batch, ..] = dims::<3>("state", state);
        expect_shape("start_of_sequence", start_of_sequence, &[batch]);
        self.initial_state.where_self(&start_of_sequence.view([-1, 1, 1]), state)
    }

    /// Returns keys, values and queries of the states.
    ///
    /// # Shapes
    /// `state`: `[B, S, E]`; results: `[B, H, S, D]`.
    pub fn project(&self, state: &Tensor) -> Projected {
        self.attention.forward(state, |u| u)
    }

    /// Returns the state after one window. `states` are the projections of `state`.
    ///
    /// # Shapes
    /// `state` and the result: `[B, S, E]`; `window` of the tokens: `[B, H, len, D]`.
    pub fn step(&self, state: &Tensor, states: &Projected, window: &Windows) -> Tensor {
        let cross_queries = states.cross_queries.as_ref().expect("a cell has cross queries");
        // No bias, no mask: states see every state, and all of the previous and the current block.
        let own = Windows::alone(states.keys.shallow_clone(), states.values.shallow_clone());
        let read_states = || attention(&states.queries, &own, Sight::All, None);
        let read_tokens = || attention(cross_queries, window, Sight::All, None);
        let from_states = probe::scope(|| "states_to_states".into(), read_states); // [B, H, S, D]
        let from_tokens = probe::scope(|| "states_to_tokens".into(), read_tokens); // [B, H, S, D]
        let heads = [from_states, from_tokens].map(|x| x.transpose(1, 2).flatten(2, 3)); // [B, S, HD]
        let read = Tensor::cat(&heads, 2); // [B, S, 2HD]
        self.update.forward(state, &read)
    }

    /// Runs the cell over all blocks of a segment: the only sequential loop of the model. Tokens of a block may read
    /// the states from before it, so nothing of their future leaks.
    ///
    /// # Shapes
    /// `state`: `[B, S, E]`; `windows`: `[n, B, H, len, D]`.
    pub fn scan(&self, state: &Tensor, windows: &Windows) -> Scan {
        let [_n, _b, _h, _len, _d] = dims("keys", &windows.keys);
        let (mut keys, mut values, mut states) = (vec![], vec![], vec![]);
        let mut state = state.shallow_clone();
        let weights = self.attention.weights();
        for (t, window) in windows.blocks().iter().enumerate() {
            let projected = self.attention.forward_with(&weights, &state, |u| u);
            let next = self.step(&state, &projected, window);
            let norms =
                || vec![("state_norm", mean_norm(&next)), ("update_norm", mean_norm(&(&next - &state)))];
            probe::scope(|| format!("block_{t}"), || probe::record(norms));
            state = next;
            keys.push(projected.keys);
            values.push(projected.values);
            states.push(state.shallow_clone());
        }
        Scan { keys: Tensor::stack(&keys, 0), values: Tensor::stack(&values, 0), states }
    }
}

/// Returns the mean over all state vectors of their length.
fn mean_norm(states: &Tensor) -> f64 {
    let squares = states.square().sum_dim_intlist(-1, false, Kind::Float);
    squares.sqrt().mean(Kind::Float).double_value(&[])
}
