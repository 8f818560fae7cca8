//! A real service for tests: the built binary on ports of its own, with a real tgtd. Killed and removed at the end of a test.

pub mod apart;
pub mod backups;
pub mod odd;
pub mod postgres;
pub mod rabbitmq;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A state directory and, while it runs, the service in it.
pub struct Service {
    pub state: TempDir,
    pub url: String,
    pub portal: u16,
    /// The PostgreSQL database, where it is not SQLite: `BOWLINE_TEST_DATABASE=postgres` runs the same tests on it.
    pub database: Option<String>,
    /// More lines before the tables of the configuration.
    pub settings: String,
    /// More lines for the `[targets.tgt]` table.
    pub tgt: String,
    /// As if the disk were full for files larger than this.
    pub largest_file_bytes: Option<u64>,
    /// So many open files are allowed.
    pub open_files: Option<u64>,
    /// `serve`, or one of the roles apart.
    pub role: &'static str,
    /// Where it finds programs before the machine's own.
    pub programs: Option<PathBuf>,
    process: Option<Child>,
    log: Arc<Mutex<String>>,
    http: reqwest::Client,
}

/// Enough for a machine that is also building.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Below those that the kernel gives out by itself, so that nothing takes one between this look and its use, nor while what had it
/// starts again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that this program has not given out yet, and that nobody listens on.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let all = PORTS.end - PORTS.start;
    // Programs that run side by side begin far from each other.
    let first = u16::try_from(u64::from(std::process::id()) * 997 % u64::from(all)).unwrap();
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < all, "no port is free");
        let port = PORTS.start + (first + given) % all;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Service {
    /// Starts a service in a new state directory.
    pub fn start() -> Self {
        let mut service = Self::prepare();
        service.start_again();
        service
    }

    /// A new state directory, with nothing running.
    pub fn prepare() -> Self {
        for program in ["tgtd", "iscsi-inq", "setpriv"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
            assert!(found.unwrap().success(), "{program} is missing: install the packages tgt, libiscsi-bin and util-linux");
        }
        let private = std::fs::Permissions::from_mode(0o700);
        // The service's own reqwest brings no cryptography, and one build has one set of features. Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            state: tempfile::Builder::new().prefix("bowline").permissions(private).tempdir().unwrap(),
            url: String::new(),
            portal: free_port(),
            database: (std::env::var("BOWLINE_TEST_DATABASE").as_deref() == Ok("postgres")).then(postgres::database),
            settings: String::new(),
            tgt: String::new(),
            largest_file_bytes: None,
            open_files: None,
            role: "serve",
            programs: None,
            process: None,
            log: Arc::default(),
            http: reqwest::Client::new(),
        }
    }

    /// Its database, for looking into it and for making what a crash leaves.
    pub async fn store(&self) -> bowline_backend::store::Store {
        use bowline_backend::store::Store;
        match &self.database {
            Some(url) => Store::connect(url).await.unwrap(),
            None => Store::open(&self.state.path().join("volumes.db")).await.unwrap(),
        }
    }

    /// A statement in its database, in the words of its engine.
    pub async fn execute(&self, sqlite: &str, postgres: &str) {
        match &self.database {
            Some(url) => {
                use sqlx::Connection as _;
                let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(sqlx::AssertSqlSafe(postgres.to_owned())).execute(&mut connection).await.unwrap();
            }
            None => {
                let connection = rusqlite::Connection::open(self.state.path().join("volumes.db")).unwrap();
                connection.execute_batch(sqlite).unwrap();
            }
        }
    }

    pub fn command(&self) -> Command {
        let config = self.state.path().with_extension("toml");
        let database = self.database.as_ref().map(|url| format!("[database]\nurl = \"{url}\"\n")).unwrap_or_default();
        let text = format!(
            "listen = \"127.0.0.1:0\"\n{}\n{database}[targets.tgt]\nportal = \"127.0.0.1:{}\"\n{}\n",
            self.settings, self.portal, self.tgt
        );
        std::fs::write(&config, text).unwrap();
        let program = env!("CARGO_BIN_EXE_bowline-backend");
        let mut limits = Vec::new();
        limits.extend(self.largest_file_bytes.map(|bytes| format!("--fsize={bytes}")));
        limits.extend(self.open_files.map(|files| format!("--nofile={files}")));
        let mut command = if limits.is_empty() {
            Command::new(program)
        } else {
            // Writing beyond the limit is then an error, as on a full disk, and no signal that kills.
            let script = format!("trap '' XFSZ; exec prlimit {} \"$0\" \"$@\"", limits.join(" "));
            let mut command = Command::new("sh");
            command.args(["-c", &script, program]);
            command
        };
        command.arg(self.role).arg("--config").arg(config).arg("--state-dir").arg(self.state.path());
        command.env("BOWLINE_LOG", "trace");
        if let Some(programs) = &self.programs {
            command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
        }
        command
    }

    /// Starts it in the same state directory, after `stop` or `kill`.
    pub fn start_again(&mut self) {
        let mut process = self.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        self.process = Some(process);
        let (ready, is_ready) = mpsc::channel();
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("INFO ready") {
                    let _ =
                        ready.send(rest.strip_prefix(": volumes at ").map(|rest| rest.split(',').next().unwrap().to_owned()));
                }
                log.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        match is_ready.recv_timeout(READY_WITHIN) {
            Ok(url) => self.url = url.unwrap_or_default(),
            Err(_) => panic!("not ready:\n{}", self.log()),
        }
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM, and it must end well.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        Command::new("kill").arg(process.id().to_string()).status().unwrap();
        let status = process.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// The pid of its tgtd.
    pub fn tgtd(&self) -> u32 {
        let children = format!("/proc/{0}/task", self.pid());
        for task in std::fs::read_dir(children).unwrap() {
            // A thread that had nothing to do may have ended since it was listed.
            let text = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            if let Some(pid) = text.split_whitespace().next() {
                return pid.parse().unwrap();
            }
        }
        panic!("no tgtd")
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has said this: what it says is read beside the test.
    pub async fn says(&self, word: &str) {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.log().contains(word) {
            assert!(Instant::now() < deadline, "it does not say {word}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.state.path().join("token")).unwrap().trim().to_owned()
    }

    /// A request with nothing but what is given.
    pub async fn bare(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let url = if path.starts_with("/v3") || path == "/" || path == "/healthz" {
            self.url.replace("/v3", path)
        } else {
            format!("{}{path}", self.url)
        };
        self.send(method, url, headers, body).await
    }

    /// The same for a path from the root, such as /image/v2/images.
    pub async fn at_root(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        self.send(method, self.url.replace("/v3", path), headers, body).await
    }

    async fn send(&self, method: Method, url: String, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// A request with the token and a microversion.
    pub async fn ask(&self, method: Method, path: &str, version: &str, body: Option<Value>) -> Answer {
        let version = format!("volume {version}");
        let headers = [("x-auth-token", self.token()), ("openstack-api-version", version)];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.bare(method, path, &headers, body.map(|body| body.to_string()).as_deref()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "3.54", None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, "3.54", Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, "3.54", None).await
    }

    /// Makes a volume and waits until it is there.
    pub async fn volume(&self, extra: Value) -> String {
        let mut volume = json!({ "size": 1 });
        volume.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let made = self.post("/volumes", json!({ "volume": volume })).await;
        assert_eq!((made.status, &made.body["volume"]["status"]), (StatusCode::ACCEPTED, &json!("creating")), "{made:?}");
        let id = made.body["volume"]["id"].as_str().unwrap().to_owned();
        self.wait_status(&id, "available").await;
        id
    }

    /// The API has nothing to wait on but asking again.
    pub async fn wait_status(&self, volume: &str, status: &str) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let shown = self.get(&format!("/volumes/{volume}")).await;
            let is =
                if shown.status == StatusCode::NOT_FOUND { "gone" } else { shown.body["volume"]["status"].as_str().unwrap() };
            if is == status {
                return;
            }
            assert!(Instant::now() < deadline, "{volume} is {is}, not {status}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Attaches for a host; gives the attachment.
    pub async fn attach(&self, volume: &str, initiator: &str) -> Value {
        let connector = json!({ "initiator": initiator, "host": "node-a", "ip": "127.0.0.1", "mountpoint": "/dev/vdb" });
        let body = json!({ "attachment": { "volume_uuid": volume, "instance_uuid": INSTANCE, "connector": connector } });
        let made = self.post("/attachments", body).await;
        assert_eq!(made.status, StatusCode::OK, "{made:?}\n{}", self.log());
        made.body["attachment"].clone()
    }
}

pub const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_file(self.state.path().with_extension("toml"));
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Asserts an error in the field's form.
    #[track_caller]
    pub fn is_error(&self, status: u16, name: &str, message: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.body, json!({ name: { "code": status, "message": message } }));
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// Logs in as an initiator would and reads the LUN's serial; the error's text where it is not let in.
pub fn read_serial(info: &Value, initiator: &str, password: &str) -> Result<String, String> {
    let text = |key: &str| info[key].as_str().unwrap().to_owned();
    let url = format!("iscsi://{}/{}/{}", text("target_portal"), text("target_iqn"), info["target_lun"]);
    let output = Command::new("timeout")
        .args(["-s", "KILL", "20", "iscsi-inq", "-i", initiator, "-e", "1", "-c", "128", &url])
        .env("LIBISCSI_CHAP_USERNAME", text("auth_username"))
        .env("LIBISCSI_CHAP_PASSWORD", password)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match said.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
        Some((serial, _)) if output.status.success() => Ok(serial.trim().to_owned()),
        _ => Err(said + &String::from_utf8_lossy(&output.stderr)),
    }
}

/// The same with the account's own password.
pub fn log_in(attachment: &Value, initiator: &str) -> Result<String, String> {
    let info = &attachment["connection_info"];
    read_serial(info, initiator, info["auth_password"].as_str().unwrap())
}

pub fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub fn path_of(service: &Service, volume: &str) -> PathBuf {
    service.state.path().join("volumes").join(format!("volume-{volume}"))
}

/// The token of a new user with one role in a project.
pub async fn token(store: &bowline_backend::store::Store, project_id: &str, role: &str) -> String {
    use bowline_backend::auth::TokenDigest;
    use bowline_backend::store::TokenOwner;
    let token = format!("token-of-{role}-of-{project_id}");
    let user_id = format!("{role}-of-{project_id}");
    store.insert_user(&user_id, &user_id).await.unwrap();
    let owner = TokenOwner { user_id, project_id: Some(project_id.to_owned()), roles: role.to_owned(), expires_at_us: None };
    store.insert_token(&TokenDigest::of(token.as_bytes()).hex(), &owner).await.unwrap();
    token
}

/// Waits until a snapshot has a status.
pub async fn wait_snapshot(service: &Service, id: &str, status: &str) {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let shown = service.get(&format!("/snapshots/{id}")).await;
        let is =
            if shown.status == StatusCode::NOT_FOUND { "gone" } else { shown.body["snapshot"]["status"].as_str().unwrap() };
        if is == status {
            return;
        }
        assert!(Instant::now() < deadline, "{id} is {is}, not {status}:\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
