//! Asks the cluster who an image is and how large, by `rbd info`.
//!
//! An image's name says little: the same name in another pool is another image, and an image made anew under an old name is
//! another one too. Its id, which Ceph gives it when it is made, tells them apart.
//!
//! The key is handed over in a file that is only in memory and has no name: the command's standard input. So it stands on no
//! argument list and in no file system, and is gone with the process, however that ends.

use super::RbdError;
use crate::connectors::command::{self, CommandError};
use crate::model::{DeviceIdentity, ObservedIdentity, Portal, RbdImage, Secret};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Deserialize;
use std::{fs::File, io, io::Write, process::Stdio, time::Duration};

/// Exit codes of `rbd` are the errno of what went wrong.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;

/// Which image, where, and as whom.
pub(super) struct Question<'a> {
    pub(super) image: &'a RbdImage,
    pub(super) monitors: &'a [Portal],
    pub(super) cluster: &'a str,
    /// Without `client.`; none where the cluster wants none.
    pub(super) user: Option<&'a str>,
    /// None: Ceph's own configuration names where it is.
    pub(super) key: Option<&'a Secret>,
}

/// The part of `rbd info --format json` that is used.
#[derive(Deserialize)]
struct Info {
    name: String,
    /// Images of format 1 have none.
    #[serde(default)]
    id: String,
    size: u64,
}

/// Runs `rbd info` for at most `limit`.
pub(super) async fn ask(question: &Question<'_>, limit: Duration) -> Result<ObservedIdentity, RbdError> {
    let image = question.image;
    let stdin = match question.key {
        Some(key) => in_memory(key).map_err(|source| RbdError::HandOver { image: image.to_string(), source })?,
        None => Stdio::null(),
    };
    let monitors = question.monitors.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let answer = command::run_with_input("rbd", &arguments(question, &monitors), stdin, limit).await;
    let finished = answer.map_err(|source| match &source {
        CommandError::Start { source: cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
            RbdError::NoCommand { image: image.to_string() }
        }
        _ => RbdError::Command { image: image.to_string(), monitors: monitors.clone(), source },
    })?;
    let stderr = own_words(&finished.stderr);
    match finished.code {
        Some(0) => identity(image, &String::from_utf8_lossy(&finished.stdout)),
        Some(ENOENT) => Err(RbdError::NoImage { image: image.to_string(), stderr }),
        Some(EPERM | EACCES) => {
            let user = question.user.unwrap_or("admin").to_owned();
            Err(RbdError::Refused { image: image.to_string(), monitors, user, stderr })
        }
        code => Err(RbdError::Unavailable { image: image.to_string(), monitors, code: code.unwrap_or(-1), stderr }),
    }
}

/// Pool, namespace and image are given one by one, so that no name is taken apart. Each value follows its option and is a
/// plain name or an address, which cannot be an option itself.
pub(super) fn arguments(question: &Question<'_>, monitors: &str) -> Vec<String> {
    let image = question.image;
    let mut arguments = vec!["--cluster", question.cluster, "-m", monitors];
    if let Some(user) = question.user {
        arguments.extend(["--id", user]);
    }
    if question.key.is_some() {
        arguments.extend(["--keyfile", "/proc/self/fd/0"]);
    }
    arguments.extend(["--format", "json", "info", "--pool", &image.pool, "--image", &image.name]);
    if let Some(namespace) = &image.namespace {
        arguments.extend(["--namespace", namespace]);
    }
    arguments.into_iter().map(str::to_owned).collect()
}

/// A file in memory with the key in it. It is read by opening it anew, so it need not be rewound.
fn in_memory(key: &Secret) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create(c"key", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(key.expose().as_bytes())?;
    Ok(Stdio::from(file))
}

/// What the command itself says, without the client library's own log lines around it.
fn own_words(stderr: &str) -> String {
    let own: Vec<&str> = stderr.split("; ").filter(|line| line.starts_with("rbd: ")).collect();
    if own.is_empty() { stderr.to_owned() } else { own.join("; ") }
}

