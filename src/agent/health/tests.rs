//! The tasks together, on attachments that a test breaks and mends. Time is tokio's own and stands still while anything can run.

use super::*;
use crate::agent::api::HealthState;
use crate::model::{BlockDevice, Fault, HostEvent, IscsiPath, disk_alias};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

struct World {
    attachments: Mutex<Vec<Watched>>,
    /// What a look finds; nothing for one that never answers.
    found: Mutex<HashMap<AttachmentId, Option<Health>>>,
    views: Mutex<HashMap<AttachmentId, HealthView>>,
    published: broadcast::Sender<(AttachmentId, HealthView)>,
    repairs: broadcast::Sender<AttachmentId>,
    events: broadcast::Sender<AgentEvent>,
}

#[async_trait]
impl Wards for World {
    fn watched(&self) -> Vec<Watched> {
        self.attachments.lock().unwrap().clone()
    }

    async fn look(&self, id: AttachmentId) -> Result<Health, String> {
        let found = self.found.lock().unwrap().get(&id).cloned();
        match found {
            Some(Some(health)) => Ok(health),
            Some(None) => std::future::pending().await,
            None => Ok(Health::Healthy),
        }
    }

    async fn repair(&self, id: AttachmentId) -> Result<Repair, String> {
        self.found.lock().unwrap().remove(&id);
        let _ = self.repairs.send(id);
        Ok(Repair::Tried)
    }

    fn publish(&self, id: AttachmentId, health: HealthView) {
        self.views.lock().unwrap().insert(id, health.clone());
        let _ = self.published.send((id, health));
    }

    fn changes(&self) -> broadcast::Receiver<AgentEvent> {
        self.events.subscribe()
    }
}

struct Stage {
    world: Arc<World>,
    news: broadcast::Receiver<(AttachmentId, HealthView)>,
    host: broadcast::Sender<HostEvent>,
    io_errors: mpsc::Sender<(GuestUuid, String, String)>,
}

const PACE: Pace = Pace { interval: Duration::from_secs(30), limit: Duration::from_secs(10) };

fn attachment(number: u128) -> Watched {
    let path = IscsiPath { portal: "10.0.0.1".parse().unwrap(), iqn: format!("iqn.{number}"), lun: 1 };
    let block = BlockDevice { path: "/run/x".into(), kernel_name: "sda".into(), paths: vec![path], multipath: None };
    Watched {
        id: AttachmentId(Uuid::from_u128(number)),
        volume: VolumeId(Uuid::from_u128(number)),
        guest: GuestUuid(Uuid::nil()),
        device: ConnectedDevice::Block(block),
    }
}

fn lost() -> Health {
    Health::Lost(vec![Fault { part: "path".into(), problem: "gone".into() }])
}

impl Stage {
    fn new(count: u128) -> Self {
        let world = Arc::new(World {
            attachments: Mutex::new((1..=count).map(attachment).collect()),
            found: Mutex::default(),
            views: Mutex::default(),
            published: broadcast::Sender::new(64),
            repairs: broadcast::Sender::new(64),
            events: broadcast::Sender::new(64),
        });
        let news = world.published.subscribe();
        let host = broadcast::Sender::new(64);
        let (io_errors, receiver) = mpsc::channel(8);
        tokio::spawn(watch(world.clone(), Sources { host: host.subscribe(), io_errors: receiver }, PACE));
        Self { world, news, host, io_errors }
    }

    fn set(&self, number: u128, found: Option<Health>) {
        self.world.found.lock().unwrap().insert(attachment(number).id, found);
    }

    async fn expect(&mut self, number: u128, state: HealthState) -> HealthView {
        loop {
            let (id, view) = tokio::time::timeout(Duration::from_secs(120), self.news.recv()).await.unwrap().unwrap();
            if id == attachment(number).id && view.state == state {
                return view;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_followed_by_a_look_at_once() {
    let mut stage = Stage::new(2);
    stage.expect(1, HealthState::Healthy).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    for (found, state) in [(lost(), HealthState::Lost), (Health::Healthy, HealthState::Healthy)] {
        stage.set(1, Some(found));
        let begun = Instant::now();
        stage.host.send(HostEvent::IscsiTarget { iqn: "iqn.1".into() }).unwrap();
        stage.expect(1, state).await;
        assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_tells_no_event_is_seen_within_the_interval() {
    let mut stage = Stage::new(1);
    tokio::time::sleep(Duration::from_secs(300)).await;
    stage.set(1, Some(lost()));
    let begun = Instant::now();
    let view = stage.expect(1, HealthState::Lost).await;
    assert!(begun.elapsed() < Duration::from_secs(37), "{:?}", begun.elapsed());
    assert_eq!(view.faults[0].part, "path");
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_is_lost_within_the_bound_and_delays_nobody() {
    let mut stage = Stage::new(2);
    stage.expect(2, HealthState::Healthy).await;
    stage.set(1, None);
    stage.host.send(HostEvent::Missed).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    stage.set(2, Some(lost()));
    stage.host.send(HostEvent::IscsiTarget { iqn: "iqn.2".into() }).unwrap();
    stage.expect(2, HealthState::Lost).await;
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    let view = stage.expect(1, HealthState::Lost).await;
    assert!(view.faults[0].problem.contains("within 10 s"), "{view:?}");
    assert!(begun.elapsed() < PACE.limit + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn io_that_fails_is_told_and_forgiven_once_it_works() {
    let mut stage = Stage::new(2);
    stage.expect(1, HealthState::Healthy).await;
    let alias = disk_alias(attachment(1).volume);
    stage.io_errors.send((GuestUuid(Uuid::nil()), alias, "enospc".into())).await.unwrap();
    let view = stage.expect(1, HealthState::Degraded).await;
    assert!(view.faults[0].problem.contains("enospc"), "{view:?}");
    let views = || stage.world.views.lock().unwrap().clone();
    assert_eq!(views()[&attachment(2).id].state, HealthState::Healthy, "another volume's");
}

#[tokio::test(start_paused = true)]
async fn what_stays_broken_is_mended() {
    let mut stage = Stage::new(1);
    stage.expect(1, HealthState::Healthy).await;
    let mut repairs = stage.world.repairs.subscribe();
    stage.set(1, Some(lost()));
    stage.host.send(HostEvent::Missed).unwrap();
    stage.expect(1, HealthState::Lost).await;
    stage.expect(1, HealthState::Healthy).await;
    assert_eq!(repairs.try_recv().unwrap(), attachment(1).id);
}

#[tokio::test(start_paused = true)]
async fn what_is_detached_is_looked_at_no_more() {
    let mut stage = Stage::new(1);
    stage.expect(1, HealthState::Healthy).await;
    let gone = stage.world.attachments.lock().unwrap().remove(0);
    stage.world.events.send(AgentEvent::AttachmentGone(gone.id)).unwrap();
    stage.set(1, Some(lost()));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(stage.news.try_recv().is_err());
}
