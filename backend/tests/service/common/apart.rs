//! The service with its roles apart: api, scheduler and two volume hosts as processes of their own, over PostgreSQL and RabbitMQ.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_backend::domain::{Operation, OperationState};
use bowline_backend::store::{OperationFilter, Store};

use super::rabbitmq::Broker;
use super::{Service, postgres};

/// More than a worker's silence, after which its operations are another's: the slowest way back.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);

/// The processes.
pub struct Apart {
    pub api: Service,
    pub scheduler: Service,
    pub hosts: Vec<Service>,
    pub bus: String,
    pub database: String,
}

impl Apart {
    /// Starts all of them.
    pub fn start(broker: &Broker) -> Self {
        let (bus, database) = (broker.vhost(), postgres::database());
        let one = |role, name| Self::role(&bus, &database, role, name);
        let mut apart = Self {
            hosts: vec![one("volume", "a"), one("volume", "b")],
            scheduler: one("scheduler", "s"),
            api: one("api", "c"),
            bus: bus.clone(),
            database: database.clone(),
        };
        // All of them are told the same store.
        let backups = apart.backups();
        for host in &mut apart.hosts {
            host.settings += &format!("\nbackup = {{ directory = \"{}\" }}", backups.display());
            host.start_again();
        }
        apart.scheduler.start_again();
        apart.api.start_again();
        apart
    }

    /// Where the hosts' backups are, and what goes from one to the other.
    pub fn backups(&self) -> std::path::PathBuf {
        self.api.state.path().join("backups")
    }

    /// One process, not started yet.
    pub fn role(bus: &str, database: &str, role: &'static str, name: &str) -> Service {
        let mut service = Service::prepare();
        service.role = role;
        service.database = Some(database.to_owned());
        service.settings = format!("host = \"{name}\"\nbus = {{ url = \"{bus}\", connect_timeout_s = 110 }}");
        service
    }

    pub async fn store(&self) -> Store {
        Store::connect(&self.database).await.unwrap()
    }

    /// Waits until nothing is under way any more; gives every operation there was.
    pub async fn settled(&self) -> Vec<Operation> {
        let store = self.store().await;
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            let operations = store.operations(&OperationFilter { limit: 10_000, ..OperationFilter::default() }).await.unwrap();
            let open = |operation: &&Operation| !operation.state.is_end();
            if !operations.iter().any(|operation| open(&operation)) {
                store.close().await;
                return operations;
            }
            let left: Vec<_> = operations.iter().filter(open).collect();
            assert!(Instant::now() < deadline, "still under way: {left:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every volume and snapshot is in a true status, on one host and no other, with its size; and every counter is its sum.
    pub async fn is_whole(&self) {
        let failed: Vec<_> =
            self.settled().await.into_iter().filter(|operation| operation.state == OperationState::Failed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let mut wanted = BTreeMap::new();
        for (list, kind) in [("volumes", "volume"), ("snapshots", "snapshot")] {
            for thing in self.api.get(&format!("/{list}/detail")).await.body[list].as_array().unwrap() {
                assert!(["available", "in-use"].contains(&thing["status"].as_str().unwrap()), "{thing}\n{}", self.logs());
                let name = format!("{kind}-{}", thing["id"].as_str().unwrap());
                assert!(wanted.insert(name, thing["size"].as_u64().unwrap() << 30).is_none());
            }
        }
        let mut found = BTreeMap::new();
        for host in &self.hosts {
            for entry in std::fs::read_dir(host.state.path().join("volumes")).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                let length = match entry.metadata() {
                    // A host that started again may still be clearing away what an earlier try had begun.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    about => about.unwrap().len(),
                };
                assert!(found.insert(name.clone(), length).is_none(), "{name} is on both hosts");
            }
        }
        assert_eq!(found, wanted, "what there is and what should be\n{}", self.logs());
        let store = self.store().await;
        assert_eq!(store.usage_drift().await.unwrap(), []);
        store.close().await;
    }

    /// What all of them have said, but for what only those who look for something want to know.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for service in self.hosts.iter().chain([&self.scheduler, &self.api]) {
            text.push_str(&format!("-- {} --\n", service.role));
            let log = service.log();
            let told = |line: &&str| [" INFO ", " WARN ", " ERROR "].iter().any(|level| line.contains(level));
            text.extend(log.lines().filter(told).map(|line| format!("{line}\n")));
        }
        text
    }
}
