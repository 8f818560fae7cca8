//! A node for one test: `tests/node/node` with a name of its own. It dies with the test's process, however that ends, because
//! its life is tied to a pipe that only this process holds.

use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::{Machine, Output, binaries, install_tree, log_folder, repository};

/// A running node; removed when dropped, its logs kept if the test failed.
pub struct Node {
    name: String,
    tether: Option<ChildStdin>,
}

impl Node {
    /// Boots a fresh node. `name` should name the test: logs are found by it.
    #[track_caller]
    pub fn up(name: &str) -> Self {
        let mut node = Self { name: format!("{name}-{}", std::process::id()), tether: None };
        node.boot();
        node
    }

    /// Boots a fresh node with Bowline installed as `make install` does.
    #[track_caller]
    pub fn with_bowline(name: &str) -> Self {
        let node = Self::up(name);
        let tree = install_tree();
        Output::of(node.script("install").arg(tree)).ok();
        node
    }

    /// Cuts the node's power. What had reached its disk stays.
    #[track_caller]
    pub fn kill(&self) {
        Output::of(&mut self.script("kill")).ok();
    }

    /// Boots the node again, from the same disk, after [`Node::kill`].
    #[track_caller]
    pub fn up_again(&mut self) {
        self.boot();
    }

    #[track_caller]
    fn boot(&mut self) {
        let mut command = Command::new(repository().join("tests/node/node"));
        command.args(["up", "--tether", &self.name]).env("NODE_IMAGE", image()).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        // Taken before waiting: wait() would close it, and the node would take that for our end.
        self.tether = child.stdin.take();
        let status = child.wait().unwrap();
        assert!(status.success(), "node {} did not come up", self.name);
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(repository().join("tests/node/node"));
        command.args([verb, &self.name]).env("BOWLINE_BIN", binaries()).stdin(Stdio::null());
        command
    }
}

impl Machine for Node {
    fn exec_for(&self, command: &str, limit: Duration) -> Output {
        Output::of(self.script("exec").arg(command).arg(limit.as_secs().max(1).to_string()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let folder = log_folder(&self.name);
            let _ = Output::of(self.script("log").arg(&folder));
            eprintln!("console and journal of the node: {}", folder.display());
        }
        let _ = Output::of(&mut self.script("rm"));
    }
}

/// What nodes boot from, made now if it is not there: minutes the first time, and the same for all tests of a run.
#[track_caller]
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| Output::of(&mut Command::new(repository().join("tests/node/image/build"))).ok())
}
