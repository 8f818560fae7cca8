//! Conversations recorded from a real Cinder, held again with this service: the same statuses, the same errors word for word, and
//! in each answer the keys and kinds of values that Cinder gave.

use std::collections::BTreeMap;

use crate::common::{Service, wait_snapshot};
use reqwest::Method;
use serde_json::Value;

/// Where an answer lacks a key, or has another kind of value. What was null in either may be anything in the other.
fn differences(recorded: &Value, answer: &Value, at: &str, found: &mut Vec<String>) {
    match (recorded, answer) {
        (Value::Object(keys), Value::Object(answer)) => {
            for (key, recorded) in keys {
                match answer.get(key) {
                    Some(answer) => differences(recorded, answer, &format!("{at}.{key}"), found),
                    None => found.push(format!("{at}.{key} is not there")),
                }
            }
        }
        (Value::Array(recorded), Value::Array(answer)) => {
            if let (Some(recorded), Some(answer)) = (recorded.first(), answer.first()) {
                differences(recorded, answer, &format!("{at}[0]"), found);
            }
        }
        (Value::String(kind), answer) => {
            let is = match answer {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                _ => "a container",
            };
            if kind != "null" && is != "null" && kind != is {
                found.push(format!("{at} is {is}, not {kind}"));
            }
        }
        // An object that was empty or null.
        (_, Value::Null) => {}
        (recorded, answer) => found.push(format!("{at} is {answer}, not {recorded}")),
    }
}

/// Waits until a snapshot is made, or could not be.
async fn settled(service: &Service, id: &str) {
    let path = format!("/snapshots/{id}");
    while service.get(&path).await.body["snapshot"]["status"] == "creating" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_recorded_life_of_a_volume_is_answered_as_cinder_answered_it() {
    let service = Service::start();
    let text = include_str!("recorded/life.json");
    let recorded: Value = serde_json::from_str(text).unwrap();
    // Ids as they were recorded, and as they are here.
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::new();
    for exchange in recorded["exchanges"].as_array().unwrap() {
        let name = exchange["name"].as_str().unwrap();
        let here = |text: &str| ids.iter().fold(text.to_owned(), |text, (recorded, here)| text.replace(recorded, here));
        let method = Method::from_bytes(exchange["method"].as_str().unwrap().as_bytes()).unwrap();
        let path = here(exchange["path"].as_str().unwrap());
        let request = Some(&exchange["request"]).filter(|request| !request.is_null());
        let request = request.map(|request| serde_json::from_str(&here(&request.to_string())).unwrap());
        let answer = service.ask(method.clone(), &path, exchange["microversion"].as_str().unwrap(), request).await;
        if exchange["status"] != answer.status.as_u16() {
            found.push(format!("{name}: {} and not {}: {}", answer.status, exchange["status"], answer.body));
            continue;
        }
        if let Some(error) = exchange.get("error") {
            let expected: Value = serde_json::from_str(&here(&error.to_string())).unwrap();
            if expected != answer.body {
                found.push(format!("{name}: {} and not {expected}", answer.body));
            }
        }
        if let Some(shape) = exchange.get("shape") {
            differences(shape, &answer.body, name, &mut found);
        }
        if let Some(made) = exchange.get("made").and_then(Value::as_array) {
            let (kind, id) = (made[0].as_str().unwrap(), made[1].as_str().unwrap());
            let own = answer.body[kind]["id"].as_str().unwrap().to_owned();
            match kind {
                "volume" => service.wait_status(&own, "available").await,
                // Where the file system cannot share blocks, no consistent copy of a volume in use can be had.
                "snapshot" if name == "snapshot-in-use" => settled(&service, &own).await,
                "snapshot" => wait_snapshot(&service, &own, "available").await,
                _ => {}
            }
            ids.insert(id.to_owned(), own);
        }
        let id = path.rsplit('/').next().unwrap_or_default();
        if method == Method::DELETE && answer.status.is_success() {
            if path.starts_with("/volumes/") {
                service.wait_status(id, "gone").await;
            } else if path.starts_with("/snapshots/") {
                wait_snapshot(&service, id, "gone").await;
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
