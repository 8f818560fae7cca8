//! Whether an `rbd map` is still at work.
//!
//! Killed at its deadline, it may be in the kernel's hands until the cluster answers, and map the image all the same. It shows among the
//! processes until then, whoever started it and however often the agent has been restarted since.

use crate::model::RbdImage;
use std::{fs, path::Path};

/// Looks through the processes of `proc` for one that maps `image`.
pub(super) fn is_mapping(proc: &Path, image: &RbdImage) -> bool {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
        // One that has ended meanwhile, or only waits to be reaped, has no command line.
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| maps(&line, image))
}

/// The arguments are those that `tool` gives, and the kernel shows them each with a zero byte at its end.
fn maps(command_line: &[u8], image: &RbdImage) -> bool {
    let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let is_rbd = arguments.first().is_some_and(|program| program.rsplit(|byte| *byte == b'/').next() == Some(b"rbd"));
    let has = |pair: [&str; 2]| arguments.windows(2).any(|found| found == pair.map(str::as_bytes));
    let namespace = arguments.iter().position(|argument| *argument == b"--namespace").and_then(|at| arguments.get(at + 1));
    is_rbd
        && has(["device", "map"])
        && has(["--pool", &image.pool])
        && has(["--image", &image.name])
        && namespace.copied() == image.namespace.as_deref().map(str::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_of_the_very_image_counts() {
        let proc = tempfile::tempdir().unwrap();
        let image = |namespace: Option<&str>| RbdImage {
            pool: "volumes".into(),
            namespace: namespace.map(str::to_owned),
            name: "v".into(),
        };
        fs::create_dir_all(proc.path().join("4711")).unwrap();
        fs::write(proc.path().join("uptime"), "1").unwrap();
        let runs = |line: &str| fs::write(proc.path().join("4711/cmdline"), line.replace(' ', "\0")).unwrap();
        for other in [
            "",
            "rbd --cluster ceph status --pool volumes --image v ",
            "rbd device map --pool volumes --image v2 ",
            "rbd device map --pool others --image v ",
            "tee device map --pool volumes --image v ",
        ] {
            runs(other);
            assert!(!is_mapping(proc.path(), &image(None)), "{other}");
        }
        runs("/usr/bin/rbd --cluster ceph -m 10.0.0.1 device map --read-only --pool volumes --image v ");
        assert!(is_mapping(proc.path(), &image(None)) && !is_mapping(proc.path(), &image(Some("ns"))));
        runs("rbd device map --pool volumes --image v --namespace ns ");
        assert!(!is_mapping(proc.path(), &image(None)) && is_mapping(proc.path(), &image(Some("ns"))));
    }
}
