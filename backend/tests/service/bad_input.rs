//! Whatever is sent, every path answers in the field's form: 4xx, never 5xx, and goes on answering.

use crate::common::Service;
use crate::common::odd::{Dice, oddities};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A right request for each path that takes one: the shape that is then made wrong, field by field.
fn requests(volume: &str, snapshot: &str, project: &str) -> Vec<(Method, String, Value)> {
    let connector = json!({ "initiator": "iqn.2026-01.test:a", "host": "a" });
    let action = |name: &str, how: Value| (Method::POST, format!("/volumes/{volume}/action"), json!({ name: how }));
    vec![
        (
            Method::POST,
            "/volumes".into(),
            json!({ "volume": { "size": 1, "name": "n", "metadata": { "a": "b" }, "snapshot_id": null, "source_volid": null, "multiattach": false, "availability_zone": null, "volume_type": null } }),
        ),
        (Method::PUT, format!("/volumes/{volume}"), json!({ "volume": { "name": "n", "description": "d", "metadata": {} } })),
        (Method::POST, format!("/volumes/{volume}/metadata"), json!({ "metadata": { "a": "b" } })),
        (Method::PUT, format!("/volumes/{volume}/metadata/a"), json!({ "meta": { "a": "b" } })),
        (Method::POST, "/snapshots".into(), json!({ "snapshot": { "volume_id": volume, "force": true, "metadata": {} } })),
        (Method::PUT, format!("/snapshots/{snapshot}"), json!({ "snapshot": { "name": "n", "description": "d" } })),
        (Method::PUT, format!("/snapshots/{snapshot}/metadata"), json!({ "metadata": { "a": "b" } })),
        (
            Method::POST,
            "/backups".into(),
            json!({ "backup": { "volume_id": volume, "snapshot_id": null, "incremental": false, "force": true, "container": "c", "name": "n", "metadata": {}, "availability_zone": null } }),
        ),
        (
            Method::POST,
            "/backups/import_record".into(),
            json!({ "backup-record": { "backup_service": "bowline", "backup_url": "e30=" } }),
        ),
        (Method::POST, format!("/snapshots/{snapshot}/action"), json!({ "os-reset_status": { "status": "available" } })),
        (
            Method::POST,
            "/types".into(),
            json!({ "volume_type": { "name": "n", "description": "d", "extra_specs": {}, "is_public": true } }),
        ),
        (Method::PUT, "/types/default".into(), json!({ "volume_type": { "name": "n" } })),
        (Method::POST, "/types/default/action".into(), json!({ "addProjectAccess": { "project": "p" } })),
        (Method::POST, "/qos-specs".into(), json!({ "qos_specs": { "name": "n", "consumer": "both", "a": "1" } })),
        (Method::PUT, "/qos-specs/x/delete_keys".into(), json!({ "keys": ["a"] })),
        (Method::PUT, format!("/os-quota-sets/{project}"), json!({ "quota_set": { "snapshots": 100 } })),
        (Method::PUT, "/os-quota-class-sets/other".into(), json!({ "quota_class_set": { "volumes": 1 } })),
        (Method::PUT, format!("/default-types/{project}"), json!({ "default_type": { "volume_type": "files" } })),
        (
            Method::POST,
            "/volume-transfers".into(),
            json!({ "transfer": { "volume_id": snapshot, "name": "n", "no_snapshots": false } }),
        ),
        (Method::POST, format!("/volume-transfers/{volume}/accept"), json!({ "accept": { "auth_key": "k" } })),
        (
            Method::POST,
            "/attachments".into(),
            json!({ "attachment": { "volume_uuid": snapshot, "instance_uuid": null, "connector": connector, "mode": "rw" } }),
        ),
        (Method::PUT, format!("/attachments/{volume}"), json!({ "attachment": { "connector": connector } })),
        (Method::POST, format!("/attachments/{volume}/action"), json!({ "os-complete": {} })),
        (
            Method::PUT,
            "/os-services/disable".into(),
            json!({ "host": "nobody", "binary": "cinder-volume", "disabled_reason": "r" }),
        ),
        action("os-attach", json!({ "instance_uuid": null, "host_name": "a", "mountpoint": "/dev/vdb", "mode": "rw" })),
        action("os-detach", json!({ "attachment_id": snapshot })),
        action("os-terminate_connection", json!({ "connector": connector, "force": false })),
        action("os-retype", json!({ "new_type": "nothing", "migration_policy": "never" })),
        action("os-migrate_volume", json!({ "host": "nowhere@files", "force_host_copy": false, "lock_volume": true })),
        action("os-set_bootable", json!({ "bootable": true })),
        action("os-update_readonly_flag", json!({ "readonly": false })),
        action("os-reset_status", json!({ "status": "available", "migration_status": "none" })),
        action("revert", json!({ "snapshot_id": volume })),
        action("os-extend_volume_completion", json!({ "error": false })),
    ]
}

/// Every place in a document.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    if let Value::Object(map) = value {
        for (key, inner) in map {
            places(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), into);
        }
    }
}

