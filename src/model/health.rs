//! How well a connected volume is doing.

use serde::{Deserialize, Serialize};

/// What works of a connected volume's ways to its storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// All of it.
    Healthy,
    /// I/O gets through, but not all is as it was connected.
    Degraded(Vec<Fault>),
    /// Nothing gets through.
    Lost(Vec<Fault>),
}

impl Health {
    /// From the faults of parts of which any one that works is enough, such as the paths of a LUN.
    pub fn of_parts(parts: usize, faults: Vec<Fault>) -> Self {
        match faults.len() {
            0 => Self::Healthy,
            broken if broken < parts => Self::Degraded(faults),
            _ => Self::Lost(faults),
        }
    }

    /// The stable word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded(_) => "degraded",
            Self::Lost(_) => "lost",
        }
    }

    /// What is wrong; nothing where it is healthy.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Healthy => &[],
            Self::Degraded(faults) | Self::Lost(faults) => faults,
        }
    }
}

/// One part of a volume's connection that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// Which part, as an operator names it: a path, a mount, a monitor.
    pub part: String,
    /// What is wrong with it.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_works_is_enough() {
        let fault = |part: &str| Fault { part: part.into(), problem: "gone".into() };
        assert_eq!(Health::of_parts(2, vec![]), Health::Healthy);
        assert_eq!(Health::of_parts(2, vec![fault("a")]).as_str(), "degraded");
        assert_eq!(Health::of_parts(2, vec![fault("a"), fault("b")]).as_str(), "lost");
        assert_eq!(Health::of_parts(0, vec![fault("a")]).as_str(), "lost");
    }
}
