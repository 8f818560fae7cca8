//! How the client behaves towards a service that behaves badly, over real sockets.

use super::{
    test_server::{Reply, Request, Server},
    *,
};
use crate::model::*;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const ID: &str = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";
const OTHER: &str = "1f880bde-a96c-454c-9817-f65a9a8e3990";

fn volume_id() -> VolumeId {
    ID.parse().unwrap()
}

fn attachment_id() -> AttachmentId {
    OTHER.parse().unwrap()
}

fn guest() -> GuestUuid {
    ID.parse().unwrap()
}

fn volume(name: &str, status: &str) -> Value {
    json!({"id": ID, "name": name, "size": 1, "status": status})
}

fn attachment(connection_info: Value) -> Reply {
    let fields = json!({"id": OTHER, "volume_id": ID, "instance": ID, "status": "reserved", "attach_mode": "null",
        "connection_info": connection_info});
    Reply::Json(200, &[], json!({ "attachment": fields }))
}

fn connection() -> Value {
    json!({"driver_volume_type": "iscsi", "target_portal": "127.0.0.1:3260", "target_iqn": "iqn.2010-10.org.openstack:v",
        "target_lun": 1, "auth_method": "CHAP", "auth_username": "u", "auth_password": "hunter2"})
}

fn fault(status: u16, message: &str) -> Reply {
    Reply::Json(status, &[("x-openstack-request-id", "req-7")], json!({"fault": {"code": status, "message": message}}))
}

/// Deadlines that a busy machine does not meet.
fn options() -> HttpOptions {
    HttpOptions { request_timeout_s: 60, ..HttpOptions::default() }
}

/// A deadline that a test can wait for.
fn hasty() -> HttpOptions {
    HttpOptions { request_timeout_s: 1, ..HttpOptions::default() }
}

fn config(auth: AuthMethod) -> CloudConfig {
    let (region_name, cacert, volume_endpoint) = (None, None, None);
    CloudConfig {
        name: "c".into(),
        auth,
        region_name,
        interface: Interface::Public,
        cacert,
        volume_endpoint,
        image_endpoint: None,
        key_manager_endpoint: None,
    }
}

fn fixed(server: &Server) -> VolumeService {
    fixed_with(server, options())
}

fn fixed_with(server: &Server, options: HttpOptions) -> VolumeService {
    let auth = AuthMethod::FixedToken { token: Secret::new("fixed"), endpoint: server.url() };
    VolumeService::new(config(auth), None, options).unwrap()
}

fn keystone_config(server: &Server, user: &str) -> CloudConfig {
    let name = NamedOrId::Name { name: user.into(), domain: Domain::Id("default".into()) };
    config(AuthMethod::Password {
        auth_url: server.url(),
        user: PasswordUser { user: name, password: Secret::new("p") },
        scope: Scope::Project(NamedOrId::Id("x".into())),
    })
}

