//! What was accepted survives: a stop, a kill in the middle, and the death of tgtd. Hosts find again what they had.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Service, log_in, path_of};
use bowline_backend::domain::{Asker, NewVolume, Source, VolumeStatus};
use bowline_backend::store::Limits;
use serde_json::json;

const NODE_A: &str = "iqn.2016-04.com.open-iscsi:node-a";

#[tokio::test]
async fn a_restart_keeps_volumes_and_shows_again_what_was_shown() {
    let mut service = Service::start();
    let volume = service.volume(json!({ "name": "kept" })).await;
    let attachment = service.attach(&volume, NODE_A).await;
    let path = format!("/attachments/{}", attachment["id"].as_str().unwrap());
    service.post(&format!("{path}/action"), json!({ "os-complete": {} })).await;
    let (before_volume, before) = (service.get(&format!("/volumes/{volume}")).await.body, service.get(&path).await.body);
    let token = service.token();
    let serial = log_in(&attachment, NODE_A).unwrap();
    for killed in [false, true] {
        let tgtd = service.tgtd();
        if killed {
            service.kill()
        } else {
            service.stop()
        }
        gone(tgtd);
        service.start_again();
        assert_eq!(service.token(), token);
        assert_eq!(log_in(&attachment, NODE_A).unwrap(), serial, "as soon as it is ready");
        assert_eq!(service.get(&path).await.body, before);
        let mut shown = service.get(&format!("/volumes/{volume}")).await.body;
        // The port, and so the links, are chosen anew in this test.
        shown["volume"]["links"] = before_volume["volume"]["links"].clone();
        assert_eq!(shown, before_volume);
    }
}

/// A tgtd that is left behind would go on serving; it must be gone with its service, however that ended.
fn gone(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "tgtd {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_tgtd_that_dies_comes_back_with_everything() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, NODE_A).await;
    let first = service.tgtd();
    Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap();
    log_in_soon(&service, &attachment).await;
    assert_ne!(service.tgtd(), first);
    let other = service.volume(json!({})).await;
    log_in(&service.attach(&other, NODE_A).await, NODE_A).unwrap();
}

#[tokio::test]
async fn a_volume_whose_file_is_missing_keeps_no_other_from_its_host() {
    let mut service = Service::start();
    let (whole, broken) = (service.volume(json!({})).await, service.volume(json!({})).await);
    let whole_attachment = service.attach(&whole, NODE_A).await;
    let broken_attachment = service.attach(&broken, NODE_A).await;
    let serial = log_in(&broken_attachment, NODE_A).unwrap();
    service.stop();
    let (file, aside) = (path_of(&service, &broken), service.state.path().join("aside"));
    std::fs::rename(&file, &aside).unwrap();

    service.start_again();
    log_in(&whole_attachment, NODE_A).unwrap();
    log_in(&broken_attachment, NODE_A).unwrap_err();
    assert!(service.log().contains(&broken), "the log must name it");

    let first = service.tgtd();
    Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap();
    log_in_soon(&service, &whole_attachment).await;

    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(log_in_soon(&service, &broken_attachment).await, serial);
}

