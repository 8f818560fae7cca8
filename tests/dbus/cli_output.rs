//! What `bowline` prints when all goes well.

use super::support::{Bus, HELD, Policy, Stage, bowline, run, volume_id};
use bowline::{
    agent::api::{AttachRequest, ExtendRequest, Request},
    model::{DiskBus, DiskWishes},
};
use serde_json::json;
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread")]
async fn attach_tells_each_step_with_its_time_and_what_came_of_it() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["attach", "one", "guest"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let expected = format!(
        "  CreateAttachment       41.2 ms\n  ConnectVolume          41.2 ms\n  AttachDisk             41.2 ms\n\
         attached volume {} to guest guest as vdb in 113.0 ms\n  2.0 GiB, iscsi/kernel, /dev/sda, serial S1\n",
        volume_id("one")
    );
    assert_eq!(ran.stdout, expected);

    let ran = stage.bowline(&["detach", "one"]).await;
    assert!(ran.stdout.ends_with(&format!("detached volume {} from guest guest in 113.0 ms\n", volume_id("one"))), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_reaches_the_agent() {
    let stage = Stage::new().await;
    stage
        .bowline(&[
            "attach",
            "one",
            "guest",
            "--bus",
            "scsi",
            "--target",
            "sdc",
            "--read-only",
            "--tag",
            "db",
            "--boot-order",
            "2",
        ])
        .await
        .succeeded();
    let request = AttachRequest {
        volume: "one".into(),
        guest: "guest".into(),
        bus: Some(DiskBus::Scsi),
        target: Some("sdc".into()),
        read_only: true,
        wishes: DiskWishes { tag: Some("db".into()), boot_order: Some(2) },
    };
    assert_eq!(stage.agent.requests(), [Request::Attach(request)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_documented_shapes() {
    let stage = Stage::new().await;
    let attached = stage.bowline(&["attach", "one", "guest", "--json"]).await.json();
    let operation = &attached["operation"];
    assert_eq!(operation["steps"][1], json!({ "name": "ConnectVolume", "state": "succeeded", "duration_us": 41250 }));
    assert_eq!(operation["created_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!((&operation["duration_us"], &operation["error"]), (&json!(113_000), &json!(null)));
    let attachment = &attached["attachment"];
    assert_eq!(attachment["wwids"], json!(["naa.6001405"]));
    assert_eq!((&attachment["serial"], &attachment["size_bytes"]), (&json!("S1"), &json!(2u64 << 30)));

    assert_eq!(stage.bowline(&["list", "--json"]).await.json(), json!({ "attachments": [attachment] }));
    assert_eq!(stage.bowline(&["operations", "--json"]).await.json(), json!({ "operations": [] }));
    assert_eq!(stage.bowline(&["operations", "--all", "--json"]).await.json(), json!({ "operations": [operation] }));
    for (what, id) in [("attachment", &attachment["id"]), ("operation", &operation["id"])] {
        let shown = stage.bowline(&["show", id.as_str().unwrap(), "--json"]).await.json();
        assert_eq!(shown[what]["id"], *id);
    }
    let shown = stage.bowline(&["show", "one", "--json"]).await.json();
    let volume = json!({
        "id": volume_id("one").to_string(), "name": "one", "size_gib": 1, "status": "available", "type": null,
        "bootable": false, "multiattach": false, "encrypted": false, "created_at": "2026-01-02T03:04:05.000000",
        "attachments": [],
    });
    assert_eq!(shown, json!({ "volume": volume }));
    assert_eq!(stage.bowline(&["volume", "list", "--json"]).await.json()["volumes"][0], volume);
    assert_eq!(stage.bowline(&["volume", "delete", "one", "--json"]).await.json(), json!({ "deleted": "one" }));

    let detached = stage.bowline(&["detach", "one", "guest", "--json"]).await.json();
    assert_eq!((&detached["operation"]["kind"], detached.get("attachment")), (&json!("detach"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extend_reaches_the_agent_and_is_told_as_the_volumes() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["extend", "one", "7"]).await;
    let told = format!("extended volume {} in 113.0 ms, seen by guest guest\n", volume_id("one"));
    assert!(ran.code == 0 && ran.stdout.ends_with(&told), "{ran:?}");
    assert_eq!(stage.agent.requests(), [Request::Extend(ExtendRequest { volume: "one".into(), size_gib: 7 })]);
    let plan = stage.bowline(&["extend", "one", "7", "--dry-run"]).await;
    assert!(plan.stdout.starts_with(&format!("would extend volume {} (", volume_id("one"))), "{plan:?}");
    assert_eq!(stage.agent.requests().len(), 1, "a dry run is none");
    assert_eq!(stage.bowline(&["extend", "one", "0"]).await.code, 2);
    let failed = stage.bowline(&["extend", "fail-unavailable", "7"]).await;
    assert!(
        failed.stderr.starts_with(&format!("error: extend of volume {} failed", volume_id("fail-unavailable"))),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_wants_to_be_meant_and_tells_what_is_left() {
    let stage = Stage::new().await;
    assert_eq!(stage.bowline(&["detach", "fail-stuck"]).await.code, 13);
    let operations = stage.bowline(&["operations", "--json"]).await.json();
    let id = operations["operations"][0]["id"].as_str().unwrap().to_owned();
    let unmeant = stage.bowline(&["abandon", &id]).await;
    assert_eq!(unmeant.code, 2, "{unmeant:?}");
    assert!(unmeant.stderr.contains("the target said stuck") && unmeant.stderr.contains("--yes"), "{unmeant:?}");
    let meant = stage.bowline(&["abandon", &id, "--yes"]).await;
    assert_eq!(meant.code, 0, "{meant:?}");
    assert!(meant.stdout.contains("left behind: a session") && meant.stdout.contains("by hand: log out"), "{meant:?}");
    assert_eq!(stage.bowline(&["show", &id, "--json"]).await.json()["operation"]["state"], "abandoned");
    assert_eq!(stage.bowline(&["operations", "--json"]).await.json()["operations"], json!([]), "nobody is at it");
    assert_eq!(stage.bowline(&["abandon", &id, "--yes"]).await.code, 4);
    assert_eq!(stage.bowline(&["abandon", "not-an-id", "--yes"]).await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_made_as_asked() {
    let stage = Stage::new().await;
    let made = stage.bowline(&["volume", "create", "new", "--size", "3", "--type", "fast", "--json"]).await.json();
    assert_eq!((&made["volume"]["size_gib"], &made["volume"]["type"]), (&json!(3), &json!("fast")));
    let created = stage.agent.created();
    assert_eq!((created[0].name.as_str(), created[0].size_gib, created[0].volume_type.as_deref()), ("new", 3, Some("fast")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_prints_the_plan_and_takes_nothing_up() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["attach", "one", "guest", "--dry-run"]).await;
    assert!(ran.stdout.contains("ConnectVolume       ConnectVolume of one"), "{ran:?}");
    let plan = stage.bowline(&["detach", "one", "--dry-run", "--json"]).await.json();
    assert_eq!((&plan["plan"]["kind"], &plan["plan"]["guest_name"]), (&json!("detach"), &json!("guest")));
    assert_eq!(plan["plan"]["steps"][0], json!({ "name": "CreateAttachment", "description": "CreateAttachment of one" }));
    assert_eq!(stage.agent.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_the_operation_is_named_and_goes_on() {
    let stage = Stage::new().await;
    let started = stage.bowline(&["attach", HELD, "guest", "--no-wait", "--json"]).await.json();
    assert_eq!(started["attachment"], json!(null));
    let listed = stage.bowline(&["operations", "--json"]).await.json();
    assert_eq!(listed["operations"][0]["id"], started["operation"]["id"]);
    assert_eq!(listed["operations"][0]["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_volume_name_cannot_steer_the_terminal() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["volume", "list"]).await;
    assert!(ran.stdout.contains("steer\u{fffd}[2Jer") && !ran.stdout.contains('\u{1b}'), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_the_command_quietly() {
    let stage = Stage::new().await;
    for arguments in
        [vec!["volume", "list"], vec!["attach", "one", "guest"], vec!["list", "--json"], vec!["completion", "bash"]]
    {
        let mut command = bowline(&stage.bus, &arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(Stdio::from(writer));
        let ran = run(command).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (141, ""), "{arguments:?}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_spinner_leaves_the_steps_whole_and_goes() {
    let stage = Stage::new().await;
    let attach = format!("{} attach one guest", env!("CARGO_BIN_EXE_bowline"));
    let mut command = tokio::process::Command::new("script");
    command.args(["-qec", &attach, "/dev/null"]).env("DBUS_SYSTEM_BUS_ADDRESS", &stage.bus.address).env("TERM", "xterm");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = run(command).await;
    ran.succeeded();
    let shown = without_escapes(&ran.stdout);
    for line in ["  CreateAttachment       41.2 ms", "  AttachDisk             41.2 ms"] {
        assert!(shown.split(['\r', '\n']).any(|shown| shown == line), "{line:?} in {shown:?}");
    }
    let last = shown.trim_end().rsplit('\n').next().unwrap();
    assert_eq!(last, "  2.0 GiB, iscsi/kernel, /dev/sda, serial S1", "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_man_pages_cover_every_command() {
    let bus = Bus::start(Policy::Open);
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(bowline(&bus, &["completion", shell])).await;
        assert!(ran.code == 0 && ran.stdout.contains("read-only"), "{shell}: {}", ran.stderr);
    }
    let folder = tempfile::tempdir().unwrap();
    run(bowline(&bus, &["man", "--out", folder.path().to_str().unwrap()])).await.succeeded();
    for page in ["bowline", "bowline-attach", "bowline-detach", "bowline-list", "bowline-volume-create"] {
        let path = folder.path().join(format!("{page}.1"));
        assert!(std::fs::read_to_string(&path).is_ok_and(|text| text.contains(".TH")), "{page}");
    }
    assert!(std::fs::read_to_string(folder.path().join("bowline.1")).unwrap().contains("Exit codes"));
}

/// The text without terminal control sequences (`ESC [ … letter`).
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once(|letter: char| letter.is_ascii_alphabetic()).map_or(part, |(_, rest)| rest));
    first + &rest.collect::<String>()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_what_the_agent_found_and_fails_with_it() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["doctor"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let found = "cloud\n  FAILURE  volume service: it is away\n           mend it with: start it";
    assert!(ran.stdout.contains(found) && ran.stdout.contains("  ok       bowlined: running"), "{ran:?}");
    assert!(ran.stderr.contains(" cannot work"), "{ran:?}");

    let bus = Bus::start(Policy::Open);
    let ran = run(bowline(&bus, &["doctor", "--json"])).await;
    assert_eq!(ran.code, 1, "without an agent: {ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let away = report["findings"].as_array().unwrap().iter().find(|found| found["check"] == "bowlined").unwrap();
    assert_eq!(away["verdict"], "failure");
    assert!(away["remedy"].as_str().unwrap().contains("systemctl start bowlined"), "{away}");
}
