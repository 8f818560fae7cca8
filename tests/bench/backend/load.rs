//! Figures of volume services, as one JSON object on stdout. scripts/bench-backend says what each is; it makes the arguments.
//!
//!     backend_load PROGRAM STATE CONFIG [PROCESSORS]   of our own, which it starts
//!     backend_load --peer ADDRESS VOLUME_TYPE          of a Cinder that runs; BENCH_TOKEN is an administrator's, BENCH_SERVICE_TOKEN
//!                                                      one that has the role `service`
#![allow(clippy::indexing_slicing, reason = "a wrong answer is to stop it at once")]

mod client;
mod cycles;
mod measure;
mod peer;
mod seed;
mod service;

use std::time::Duration;

use anyhow::Context as _;
use client::{Connection, Target};
use cycles::Effort;
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
    let mut arguments = std::env::args().skip(1).peekable();
    let is_peer = arguments.next_if(|first| first == "--peer").is_some();
    let mut next = |name: &str| arguments.next().with_context(|| format!("{name} is missing"));
    if is_peer {
        let figures = peer::figures(next("ADDRESS")?, next("VOLUME_TYPE")?).await?;
        println!("{}", json!({ "cinder": figures }));
        return Ok(());
    }
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
    let mut few = reads(&target, Some(&service), &volumes[0]).await?;
    changes(&target, cycles::FULL, &mut few).await?;
    few["start_ms"] = json!(rounded(service.start_ms, 10.0));
    few["rss_mb"] = json!(rounded(service.rss_mb()?, 10.0));
    service.stop()?;

    seed::volumes(&place.database(), MANY)?;
    let service = place.start()?;
    let target = service.target.clone();
    let mut many = reads(&target, Some(&service), &volumes[0]).await?;
    many["ms"]["create"] = cycles::creates_alone(&target, cycles::FULL).await?;
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

/// Reading: the same pages whatever there is. Of a service of our own also what each costs it.
async fn reads(target: &Target, service: Option<&Service>, volume: &str) -> anyhow::Result<Value> {
    let get = |path: String| target.request("GET", &path, None);
    let project = cycles::project(target).await?;
    let requests = [
        ("list", get(format!("/volumes?limit={FEW}"))),
        ("list_detail", get(format!("/volumes/detail?limit={FEW}"))),
        ("show", get(format!("/volumes/{volume}"))),
        ("quota", get(format!("/os-quota-sets/{project}?usage=True"))),
    ];
    let mut figures = json!({ "rps": {}, "ms": {} });
    for (name, request) in requests {
        let mut connection = Connection::open(target).await?;
        let times = if service.is_some() { 2000 } else { 200 };
        figures["ms"][name] = alone(&mut connection, times, &request).await?;
        let before_us = service.map(Service::cpu_us).transpose()?;
        let answered = rate(target, CONNECTIONS, READING, &request).await?;
        figures["rps"][name] = json!((answered / READING.as_secs_f64()).round());
        if let (Some(service), Some(before_us)) = (service, before_us) {
            figures["cpu_us"][name] = json!(rounded((service.cpu_us()? - before_us) / answered, 10.0));
        }
    }
    Ok(figures)
}

/// Changes: volumes made and attachments through their life, put into the figures.
async fn changes(target: &Target, effort: Effort, figures: &mut Value) -> anyhow::Result<()> {
    let (create, create_ms) = cycles::creates(target, CONNECTIONS, effort).await?;
    let (attach_cycle, attach_ms) = cycles::attachments(target, CONNECTIONS, effort).await?;
    figures["rps"]["create"] = create;
    figures["rps"]["attach_cycle"] = attach_cycle;
    figures["ms"]["create"] = create_ms;
    for (step, times) in attach_ms {
        figures["ms"][format!("attachment_{step}")] = times;
    }
    Ok(())
}
