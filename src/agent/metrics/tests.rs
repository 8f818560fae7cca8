//! The page as a scraper sees it, and what `contrib/` makes of it.

use super::*;
use crate::agent::api::*;
use crate::model::*;
use async_trait::async_trait;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::Mutex,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::broadcast,
};
use uuid::Uuid;

/// An agent with one operation and one attachment, which a test changes.
struct OneOfEach {
    operation: Mutex<OperationView>,
    attachment: Mutex<AttachmentView>,
    events: broadcast::Sender<AgentEvent>,
}

#[async_trait]
impl AgentApi for OneOfEach {
    async fn submit(&self, _request: Request) -> Result<OperationId, ApiError> {
        Err(nobody())
    }
    async fn dry_run(&self, _request: Request) -> Result<Plan, ApiError> {
        Err(nobody())
    }
    async fn cancel(&self, _operation: OperationId) -> Result<(), ApiError> {
        Err(nobody())
    }
    async fn abandon(&self, _operation: OperationId) -> Result<(), ApiError> {
        Err(nobody())
    }
    fn operations(&self) -> Vec<OperationView> {
        vec![self.operation.lock().unwrap().clone()]
    }
    fn operation(&self, _operation: OperationId) -> Option<OperationView> {
        self.operations().pop()
    }
    fn attachments(&self) -> Vec<AttachmentView> {
        vec![self.attachment.lock().unwrap().clone()]
    }
    fn events(&self) -> broadcast::Receiver<AgentEvent> {
        self.events.subscribe()
    }
    async fn volumes(&self) -> Result<Vec<Volume>, ApiError> {
        Err(nobody())
    }
    async fn volume(&self, _name_or_id: &str) -> Result<Volume, ApiError> {
        Err(nobody())
    }
    async fn create_volume(&self, _volume: NewVolume) -> Result<Volume, ApiError> {
        Err(nobody())
    }
    async fn delete_volume(&self, _name_or_id: &str) -> Result<(), ApiError> {
        Err(nobody())
    }
    async fn examine(&self) -> Vec<Finding> {
        vec![]
    }
    async fn check(&self, _repair: bool) -> Result<Vec<Difference>, ApiError> {
        Ok(vec![])
    }

    async fn adopt(&self, _volume: &str, _guest: &str) -> Result<Adopted, ApiError> {
        unreachable!()
    }
}

fn nobody() -> ApiError {
    ApiError::new(ErrorKind::Unsupported, "nobody asks this")
}

const VOLUME: VolumeId = VolumeId(Uuid::from_u128(0xabcd));

impl OneOfEach {
    fn new() -> Arc<Self> {
        let operation = OperationView {
            id: OperationId::random(),
            kind: "attach".into(),
            volume: VOLUME,
            guest: GuestUuid(Uuid::nil()),
            guest_name: "secret-guest".into(),
            state: OperationState::Running,
            steps: vec![StepView { name: "ConnectVolume".into(), state: StepState::Started, duration_us: 0 }],
            created_at: SystemTime::UNIX_EPOCH,
            duration_us: 0,
            failure: None,
            image: None,
            remarks: vec![],
            disks: vec![],
        };
        let attachment = AttachmentView {
            id: AttachmentId(Uuid::nil()),
            volume: VOLUME,
            guest: GuestUuid(Uuid::nil()),
            guest_name: "secret-guest".into(),
            target: "vdb".into(),
            protocol: "iscsi".into(),
            initiator: "kernel".into(),
            device: "/dev/sda".into(),
            identity: DeviceIdentity { serial: Some("secret-serial".into()), wwids: vec![] },
            size_bytes: 1 << 30,
            tag: String::new(),
            encryption: String::new(),
            attached_at: SystemTime::UNIX_EPOCH,
            health: HealthView::default(),
        };
        Arc::new(Self {
            operation: Mutex::new(operation),
            attachment: Mutex::new(attachment),
            events: broadcast::Sender::new(16),
        })
    }

    fn end(&self, failure: Option<ErrorKind>) {
        let mut operation = self.operation.lock().unwrap();
        let failed = |kind| Failure { kind, message: "secret-message".into(), remedy: String::new() };
        operation.failure = failure.map(failed);
        operation.state = if failure.is_some() { OperationState::Failed } else { OperationState::Succeeded };
        operation.duration_us = 30_000;
        operation.steps[0].state = if failure.is_some() { StepState::Failed } else { StepState::Succeeded };
        operation.steps[0].duration_us = 20_000;
        // Told twice, as the agent may.
        self.events.send(AgentEvent::Operation(operation.id)).unwrap();
        self.events.send(AgentEvent::Operation(operation.id)).unwrap();
    }

    fn become_(&self, state: HealthState) {
        let mut attachment = self.attachment.lock().unwrap();
        attachment.health.state = state;
        self.events.send(AgentEvent::Attachment(attachment.id)).unwrap();
    }
}

fn metrics(api: Arc<OneOfEach>) -> Arc<Metrics> {
    let readings = Readings {
        retries: Box::new(|| 7),
        commands: Box::new(|| [("iscsiadm".to_owned(), 3)].into()),
        journal: "Cargo.toml".into(),
    };
    Arc::new(Metrics::new(api, readings))
}

