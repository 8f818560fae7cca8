//! The roles apart, over a real PostgreSQL and a real RabbitMQ: the life of volumes, and what is left of it when a process or the
//! broker is killed in the middle. Nothing is lost, nothing is made twice, and counters stay the sums they stand for.

use std::io::{Read as _, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::apart::Apart;
use crate::common::rabbitmq::{Broker, PASSWORD};
use crate::common::{log_in, path_of, postgres};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use reqwest::StatusCode;
use serde_json::json;

const NODE: &str = "iqn.2016-04.com.open-iscsi:node-a";

/// The broker of all tests that leave it alone.
fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn publish(channel: &Channel, queue: &str, text: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), queue.into(), options, text.as_bytes(), properties).await.unwrap().await.unwrap();
}

/// How many messages wait in a queue that must be there.
async fn waiting(channel: &Channel, queue: &str) -> u32 {
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), look, FieldTable::default()).await.unwrap().message_count()
}

async fn snapshot(apart: &Apart, volume: &str) -> String {
    let made = apart.api.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    assert_eq!(made.status, StatusCode::ACCEPTED, "{made:?}");
    made.body["snapshot"]["id"].as_str().unwrap().to_owned()
}

async fn extend(apart: &Apart, volume: &str, size: u64) {
    let answer = apart.api.post(&format!("/volumes/{volume}/action"), json!({ "os-extend": { "new_size": size } })).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

/// So many volumes, asked for at once.
async fn create(apart: &Apart, count: usize) -> Vec<String> {
    let asked = (0..count).map(|_| apart.api.post("/volumes", json!({ "volume": { "size": 1 } })));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::ACCEPTED), "{answers:?}");
    answers.iter().map(|answer| answer.body["volume"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_life_of_a_volume_goes_through_all_roles() {
    let apart = Apart::start(broker());
    let volumes = create(&apart, 6).await;
    apart.is_whole().await;
    for host in &apart.hosts {
        let here = volumes.iter().filter(|volume| path_of(host, volume).exists()).count();
        assert!(here > 0, "both hosts have volumes");
    }
    let services = apart.api.get("/os-services").await.body;
    let states: Vec<_> = services["services"].as_array().unwrap().iter().map(|one| (&one["host"], &one["state"])).collect();
    assert_eq!(states, [(&json!("s"), &json!("up")), (&json!("a@files"), &json!("up")), (&json!("b@files"), &json!("up"))]);

    for volume in &volumes[..2] {
        let attachment = apart.api.attach(volume, NODE).await;
        assert_eq!(log_in(&attachment, NODE).unwrap(), volume.replace('-', ""));
        let path = format!("/attachments/{}", attachment["id"].as_str().unwrap());
        assert_eq!(apart.api.post(&format!("{path}/action"), json!({ "os-complete": {} })).await.status, 204);
        extend(&apart, volume, 3).await;
        apart.api.wait_status(volume, "in-use").await;
        assert_eq!(log_in(&attachment, NODE).unwrap(), volume.replace('-', ""));
        assert_eq!(apart.api.delete(&path).await.status, 200);
        log_in(&attachment, NODE).unwrap_err();
    }
    let kept = snapshot(&apart, &volumes[2]).await;
    apart.settled().await;
    apart.api.volume(json!({ "snapshot_id": kept, "size": 2 })).await;
    apart.api.volume(json!({ "source_volid": volumes[3], "size": 1 })).await;
    apart.is_whole().await;
    assert_eq!(apart.api.delete(&format!("/snapshots/{kept}")).await.status, StatusCode::ACCEPTED);
    apart.settled().await;
    for volume in &volumes {
        assert_eq!(apart.api.delete(&format!("/volumes/{volume}")).await.status, StatusCode::ACCEPTED);
    }
    apart.is_whole().await;
}

#[tokio::test]
async fn a_volume_moves_to_another_host_also_when_either_is_killed_meanwhile() {
    let mut apart = Apart::start(broker());
    let volume = apart.api.volume(json!({})).await;
    let mut at = usize::from(!path_of(&apart.hosts[0], &volume).exists());
    let mut file = std::fs::OpenOptions::new().write(true).open(path_of(&apart.hosts[at], &volume)).unwrap();
    file.write_all(&vec![7; 64 << 20]).unwrap();
    for victim in [None, Some(0), Some(1)] {
        at = 1 - at;
        let to = format!("{}@files#files", ["a", "b"][at]);
        let action = json!({ "os-migrate_volume": { "host": to } });
        let answer = apart.api.post(&format!("/volumes/{volume}/action"), action).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        if let Some(victim) = victim {
            tokio::time::sleep(Duration::from_millis(300)).await;
            apart.hosts[victim].kill();
            apart.hosts[victim].start_again();
        }
        apart.settled().await;
        let shown = apart.api.get(&format!("/volumes/{volume}")).await.body["volume"].clone();
        let seen = (&shown["status"], &shown["os-vol-host-attr:host"], &shown["migration_status"]);
        assert_eq!(seen, (&json!("available"), &json!(to), &json!("success")), "{}", apart.logs());
        let name_id = shown["os-vol-mig-status-attr:name_id"].as_str().unwrap();
        let files = |host: usize| std::fs::read_dir(apart.hosts[host].state.path().join("volumes")).unwrap().count();
        assert_eq!((files(at), files(1 - at)), (1, 0), "in one place");
        let mut bytes = std::fs::File::open(path_of(&apart.hosts[at], name_id)).unwrap().take(65 << 20);
        let mut read = Vec::new();
        bytes.read_to_end(&mut read).unwrap();
        assert!(read[..64 << 20].iter().all(|byte| *byte == 7) && read[64 << 20..].iter().all(|byte| *byte == 0));
        let carried = std::process::Command::new("find").arg(apart.backups()).args(["-type", "f"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&carried.stdout), "", "what went from one to the other is gone");
        let store = apart.store().await;
        assert_eq!(store.usage_drift().await.unwrap(), []);
        store.close().await;
    }
}

/// Which process dies in the middle.
enum Victim {
    Host,
    Scheduler,
}

/// Creates, extends, deletes and snapshots are asked for, and the victim is killed at once, or a little later.
async fn killed_in_the_middle(victim: Victim) -> i64 {
    let mut apart = Apart::start(broker());
    let mut attempts = 0;
    for delay_ms in [0, 5, 20, 60, 150] {
        let rested = create(&apart, 8).await;
        apart.is_whole().await;
        // Something to copy, so that a snapshot takes its time.
        for host in &apart.hosts {
            if let Some(path) = rested[..2].iter().map(|volume| path_of(host, volume)).find(|path| path.exists()) {
                let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.write_all(&vec![7; 96 << 20]).unwrap();
            }
        }
        for volume in &rested[..2] {
            snapshot(&apart, volume).await;
        }
        for volume in &rested[2..5] {
            extend(&apart, volume, 4).await;
        }
        for volume in &rested[5..] {
            assert_eq!(apart.api.delete(&format!("/volumes/{volume}")).await.status, StatusCode::ACCEPTED);
        }
        let made = create(&apart, 12).await;
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let service = match victim {
            Victim::Host => &mut apart.hosts[0],
            Victim::Scheduler => &mut apart.scheduler,
        };
        service.kill();
        service.start_again();
        apart.is_whole().await;
        attempts = attempts.max(apart.settled().await.iter().map(|operation| operation.attempts).max().unwrap());
        for volume in &rested[2..5] {
            assert_eq!(apart.api.get(&format!("/volumes/{volume}")).await.body["volume"]["size"], 4);
        }
        for volume in &rested[5..] {
            assert_eq!(apart.api.get(&format!("/volumes/{volume}")).await.status, StatusCode::NOT_FOUND);
        }
        for volume in &made {
            apart.api.wait_status(volume, "available").await;
        }
    }
    attempts
}

#[tokio::test]
async fn a_volume_host_killed_in_the_middle_loses_and_repeats_nothing() {
    let attempts = killed_in_the_middle(Victim::Host).await;
    assert!(attempts > 1, "no operation was cut off, so nothing was shown");
}

#[tokio::test]
async fn a_scheduler_killed_in_the_middle_loses_and_repeats_nothing() {
    killed_in_the_middle(Victim::Scheduler).await;
}

#[tokio::test]
async fn a_broker_killed_in_the_middle_loses_nothing_and_the_service_goes_on_without_it() {
    let mut broker = Broker::start();
    let apart = Apart::start(&broker);
    create(&apart, 10).await;
    broker.kill();
    let asked = Instant::now();
    let meanwhile = create(&apart, 4).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "accepted without the broker: {:?}", asked.elapsed());
    broker.start_again();
    broker.wait_ready();
    apart.is_whole().await;
    for volume in &meanwhile {
        apart.api.wait_status(volume, "available").await;
    }
    apart.api.attach(&meanwhile[0], NODE).await;
    for service in apart.hosts.iter().chain([&apart.scheduler, &apart.api]) {
        assert!(!service.log().contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_message_that_comes_again_does_nothing_and_one_of_no_meaning_is_put_aside() {
    let apart = Apart::start(broker());
    let volumes = create(&apart, 3).await;
    let operations = apart.settled().await;
    assert_eq!(operations.len(), volumes.len());
    let (_connection, channel) = channel(&apart.bus).await;
    for operation in &operations {
        for queue in ["scheduler", "volume.a@files", "volume.b@files"] {
            publish(&channel, queue, &operation.id.to_string()).await;
        }
    }
    publish(&channel, "scheduler", "no operation at all").await;
    publish(&channel, "scheduler", "00000000-0000-4000-8000-000000000000").await;
    publish(&channel, "volume.a@files", "00000000-0000-4000-8000-000000000000").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while waiting(&channel, "bowline.dead").await < 3 {
        assert!(Instant::now() < deadline, "{}", apart.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    apart.is_whole().await;
    let again: Vec<_> = apart.settled().await.iter().map(|operation| operation.attempts).collect();
    assert_eq!(again, operations.iter().map(|operation| operation.attempts).collect::<Vec<_>>());
    assert_eq!(waiting(&channel, "bowline.dead").await, 3);
}

#[tokio::test]
async fn a_broker_that_comes_late_is_waited_for_and_one_that_does_not_is_named() {
    let mut broker = Broker::prepare();
    let (bus, database) = (broker.vhost(), postgres::database());
    let mut scheduler = Apart::role(&bus, &database, "scheduler", "s");
    let settings = scheduler.settings.clone();
    scheduler.settings = settings.replace("connect_timeout_s = 110", "connect_timeout_s = 1");
    let output = scheduler.command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let address = bus.split('@').nth(1).unwrap().split('/').next().unwrap();
    let last = said.lines().last().unwrap();
    assert!(last.contains(&format!("message broker at {address}: not reached within 1 s")), "{said}");
    assert!(last.contains("Connection refused"), "{said}");

    scheduler.settings = settings.clone();
    broker.start_again();
    scheduler.start_again();
    scheduler.stop();

    scheduler.settings = settings.replace(PASSWORD, "guessed");
    let output = scheduler.command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("it refuses the user, the password or the vhost of [bus] url"), "{said}");
}
