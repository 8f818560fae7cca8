//! How many requests a second, and how long one takes.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Connection, Target};

/// Durations of single requests.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds what a request took.
    pub async fn take<T>(&mut self, request: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let begun = Instant::now();
        let answer = request.await?;
        self.0.push(begun.elapsed());
        Ok(answer)
    }

    /// The middle and the slowest of a hundred, milliseconds.
    pub fn spread(mut self) -> Value {
        self.0.sort();
        let at = |share: f64| {
            let place = ((self.0.len().max(1) - 1) as f64 * share).round() as usize;
            rounded(self.0.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0), 1000.0)
        };
        json!({ "p50": at(0.5), "p99": at(0.99) })
    }
}

/// To a digit that says something.
pub fn rounded(value: f64, places: f64) -> f64 {
    (value * places).round() / places
}

/// How many are answered when so many connections each ask again as soon as they are answered.
pub async fn rate(target: &Target, connections: usize, during: Duration, request: &[u8]) -> io::Result<f64> {
    let begun = Instant::now();
    let each = (0..connections).map(|_| async {
        let mut connection = Connection::open(target).await?;
        let mut answered = 0u32;
        while begun.elapsed() < during {
            connection.ask(request).await?;
            answered += 1;
        }
        io::Result::Ok(answered)
    });
    let answered: u32 = futures_util::future::try_join_all(each).await?.into_iter().sum();
    Ok(f64::from(answered))
}

/// How long one takes when nothing else is asked.
pub async fn alone(connection: &mut Connection, times: u32, request: &[u8]) -> io::Result<Value> {
    let mut taken = Times::default();
    for _ in 0..times {
        taken.take(async { connection.ask(request).await.map(drop) }).await?;
    }
    Ok(taken.spread())
}
