//! Changes: volumes made, and attachments through their whole life.

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::client::{Connection, Target};
use crate::measure::{Times, rounded};

/// How often a change is made for its figures: what a service does so slowly must not take all day.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Volumes for the rate.
    pub created: usize,
    /// Volumes for how long one takes.
    pub created_alone: usize,
    /// Attachments for each connection.
    pub cycles: usize,
    /// Attachments for how long each step takes.
    pub cycles_alone: usize,
}

/// For the service that is measured.
pub const FULL: Effort = Effort { created: 480, created_alone: 100, cycles: 25, cycles_alone: 100 };

/// For its peer.
pub const SMALL: Effort = Effort { created: 48, created_alone: 10, cycles: 3, cycles_alone: 10 };

/// Between two looks at whether all are made.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The operator's project.
pub async fn project(target: &Target) -> io::Result<String> {
    let made = volumes(target, 1).await?;
    let mut connection = Connection::open(target).await?;
    let shown = connection.json(&target.request("GET", &format!("/volumes/{}", made[0]), None)).await?;
    connection.ask(&target.request("DELETE", &format!("/volumes/{}", made[0]), None)).await?;
    gone(&mut connection, target, "deleting").await?;
    Ok(text(&shown["volume"]["os-vol-tenant-attr:tenant_id"]))
}

/// Makes volumes and waits until they are there.
pub async fn volumes(target: &Target, count: usize) -> io::Result<Vec<String>> {
    let mut connection = Connection::open(target).await?;
    let request = create(target);
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(text(&connection.json(&request).await?["volume"]["id"]));
    }
    gone(&mut connection, target, "creating").await?;
    Ok(ids)
}

/// How many volumes a second are made, from the first request until the last is `available`; and how long a request takes alone.
pub async fn creates(target: &Target, connections: usize, effort: Effort) -> io::Result<(Value, Value)> {
    let alone = creates_alone(target, effort).await?;
    let request = create(target);
    let begun = Instant::now();
    try_join_all((0..connections).map(|_| async {
        let mut connection = Connection::open(target).await?;
        for _ in 0..effort.created / connections {
            connection.ask(&request).await?;
        }
        io::Result::Ok(())
    }))
    .await?;
    gone(&mut Connection::open(target).await?, target, "creating").await?;
    Ok((json!(rounded(effort.created as f64 / begun.elapsed().as_secs_f64(), 10.0)), alone))
}

/// How long a request for a volume takes, each after the one before.
pub async fn creates_alone(target: &Target, effort: Effort) -> io::Result<Value> {
    let mut connection = Connection::open(target).await?;
    let request = create(target);
    let mut times = Times::default();
    for _ in 0..effort.created_alone {
        times.take(async { connection.ask(&request).await.map(drop) }).await?;
    }
    gone(&mut connection, target, "creating").await?;
    Ok(times.spread())
}

/// How many attachments a second go through their life, a volume for each connection; and how long each step takes alone.
pub async fn attachments(
    target: &Target,
    connections: usize,
    effort: Effort,
) -> io::Result<(Value, Vec<(&'static str, Value)>)> {
    let mut made = volumes(target, connections).await?;
    let mut times: [Times; 4] = Default::default();
    let mut connection = Connection::open(target).await?;
    for _ in 0..effort.cycles_alone {
        cycle(target, &mut connection, &made[0], &mut times).await?;
    }
    let begun = Instant::now();
    try_join_all(made.drain(..).map(|volume| async move {
        let mut connection = Connection::open(target).await?;
        for _ in 0..effort.cycles {
            cycle(target, &mut connection, &volume, &mut Default::default()).await?;
        }
        io::Result::Ok(())
    }))
    .await?;
    let rate = (connections * effort.cycles) as f64 / begun.elapsed().as_secs_f64();
    let steps = ["create", "update", "complete", "delete"];
    Ok((json!(rounded(rate, 10.0)), steps.into_iter().zip(times.map(Times::spread)).collect()))
}

async fn cycle(target: &Target, connection: &mut Connection, volume: &str, times: &mut [Times; 4]) -> io::Result<()> {
    let [create, update, complete, delete] = times;
    let body = json!({ "attachment": { "volume_uuid": volume, "instance_uuid": "11111111-1111-4111-8111-111111111111" } });
    let request = target.request("POST", "/attachments", Some(&body));
    let made = create.take(async { connection.json(&request).await }).await?;
    let path = format!("/attachments/{}", text(&made["attachment"]["id"]));
    let connector = json!({ "initiator": "iqn.2026-01.bench:host", "host": "bench", "ip": "127.0.0.1" });
    let request = target.request("PUT", &path, Some(&json!({ "attachment": { "connector": connector } })));
    update.take(async { connection.ask(&request).await.map(drop) }).await?;
    let request = target.request("POST", &format!("{path}/action"), Some(&json!({ "os-complete": {} })));
    complete.take(async { connection.ask(&request).await.map(drop) }).await?;
    // The operator is a service too, or names one, so it may say that the host has let go.
    let request = target.request("DELETE", &path, None);
    delete.take(async { connection.ask(&request).await.map(drop) }).await
}

/// Waits until no volume has this status any more.
async fn gone(connection: &mut Connection, target: &Target, status: &str) -> io::Result<()> {
    let request = target.request("GET", &format!("/volumes?limit=1&status={status}"), None);
    while connection.json(&request).await?["volumes"].as_array().is_some_and(|volumes| !volumes.is_empty()) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

fn create(target: &Target) -> Vec<u8> {
    let mut volume = json!({ "size": 1, "name": "bench" });
    if let Some(kind) = &target.volume_type {
        volume["volume_type"] = json!(kind);
    }
    target.request("POST", "/volumes", Some(&json!({ "volume": volume })))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
