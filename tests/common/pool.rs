//! Nodes that are handed from test to test.
//!
//! To boot a node, install Bowline and boot a guest in it takes longer than most tests do. So a node that a test leaves as it found it,
//! which `tests/node/anew` sees to and proves, serves the next one; any other is thrown away, and so is one whose test failed.

use std::sync::{Mutex, PoisonError};

use super::{Guest, Machine, Node};

/// Nodes that nobody has at the moment. They die with this process.
static IDLE: Mutex<Vec<Node>> = Mutex::new(vec![]);

/// Runs the test in a node with Bowline installed, not configured and not running, and the guest `g1`. `name`: of the node, if a new one
/// is needed; a node's logs are found by the first test that had it.
#[track_caller]
pub fn in_any_node(name: &str, test: impl FnOnce(&Node, &Guest<'_>)) {
    let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let used = idle().pop();
    let node = used.unwrap_or_else(|| Node::with_bowline(name));
    node.ok("touch /run/anew");
    let guest = if node.exec("virsh domuuid g1").status == 0 { Guest::again(&node, "g1") } else { node.persistent_guest("g1") };
    test(&node, &guest);
    drop(guest);
    let anew = node.exec(include_str!("../node/anew"));
    if anew.status == 0 {
        idle().push(node);
    } else {
        eprintln!("{name}: not handed on: {} {}", anew.stdout, anew.stderr);
    }
}
