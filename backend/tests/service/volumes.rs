//! Volumes over real HTTP: their life, lists, and every refusal in the field's words.

use crate::common::{Service, path_of};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn the_life_of_a_volume() {
    let service = Service::start();
    let body = json!({ "volume": { "size": 2, "name": "first", "description": "d", "metadata": { "a": "b" }, "volume_type": "files" } });
    let made = service.post("/volumes", body).await;
    assert_eq!(made.status, StatusCode::ACCEPTED);
    assert!(made.header("x-openstack-request-id").starts_with("req-"));
    let view = &made.body["volume"];
    let id = view["id"].as_str().unwrap();
    for (key, value) in [
        ("status", json!("creating")),
        ("size", json!(2)),
        ("name", json!("first")),
        ("metadata", json!({ "a": "b" })),
        ("attachments", json!([])),
        ("bootable", json!("false")),
        ("encrypted", json!(false)),
        ("multiattach", json!(false)),
        ("availability_zone", json!("nova")),
        ("volume_type", json!("files")),
        ("updated_at", Value::Null),
        ("shared_targets", json!(false)),
    ] {
        assert_eq!(view[key], value, "{key}");
    }
    service.wait_status(id, "available").await;
    assert_eq!(std::fs::metadata(path_of(&service, id)).unwrap().len(), 2 << 30);

    let shown = service.get(&format!("/volumes/{id}")).await.body;
    assert!(shown["volume"]["os-vol-host-attr:host"].as_str().unwrap().contains("@files#files"));
    let project = shown["volume"]["os-vol-tenant-attr:tenant_id"].as_str().unwrap();
    assert_eq!(service.get(&format!("/v3/{project}/volumes/{id}")).await.body, shown, "with the project's id in the path");
    assert_eq!(service.get(&format!("/v3/{}/volumes/{id}", "f".repeat(32))).await.status, StatusCode::NOT_FOUND);

    let old = service.ask(Method::GET, &format!("/volumes/{id}"), "3.0", None).await;
    assert_eq!(old.header("openstack-api-version"), "volume 3.0");
    assert_eq!(old.header("vary"), "OpenStack-API-Version");
    for newer in ["group_id", "provider_id", "shared_targets", "service_uuid"] {
        assert!(old.body["volume"].get(newer).is_none(), "{newer}");
    }

    let changed = service
        .ask(
            Method::PUT,
            &format!("/volumes/{id}"),
            "3.54",
            Some(json!({ "volume": { "name": "second", "description": null } })),
        )
        .await;
    assert_eq!((&changed.body["volume"]["name"], &changed.body["volume"]["description"]), (&json!("second"), &Value::Null));
    let metadata = service.post(&format!("/volumes/{id}/metadata"), json!({ "metadata": { "k": "v" } })).await;
    assert_eq!(metadata.body, json!({ "metadata": { "a": "b", "k": "v" } }));
    assert_eq!(service.delete(&format!("/volumes/{id}/metadata/a")).await.status, StatusCode::OK);
    service.delete(&format!("/volumes/{id}/metadata/a")).await.is_error(404, "itemNotFound", "Metadata item was not found");

    let limits = service.get("/limits").await.body;
    assert_eq!(
        (&limits["limits"]["absolute"]["totalVolumesUsed"], &limits["limits"]["absolute"]["totalGigabytesUsed"]),
        (&json!(1), &json!(2))
    );
    let types = service.get("/types").await.body;
    let type_id = types["volume_types"][0]["id"].as_str().unwrap();
    for word in [type_id, "files", "default"] {
        assert_eq!(service.get(&format!("/types/{word}")).await.body["volume_type"], types["volume_types"][0], "{word}");
    }
    assert_eq!(service.get("/types/other").await.status, StatusCode::NOT_FOUND);
    assert_eq!((&types["volume_types"][0]["name"], &types["volume_types"][0]["is_public"]), (&json!("files"), &json!(true)));

    assert_eq!(service.delete(&format!("/volumes/{id}")).await.status, StatusCode::ACCEPTED);
    service.wait_status(id, "gone").await;
    assert!(!path_of(&service, id).exists());
    service.get(&format!("/volumes/{id}")).await.is_error(404, "itemNotFound", &format!("Volume {id} could not be found."));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_fields_words() {
    let service = Service::start();
    let create = async |volume: Value| service.post("/volumes", json!({ "volume": volume })).await;
    create(json!({ "size": 0 })).await.is_error(
        400,
        "badRequest",
        "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1",
    );
    create(json!({ "size": 1, "volume_type": "nope" })).await.is_error(
        404,
        "itemNotFound",
        "Volume type with name nope could not be found.",
    );
    create(json!({ "size": 1, "imageRef": NOWHERE })).await.is_error(
        404,
        "itemNotFound",
        &format!("Image {NOWHERE} could not be found."),
    );
    create(json!({ "size": 1, "backup_id": NOWHERE })).await.is_error(
        404,
        "itemNotFound",
        &format!("Backup {NOWHERE} could not be found."),
    );
    for wrong in [
        json!({}),
        json!({ "size": "x" }),
        json!({ "size": -1 }),
        json!({ "size": 1.5 }),
        json!({ "size": 1e99 }),
        json!({ "size": [] }),
        json!({ "size": 1, "name": 5 }),
        json!({ "size": 1, "name": "n".repeat(256) }),
        json!({ "size": 1, "metadata": [] }),
        json!({ "size": 1, "metadata": { "a": 1 } }),
        json!({ "size": 1, "metadata": { "": "x" } }),
        json!({ "size": 1, "multiattach": "perhaps" }),
        json!({ "size": 1, "availability_zone": "elsewhere" }),
        json!({ "size": 1, "snapshot_id": NOWHERE, "source_volid": 5 }),
        json!({ "size": 1, "backup_id": "one" }),
        json!({ "size": 1, "surprise": true }),
    ] {
        let answer = create(wrong.clone()).await;
        assert_eq!(
            (answer.status, &answer.body["badRequest"]["code"]),
            (StatusCode::BAD_REQUEST, &json!(400)),
            "{wrong}: {answer:?}"
        );
    }
    let token = service.token();
    let headers = [("x-auth-token", token.as_str())];
    for garbage in ["", "{", "[]", "\"volume\"", "null", "{\"volume\": 5}", "\u{0}", "{\"volume\":{\"size\":1}} x"] {
        let answer = service.bare(Method::POST, "/volumes", &headers, Some(garbage)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{garbage:?}: {answer:?}");
    }
    let huge = format!("{{\"volume\": {{\"name\": \"{}\"}}}}", "x".repeat(200_000));
    service.bare(Method::POST, "/volumes", &headers, Some(&huge)).await.is_error(413, "overLimit", "Request is too large.");
    for id in [NOWHERE, "no-id", "..%2f..%2fetc", "%00"] {
        let answer = service.get(&format!("/volumes/{id}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}: {answer:?}");
    }
    service.get(&format!("/volumes/{NOWHERE}")).await.is_error(
        404,
        "itemNotFound",
        &format!("Volume {NOWHERE} could not be found."),
    );
    for unreadable in ["/volumes/%ff", "/volumes/%ff/metadata/%fe", "/attachments/%ff", "/types/%ff"] {
        service.get(unreadable).await.is_error(404, "itemNotFound", "The resource could not be found.");
    }
    let beside = json!({ "volume": { "size": 1 }, "surprise": {} });
    service.post("/volumes", beside).await.is_error(
        400,
        "badRequest",
        "Invalid input received: Additional properties are not allowed ('surprise' was unexpected)",
    );
    service.get("/nothing").await.is_error(404, "itemNotFound", "The resource could not be found.");
    assert_eq!(service.ask(Method::PATCH, "/volumes", "3.54", None).await.status, StatusCode::METHOD_NOT_ALLOWED);

    let newer = service.ask(Method::GET, "/volumes", "3.999", None).await;
    newer.is_error(406, "computeFault", "Version 3.999 is not supported by the API. Minimum is 3.0 and maximum is 3.71.");
    assert_eq!(newer.header("openstack-api-version"), "volume 3.999");
    assert_eq!(service.ask(Method::GET, "/volumes", "latest", None).await.header("openstack-api-version"), "volume 3.71");
    assert_eq!(service.get("/volumes").await.body, json!({ "volumes": [] }), "nothing was made");
}

#[tokio::test]
async fn lists_are_filtered_ordered_and_cut_into_pages() {
    let service = Service::start();
    for (name, size) in [("b", 3), ("a", 1), ("c", 2), ("b", 1)] {
        service.volume(json!({ "name": name, "size": size })).await;
    }
    let names = async |query: &str| {
        let answer = service.get(&format!("/volumes/detail?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {answer:?}");
        answer.body["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| format!("{}{}", v["name"].as_str().unwrap(), v["size"]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names("").await, "b1 c2 a1 b3", "newest first");
    assert_eq!(names("sort_key=created_at&sort_dir=asc").await, "b3 a1 c2 b1");
    assert_eq!(names("sort=name:asc").await, "a1 b3 b1 c2");
    assert_eq!(names("sort=size:desc&limit=2").await, "b3 c2");
    assert_eq!(names("name=b").await, "b1 b3");
    assert_eq!(names("name~=c").await, "c2");
    assert_eq!(names("status=available&offset=3").await, "b3");
    assert_eq!(names("status=error").await, "");
    let tagged = service.volume(json!({ "name": "t", "metadata": { "k'y": "v", "more": "x" } })).await;
    for (query, expected) in [
        ("metadata={\"k'y\":+'v'}", "t1"),
        ("metadata={%27more%27:%27x%27,%22k'y%22:%22v%22}", "t1"),
        ("metadata={'more':'v'}", ""),
        (&format!("id={}", tagged.to_uppercase()), "t1"),
        ("id=no-id", ""),
        ("bootable=true", ""),
        ("bootable=false&name=t", "t1"),
        ("availability_zone=nova&limit=1", "t1"),
        ("availability_zone=elsewhere", ""),
    ] {
        assert_eq!(names(query).await, expected, "{query}");
    }
    assert_eq!(service.delete(&format!("/volumes/{tagged}")).await.status, StatusCode::ACCEPTED);
    service.wait_status(&tagged, "gone").await;

    let mut seen = Vec::new();
    let mut path = "/volumes?limit=3&sort=name:asc".to_owned();
    loop {
        let page = service.get(&path).await.body;
        let list = page["volumes"].as_array().unwrap();
        seen.extend(list.iter().map(|volume| volume["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["volumes_links"][0]["href"].as_str() else { break };
        assert!(next.starts_with(&service.url), "{next}");
        path = next.strip_prefix(&service.url).unwrap().to_owned();
    }
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (4, 4), "every volume once, in the order that was asked for: {seen:?}");
    let counted = service.get("/volumes?with_count=true&limit=1&name=b").await.body;
    assert_eq!((&counted["count"], counted["volumes"].as_array().unwrap().len()), (&json!(2), 1));

    for wrong in [
        "limit=x",
        "limit=-1",
        "offset=x",
        "sort=colour",
        "sort_dir=up",
        "colour=red",
        "multiattach=x",
        "metadata=x",
        "bootable=x",
    ] {
        assert_eq!(service.get(&format!("/volumes?{wrong}")).await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(service.get(&format!("/volumes?marker={NOWHERE}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_volume_whose_storage_cannot_be_made_is_in_error_and_can_be_deleted() {
    let service = Service::start();
    let made = service.post("/volumes", json!({ "volume": { "size": i32::MAX } })).await;
    assert_eq!(made.status, StatusCode::ACCEPTED);
    let id = made.body["volume"]["id"].as_str().unwrap();
    service.wait_status(id, "error").await;
    let held = service.post("/attachments", json!({ "attachment": { "volume_uuid": id } })).await;
    held.is_error(
        400,
        "badRequest",
        &format!(
            "Invalid volume: Volume {id} status must be available or downloading to reserve, but the current status is error."
        ),
    );
    assert_eq!(service.delete(&format!("/volumes/{id}")).await.status, StatusCode::ACCEPTED);
    service.wait_status(id, "gone").await;
}

#[tokio::test]
async fn snapshots_and_what_is_made_from_them() {
    use std::os::unix::fs::FileExt as _;
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let file = std::fs::OpenOptions::new().write(true).open(path_of(&service, &volume)).unwrap();
    file.write_all_at(b"as it was", 1 << 20).unwrap();
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume, "name": "s" } })).await;
    assert_eq!((made.status, &made.body["snapshot"]["status"]), (StatusCode::ACCEPTED, &json!("creating")), "{made:?}");
    let snapshot = made.body["snapshot"]["id"].as_str().unwrap().to_owned();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let shown = service.get(&format!("/snapshots/{snapshot}")).await.body;
        if shown["snapshot"]["status"] == "available" {
            assert_eq!(shown["snapshot"]["os-extended-snapshot-attributes:progress"], "100%");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{shown}\n{}", service.log());
    }
    file.write_all_at(b"later on ", 1 << 20).unwrap();
    let refused = service.delete(&format!("/volumes/{volume}")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "a snapshot lives on it");

    let smaller = service.post("/volumes", json!({ "volume": { "snapshot_id": snapshot, "size": 1 } })).await;
    assert_eq!(smaller.status, StatusCode::ACCEPTED);
    let larger = service.volume(json!({ "size": 2, "snapshot_id": snapshot })).await;
    let copy = service.volume(json!({ "source_volid": volume })).await;
    let read = |id: &str| {
        let mut bytes = [0; 9];
        std::fs::File::open(path_of(&service, id)).unwrap().read_exact_at(&mut bytes, 1 << 20).unwrap();
        bytes
    };
    assert_eq!((&read(&larger), &read(&copy)), (b"as it was", b"later on "));
    let limits = service.get("/limits").await.body;
    assert_eq!(limits["limits"]["absolute"]["totalSnapshotsUsed"], json!(1));
    assert_eq!(service.delete(&format!("/snapshots/{snapshot}")).await.status, StatusCode::ACCEPTED);
    let store = service.store().await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while service.get(&format!("/snapshots/{snapshot}")).await.status != StatusCode::NOT_FOUND {
        assert!(std::time::Instant::now() < deadline, "{}", service.log());
    }
    service.wait_status(smaller.body["volume"]["id"].as_str().unwrap(), "available").await;
    assert_eq!(store.usage_drift().await.unwrap(), []);
}

#[tokio::test]
async fn when_nothing_fits_the_owner_is_told_why_per_pool() {
    let service = Service::start();
    let made = service.post("/volumes", json!({ "volume": { "size": 2_000_000_000 } })).await;
    assert_eq!(made.status, StatusCode::ACCEPTED);
    service.wait_status(made.body["volume"]["id"].as_str().unwrap(), "error").await;
    let messages = service.get("/messages").await.body;
    let message = &messages["messages"][0];
    assert_eq!(message["resource_uuid"], made.body["volume"]["id"]);
    assert_eq!(message["why_not"][0]["filter"], "CapacityFilter", "{messages}");
    let operations = service.get("/operations").await.body;
    assert_eq!(
        (&operations["operations"][0]["state"], &operations["operations"][0]["kind"]),
        (&json!("failed"), &json!("volume:create"))
    );
    let services = service.get("/os-services").await.body;
    let up: Vec<_> = services["services"].as_array().unwrap().iter().map(|one| (&one["binary"], &one["state"])).collect();
    let all = ["cinder-backup", "cinder-scheduler", "cinder-volume"].map(|name| (json!(name), json!("up")));
    assert_eq!(up, all.each_ref().map(|(name, state)| (name, state)));
}

#[tokio::test]
async fn a_used_up_quota_is_said_in_the_fields_words() {
    let mut service = Service::prepare();
    service.settings = "quota = { volumes = 1 }".into();
    service.start_again();
    service.volume(json!({})).await;
    let refused = service.post("/volumes", json!({ "volume": { "size": 1 } })).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    let message = "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.";
    assert_eq!(refused.body, json!({ "overLimit": { "code": 413, "message": message, "retryAfter": "0" } }));
}

#[tokio::test]
async fn another_projects_things_are_not_there() {
    use bowline_backend::auth::TokenDigest;
    use bowline_backend::store::TokenOwner;
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let store = service.store().await;
    let project = "b".repeat(32);
    store.insert_project(&project, "other").await.unwrap();
    store.insert_user("other-user", "other").await.unwrap();
    let owner = |roles: &str| TokenOwner {
        user_id: "other-user".into(),
        project_id: Some(project.clone()),
        roles: roles.into(),
        expires_at_us: None,
    };
    store.insert_token(&TokenDigest::of(b"member-token").hex(), &owner("member")).await.unwrap();
    store.insert_token(&TokenDigest::of(b"reader-token").hex(), &owner("reader")).await.unwrap();
    let ask = async |token: &str, method: Method, path: &str, body: Option<&str>| {
        service.bare(method, path, &[("x-auth-token", token), ("openstack-api-version", "volume 3.54")], body).await
    };
    for (method, path) in [
        (Method::GET, format!("/volumes/{volume}")),
        (Method::DELETE, format!("/volumes/{volume}")),
        (Method::GET, format!("/volumes/{volume}/metadata")),
    ] {
        let answer = ask("member-token", method, &path, None).await;
        answer.is_error(404, "itemNotFound", &format!("Volume {volume} could not be found."));
    }
    let hold = json!({ "attachment": { "volume_uuid": volume } }).to_string();
    assert_eq!(ask("member-token", Method::POST, "/attachments", Some(&hold)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask("member-token", Method::GET, "/volumes?all_tenants=1", None).await.body, json!({ "volumes": [] }));
    assert_eq!(ask("member-token", Method::GET, "/os-services", None).await.status, StatusCode::FORBIDDEN);
    let new = json!({ "volume": { "size": 1 } }).to_string();
    assert_eq!(ask("reader-token", Method::POST, "/volumes", Some(&new)).await.status, StatusCode::FORBIDDEN);
    let own = ask("member-token", Method::POST, "/volumes", Some(&new)).await;
    assert_eq!(own.status, StatusCode::ACCEPTED);
    let shown =
        ask("member-token", Method::GET, &format!("/volumes/{}", own.body["volume"]["id"].as_str().unwrap()), None).await;
    assert_eq!(shown.body["volume"]["os-vol-tenant-attr:tenant_id"], json!(project));
    assert!(shown.body["volume"].get("os-vol-host-attr:host").is_none(), "where it is is the operator's business");
}
