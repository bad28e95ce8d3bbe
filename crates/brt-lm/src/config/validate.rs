//! Checks of a configuration that its types cannot make.

use brt_ops::{PositionConfig, position::AlibiBound};

use super::{ConfigError, ModelConfig};

impl ModelConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first key whose value no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("model_dim", self.model_dim),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("head_dim", self.head_dim),
            ("ffn_dim", self.ffn_dim),
            ("window_len", self.window_len),
            ("segment_len", self.segment_len.unwrap_or(1)),
            ("stack_window_len", self.stack_window_len.unwrap_or(1)),
            ("recurrence.num_states", self.recurrence.as_ref().map_or(1, |r| r.num_states)),
            ("memory.capacity", self.memory.map_or(1, |m| m.capacity)),
            ("memory.num_neighbours", self.memory.map_or(1, |m| m.num_neighbours)),
        ];
        for (key, size) in sizes.into_iter().chain(self.position_size()) {
            check(key, "at least 1", size, size >= 1)?;
            check(key, "at most 1000000", size, size <= 1_000_000)?;
        }
        // The tables of who sees whom have 2W² entries.
        check("window_len", "at most 16384", self.window_len, self.window_len <= 16_384)?;
        for (key, rate) in [("dropout", self.dropout), ("attention_dropout", self.attention_dropout)] {
            check(key, "a rate in 0.0 .. 1.0", rate, (0. ..1.).contains(&rate))?;
        }
        self.validate_position()?;
        self.validate_recurrence()?;
        self.validate_memory()?;
        self.validate_lengths()
    }

    /// Returns the size that a kind of position information has.
    fn position_size(&self) -> Option<(&'static str, i64)> {
        match self.position {
            PositionConfig::T5 { num_buckets, .. } => Some(("position.num_buckets", num_buckets)),
            PositionConfig::Fourier { vector_len } => Some(("position.vector_len", vector_len)),
            PositionConfig::Neural { num_hidden } => Some(("position.num_hidden", num_hidden)),
            _ => None,
        }
    }

    fn validate_position(&self) -> Result<(), ConfigError> {
        let even =
            |key, size: i64| check(key, "an even number of at least 2", size, size >= 2 && size % 2 == 0);
        let positive = |key, size: f64| check(key, "a number above 0", size, size.is_finite() && size > 0.);
        match self.position {
            PositionConfig::None {} => Ok(()),
            PositionConfig::T5 { num_buckets, max_distance } => {
                even("position.num_buckets", num_buckets)?;
                let expected = format!("more than half of the {num_buckets} buckets");
                check("position.max_distance", &expected, max_distance, max_distance > num_buckets / 2)
            }
            PositionConfig::Rotary { max_half_wavelength } => {
                even("head_dim", self.head_dim)?;
                positive("position.max_half_wavelength", max_half_wavelength)
            }
            PositionConfig::Absolute { max_half_wavelength } => {
                even("model_dim", self.model_dim)?;
                positive("position.max_half_wavelength", max_half_wavelength)
            }
            PositionConfig::Fourier { vector_len } => even("position.vector_len", vector_len),
            PositionConfig::Alibi { bound: AlibiBound::Fixed(bound) } => positive("position.bound", bound),
            PositionConfig::Alibi { .. } | PositionConfig::Neural { .. } => Ok(()),
            PositionConfig::Orthogonal { num_functions, last_shift } => {
                // More functions, or closer ones, are too alike to be made orthogonal.
                let fits = (2..=24).contains(&num_functions);
                check("position.num_functions", "a number in 2 ..= 24", num_functions, fits)?;
                let fits = last_shift.is_finite() && last_shift >= 1.;
                check("position.last_shift", "a number of at least 1", last_shift, fits)
            }
        }
    }

    fn validate_recurrence(&self) -> Result<(), ConfigError> {
        let Some(recurrence) = &self.recurrence else { return Ok(()) };
        for &idx in &recurrence.layers {
            self.check_layer("recurrence.layers", idx)?;
        }
        let num = self.recurrent_layers().len();
        let expected = "one or more different layers";
        let fits = num > 0 && num == recurrence.layers.len();
        check("recurrence.layers", expected, format!("{:?}", recurrence.layers), fits)
    }

    fn validate_memory(&self) -> Result<(), ConfigError> {
        let Some(memory) = self.memory else { return Ok(()) };
        self.check_layer("memory.layer", memory.layer)?;
        let is_ordinary = self.memory_layer().is_some_and(|idx| !self.recurrent_layers().contains(&idx));
        check("memory.layer", "a layer that is not recurrent", memory.layer, is_ordinary)?;
        let num = memory.num_neighbours;
        let expected =
            format!("a multiple of the {num} neighbours, at least a window of {}", self.window_len);
        let fits = memory.capacity % num == 0 && memory.capacity >= self.window_len;
        check("memory.capacity", &expected, memory.capacity, fits)
    }

    fn validate_lengths(&self) -> Result<(), ConfigError> {
        if let Some(len) = self.stack_window_len {
            let expected = format!("a multiple of the window {}", self.window_len);
            check("stack_window_len", &expected, len, len % self.window_len == 0)?;
            let fits = !self.has_feedback() || len == self.window_len;
            check("stack_window_len", &format!("{}, as feedback implies", self.window_len), len, fits)?;
        }
        let clears = self.recurrence.as_ref().is_some_and(|r| r.clear_state);
        let is_absolute = matches!(self.position, PositionConfig::Absolute { .. });
        let fits = !(clears || is_absolute) || self.segment_len.is_some();
        let expected = "the segment length, where positions are absolute or states are cleared";
        check("segment_len", expected, "nothing", fits)
    }

    fn check_layer(&self, key: &'static str, idx: i64) -> Result<(), ConfigError> {
        let num_layers = self.num_layers;
        let range = format!("indices in {} .. {num_layers}", -num_layers);
        check(key, &range, idx, (-num_layers..num_layers).contains(&idx))
    }
}

pub(super) fn check(
    key: &'static str,
    expected: &str,
    got: impl ToString,
    fits: bool,
) -> Result<(), ConfigError> {
    ConfigError::check("model", key, expected, got, fits)
}