/// Runs the counting until it has taken in everything that was sent.
async fn counted(api: &Arc<OneOfEach>, events: impl FnOnce(&OneOfEach)) -> Arc<Metrics> {
    let metrics = metrics(api.clone());
    let following = tokio::spawn({
        let metrics = metrics.clone();
        async move { metrics.follow().await }
    });
    while api.events.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    events(api);
    while !api.events.is_empty() {
        tokio::task::yield_now().await;
    }
    following.abort();
    let _ = following.await;
    metrics
}

#[track_caller]
fn assert_line(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "no {line:?} in\n{page}");
}

#[tokio::test]
async fn what_ends_is_counted_once_with_what_it_came_to() {
    let api = OneOfEach::new();
    let metrics = counted(&api, |api| {
        api.end(Some(ErrorKind::Timeout));
        api.become_(HealthState::Healthy);
        api.become_(HealthState::Lost);
    })
    .await;
    let page = metrics.page();
    assert_line(&page, r#"bowline_operations_total{kind="attach",outcome="failed",error_kind="timeout"} 1"#);
    assert_line(&page, r#"bowline_operation_duration_seconds_count{kind="attach",outcome="failed"} 1"#);
    assert_line(&page, r#"bowline_step_duration_seconds_count{kind="attach",step="ConnectVolume",outcome="failed"} 1"#);
    assert_line(&page, r#"bowline_attachments{protocol="iscsi",initiator="kernel",health="lost"} 1"#);
    assert_line(&page, r#"bowline_attachments{protocol="iscsi",initiator="kernel",health="healthy"} 0"#);
    assert_line(&page, r#"bowline_health_changes_total{protocol="iscsi",health="lost"} 1"#);
    assert_line(&page, "bowline_operations_under_way 0");
    assert_line(&page, "bowline_retries_total 7");
    assert_line(&page, r#"bowline_commands_total{program="iscsiadm"} 3"#);
    for private in ["secret", "abcd", "vdb", "/dev/sda"] {
        assert!(!page.contains(private), "{private} in\n{page}");
    }
}

#[tokio::test]
async fn what_was_stuck_in_an_earlier_life_is_counted_when_it_ends() {
    let api = OneOfEach::new();
    api.operation.lock().unwrap().state = OperationState::Stuck;
    let metrics = counted(&api, |api| api.end(None)).await;
    assert_line(&metrics.page(), r#"bowline_operations_total{kind="attach",outcome="succeeded",error_kind=""} 1"#);
}

#[tokio::test]
async fn what_ended_in_an_earlier_life_is_not_counted() {
    let api = OneOfEach::new();
    let listener = api.events.subscribe();
    api.end(None);
    drop(listener);
    let metrics = counted(&api, |api| api.become_(HealthState::Healthy)).await;
    assert!(!metrics.page().contains("bowline_operations_total{"), "{}", metrics.page());
}

/// Names in a text that are metrics of the agent's, without what a histogram's series end with.
fn named(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("bowline_"));
    let words = words.filter(|word| !word.starts_with("bowline_backend_"));
    words.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned()).collect()
}

#[tokio::test]
async fn every_metric_that_contrib_names_exists_and_each_is_used() {
    let api = OneOfEach::new();
    let metrics = counted(&api, |api| {
        api.end(None);
        api.become_(HealthState::Healthy);
    })
    .await;
    let page = metrics.page();
    let there: BTreeSet<String> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| !name.ends_with("_sum") && !name.ends_with("_count"))
        .flat_map(named)
        .collect();
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    let dashboard = std::fs::read_to_string(contrib.join("grafana/bowline.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    let rules = std::fs::read_to_string(contrib.join("prometheus/bowline.rules.yml")).unwrap();
    let used = named(&format!("{dashboard}{rules}"));
    assert!(used.is_subset(&there), "named, but not there: {:?}", used.difference(&there));
    assert!(there.is_subset(&used), "there, but in no panel or rule: {:?}", there.difference(&used));
    assert!(used.len() >= 12, "{used:?}");
}

#[tokio::test]
async fn the_page_is_served_at_a_socket_that_root_alone_may_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    let metrics = metrics(OneOfEach::new());
    let listen = Listen::Unix(path.clone());
    serve(metrics.clone(), &listen).await.unwrap().abort();
    // What an earlier life left is no obstacle.
    let serving = serve(metrics, &listen).await.unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap()) & 0o777;
    assert_eq!(mode, 0o600);
    let ask = async |request: &str| {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    };
    let page = ask("GET /metrics").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("application/openmetrics-text"), "{page}");
    assert!(page.trim_end().ends_with("# EOF") && page.contains("bowline_build_info"), "{page}");
    assert!(ask("GET /").await.starts_with("HTTP/1.1 404"));
    assert!(ask("POST /metrics").await.starts_with("HTTP/1.1 405"));
    serving.abort();

    let taken = serve(self::metrics(OneOfEach::new()), &Listen::Unix("/nonexistent/metrics.sock".into())).await.unwrap_err();
    assert!(taken.to_string().contains("/nonexistent/metrics.sock"), "{taken}");
}
