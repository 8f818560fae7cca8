//! Every parser that hostile or damaged bytes reach, as a function of bytes that fails by a panic: the fuzz targets.
//!
//! | file | the bytes come from |
//! | --- | --- |
//! | `service` | the volume service: connection info, answers, errors; and clouds.yaml |
//! | `storage` | targets, clusters, files on filers: probe answers, SCSI pages, `rbd info`, qcow2 headers, mount options |
//! | `boot` | whoever boots a guest, and whoever uploads images: block device mappings, images |
//! | `host` | this host: the mount table, sysfs, keyrings, domain XML, the journal |
//!
//! More than "no panic" is demanded: what becomes an argument cannot be an option, what becomes a path stays below its folder, and
//! what becomes a line or an element brings no second one. `fuzz/` runs them under libFuzzer; `runner` by itself, in the ordinary
//! tests. In no normal build.

mod boot;
mod host;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod runner;
mod service;
mod storage;

use std::{fs, path::PathBuf};

/// A target: panics where an input breaks a promise.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus, `fuzz/corpus/NAME`.
pub const TARGETS: [(&str, Target); 14] = [
    ("connection_info", service::connection_info),
    ("service_answer", service::answer),
    ("clouds_yaml", service::clouds_yaml),
    ("probe", storage::probe),
    ("scsi_pages", storage::scsi_pages),
    ("rbd_info", storage::rbd_info),
    ("qcow2", storage::qcow2),
    ("mount_options", storage::mount_options),
    ("mountinfo", host::mountinfo),
    ("sessions", host::sessions),
    ("domain_xml", host::domain_xml),
    ("journal", host::journal),
    ("block_device_mapping", boot::mapping),
    ("image", boot::image),
];

/// Runs the target of that name; none of that name is a panic as well.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(found.is_some(), "there is no fuzz target {name}");
    if let Some((_, target)) = found {
        target(data);
    }
}

/// A folder in memory for this thread, empty at first use.
fn scratch(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let folder = base.join(format!("bowline-fuzz-{}-{:?}", std::process::id(), std::thread::current().id())).join(name);
    assert!(fs::create_dir_all(&folder).is_ok(), "cannot make {}", folder.display());
    folder
}

/// What goes onto an argument list after an option, or as an operand: no option itself, nothing of a control character.
fn assert_plain_argument(text: &str, what: &str) {
    assert!(!text.is_empty() && !text.starts_with('-'), "{what} could be an option: {text:?}");
    assert_one_line(text, what);
}

fn assert_one_line(text: &str, what: &str) {
    assert!(!text.contains(char::is_control), "{what} has control characters: {text:?}");
}

/// One name in a folder, that cannot lead out of it.
fn assert_file_name(text: &str, what: &str) {
    assert!(
        !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0']),
        "{what} could leave its folder: {text:?}"
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpora_and_their_mutations_break_no_promise() {
        super::runner::run_all();
        let _ = std::fs::remove_dir_all(super::scratch(""));
    }
}