#[tokio::test]
async fn no_body_makes_the_service_fail() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    let snapshot = made.body["snapshot"]["id"].as_str().unwrap().to_owned();
    crate::common::wait_snapshot(&service, &snapshot, "available").await;
    let project = service.get(&format!("/volumes/{volume}")).await.body["volume"]["os-vol-tenant-attr:tenant_id"].clone();
    let (mut refused, mut asked) = (0, 0);
    let mut dice = Dice(3);
    let oddities = oddities();
    for (method, path, right) in requests(&volume, &snapshot, project.as_str().unwrap()) {
        let mut all = Vec::new();
        places(&right, "", &mut all);
        for place in all {
            for _ in 0..6 {
                let odd = oddities[dice.roll(oddities.len())].clone();
                let mut wrong = right.clone();
                match dice.roll(3) {
                    0 => {
                        if let Some(Value::Object(map)) = wrong.pointer_mut(&place) {
                            map.insert("unknown".into(), odd);
                        }
                    }
                    _ => *wrong.pointer_mut(&place).unwrap() = odd,
                }
                let answer = service.ask(method.clone(), &path, "3.71", Some(wrong.clone())).await;
                let shown: String = wrong.to_string().chars().take(300).collect();
                assert!(answer.status.as_u16() < 500, "{method} {path} {shown}: {answer:?}\n{}", service.log());
                asked += 1;
                if answer.status.is_client_error() {
                    refused += 1;
                    let fault = answer.body.as_object().unwrap().values().next().unwrap();
                    assert_eq!(fault["code"], answer.status.as_u16(), "{method} {path} {shown}");
                    assert!(fault["message"].is_string(), "{method} {path} {shown}");
                }
            }
        }
    }
    assert!(refused * 2 > asked, "most of {asked} were wrong, and {refused} were refused");
    assert_eq!(service.store().await.usage_drift().await.unwrap(), []);
}

#[tokio::test]
async fn no_path_query_or_token_makes_the_service_fail() {
    let service = Service::start();
    let token = service.token();
    let own = [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.71")];
    let ids = ["x", "%00", "%2e%2e", "%ff", "00000000-0000-4000-8000-000000000000", "0", "'", "%F0%9F%A6%80"];
    let resources = [
        "volumes",
        "snapshots",
        "backups",
        "attachments",
        "types",
        "qos-specs",
        "volume-transfers",
        "messages",
        "operations",
        "default-types",
        "extensions",
        "os-quota-sets",
    ];
    for resource in resources {
        for id in ids {
            for method in [Method::GET, Method::DELETE] {
                let answer = service.bare(method.clone(), &format!("/{resource}/{id}"), &own, None).await;
                assert!(answer.status.as_u16() < 500, "{method} {resource}/{id}: {answer:?}");
            }
        }
    }
    let queries = [
        "limit=-1",
        "limit=x",
        "limit=99999999999999999999",
        "offset=-1",
        "marker=x",
        "marker=%00",
        "sort=x:y",
        "sort_key=;",
        "sort_dir=up",
        "with_count=perhaps",
        "metadata={",
        "metadata={'a':{}}",
        "name=%00",
        "name~=%25_%00",
        "status=%F0%9F%A6%80",
        "created_at=gt:x",
        "created_at=zz:2020-01-01T00:00:00",
        "updated_at=lt:9999-12-31T23:59:59,gt:-9999-01-01",
        "all_tenants=2",
        "bootable=x",
        "consumes_quota=x",
        "is_public=x",
        "extra_specs={",
        "usage=x",
        "detail=x",
        "force=x",
        "id=%00",
        "host=%00",
        "=",
        "&&&",
        "a=%zz",
    ];
    let lists = [
        "volumes",
        "volumes/detail",
        "volumes/summary",
        "snapshots",
        "snapshots/detail",
        "backups",
        "backups/detail",
        "attachments",
        "attachments/detail",
        "types",
        "messages",
        "volume-transfers/detail",
        "scheduler-stats/get_pools",
        "os-services",
        "groups/detail",
    ];
    for path in lists {
        for query in queries {
            let answer = service.bare(Method::GET, &format!("/{path}?{query}"), &own, None).await;
            assert!(answer.status.as_u16() < 500, "{path}?{query}: {answer:?}\n{}", service.log());
        }
    }
    let long = "t".repeat(5000);
    for forged in ["null", "0", "' OR 1=1 --", long.as_str(), "\u{e9}"] {
        let answer = service.bare(Method::GET, "/volumes", &[("x-auth-token", forged)], None).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{forged}");
    }
    for body in ["", "{", "[]", "\"x\"", "{\"volume\":", "\u{0}", "{\"volume\":{\"size\":1e999}}"] {
        let answer = service.bare(Method::POST, "/volumes", &own, Some(body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let huge = format!("{{\"volume\":{{\"name\":\"{}\"}}}}", "x".repeat(200_000));
    for path in ["/volumes", "/types", "/volumes/x/action", "/qos-specs"] {
        let answer = service.bare(Method::POST, path, &own, Some(&huge)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
    assert_eq!(service.get("/volumes").await.status, StatusCode::OK);
}