#[tokio::test]
async fn work_whose_end_could_not_be_recorded_is_done_again_without_a_restart() {
    let service = Service::start();
    let doomed = service.volume(json!({})).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no room'; END$$";
    service.execute("SELECT 1", refuse).await;
    for (name, event, condition) in
        [("ends", "UPDATE OF status ON volumes", "WHEN (OLD.status = 'creating')"), ("goes", "DELETE ON volumes", "")]
    {
        let sqlite = format!("CREATE TRIGGER {name} BEFORE {event} {condition} BEGIN SELECT RAISE(ABORT, 'no room'); END");
        let row = "FOR EACH ROW";
        let postgres = format!("CREATE TRIGGER {name} BEFORE {event} {row} {condition} EXECUTE FUNCTION refuse()");
        service.execute(&sqlite, &postgres).await;
    }
    let made = service.post("/volumes", json!({ "volume": { "size": 1 } })).await;
    assert_eq!(made.status, 202);
    let id = made.body["volume"]["id"].as_str().unwrap();
    assert_eq!(service.delete(&format!("/volumes/{doomed}")).await.status, 202);
    let deadline = Instant::now() + Duration::from_secs(60);
    while service.log().matches("no room").count() < 4 {
        assert!(Instant::now() < deadline, "it should try each again:\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(service.get(&format!("/volumes/{id}")).await.body["volume"]["status"], "creating");
    service.execute("DROP TRIGGER ends; DROP TRIGGER goes", "DROP TRIGGER ends ON volumes; DROP TRIGGER goes ON volumes").await;
    service.wait_status(id, "available").await;
    service.wait_status(&doomed, "gone").await;
}

/// Logs in as soon as that is possible.
async fn log_in_soon(service: &Service, attachment: &serde_json::Value) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match log_in(attachment, NODE_A) {
            Ok(serial) => return serial,
            Err(error) => assert!(Instant::now() < deadline, "{error}\n{}", service.log()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn work_that_was_cut_off_is_taken_up() {
    let mut service = Service::start();
    let doomed = service.volume(json!({})).await;
    let held = service.volume(json!({})).await;
    let attachment = service.attach(&held, NODE_A).await;
    let attachment_id: uuid::Uuid = attachment["id"].as_str().unwrap().parse().unwrap();
    service.kill();
    // What a kill at the worst moment leaves: accepted and recorded, and nothing done, or half of it.
    let store = service.store().await;
    let identity = store.service_identity().await.unwrap();
    let volume_type = store.volume_type(&identity.type_id, None).await.unwrap();
    let by = Asker { project_id: identity.project_id.clone(), user_id: identity.user_id.clone(), request_id: None };
    let new = |name: &str| NewVolume {
        id: uuid::Uuid::new_v4(),
        project_id: identity.project_id.clone(),
        user_id: identity.user_id.clone(),
        volume_type: volume_type.clone(),
        source: Source::Nothing,
        key: None,
        name: Some(name.into()),
        description: None,
        size_gib: 1,
        multiattach: false,
        availability_zone: "nova".into(),
        metadata: Default::default(),
    };
    let (untouched, half) = (new("untouched"), new("half"));
    let ids = [untouched.id.to_string(), half.id.to_string()];
    std::fs::write(service.state.path().join(format!("volumes/.making-volume-{}", half.id)), b"half").unwrap();
    store.insert_volume(untouched, by.clone(), &Limits::new()).await.unwrap();
    store.insert_volume(half, by.clone(), &Limits::new()).await.unwrap();
    store.begin_delete(doomed.parse().unwrap(), by.clone()).await.unwrap();
    store.begin_detach(attachment_id, by.clone()).await.unwrap();
    assert_eq!(store.volume(held.parse().unwrap()).await.unwrap().status, VolumeStatus::Detaching);
    store.close().await;

    service.start_again();
    for id in &ids {
        service.wait_status(id, "available").await;
        assert_eq!(std::fs::metadata(path_of(&service, id)).unwrap().len(), 1 << 30);
    }
    service.wait_status(&doomed, "gone").await;
    service.wait_status(&held, "available").await;
    log_in(&attachment, NODE_A).unwrap_err();
}

#[tokio::test]
async fn killed_again_and_again_while_creating_it_loses_nothing_it_accepted() {
    let mut service = Service::start();
    let mut accepted = Vec::new();
    for round in 0..4 {
        let creates =
            (0..10).map(|n| service.post("/volumes", json!({ "volume": { "size": 1, "name": format!("{round}-{n}") } })));
        for answer in futures_util::future::join_all(creates).await {
            assert_eq!(answer.status, 202);
            accepted.push(answer.body["volume"]["id"].as_str().unwrap().to_owned());
        }
        service.kill();
        service.start_again();
    }
    for id in &accepted {
        service.wait_status(id, "available").await;
    }
    let files = std::fs::read_dir(service.state.path().join("volumes")).unwrap().count();
    assert_eq!(files, accepted.len(), "and leaves nothing else");
}

#[tokio::test]
async fn many_clients_at_once_never_hear_of_a_locked_database() {
    let service = Service::start();
    let cycle = async |n: usize| {
        let volume = service.volume(json!({ "name": format!("v{n}") })).await;
        let attachment = service.attach(&volume, &format!("iqn.2026-01.test:{n}")).await;
        let path = format!("/attachments/{}", attachment["id"].as_str().unwrap());
        assert_eq!(service.post(&format!("{path}/action"), json!({ "os-complete": {} })).await.status, 204);
        assert_eq!(service.get("/volumes/detail").await.status, 200);
        assert_eq!(service.delete(&path).await.status, 200);
        assert_eq!(service.delete(&format!("/volumes/{volume}")).await.status, 202);
        service.wait_status(&volume, "gone").await;
    };
    futures_util::future::join_all((0..20).map(cycle)).await;
    assert_eq!(service.get("/volumes").await.body, json!({ "volumes": [] }));
    assert!(!service.log().contains("locked"));
}

#[tokio::test]
async fn of_twenty_who_reserve_the_same_volume_one_wins() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let body = json!({ "attachment": { "volume_uuid": volume } });
    let answers = futures_util::future::join_all((0..20).map(|_| service.post("/attachments", body.clone()))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 400).count(), 19);
}

/// A tgtd of the test's own, ended with it.
struct Tgtd(std::process::Child);

impl Tgtd {
    fn start(base: &std::path::Path, portal: &str) -> Self {
        let child = Command::new("tgtd")
            .args(["-f", "--iscsi", &format!("portal={portal}")])
            .env("TGT_IPC_SOCKET", base)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let socket = std::path::PathBuf::from(format!("{}.0", base.display()));
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "tgtd did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Tgtd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_tgtd_that_was_left_behind_is_ended_first() {
    let mut service = Service::prepare();
    std::fs::create_dir(service.state.path().join("run")).unwrap();
    let left = Tgtd::start(&service.state.path().join("run/tgtd.sock"), &format!("127.0.0.1:{}", service.portal));
    service.start_again();
    gone(left.0.id());
    let volume = service.volume(json!({})).await;
    log_in(&service.attach(&volume, NODE_A).await, NODE_A).unwrap();
}

#[tokio::test]
async fn a_tgtd_that_somebody_else_runs_keeps_its_exports_while_the_service_is_away() {
    let mut service = Service::prepare();
    let base = service.state.path().join("theirs");
    let theirs = Tgtd::start(&base, &format!("127.0.0.1:{}", service.portal));
    service.tgt = format!("manage = false\ncontrol_socket = \"{}.0\"", base.display());
    service.start_again();
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, NODE_A).await;
    let serial = log_in(&attachment, NODE_A).unwrap();
    service.stop();
    assert_eq!(log_in(&attachment, NODE_A).unwrap(), serial, "while the service is away");
    service.start_again();
    assert_eq!(log_in(&attachment, NODE_A).unwrap(), serial);
    let path = format!("/attachments/{}", attachment["id"].as_str().unwrap());
    assert_eq!(service.delete(&path).await.status, 200);
    log_in(&attachment, NODE_A).unwrap_err();
    service.stop();
    assert!(std::path::Path::new(&format!("/proc/{}", theirs.0.id())).exists());
}

#[tokio::test]
async fn where_hosts_go_to_the_storage_themselves_no_target_is_started() {
    let mut service = Service::prepare();
    service.tgt = "program = \"no-such-tgtd\"".into();
    service.settings = "[backends.ceph]\ndriver = \"rbd\"\nrbd.conf_file = \"/nowhere/ceph.conf\"".into();
    service.start_again();
    assert_eq!(service.get("/volumes").await.status, 200, "it would not have started with such a tgtd");
}

#[test]
fn what_keeps_it_from_starting_is_named() {
    let said = |service: &Service| {
        let output = service.command().output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let mut service = Service::prepare();
    service.tgt = "program = \"no-such-tgtd\"".into();
    let text = said(&service);
    assert!(text.contains("no-such-tgtd") && text.contains("package `tgt`"), "{text}");

    service.tgt = String::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", service.portal)).unwrap();
    let text = said(&service);
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("bowline-backend: 127.0.0.1:{} is taken (is tgt.service running?", service.portal)),
        "{text}"
    );
    drop(taken);
    service.start_again();
}
