//! Nothing is open without the token, and nothing secret lies about.

use crate::common::{Service, mode_of};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn only_discovery_is_open_without_the_token() {
    let service = Service::start();
    let choices = service.bare(Method::GET, "/", &[], None).await;
    assert_eq!(choices.status, StatusCode::MULTIPLE_CHOICES);
    let version = &choices.body["versions"][0];
    assert_eq!(
        (&version["id"], &version["status"], &version["min_version"]),
        (&json!("v3.0"), &json!("CURRENT"), &json!("3.0"))
    );
    assert_eq!(version["links"][1]["href"], json!(format!("{}/", service.url)));
    for path in ["/v3", "/v3/"] {
        assert_eq!(service.bare(Method::GET, path, &[], None).await.body, choices.body, "{path}");
    }

    let id = "00000000-0000-4000-8000-000000000000";
    let expected = json!({ "error": {
        "code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication.",
    } });
    let token = service.token();
    let almost = format!("{}x", &token[..token.len() - 1]);
    for headers in [&[][..], &[("x-auth-token", "")], &[("x-auth-token", almost.as_str())], &[("x-auth-token", "user:project")]]
    {
        for (method, path) in [
            (Method::GET, "/volumes".to_owned()),
            (Method::GET, "/volumes/detail".into()),
            (Method::POST, "/volumes".into()),
            (Method::GET, format!("/volumes/{id}")),
            (Method::DELETE, format!("/volumes/{id}")),
            (Method::GET, "/attachments".into()),
            (Method::POST, "/attachments".into()),
            (Method::DELETE, format!("/attachments/{id}")),
            (Method::POST, format!("/attachments/{id}/action")),
            (Method::GET, "/types".into()),
            (Method::GET, "/limits".into()),
            (Method::GET, "/nothing/here".into()),
            (Method::GET, "/v3//volumes".into()),
            (Method::POST, "/v3/".into()),
        ] {
            let answer = service.bare(method.clone(), &path, headers, Some("{}")).await;
            if path == "/v3/" {
                assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
                continue;
            }
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(answer.body, expected, "{method} {path}");
            assert!(!answer.header("www-authenticate").is_empty());
        }
    }
    assert_eq!(service.get("/volumes").await.body, json!({ "volumes": [] }));
}

#[tokio::test]
async fn health_is_told_to_everybody_and_a_clients_request_id_is_in_the_log() {
    let service = Service::start();
    let healthy = service.bare(Method::GET, "/healthz", &[], None).await;
    assert_eq!((healthy.status, &healthy.body), (StatusCode::OK, &json!("OK\n")));
    let given = "req-11111111-2222-4333-8444-555555555555";
    let answer = service.bare(Method::GET, "/healthz", &[("x-openstack-request-id", given)], None).await;
    assert_eq!(answer.header("x-openstack-request-id"), given);
    let forged = service.bare(Method::GET, "/healthz", &[("x-openstack-request-id", "req-forged lines")], None).await;
    assert!(forged.header("x-openstack-request-id").starts_with("req-"));
    for id in [given, forged.header("x-openstack-request-id")] {
        service.says(id).await;
    }
    assert!(!service.log().contains("req-forged"));
}

#[tokio::test]
async fn secrets_are_closed_to_others_and_never_logged() {
    let mut service = Service::start();
    let state = service.state.path().to_owned();
    assert_eq!(mode_of(&state), 0o700);
    let database = ["volumes.db", "volumes.db-wal", "volumes.db-shm"];
    let database = if service.database.is_none() { &database[..] } else { &[] };
    for file in ["token", "clouds.yaml"].iter().chain(database) {
        assert_eq!(mode_of(&state.join(file)), 0o600, "{file}");
    }
    assert!(service.token().len() >= 32);
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, "iqn.2026-01.test:a").await;
    let password = attachment["connection_info"]["auth_password"].as_str().unwrap().to_owned();
    crate::common::log_in(&attachment, "iqn.2026-01.test:a").unwrap();
    let command_line = std::fs::read(format!("/proc/{}/cmdline", service.tgtd())).unwrap();
    service.delete(&format!("/attachments/{}", attachment["id"].as_str().unwrap())).await;
    service.stop();
    service.says("shown to its host").await;
    let log = service.log();
    for secret in [&password, &service.token()] {
        assert!(!log.contains(secret.as_str()));
        assert!(!String::from_utf8_lossy(&command_line).contains(secret.as_str()));
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_told_so() {
    let service = Service::start();
    let output = service.command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("another bowline-backend is running on") && said.contains(service.state.path().to_str().unwrap()),
        "{said}"
    );
}

#[test]
fn a_wrong_configuration_names_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backend.toml");
    std::fs::write(&path, "[targets.tgt]\nmanage = \"perhaps\"\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bowline-backend"))
        .args(["serve", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("backend.toml") && said.contains("line 2"), "{said}");
}
