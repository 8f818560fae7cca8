//! A real PostgreSQL of the tests' own: a private cluster in a temporary directory, on a unix socket only, run by the user
//! `postgres`. One for each test program; each service gets a database in it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The running cluster.
struct Cluster {
    directory: TempDir,
    bin: PathBuf,
    _server: Child,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A new, empty database: its URL.
pub fn database() -> String {
    let cluster = CLUSTER.get_or_init(start);
    let name = format!("bowline{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let made = as_postgres(cluster.bin.join("createdb")).arg("-h").arg(cluster.directory.path()).arg(&name).status();
    assert!(made.unwrap().success(), "createdb");
    let socket = cluster.directory.path().display().to_string().replace('/', "%2F");
    format!("postgres://postgres@{socket}/{name}")
}

fn start() -> Cluster {
    let versions = std::fs::read_dir("/usr/lib/postgresql").map(|found| found.flatten().map(|entry| entry.path().join("bin")));
    let bin = versions.ok().and_then(|mut found| found.find(|bin| bin.join("initdb").exists()));
    let Some(bin) = bin else { panic!("PostgreSQL is missing: install the package postgresql") };
    let directory = tempfile::Builder::new().prefix("bowline-pg").tempdir().unwrap();
    let owned = Command::new("chown").arg("postgres").arg(directory.path()).status().unwrap();
    assert!(owned.success(), "chown to the user postgres");
    let data = directory.path().join("data");
    let made = as_postgres(bin.join("initdb"))
        .args(["-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success(), "initdb");
    // It ends with the test program, however that ends: the shell then reads the end of its input, and removes what is left.
    let server = as_postgres(PathBuf::from("sh"))
        .args(["-c", "\"$@\" & server=$!; cat > /dev/null; kill -INT $server; wait; rm -rf \"$0\""])
        .arg(directory.path())
        .arg(bin.join("postgres"))
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(directory.path())
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=2000"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ready = Command::new("timeout")
        .args(["120", "sh", "-c", "until \"$0\" -q -h \"$1\"; do sleep 0.05; done"])
        .arg(bin.join("pg_isready"))
        .arg(directory.path())
        .status();
    assert!(ready.unwrap().success(), "PostgreSQL did not start");
    Cluster { directory, bin, _server: server }
}

fn as_postgres(program: PathBuf) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
    command
}
