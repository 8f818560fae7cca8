//! What `make install` makes, made once for all tests of a crate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Output, binaries, repository};

/// The folder that `make install` filled, from the binaries under test.
#[track_caller]
pub fn install_tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!(env!("CARGO_CRATE_NAME"), "-install-tree"));
        let _ = std::fs::remove_dir_all(&tree);
        let mut command = Command::new("make");
        command.args(["--no-print-directory", "install"]).current_dir(repository());
        command.arg(format!("DESTDIR={}", tree.display())).arg(format!("BOWLINE_BIN={}", binaries().display()));
        Output::of(&mut command).ok();
        // Each node copies them, and in a debug build nine parts of ten are for a debugger.
        let programs = ["usr/sbin/bowlined", "usr/bin/bowline", "usr/bin/bowline-backend"].map(|path| tree.join(path));
        Output::of(Command::new("strip").args(programs)).ok();
        tree
    })
}