/// Grants `token-1`, then `token-2`, with a catalog that leads back to the same server.
fn grant(request: &Request, earlier: usize, lifetime_s: i64) -> Reply {
    let url = format!("http://{}/v3", request.header("host").unwrap());
    let issued = jiff::Timestamp::now();
    let expires = issued + jiff::SignedDuration::from_secs(lifetime_s);
    let endpoint = json!({"interface": "public", "region": "R", "region_id": "R", "url": url});
    let token = json!({"issued_at": issued.to_string(), "expires_at": expires.to_string(), "project": {"id": "x"},
        "catalog": [{"type": "volumev3", "endpoints": [endpoint]}]});
    let headers: &[_] = match (request.body.contains("nova"), earlier) {
        (true, _) => &[("X-Subject-Token", "service-token")],
        (false, 0) => &[("X-Subject-Token", "token-1")],
        (false, _) => &[("X-Subject-Token", "token-2")],
    };
    Reply::Json(201, headers, json!({ "token": token }))
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_by_one_request_for_all() {
    let server = Server::start(|request, earlier| match request.line.as_str() {
        "POST /v3/auth/tokens" => grant(request, earlier, 3600),
        _ if request.header("x-auth-token") == Some("token-2") => Reply::Json(200, &[], json!({"volumes": []})),
        _ => fault(401, "The request you have made requires authentication."),
    })
    .await;
    let service = VolumeService::new(keystone_config(&server, "u"), None, options()).unwrap();
    let (a, b, c) = tokio::join!(service.volumes(), service.volumes(), service.volumes());
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
    assert_eq!(server.count("POST /v3/auth/tokens"), 2);
}

#[tokio::test]
async fn a_token_that_is_never_taken_ends_in_authentication_failed() {
    let server = Server::start(|request, earlier| match request.line.as_str() {
        "POST /v3/auth/tokens" => grant(request, earlier, 3600),
        _ => fault(401, "no"),
    })
    .await;
    let service = VolumeService::new(keystone_config(&server, "u"), None, options()).unwrap();
    assert_eq!(service.volumes().await.unwrap_err().kind(), ErrorKind::AuthenticationFailed);
    assert_eq!((server.count("POST /v3/auth/tokens"), server.count("GET")), (2, 2));
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_kept_until_then() {
    for (lifetime_s, tokens) in [(3600, 1), (0, 2)] {
        let server = Server::start(move |request, earlier| match request.line.as_str() {
            "POST /v3/auth/tokens" => grant(request, earlier, lifetime_s),
            _ => Reply::Json(200, &[], json!({"volumes": []})),
        })
        .await;
        let service = VolumeService::new(keystone_config(&server, "u"), None, options()).unwrap();
        service.volumes().await.unwrap();
        service.volumes().await.unwrap();
        assert_eq!(server.count("POST /v3/auth/tokens"), tokens, "lifetime {lifetime_s} s");
    }
}

#[tokio::test]
async fn a_keystone_that_hangs_costs_those_that_wait_one_deadline_together() {
    let server = Server::start(|_, _| Reply::Hang).await;
    let service = VolumeService::new(keystone_config(&server, "u"), None, hasty()).unwrap();
    let start = Instant::now();
    let (a, b, c) = tokio::join!(service.volumes(), service.volumes(), service.volumes());
    for error in [a, b, c].map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn reads_are_tried_again_and_creations_are_not() {
    let server = Server::start(|request, earlier| match (request.line.as_str(), earlier) {
        ("GET /v3/volumes/detail", 0) => fault(503, "busy"),
        ("GET /v3/volumes/detail", 1) => Reply::Close,
        ("GET /v3/volumes/detail", _) => Reply::Json(200, &[], json!({"volumes": [volume("a", "available")]})),
        _ => Reply::Close,
    })
    .await;
    let service = fixed(&server);
    assert_eq!(service.volumes().await.unwrap().len(), 1);
    let error = service.create_attachment(volume_id(), guest(), false).await.unwrap_err();
    assert!(error.outcome_unknown() && error.kind() == ErrorKind::Unavailable, "{error:?}");
    assert_eq!(server.count("POST /v3/attachments"), 1);
}

#[tokio::test]
async fn a_service_that_keeps_keys_is_asked_again_with_the_same_one() {
    const FEATURES: &[(&str, &str)] = &[("X-Bowline-Features", "idempotency-key, operation-watch")];
    let server = Server::start(|request, earlier| match (request.line.as_str(), earlier) {
        ("GET /v3/volumes/detail", _) => Reply::Json(200, FEATURES, json!({"volumes": []})),
        (_, 0) => Reply::Close,
        (_, 1) => {
            let message = "A request with this Idempotency-Key is still under way; try again in a moment.";
            Reply::Json(409, FEATURES, json!({"conflictingRequest": {"code": 409, "message": message}}))
        }
        _ => Reply::Json(202, FEATURES, json!({"volume": volume("n", "creating")})),
    })
    .await;
    let service = fixed(&server);
    service.volumes().await.unwrap();
    let new = NewVolume { name: "n".into(), size_gib: 1, volume_type: None, multiattach: false, origin: VolumeOrigin::Blank };
    service.create_volume(&new).await.unwrap();
    let sent = server.requests().into_iter().filter(|request| request.line.starts_with("POST"));
    let keys: Vec<_> = sent.map(|request| request.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0] && key.len() == 36), "{keys:?}");
    service.create_volume(&new).await.unwrap();
    let last = server.requests().pop().unwrap();
    assert_ne!(last.header("idempotency-key"), Some(keys[0].as_str()), "another request has another key");
}

#[tokio::test]
async fn an_operation_that_the_service_tells_of_is_listened_to() {
    const BEGUN: &[(&str, &str)] = &[("X-Bowline-Operation", "11111111-1111-4111-8111-111111111111")];
    for watchable in [true, false] {
        let server = Server::start(move |request, earlier| match (request.line.as_str(), earlier) {
            ("POST /v3/volumes", _) => Reply::Json(202, BEGUN, json!({"volume": volume("n", "creating")})),
            (line, _) if line.ends_with("/watch") && watchable => Reply::Text(200, "event: end\n\n".into()),
            (line, _) if line.ends_with("/watch") => fault(404, "no such path"),
            (_, 0) => Reply::Json(200, &[], json!({"volume": volume("n", "creating")})),
            _ => Reply::Json(200, &[], json!({"volume": volume("n", "available")})),
        })
        .await;
        let service = fixed(&server);
        let new =
            NewVolume { name: "n".into(), size_gib: 1, volume_type: None, multiattach: false, origin: VolumeOrigin::Blank };
        let id = service.create_volume(&new).await.unwrap().id;
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(service.wait_volume_status(id, "available", deadline).await.unwrap().status, "available");
        assert_eq!(server.count("GET /v3/operations/11111111-1111-4111-8111-111111111111/watch"), 1, "{watchable}");
        assert_eq!(server.count("GET /v3/volumes/"), 2);
    }
}

#[tokio::test]
async fn where_the_first_try_stays_in_hand_the_outcome_is_unknown() {
    const FEATURES: &[(&str, &str)] = &[("X-Bowline-Features", "idempotency-key")];
    let server = Server::start(|request, _| match request.line.as_str() {
        "GET /v3/volumes/detail" => Reply::Json(200, FEATURES, json!({"volumes": []})),
        _ => {
            let message = "A request with this Idempotency-Key is still under way; try again in a moment.";
            Reply::Json(409, FEATURES, json!({"conflictingRequest": {"code": 409, "message": message}}))
        }
    })
    .await;
    let service = fixed(&server);
    service.volumes().await.unwrap();
    let error = service.create_attachment(volume_id(), guest(), false).await.unwrap_err();
    assert!(error.outcome_unknown(), "it must be looked for: {error:?}");
}

#[tokio::test]
async fn a_service_that_stays_away_ends_in_its_own_words() {
    let server = Server::start(|_, _| fault(503, "maintenance until noon")).await;
    let error = fixed(&server).volumes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "cannot list volumes: HTTP 503: maintenance until noon (request req-7)");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_certainly_not_done() {
    let server = Server::start(|_, _| Reply::Close).await;
    let service = fixed(&server);
    let address = server.address;
    drop(server);
    tokio::task::yield_now().await;
    let error = service
        .create_volume(&NewVolume {
            name: "n".into(),
            size_gib: 1,
            volume_type: None,
            multiattach: false,
            origin: VolumeOrigin::Blank,
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Unavailable, false));
    assert_eq!(error.to_string(), format!("cannot create volume \"n\": cannot reach http://{address}"));
}

#[tokio::test]
async fn an_answer_that_never_comes_is_a_timeout_of_unknown_outcome() {
    let server = Server::start(|_, _| Reply::Hang).await;
    let error = fixed_with(&server, hasty()).create_attachment(volume_id(), guest(), false).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Timeout, true));
    assert!(error.to_string().contains("did not answer within 1 s"), "{error}");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_told_and_not_quoted() {
    for (body, want) in [
        ("<html>hunter2</html>".to_owned(), "something that is not JSON"),
        (r#"{"volumes": "hunter2"}"#.to_owned(), "JSON of an unexpected shape"),
        ("hunter2".repeat(2 << 20), "more than 8 MiB"),
    ] {
        let server = Server::start(move |_, _| Reply::Text(200, body.clone())).await;
        let error = fixed(&server).volumes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains(want) && !format!("{error:?}").contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(|_, _| Reply::Json(302, &[("Location", "http://127.0.0.1:1/")], json!({}))).await;
    let error = fixed(&server).volumes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_update_whose_answer_was_lost_is_found_done() {
    let server = Server::start(|request, earlier| match (request.line.split(' ').next(), earlier) {
        (Some("PUT"), 0) => Reply::Close,
        (Some("PUT"), _) => {
            fault(500, "Unable to update attachment.(Invalid volume: duplicate connectors detected on volume x).")
        }
        _ => attachment(connection()),
    })
    .await;
    let connector = ConnectorProperties {
        host: "node-a".into(),
        ip: "127.0.0.1".into(),
        initiator: Some("iqn.2016-04.com.open-iscsi:node-a".into()),
        multipath: false,
        enforce_multipath: false,
        platform: "x86_64".into(),
        os_type: "linux".into(),
        system_uuid: Some(ID.into()),
        nqn: None,
        nvme_native_multipath: false,
        do_local_attach: false,
        mode: None,
        mountpoint: None,
    };
    let updated = fixed(&server).update_attachment(attachment_id(), &connector).await.unwrap();
    assert_eq!(updated.connection.as_ref().map(ConnectionInfo::protocol), Some("iscsi"));
    assert!(!format!("{updated:?}").contains("hunter2"));
    assert_eq!(server.count("PUT"), 2);
    let sent: Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    assert_eq!(sent["attachment"]["connector"]["system uuid"], ID);
    assert_eq!(server.requests()[0].header("openstack-api-version"), Some("volume 3.54"));
}

#[tokio::test]
async fn completing_what_is_attached_succeeds_even_where_the_service_minds() {
    let server = Server::start(|request, _| match request.line.starts_with("POST") {
        true => fault(400, "Invalid volume: attachment is attached already"),
        false => Reply::Json(200, &[], json!({"attachment": {"id": OTHER, "volume_id": ID, "status": "attached"}})),
    })
    .await;
    fixed(&server).complete_attachment(attachment_id()).await.unwrap();
}

#[tokio::test]
async fn a_detach_shows_the_service_token_and_is_repeated_until_it_is_gone() {
    let server = Server::start(|request, earlier| match (request.line.as_str(), earlier) {
        ("POST /v3/auth/tokens", _) => grant(request, earlier, 3600),
        (_, 0) => fault(500, "The server has either erred"),
        (_, 1) => Reply::Json(200, &[], json!({"attachments": []})),
        _ => fault(404, "Volume attachment could not be found"),
    })
    .await;
    let config = keystone_config(&server, "u");
    let service = VolumeService::new(config, Some(keystone_config(&server, "nova")), options()).unwrap();
    assert_eq!(service.delete_attachment(attachment_id()).await.unwrap(), Outcome::Changed);
    assert_eq!(service.delete_attachment(attachment_id()).await.unwrap(), Outcome::Unchanged);
    for request in server.requests().iter().filter(|request| request.line.starts_with("DELETE")) {
        assert_eq!(request.header("x-service-token"), Some("service-token"));
        assert_eq!(request.header("x-auth-token"), Some("token-1"));
    }
}

#[tokio::test]
async fn a_detach_refused_for_want_of_a_service_user_says_so() {
    let server = Server::start(|_, _| fault(409, "Detach volume from instance using the Compute API")).await;
    let error = fixed(&server).delete_attachment(attachment_id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("configure a service user"), "{error}");
}

#[tokio::test]
async fn pages_are_followed_by_their_marker_and_never_to_another_address() {
    let server = Server::start(|request, _| {
        let link = |marker| json!([{"rel": "next", "href": format!("http://192.0.2.1/v3/volumes/detail?marker={marker}")}]);
        let page = |name, links| Reply::Json(200, &[], json!({"volumes": [volume(name, "available")], "volumes_links": links}));
        match request.line.as_str() {
            "GET /v3/volumes/detail" => page("a", link("m1")),
            "GET /v3/volumes/detail?marker=m1" => page("b", json!([])),
            _ => page("c", link("circle")),
        }
    })
    .await;
    let names: Vec<_> = fixed(&server).volumes().await.unwrap().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["a", "b"]);
    let error = fixed(&server).find_volume("c").await.unwrap_err();
    assert!(error.to_string().contains("links to itself"), "{error}");
}

#[tokio::test]
async fn a_name_must_be_unique_and_is_compared_whole() {
    let server = Server::start(|_, _| {
        let volumes = json!([volume("a", "available"), volume("twin", "available"), volume("twin", "error")]);
        Reply::Json(200, &[], json!({ "volumes": volumes }))
    })
    .await;
    let service = fixed(&server);
    assert_eq!(service.find_volume("a").await.unwrap().name, "a");
    let error = service.find_volume("twin").await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Conflict, "2 volumes are named \"twin\": use the id"));
    assert_eq!(service.find_volume("twi").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn waiting_ends_at_the_status_at_an_error_or_at_the_deadline() {
    let server = Server::start(|request, earlier| {
        if request.line.contains("/messages?resource_uuid=") {
            let said = |cause: &str, at| json!({"user_message": cause, "created_at": format!("2026-01-01T00:00:0{at}.000000")});
            return Reply::Json(200, &[], json!({"messages": [said("create volume:no\troom", 2), said("older", 1)]}));
        }
        let status = ["creating", "available", "error"].get(earlier).copied().unwrap_or("error");
        Reply::Json(200, &[], json!({"volume": volume("a", status)}))
    })
    .await;
    let service = fixed(&server);
    let soon = || Instant::now() + Duration::from_secs(60);
    assert_eq!(service.wait_volume_status(volume_id(), "available", soon()).await.unwrap().status, "available");
    let error = service.wait_volume_status(volume_id(), "available", soon()).await.unwrap_err();
    assert!(matches!(error, OpenstackError::VolumeFailed { .. }), "{error}");
    assert!(error.to_string().ends_with("instead of \"available\": create volume:no room"), "{error}");
    let deadline = Instant::now() + Duration::from_secs(2);
    let error = service.wait_volume_gone(volume_id(), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("its status is \"error\""), "{error}");
}

#[tokio::test]
async fn a_volume_that_is_gone_was_waited_for() {
    let server = Server::start(|_, earlier| match earlier {
        0 => Reply::Json(200, &[], json!({"volume": volume("a", "deleting")})),
        _ => fault(404, "Volume could not be found."),
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(60);
    fixed(&server).wait_volume_gone(volume_id(), deadline).await.unwrap();
}
