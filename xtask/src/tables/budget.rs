//! What a row may cost: tokens or minutes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Fewer steps than this are no training.
const MIN_STEPS: u64 = 20;

/// What one row is trained for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) enum Budget {
    /// All rows see as many tokens.
    Tokens(u64),
    /// All rows train as long, by their measured steps.
    Minutes(f64),
}

impl Budget {
    /// Returns the number of steps of a row whose steps read so many tokens in so many seconds.
    pub(super) fn num_steps(self, tokens_per_step: u64, step_secs: f64) -> u64 {
        let steps = match self {
            Self::Tokens(tokens) => tokens / tokens_per_step.max(1),
            Self::Minutes(minutes) => (minutes * 60. / step_secs) as u64,
        };
        steps.max(MIN_STEPS)
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a number of tokens (4M, 500k) or minutes (10min), got {text}");
        let number =
            |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.);
        if let Some(minutes) = text.strip_suffix("min") {
            return number(minutes).map(Self::Minutes).ok_or_else(wrong);
        }
        let units = [("k", 1e3), ("M", 1e6), ("G", 1e9)];
        let with_unit = units.into_iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)));
        let (digits, size) = with_unit.unwrap_or((text, 1.));
        number(digits).map(|number| Self::Tokens((number * size).round() as u64)).ok_or_else(wrong)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Minutes(minutes) => write!(f, "{minutes}min"),
            Self::Tokens(tokens) if tokens >= 1_000_000 => write!(f, "{}M", tokens as f64 / 1e6),
            Self::Tokens(tokens) => write!(f, "{tokens}"),
        }
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_and_become_steps() {
        for (text, budget) in [
            ("4M", Budget::Tokens(4_000_000)),
            ("500k", Budget::Tokens(500_000)),
            ("2048", Budget::Tokens(2048)),
            ("4.1M", Budget::Tokens(4_100_000)),
            ("1000001", Budget::Tokens(1_000_001)),
            ("2.5min", Budget::Minutes(2.5)),
        ] {
            assert_eq!(text.parse(), Ok(budget));
            assert_eq!(budget.to_string().parse(), Ok(budget));
        }
        for wrong in ["", "min", "-1min", "4 M", "0", "NaN", "inf"] {
            assert_eq!(
                wrong.parse::<Budget>(),
                Err(format!("expected a number of tokens (4M, 500k) or minutes (10min), got {wrong}"))
            );
        }
        assert_eq!(Budget::Tokens(4_000_000).num_steps(2048, 9.), 1953);
        assert_eq!(Budget::Minutes(10.).num_steps(2048, 0.25), 2400);
        assert_eq!(Budget::Tokens(1).num_steps(2048, 0.25), 20);
    }
}
