//! A real RabbitMQ of the tests' own: a node on loopback with ports, a cookie, a home and an epmd of its own, run by the user
//! `rabbitmq`. It can be killed and started again, and leaves nothing behind, however its test ends.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::free_port;

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Each test takes one, so that tests do not see each other's queues.
const VHOSTS: u32 = 16;

/// What the tests log in with; it must not be seen anywhere.
pub const PASSWORD: &str = "not-to-be-logged";

/// Erlang takes its time to start.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Reads words: `start`, `kill`. When its input ends, which it does with the test program, everything ends.
const GUARDIAN: &str = r#"
epmd & epmd=$!
start() { "$SERVER" </dev/null >>"$HOME/out" 2>&1 & server=$!; }
end() { [ -z "$server" ] || kill -KILL $(cat /proc/$server/task/$server/children) $server; wait $server; server=; }
while read -r word; do "$word"; done
end; kill $epmd; wait; rm -rf "$HOME"
"#;

/// A broker.
pub struct Broker {
    directory: TempDir,
    port: u16,
    guardian: Child,
    vhosts: AtomicU32,
}

impl Broker {
    /// Starts one and waits until it takes connections.
    pub fn start() -> Self {
        let mut broker = Self::prepare();
        broker.start_again();
        broker.wait_ready();
        broker
    }

    /// All but started.
    pub fn prepare() -> Self {
        assert!(Path::new(SERVER).exists(), "RabbitMQ is missing: install the package rabbitmq-server");
        let directory = tempfile::Builder::new().prefix("bowline-mq").tempdir().unwrap();
        let (port, dist, epmd) = (free_port(), free_port(), free_port());
        let home = directory.path();
        let vhosts: Vec<_> = (0..VHOSTS).map(|n| json!({ "name": format!("v{n}") })).collect();
        let all = |n| json!({ "user": "bowline", "vhost": format!("v{n}"), "configure": ".*", "write": ".*", "read": ".*" });
        let definitions = json!({
            "users": [{ "name": "bowline", "password": PASSWORD, "tags": "" }],
            "vhosts": vhosts,
            "permissions": (0..VHOSTS).map(all).collect::<Vec<_>>(),
        });
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nload_definitions = {}\nlog.file = false\nlog.console = true\n",
            home.join("definitions.json").display()
        );
        for (name, text) in [
            ("definitions.json", definitions.to_string()),
            ("rabbitmq.conf", settings),
            ("plugins", "[].\n".to_owned()),
            ("env.conf", String::new()),
        ] {
            std::fs::write(home.join(name), text).unwrap();
        }
        let owned = Command::new("chown").args(["-R", "rabbitmq"]).arg(home).status().unwrap();
        assert!(owned.success(), "chown to the user rabbitmq");
        let guardian = Command::new("setpriv")
            .args(["--reuid", "rabbitmq", "--regid", "rabbitmq", "--init-groups", "sh", "-c", GUARDIAN])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .env("SERVER", SERVER)
            .env("ERL_EPMD_PORT", epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("bowline-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", dist.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", home.join("env.conf"))
            .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", home.join("log"))
            // One thread that does not spin: the machine has other work.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none")
            .current_dir(home)
            .stdin(Stdio::piped())
            // The shell tells of each process that it killed.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { directory, port, guardian, vhosts: AtomicU32::new(0) }
    }

    /// An empty vhost: its URL.
    pub fn vhost(&self) -> String {
        let number = self.vhosts.fetch_add(1, Ordering::Relaxed);
        assert!(number < VHOSTS, "too few vhosts");
        format!("amqp://bowline:{PASSWORD}@127.0.0.1:{}/v{number}", self.port)
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        self.tell("end");
        let deadline = Instant::now() + READY_WITHIN;
        while self.answers() {
            assert!(Instant::now() < deadline, "RabbitMQ does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it, and does not wait for it.
    pub fn start_again(&mut self) {
        self.tell("start");
    }

    /// Waits until it takes connections.
    pub fn wait_ready(&self) {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.answers() {
            let said = || std::fs::read_to_string(self.directory.path().join("out")).unwrap_or_default();
            assert!(Instant::now() < deadline, "RabbitMQ did not start:\n{}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.guardian.stdin.as_ref().unwrap(), "{word}").unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}
