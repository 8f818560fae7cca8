//! `connect_side ours|floor`: two of the three sides of the connect benchmark (`scripts/bench-connect` tells of it); the third is
//! os-brick's, `os_brick_side.py`. Each is one process that lives as long as its benchmark, as the agent does, and obeys lines of JSON:
//!
//! ```text
//! {"do": "connect", "volumes": [{"id": UUID, "info": {…}, "bare": {…}}]}    all of them at once, each timed by itself
//! {"do": "disconnect"}                                                      what the last connect brought, all at once
//! -> {"wall_ms": …, "processes": …, "each": [{"ms": …, "path": …, "error": …}]}
//! ```
//! `info` is connection info as a volume service gives it; `bare` is what the floor needs beyond that.

// A member that JSON has not is null.
#![allow(missing_docs, clippy::indexing_slicing)]

mod floor;
mod ours;

use serde_json::{Value, json};
use std::{
    io::{BufRead, Write},
    time::Instant,
};

/// What became of one volume.
pub struct Done {
    ms: f64,
    result: Result<Option<String>, String>,
}

impl Done {
    pub fn since(begun: Instant, result: Result<Option<String>, String>) -> Self {
        Self { ms: begun.elapsed().as_secs_f64() * 1000.0, result }
    }

    fn told(&self) -> Value {
        match &self.result {
            Ok(path) => json!({"ms": self.ms, "path": path, "error": null}),
            Err(error) => json!({"ms": self.ms, "path": null, "error": error}),
        }
    }
}

/// One way to connect.
pub trait Side {
    fn connect(&mut self, volumes: &[Value]) -> Vec<Done>;
    fn disconnect(&mut self) -> Vec<Done>;
}

/// Commands that the connectors have started in all.
fn started() -> u64 {
    bowline::connectors::commands_started().values().sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut side: Box<dyn Side> = match std::env::args().nth(1).as_deref() {
        Some("ours") => Box::new(ours::Ours::new()?),
        Some("floor") => Box::new(floor::Floor::default()),
        _ => return Err("connect_side ours|floor".into()),
    };
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line?)?;
        let (begun, before) = (Instant::now(), started());
        let each = match order["do"].as_str() {
            Some("connect") => side.connect(order["volumes"].as_array().ok_or("no volumes")?),
            Some("disconnect") => side.disconnect(),
            other => return Err(format!("cannot {other:?}").into()),
        };
        let wall_ms = begun.elapsed().as_secs_f64() * 1000.0;
        println!(
            "{}",
            json!({"wall_ms": wall_ms, "processes": started() - before, "each": each.iter().map(Done::told).collect::<Vec<_>>()})
        );
        std::io::stdout().flush()?;
    }
    Ok(())
}
