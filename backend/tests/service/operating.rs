//! What an operator has: metrics, status, doctor, logs; and what keeps others from guessing passwords.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use crate::attachments::targets;
use crate::common::Service;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A command beside the service, with its configuration.
fn command(service: &Service, words: &[&str]) -> Output {
    service.command(); // It writes the configuration.
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-backend"));
    command.args(words).arg("--config").arg(service.state.path().with_extension("toml"));
    command.arg("--state-dir").arg(service.state.path()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn metrics_are_for_administrators_and_name_nothing_of_a_client() {
    let service = Service::start();
    let volume = service.volume(json!({ "name": "a-clients-name" })).await;
    service.attach(&volume, "iqn.2026-01.test:a").await;
    service.get("/nothing/of/the/kind").await;
    service.bare(Method::from_bytes(b"BREW").unwrap(), "/volumes", &[], None).await;
    let metrics = |token: String| {
        let service = &service;
        async move { service.at_root(Method::GET, "/metrics", &[("authorization", &format!("Bearer {token}"))], None).await }
    };
    assert_eq!(service.at_root(Method::GET, "/metrics", &[], None).await.status, StatusCode::UNAUTHORIZED);
    let member = crate::common::token(&service.store().await, "0123456789abcdef0123456789abcdef", "member").await;
    assert_eq!(metrics(member).await.status, StatusCode::FORBIDDEN);
    let page = metrics(service.token()).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let page = page.body.as_str().unwrap();
    for line in [
        "bowline_backend_requests_total{method=\"POST\",route=\"/v3/volumes\",status=\"202\"} 1",
        "bowline_backend_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "bowline_backend_requests_total{method=\"other\",route=\"/v3/volumes\",status=\"401\"} 1",
        "bowline_backend_request_seconds_count{method=\"POST\",route=\"/v3/volumes\"} 1",
        "bowline_backend_exports 1",
        "bowline_backend_database_waiting ",
        "bowline_backend_pool_total_gib{pool=\"",
        "bowline_backend_service_up{binary=\"cinder-scheduler\",",
        "# EOF",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    contrib_names_what_is_there(page);
    for of_a_client in [volume.as_str(), "a-clients-name", "kind=\"/", "iqn."] {
        assert!(!page.contains(of_a_client), "{of_a_client} is in\n{page}");
    }
}

/// Each metric of the service's that `contrib/` names is one it has, and each it has is in a panel or a rule.
fn contrib_names_what_is_there(page: &str) {
    let contrib = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib");
    let read = |file: &str| std::fs::read_to_string(contrib.join(file)).unwrap();
    let used = read("grafana/bowline.json") + &read("prometheus/bowline.rules.yml");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("bowline_backend_"));
        words.map(|word| word.trim_end_matches("_bucket").trim_end_matches("_total").to_owned()).collect()
    };
    // What the page says of each before its lines.
    let there = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next());
    // Those are shown while something waits, runs or has failed, which may be so at this moment or not.
    let there: BTreeSet<String> = there.chain(["bowline_backend_operations"]).map(str::to_owned).collect();
    assert_eq!(named(&used), there);
}

#[tokio::test]
async fn status_tells_who_lives_and_what_is_stuck() {
    let mut service = Service::start();
    let volume = service.volume(json!({})).await;
    let output = command(&service, &["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let services = status["services"].as_array().unwrap();
    let up = |binary: &str| services.iter().any(|one| one["binary"] == binary && one["up"] == true);
    assert!(up("cinder-volume") && up("cinder-scheduler"), "{status}");
    assert!(status["pools"][0]["free_gib"].as_f64().unwrap() > 0.0, "{status}");
    assert_eq!((&status["stuck"], &status["queues"]), (&json!([]), &json!([])));
    service.stop();
    let hour_ago = "UPDATE services SET heartbeat_at_us = heartbeat_at_us - 3600000000, problem = 'of before';
        UPDATE operations SET state = 'running', cause = 'the disk is slow', updated_at_us = updated_at_us - 3600000000";
    service.execute(hour_ago, hour_ago).await;
    let text = said(&command(&service, &["status"]));
    assert!(text.contains("DOWN, last heard of 36"), "{text}");
    assert!(
        text.contains(&format!("STUCK             volume:create of {volume}")) && text.contains("the disk is slow"),
        "{text}"
    );
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_in_clear_words() {
    let mut service = Service::start();
    service.volume(json!({})).await;
    service.stop();
    assert!(said(&command(&service, &["db", "upgrade"])).contains("the database is up to date"));
    let newer = |checksum: &str| {
        format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'of the future', TRUE, {checksum}, 0)"
        )
    };
    service.execute(&newer("x'00'"), &newer("'\\x00'")).await;
    for words in [&["serve"][..], &["db", "upgrade"], &["status"]] {
        let output = command(&service, words);
        let text = said(&output);
        assert!(!output.status.success() && text.contains("newer bowline-backend") && text.contains("9999"), "{text}");
    }
}

#[tokio::test]
async fn doctor_names_what_is_wrong_and_what_mends_it() {
    let mut service = Service::start();
    let output = command(&service, &["doctor", "--json"]);
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert!(output.status.success(), "{found:?}");
    assert!(found.iter().any(|one| one["check"] == "targets.tgt.portal" && one["says"].as_str().unwrap().contains("running")));
    service.stop();
    let taken = std::net::TcpListener::bind(("127.0.0.1", service.portal)).unwrap();
    std::fs::set_permissions(service.state.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    service.settings = "[keystone]\nauth_url = \"http://127.0.0.1:1/v3\"\npassword_file = \"/nonexistent\"\n".into();
    let output = command(&service, &["doctor"]);
    let text = said(&output);
    drop(taken);
    assert!(!output.status.success());
    let state = service.state.path().display();
    for part in [
        format!("FAILED   state_dir: {state} is open to others"),
        format!("-> chmod 700 {state}"),
        "FAILED   targets.tgt.portal: ".to_owned(),
        format!("ss -ltnp 'sport = :{}'", service.portal),
        "FAILED   Keystone: cannot read /nonexistent, which keystone.password_file names".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_log_in_json_has_each_requests_id() {
    let mut service = Service::start();
    service.stop();
    let mut process = service.command().args(["--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut line = |part: &str| -> Value {
        let found = lines.by_ref().map(Result::unwrap).find(|line| line.contains(part)).unwrap();
        serde_json::from_str(&found).unwrap()
    };
    let ready = line("ready: volumes at");
    let url = ready["message"].as_str().unwrap().split_once("volumes at ").unwrap().1.split(',').next().unwrap().to_owned();
    let id = "req-11111111-2222-4333-8444-555555555555";
    let asked =
        Command::new("curl").args(["-sS", "-o", "/dev/null", "-H", &format!("X-OpenStack-Request-ID: {id}"), &url]).status();
    assert!(asked.unwrap().success());
    let answered = line("answered");
    Command::new("kill").arg(process.id().to_string()).status().unwrap();
    process.wait().unwrap();
    assert_eq!((&answered["level"], &answered["span"]["id"]), (&json!("DEBUG"), &json!(id)), "{answered}");
}

/// What the next guess is answered. The first pause is short: a guess that came after it doubles the next one.
async fn refused(log_in: &impl AsyncFn(&'static str, &'static str) -> StatusCode, name: &'static str) -> StatusCode {
    for _ in 0..4 {
        let status = log_in(name, "wrong").await;
        if status != StatusCode::UNAUTHORIZED {
            return status;
        }
    }
    log_in(name, "wrong").await
}

#[tokio::test]
async fn a_password_is_not_guessed_for_long() {
    let service = Service::start();
    let log_in = async |name: &'static str, password: &'static str| {
        let user = json!({ "name": name, "domain": { "id": "default" }, "password": password });
        let body = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": user } } } });
        let path = "/identity/v3/auth/tokens";
        service.at_root(Method::POST, path, &[], Some(&body.to_string())).await.status
    };
    for _ in 0..5 {
        assert_eq!(log_in("bowline", "wrong").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(refused(&log_in, "bowline").await, StatusCode::TOO_MANY_REQUESTS);
    // Who is not there is told the same as who is.
    for _ in 0..5 {
        assert_eq!(log_in("nobody", "wrong").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(refused(&log_in, "nobody").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(log_in("another", "wrong").await, StatusCode::UNAUTHORIZED);
    // Tokens go on working.
    assert_eq!(service.get("/volumes").await.status, StatusCode::OK);
}

#[tokio::test]
async fn sixteen_clients_and_a_command_never_hear_that_the_database_is_locked() {
    let service = Service::start();
    let client = |n: usize| {
        let service = &service;
        async move {
            let id = service.volume(json!({ "name": format!("v{n}") })).await;
            for round in 0..10 {
                let body = json!({ "volume": { "name": format!("v{n}-{round}") } });
                let changed = service.ask(Method::PUT, &format!("/volumes/{id}"), "3.54", Some(body)).await;
                assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
                assert_eq!(service.get("/volumes/detail").await.status, StatusCode::OK);
            }
            assert_eq!(service.delete(&format!("/volumes/{id}")).await.status, StatusCode::ACCEPTED);
            service.wait_status(&id, "gone").await;
        }
    };
    // Another process writes to the same file meanwhile.
    let mut beside = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_bowline-backend");
    let script = "for n in 1 2 3 4 5 6; do \"$0\" token issue --config \"$1\" --state-dir \"$2\" || exit 1; done";
    beside.args(["-c", script, program]).arg(service.state.path().with_extension("toml")).arg(service.state.path());
    let beside = beside.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    futures_util::future::join_all((0..16).map(client)).await;
    let beside = beside.wait_with_output().unwrap();
    assert!(beside.status.success(), "{}", said(&beside));
    assert!(!service.log().contains("locked"));
    assert_eq!(service.store().await.usage_drift().await.unwrap(), []);
}

#[tokio::test]
async fn storage_that_is_down_at_the_start_is_told_of_and_taken_up_when_it_works() {
    let mut service = Service::prepare();
    let (late, away) = (service.state.path().join("late"), service.state.path().join("away"));
    std::fs::create_dir(&late).unwrap();
    service.settings = format!(
        "host = \"here\"\n[backends.files]\n[backends.late]\ndirectory = \"{}\"\n[backends.lvm]\ndriver = \"lvm\"\n\
         [backends.lvm.lvm]\nvolume_group = \"nowhere\"\nthin_pool = \"none\"",
        late.display()
    );
    service.start_again();
    for name in ["files", "late", "lvm"] {
        let specs = json!({ "name": name, "extra_specs": { "volume_backend_name": name } });
        service.post("/types", json!({ "volume_type": specs })).await;
    }
    let volume = service.volume(json!({ "volume_type": "late" })).await;
    let (held, ended) =
        (service.volume(json!({ "volume_type": "late" })).await, service.volume(json!({ "volume_type": "late" })).await);
    let attachment = service.attach(&held, "iqn.2026-01.test:a").await["id"].as_str().unwrap().to_owned();
    service.stop();
    std::fs::rename(&late, &away).unwrap();
    service.start_again();

    // What works, works.
    service.volume(json!({ "volume_type": "files" })).await;
    let services = async || service.ask(Method::GET, "/os-services?binary=cinder-volume", "3.49", None).await.body;
    let told = services().await;
    for (name, state, why) in [("files", "up", Value::Null), ("late", "down", json!("late")), ("lvm", "down", json!("lvm"))] {
        let one = told["services"].as_array().unwrap().iter().find(|one| one["host"] == format!("here@{name}")).unwrap();
        assert_eq!((&one["state"], &one["backend_state"]), (&json!(state), &json!(state)), "{one}");
        assert_eq!(one.get("backend_problem").is_some(), !why.is_null(), "{one}");
    }
    let pools = service.get("/scheduler-stats/get_pools?detail=true&name=here@late%23late").await.body;
    assert_eq!(pools["pools"][0]["capabilities"]["backend_state"], "down", "{pools}");
    let text = said(&command(&service, &["status"]));
    let named = format!("DOWN, its storage cannot be used: the directory {} cannot be used", late.display());
    assert!(text.contains(&named), "{text}");
    let output = command(&service, &["doctor"]);
    let text = said(&output);
    assert!(
        !output.status.success() && text.contains("FAILED   backends.late") && text.contains("FAILED   backends.lvm"),
        "{text}"
    );
    assert!(text.contains("ok       backends.files"), "{text}");

    // Nothing new is put there, and who asked hears of it; what it has to do waits.
    let made = service.post("/volumes", json!({ "volume": { "size": 1, "volume_type": "late" } })).await;
    let unplaced = made.body["volume"]["id"].as_str().unwrap().to_owned();
    service.wait_status(&unplaced, "error").await;
    let messages = service.get(&format!("/messages?resource_uuid={unplaced}")).await.body;
    let why =
        messages["messages"][0]["why_not"].as_array().unwrap().iter().find(|one| one["pool"] == "here@late#late").unwrap();
    assert!(why["filter"] == "ServiceUp" && why["reason"].as_str().unwrap().contains("its storage is down"), "{messages}");
    assert_eq!(service.delete(&format!("/volumes/{volume}")).await.status, StatusCode::ACCEPTED);
    let operations = service.get(&format!("/operations?object_id={volume}")).await.body;
    let waits = operations["operations"].as_array().unwrap().iter().find(|one| one["kind"] == "volume:delete").unwrap();
    assert_eq!((&waits["state"], &waits["waits_for"]["storage"]), (&json!("queued"), &json!("down")), "{operations}");

    // Declared gone while its process lives: what that has begun goes on, and what it shows hosts stays until it can take it away.
    let begun_at = |at: &str| {
        format!(
            "UPDATE operations SET state = 'running', owner = 'another', heartbeat_at_us = {at} \
             WHERE object_id = '{volume}' AND kind = 'volume:delete'"
        )
    };
    service.execute(&begun_at("9000000000000000"), &begun_at("9000000000000000")).await;
    let store = service.store().await;
    let identity = store.service_identity().await.unwrap();
    let by = bowline_backend::domain::Asker { project_id: identity.project_id, user_id: identity.user_id, request_id: None };
    assert!(store.begin_detach(attachment.parse().unwrap(), by).await.unwrap().1.is_some());
    drop(store);
    assert_eq!(service.delete(&format!("/volumes/{ended}")).await.status, StatusCode::ACCEPTED);
    let lost = json!({ "host": "here@late", "binary": "cinder-volume" });
    assert_eq!(service.ask(Method::PUT, "/os-services/gone", "3.54", Some(lost)).await.status, StatusCode::OK);
    service.wait_status(&ended, "error_deleting").await;
    service.wait_status(&volume, "deleting").await;
    let detaching = service.get(&format!("/attachments/{attachment}")).await.body;
    assert_eq!(detaching["attachment"]["status"], "detaching", "{detaching}");

    std::fs::rename(&away, &late).unwrap();
    service.wait_status(&held, "available").await;
    // Whoever had begun it has died since.
    service.execute(&begun_at("0"), &begun_at("0")).await;
    service.wait_status(&volume, "gone").await;
    assert!(!late.join(format!("volume-{volume}")).exists());
    service.volume(json!({ "volume_type": "late" })).await;
    let up = services().await;
    let late = up["services"].as_array().unwrap().iter().find(|one| one["host"] == "here@late").unwrap();
    assert!(late["state"] == "up" && late.get("backend_problem").is_none(), "{late}");

    // Declared gone while nobody heard of it, with an attachment that was ended without it: when it is heard of again its host is shut out.
    service.attach(&held, "iqn.2026-01.test:b").await;
    assert!(targets(&service).contains(&held));
    let ended = format!(
        "DELETE FROM attachments WHERE volume_id = '{held}'; UPDATE services SET gone_at_us = 1 WHERE host = 'here@late'"
    );
    service.execute(&ended, &ended).await;
    let shut_out = async {
        while targets(&service).contains(&held) {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), shut_out).await.expect("its host may still log in");

    // What one that is dead said last is not told as if it were so still.
    let silent = "UPDATE services SET heartbeat_at_us = 0, problem = 'its last word' WHERE host = 'here@nobody'";
    let dead = format!(
        "INSERT INTO services (id, name, host, availability_zone, pools, started_at_us, heartbeat_at_us) \
         VALUES ('{held}', 'cinder-volume', 'here@nobody', 'nova', '[]', 0, 0); {silent}"
    );
    service.execute(&dead, &dead).await;
    let told = services().await;
    let dead = told["services"].as_array().unwrap().iter().find(|one| one["host"] == "here@nobody").unwrap();
    assert!(dead["state"] == "down" && dead.get("backend_problem").is_none(), "{dead}");
}

#[tokio::test]
async fn a_storage_that_works_and_does_not_say_how_full_it_is_has_its_work_done() {
    let mut service = Service::prepare();
    // A Ceph without its manager: the pool can be used, and `ceph df` tells of none.
    let programs = service.state.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for (name, script) in [
        ("rbd", "#!/bin/sh\ncase \"$*\" in *'trash ls'*) echo '[]' ;; *) exit 2 ;; esac\n"),
        ("ceph", "#!/bin/sh\necho '{\"pools\": []}'\n"),
    ] {
        std::fs::write(programs.join(name), script).unwrap();
        let may_run = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(programs.join(name), may_run).unwrap();
    }
    service.programs = Some(programs);
    service.settings = "host = \"here\"\n[backends.files]\n[backends.ceph]\ndriver = \"rbd\"\n".into();
    service.start_again();
    let volume = service.volume(json!({})).await;
    let there = format!("UPDATE volumes SET host = 'here@ceph#ceph' WHERE id = '{volume}'");
    service.execute(&there, &there).await;
    let told = service.ask(Method::GET, "/os-services?binary=cinder-volume", "3.49", None).await.body;
    let ceph = told["services"].as_array().unwrap().iter().find(|one| one["host"] == "here@ceph").unwrap();
    assert!(ceph["state"] == "down" && ceph["backend_problem"].as_str().unwrap().contains("ceph-mgr"), "{ceph}");
    assert_eq!(service.delete(&format!("/volumes/{volume}")).await.status, StatusCode::ACCEPTED);
    service.wait_status(&volume, "gone").await;
}
