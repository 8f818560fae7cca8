//! Lists over real HTTP: pages, order, filters, counts, of volumes and of snapshots.

use crate::common::{Service, wait_snapshot};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

impl Service {
    /// The names in a list.
    async fn names(&self, path: &str) -> Vec<String> {
        let answer = self.ask(Method::GET, path, "3.71", None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        let list = answer.body.as_object().unwrap().values().find(|value| value[0]["name"].is_string());
        list.and_then(Value::as_array).into_iter().flatten().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn snapshots_come_in_pages_in_order_and_by_what_they_are() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    for (name, metadata) in [("b", json!({})), ("c", json!({ "k": "v" })), ("a", json!({}))] {
        let body = json!({ "snapshot": { "volume_id": volume, "name": name, "metadata": metadata } });
        let made = service.post("/snapshots", body).await;
        wait_snapshot(&service, made.body["snapshot"]["id"].as_str().unwrap(), "available").await;
    }
    for (query, names) in [
        ("", &["a", "c", "b"][..]),
        ("?sort=name:asc", &["a", "b", "c"]),
        ("?sort_key=created_at&sort_dir=asc", &["b", "c", "a"]),
        ("?limit=1&offset=1", &["c"]),
        ("?name=c", &["c"]),
        ("?name~=a", &["a"]),
        ("?metadata={'k':'v'}", &["c"]),
        ("?status=error", &[]),
        ("?created_at=gt:2001-01-01T00:00:00", &["a", "c", "b"]),
        ("?created_at=lt:2001-01-01T00:00:00Z", &[]),
        ("?consumes_quota=false", &[]),
    ] {
        assert_eq!(service.names(&format!("/snapshots/detail{query}")).await, names, "{query}");
    }
    let page = service.ask(Method::GET, "/snapshots?limit=2&sort=name:asc&with_count=true", "3.71", None).await.body;
    assert_eq!(page["count"], 3);
    let next = page["snapshots_links"][0]["href"].as_str().unwrap();
    let rest = next.split_once("/v3").unwrap().1;
    assert_eq!(service.names(rest).await, ["c"]);

    let path = format!("/snapshots/{}", page["snapshots"][0]["id"].as_str().unwrap());
    let changed = service.ask(Method::PUT, &path, "3.71", Some(json!({ "snapshot": { "name": "z" } }))).await;
    assert_eq!(changed.body["snapshot"]["name"], "z", "{changed:?}");
    service.post(&format!("{path}/metadata"), json!({ "metadata": { "x": "1" } })).await;
    service.post(&format!("{path}/metadata"), json!({ "metadata": { "y": "2" } })).await;
    assert_eq!(service.get(&format!("{path}/metadata")).await.body, json!({ "metadata": { "x": "1", "y": "2" } }));
    assert_eq!(service.delete(&format!("{path}/metadata/x")).await.status, StatusCode::OK);
    assert_eq!(service.delete(&format!("{path}/metadata/x")).await.status, StatusCode::NOT_FOUND);
    let reset = json!({ "os-reset_status": { "status": "error" } });
    assert_eq!(service.post(&format!("{path}/action"), reset).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.names("/snapshots?status=error").await, ["z"]);
}

#[tokio::test]
async fn volumes_are_found_by_when_and_what_and_summed_up() {
    let service = Service::start();
    service.volume(json!({ "name": "old", "metadata": { "k": "1" } })).await;
    let between = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string();
    let young = service.volume(json!({ "name": "young", "size": 2, "metadata": { "k": "2" } })).await;
    for (query, names) in [
        (format!("created_at=gt:{between}"), &["young"][..]),
        (format!("created_at=lt:{between}"), &["old"]),
        (format!("created_at=gte:2001-01-01T00:00:00,lte:{between}"), &["old"]),
        (format!("updated_at=gt:{between}&sort=size:desc"), &["young"]),
        ("name~=o&sort=name:asc".into(), &["old", "young"]),
        ("consumes_quota=true&sort=size:desc".into(), &["young", "old"]),
        ("sort=updated_at:asc".into(), &["old", "young"]),
        ("host=nowhere".into(), &[]),
    ] {
        assert_eq!(service.names(&format!("/volumes?{query}")).await, names, "{query}");
    }
    let old = service.ask(Method::GET, "/volumes?created_at=gt:2001-01-01", "3.59", None).await;
    assert_eq!(old.status, StatusCode::BAD_REQUEST, "before 3.60 there is no such filter");
    let summary = service.ask(Method::GET, "/volumes/summary", "3.71", None).await.body;
    let expected = json!({ "total_count": 2, "total_size": 3, "metadata": { "k": ["1", "2"] } });
    assert_eq!(summary["volume-summary"], expected);
    let older = service.ask(Method::GET, "/volumes/summary", "3.12", None).await.body;
    assert!(older["volume-summary"].get("metadata").is_none());
    let shown = service.ask(Method::GET, &format!("/volumes/{young}"), "3.61", None).await.body["volume"].clone();
    assert!(shown.get("cluster_name").is_some() && shown.get("volume_type_id").is_none());
    let pools = service.get("/scheduler-stats/get_pools").await.body;
    assert!(pools["pools"][0].get("capabilities").is_none());
    assert_eq!(service.get("/groups/detail").await.body, json!({ "groups": [] }));
    assert!(service.get("/extensions").await.body["extensions"].as_array().unwrap().len() > 10);
}