pub(super) fn identity(image: &RbdImage, said: &str) -> Result<ObservedIdentity, RbdError> {
    let bad = |problem: String| RbdError::Answer { image: image.to_string(), problem };
    let info: Info = serde_json::from_str(said).map_err(|error| bad(error.to_string()))?;
    if info.name != image.name {
        return Err(bad("it is about another image".to_owned()));
    }
    if info.id.is_empty() || info.id.len() > 64 || !info.id.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(bad(
            "it gives no image id (images of format 1 have none), so the image's identity cannot be proved".to_owned()
        ));
    }
    let identity = DeviceIdentity { serial: Some(info.id), wwids: vec![format!("rbd.{image}")] };
    Ok(ObservedIdentity { identity, size_bytes: info.size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(namespace: Option<&str>) -> RbdImage {
        RbdImage { pool: "volumes".into(), namespace: namespace.map(str::to_owned), name: "volume-1".into() }
    }

    fn question<'a>(image: &'a RbdImage, monitors: &'a [Portal], key: &'a Secret) -> Question<'a> {
        Question { image, monitors, cluster: "ceph", user: Some("cinder"), key: Some(key) }
    }

    #[test]
    fn an_image_is_known_by_its_id_and_where_it_is() {
        // As Ceph 16.2 writes it, shortened.
        let said = r#"{"name":"volume-1","id":"1017635b9a35","size":1073741824,"order":22,"format":2,"features":["layering"]}"#;
        let observed = identity(&image(None), said).unwrap();
        assert_eq!(observed.size_bytes, 1 << 30);
        assert_eq!(observed.identity.serial.as_deref(), Some("1017635b9a35"));
        assert_eq!(observed.identity.wwids, ["rbd.volumes/volume-1"]);
        assert_ne!(identity(&image(Some("ns")), said).unwrap().identity, observed.identity);
    }

    #[test]
    fn an_answer_that_proves_nothing_is_refused() {
        for said in [
            "",
            "[]",
            r#"{"name":"volume-1","size":1}"#,
            r#"{"name":"volume-1","id":"","size":1}"#,
            r#"{"name":"volume-1","id":"a b","size":1}"#,
            r#"{"name":"volume-2","id":"ab","size":1}"#,
            r#"{"name":"volume-1","id":"ab","size":-1}"#,
        ] {
            assert!(matches!(identity(&image(None), said), Err(RbdError::Answer { .. })), "{said}");
        }
    }

    #[test]
    fn the_key_is_on_no_argument_list() {
        let (image, key) = (image(Some("ns")), Secret::new("SECRETKEY"));
        let monitors = ["10.0.0.1:6789".parse().unwrap(), "[fd00::1]:3300".parse().unwrap()];
        let arguments = arguments(&question(&image, &monitors, &key), "10.0.0.1:6789,[fd00::1]:3300").join(" ");
        assert!(!arguments.contains("SECRETKEY"));
        assert_eq!(
            arguments,
            "--cluster ceph -m 10.0.0.1:6789,[fd00::1]:3300 --id cinder --keyfile /proc/self/fd/0 \
             --format json info --pool volumes --image volume-1 --namespace ns"
        );
    }

    #[tokio::test]
    async fn a_command_finds_the_key_on_its_standard_input() {
        let stdin = in_memory(&Secret::new("SECRETKEY")).unwrap();
        let finished = command::run_with_input("cat", &["/proc/self/fd/0"], stdin, Duration::from_secs(10)).await.unwrap();
        assert_eq!(finished.stdout, b"SECRETKEY");
    }

    #[test]
    fn the_log_lines_of_the_client_library_are_left_out() {
        let stderr = "2026-11-23T00:55:47 -1 monclient(hunting): x; rbd: couldn't connect to the cluster!";
        assert_eq!(own_words(stderr), "rbd: couldn't connect to the cluster!");
        assert_eq!(own_words("something else"), "something else");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(said in "\\PC*", size in any::<u64>(), id in "\\PC{0,9}") {
            let _ = identity(&image(None), &said);
            let whole = serde_json::json!({"name": "volume-1", "id": id, "size": size}).to_string();
            let proved = identity(&image(None), &whole).is_ok();
            prop_assert_eq!(proved, !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()));
        }
    }
}
