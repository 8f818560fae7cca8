//! `backend_load PROGRAM STATE CONFIG [PROCESSORS]`: figures of the volume service, as one JSON object on stdout. scripts/bench-backend
//! says what each is; it makes the arguments.
#![allow(clippy::indexing_slicing, reason = "a wrong answer is to stop it at once")]

mod client;
mod cycles;
mod measure;
mod seed;
mod service;

use std::time::Duration;

use anyhow::Context as _;
use client::Connection;
use measure::{alone, rate, rounded};
use serde_json::{Value, json};
use service::{Place, Service};

/// Connections that ask at once.
const CONNECTIONS: usize = 16;

/// For each rate of reading.
const READING: Duration = Duration::from_secs(4);

/// So many volumes are there when reading is measured, as when the field's service was.
const FEW: usize = 3;

/// So many for the second time.
const MANY: u32 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().with_context(|| format!("{name} is missing"));
    let place = Place {
        program: next("PROGRAM")?.into(),
        state: next("STATE")?.into(),
        config: next("CONFIG")?.into(),
        processors: next("PROCESSORS").ok(),
    };
    // The first start makes the directory; the second is what every later one is like.
    place.start()?.stop()?;
    let service = place.start()?;
    let target = service.target.clone();
    let volumes = cycles::volumes(&target, FEW).await?;
    let mut few = reads(&service, &volumes[0]).await?;
    let (create, create_ms) = cycles::creates(&target, CONNECTIONS).await?;
    let (attach_cycle, attach_ms) = cycles::attachments(&target, CONNECTIONS).await?;
    few["rps"]["create"] = create;
    few["rps"]["attach_cycle"] = attach_cycle;
    few["ms"]["create"] = create_ms;
    for (step, times) in attach_ms {
        few["ms"][format!("attachment_{step}")] = times;
    }
    few["start_ms"] = json!(rounded(service.start_ms, 10.0));
    few["rss_mb"] = json!(rounded(service.rss_mb()?, 10.0));
    service.stop()?;

    seed::volumes(&place.database(), MANY)?;
    let service = place.start()?;
    let target = service.target.clone();
    let mut many = reads(&service, &volumes[0]).await?;
    many["ms"]["create"] = cycles::creates_alone(&target).await?;
    many["volumes"] = json!(MANY);
    many["start_ms"] = json!(rounded(service.start_ms, 10.0));
    many["rss_mb"] = json!(rounded(service.rss_mb()?, 10.0));
    service.stop()?;

    few["connections"] = json!(CONNECTIONS);
    few["processors"] = json!(place.processors);
    few["many"] = many;
    println!("{}", json!({ "backend": few }));
    Ok(())
}

/// Reading: the same pages whatever there is.
async fn reads(service: &Service, volume: &str) -> anyhow::Result<Value> {
    let target = &service.target;
    let get = |path: String| target.request("GET", &path, None);
    let project = cycles::project(target).await?;
    let requests = [
        ("list", get(format!("/volumes?limit={FEW}"))),
        ("list_detail", get(format!("/volumes/detail?limit={FEW}"))),
        ("show", get(format!("/volumes/{volume}"))),
        ("quota", get(format!("/os-quota-sets/{project}?usage=True"))),
    ];
    let mut figures = json!({ "rps": {}, "ms": {}, "cpu_us": {} });
    for (name, request) in requests {
        let mut connection = Connection::open(target).await?;
        figures["ms"][name] = alone(&mut connection, 2000, &request).await?;
        let before_us = service.cpu_us()?;
        let answered = rate(target, CONNECTIONS, READING, &request).await?;
        figures["rps"][name] = json!((answered / READING.as_secs_f64()).round());
        figures["cpu_us"][name] = json!(rounded((service.cpu_us()? - before_us) / answered, 10.0));
    }
    Ok(figures)
}
