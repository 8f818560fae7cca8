//! Types, their specs, access and quality of service, and quotas, over real HTTP.

use crate::common::{Answer, Service};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const OTHER: &str = "fedcba9876543210fedcba9876543210";

impl Service {
    async fn new_type(&self, fields: Value) -> String {
        let made = self.post("/types", json!({ "volume_type": fields })).await;
        assert_eq!(made.status, StatusCode::OK, "{made:?}");
        made.body["volume_type"]["id"].as_str().unwrap().to_owned()
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, "3.71", Some(body)).await
    }
}

#[tokio::test]
async fn the_life_of_a_type() {
    let service = Service::start();
    let specs = json!({ "multiattach": "<is> True", "volume_backend_name": "files" });
    let id = service.new_type(json!({ "name": "shared", "extra_specs": specs })).await;
    let path = format!("/types/{id}");
    let twice = service.post("/types", json!({ "volume_type": { "name": "shared" } })).await;
    twice.is_error(409, "conflictingRequest", "Volume Type shared already exists.");
    for wrong in [json!({}), json!({ "name": "" }), json!({ "name": 5 }), json!({ "name": "x", "extra_specs": { "a/b": "c" } })]
    {
        let refused = service.post("/types", json!({ "volume_type": wrong })).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let volume = service.volume(json!({ "volume_type": "shared" })).await;
    assert_eq!(service.get(&format!("/volumes/{volume}")).await.body["volume"]["multiattach"], true);

    let changed = service.put(&path, json!({ "volume_type": { "name": "shared2", "description": "d" } })).await;
    assert_eq!((&changed.body["volume_type"]["name"], changed.status), (&json!("shared2"), StatusCode::OK), "{changed:?}");
    assert_eq!(service.store().await.usage_drift().await.unwrap(), [], "counters follow the name");
    let extra = format!("{path}/extra_specs");
    service.post(&extra, json!({ "extra_specs": { "a": "1" } })).await;
    assert_eq!(service.put(&format!("{extra}/a"), json!({ "a": "2" })).await.body, json!({ "a": "2" }));
    assert_eq!(service.put(&format!("{extra}/a"), json!({ "b": "2" })).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(service.get(&format!("{extra}/a")).await.body, json!({ "a": "2" }));
    assert_eq!(service.delete(&format!("{extra}/a")).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.get(&format!("{extra}/a")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(service.get(&format!("/volumes/{volume}/encryption")).await.body, json!({ "encryption_key_id": null }));

    service.delete(&path).await.is_error(400, "badRequest", "Target volume type is still in use.");
    service.delete(&format!("/volumes/{volume}")).await;
    service.wait_status(&volume, "gone").await;
    assert_eq!(service.delete(&path).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.get(&path).await.status, StatusCode::NOT_FOUND);
    let default = service.get("/types/default").await.body["volume_type"]["id"].as_str().unwrap().to_owned();
    assert_eq!(service.delete(&format!("/types/{default}")).await.status, StatusCode::BAD_REQUEST, "the default stays");
}

#[tokio::test]
async fn a_private_type_is_for_those_who_were_given_it() {
    let service = Service::start();
    let token = crate::common::token(&service.store().await, OTHER, "member").await;
    let theirs = [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.71")];
    let id = service.new_type(json!({ "name": "private", "os-volume-type-access:is_public": false })).await;
    let path = format!("/types/{id}");
    let see = || service.bare(Method::GET, &path, &theirs, None);
    assert_eq!(see().await.status, StatusCode::NOT_FOUND);
    let body = json!({ "volume": { "size": 1, "volume_type": "private" } }).to_string();
    assert_eq!(service.bare(Method::POST, "/volumes", &theirs, Some(&body)).await.status, StatusCode::NOT_FOUND);
    let give = json!({ "addProjectAccess": { "project": OTHER } });
    assert_eq!(service.post(&format!("{path}/action"), give.clone()).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.post(&format!("{path}/action"), give).await.status, StatusCode::CONFLICT);
    assert_eq!(see().await.status, StatusCode::OK);
    let access = service.get(&format!("{path}/os-volume-type-access")).await.body;
    assert_eq!(access, json!({ "volume_type_access": [{ "volume_type_id": id, "project_id": OTHER }] }));
    // A default of its own.
    let default = format!("/default-types/{OTHER}");
    let set = service.put(&default, json!({ "default_type": { "volume_type": "private" } })).await;
    assert_eq!(set.body, json!({ "default_type": { "project_id": OTHER, "volume_type_id": id } }), "{set:?}");
    let body = json!({ "volume": { "size": 1 } }).to_string();
    let made = service.bare(Method::POST, "/volumes", &theirs, Some(&body)).await;
    assert_eq!(made.body["volume"]["volume_type"], "private");
    assert_eq!(service.ask(Method::DELETE, &default, "3.62", None).await.status, StatusCode::NO_CONTENT);
    let take = json!({ "removeProjectAccess": { "project": OTHER } });
    assert_eq!(service.post(&format!("{path}/action"), take.clone()).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.post(&format!("{path}/action"), take).await.status, StatusCode::NOT_FOUND);
    assert_eq!(see().await.status, StatusCode::NOT_FOUND);
    for (method, path, body) in [
        (Method::POST, "/types".to_owned(), json!({ "volume_type": { "name": "x" } })),
        (Method::DELETE, path.clone(), json!({})),
        (Method::POST, "/qos-specs".into(), json!({ "qos_specs": { "name": "x" } })),
        (Method::PUT, format!("/os-quota-sets/{OTHER}"), json!({ "quota_set": { "volumes": 1 } })),
        (Method::GET, "/scheduler-stats/get_pools".into(), json!({})),
    ] {
        let refused = service.bare(method, &path, &theirs, Some(&body.to_string())).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn quality_of_service_reaches_the_host_where_it_is_to_obey() {
    let service = Service::start();
    let made = service
        .post("/qos-specs", json!({ "qos_specs": { "name": "q", "consumer": "front-end", "total_iops_sec": 500 } }))
        .await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    let qos = made.body["qos_specs"]["id"].as_str().unwrap().to_owned();
    let path = format!("/qos-specs/{qos}");
    let default = service.get("/types/default").await.body["volume_type"]["id"].as_str().unwrap().to_owned();
    let associate = service.get(&format!("{path}/associate?vol_type_id={default}")).await;
    assert_eq!(associate.status, StatusCode::ACCEPTED, "{associate:?}");
    assert_eq!(service.get(&format!("{path}/associations")).await.body["qos_associations"][0]["id"], json!(default));
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, "iqn.2026-01.test:a").await;
    assert_eq!(attachment["connection_info"]["qos_specs"], json!({ "total_iops_sec": "500" }));
    service.put(&path, json!({ "qos_specs": { "consumer": "back-end" } })).await;
    service.delete(&format!("/attachments/{}", attachment["id"].as_str().unwrap())).await;
    let attachment = service.attach(&volume, "iqn.2026-01.test:a").await;
    assert_eq!(attachment["connection_info"]["qos_specs"], Value::Null, "the storage obeys, not the host");
    assert_eq!(service.put(&format!("{path}/delete_keys"), json!({ "keys": ["nothing"] })).await.status, StatusCode::NOT_FOUND);
    let keys = json!({ "keys": ["total_iops_sec"] });
    assert_eq!(service.put(&format!("{path}/delete_keys"), keys).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.delete(&path).await.status, StatusCode::BAD_REQUEST, "a type has it");
    assert_eq!(service.delete(&format!("{path}?force=true")).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.get("/types/default").await.body["volume_type"]["qos_specs_id"], Value::Null);
    assert_eq!(service.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn quotas_are_set_shown_kept_and_forgotten() {
    let service = Service::start();
    let volume = service.volume(json!({ "size": 2 })).await;
    let project = service.get(&format!("/volumes/{volume}")).await.body["volume"]["os-vol-tenant-attr:tenant_id"].clone();
    let path = format!("/os-quota-sets/{}", project.as_str().unwrap());
    let limits = json!({ "quota_set": { "volumes": 1, "per_volume_gigabytes": 5, "tenant_id": project } });
    let set = service.put(&path, limits).await;
    assert_eq!(set.body["quota_set"]["volumes"], 1, "{set:?}");
    let usage = service.get(&format!("{path}?usage=True")).await.body["quota_set"].clone();
    assert_eq!(usage["volumes"], json!({ "limit": 1, "in_use": 1, "reserved": 0 }));
    assert_eq!(usage["gigabytes"]["in_use"], 2);
    assert_eq!(usage["id"], project);
    let over = service.post("/volumes", json!({ "volume": { "size": 1 } })).await;
    assert_eq!((over.status, over.body["overLimit"]["code"].clone()), (StatusCode::PAYLOAD_TOO_LARGE, json!(413)));
    service.put(&path, json!({ "quota_set": { "volumes": -1 } })).await;
    assert_eq!(service.post("/volumes", json!({ "volume": { "size": 6 } })).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let bad = service.put(&path, json!({ "quota_set": { "volumes": 7, "apples": 1 } })).await;
    bad.is_error(400, "badRequest", "Bad key(s) in quota set: apples");
    for wrong in [json!(-2), json!("x"), json!(null), json!(1.5), json!(1u64 << 40)] {
        let answer = service.put(&path, json!({ "quota_set": { "volumes": wrong } })).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(service.delete(&path).await.status, StatusCode::OK);
    assert_eq!(service.get(&path).await.body["quota_set"]["per_volume_gigabytes"], -1);
    let class = service.put("/os-quota-class-sets/default", json!({ "quota_class_set": { "snapshots": 3 } })).await;
    assert_eq!(class.body["quota_class_set"]["snapshots"], 3, "{class:?}");
    assert_eq!(service.get(&format!("{path}/defaults")).await.body["quota_set"]["snapshots"], 3);
    let token = crate::common::token(&service.store().await, OTHER, "member").await;
    let theirs = [("x-auth-token", token.as_str())];
    assert_eq!(service.bare(Method::GET, &path, &theirs, None).await.status, StatusCode::NOT_FOUND, "another project's");
    assert_eq!(service.bare(Method::GET, &format!("/os-quota-sets/{OTHER}"), &theirs, None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_retype_in_place_moves_counters_and_one_that_would_move_bytes_is_refused() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    crate::common::wait_snapshot(&service, made.body["snapshot"]["id"].as_str().unwrap(), "available").await;
    service.new_type(json!({ "name": "here", "extra_specs": { "volume_backend_name": "files" } })).await;
    service.new_type(json!({ "name": "elsewhere", "extra_specs": { "volume_backend_name": "ceph" } })).await;
    let path = format!("/volumes/{volume}/action");
    let retype = |name: &str| json!({ "os-retype": { "new_type": name, "migration_policy": "never" } });
    assert_eq!(service.post(&path, retype("here")).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.get(&format!("/volumes/{volume}")).await.body["volume"]["volume_type"], "here");
    assert_eq!(service.store().await.usage_drift().await.unwrap(), []);
    assert_eq!(service.post(&path, retype("here")).await.status, StatusCode::BAD_REQUEST, "it has it already");
    let refused = service.post(&path, retype("elsewhere")).await;
    let said = refused.body["badRequest"]["message"].as_str().unwrap();
    assert!(said.contains("where it is") && refused.status == StatusCode::BAD_REQUEST, "{said}");
    assert_eq!(service.post(&path, retype("nowhere")).await.status, StatusCode::NOT_FOUND);
}
