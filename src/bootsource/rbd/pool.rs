//! A pool, or a namespace in one, by Ceph's `rbd` command and by QEMU's client. The key is in the keyring that both read, so it is on no
//! argument list. A cluster that does not answer ends a command by Ceph's own deadlines.

use super::PoolError;
use crate::{
    command::{self, CommandError},
    model::{RbdImage, RbdNetworkDevice, Secret, ceph_key_of, own_words_of_rbd},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// What Bowline's disks are tagged with.
pub(super) const TAG: &str = "bowline.ephemeral";

/// How long monitors may take to answer, and OSDs for one piece of work, seconds: a cluster that loses an OSD pauses for 20 s before it goes
/// on.
const DEADLINES_S: [(&str, &str); 3] =
    [("client_mount_timeout", "10"), ("rados_mon_op_timeout", "10"), ("rados_osd_op_timeout", "60")];

/// A command of some such pieces.
const SHORT: Duration = Duration::from_secs(150);
/// One that touches every object of an image.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// Exit codes of `rbd` are the errno of what went wrong.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENOSPC: i32 = 28;
const ETIMEDOUT: i32 = 110;
const EDQUOT: i32 = 122;

/// Where ephemeral disks are, and as whom they are got at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pool: String,
    namespace: Option<String>,
    user: String,
    conf_file: Option<PathBuf>,
    keyring: PathBuf,
}

/// An image, as `rbd info` tells of it, and its tags.
pub(super) struct Seen {
    pub(super) tags: BTreeMap<String, String>,
    pub(super) size_bytes: u64,
}

#[derive(Deserialize)]
struct Info {
    size: u64,
}

/// How a command ended that did.
enum Ended {
    Well(Vec<u8>),
    /// It names something that is not there, or is there.
    Missing,
    Exists,
}

impl Pool {
    /// A pool, or a namespace in one, that `user` (without `client.`) has the rights to. Without `conf_file` it is the system's cluster, without
    /// `keyring_file` the user's key is where Ceph looks for it.
    pub fn new(
        (pool, namespace): (String, Option<String>),
        user: String,
        conf_file: Option<PathBuf>,
        keyring_file: Option<PathBuf>,
    ) -> Self {
        let keyring = keyring_file.unwrap_or_else(|| format!("/etc/ceph/ceph.client.{user}.keyring").into());
        Self { pool, namespace, user, conf_file, keyring }
    }

    /// Where a disk is that was made.
    pub(super) fn of(device: &RbdNetworkDevice, keyring_file: Option<&Path>) -> Self {
        let (RbdImage { pool, namespace, .. }, conf_file) = (device.image.clone(), device.conf_file.clone());
        let user = device.username.clone().unwrap_or_else(|| "admin".to_owned());
        Self::new((pool, namespace), user, conf_file, keyring_file.map(Path::to_owned))
    }

    /// An image in it, as QEMU is to open it in a guest. `secret`: which libvirt secret has the key then.
    pub(super) fn device(&self, name: &str, secret: uuid::Uuid) -> RbdNetworkDevice {
        RbdNetworkDevice {
            image: self.image(name),
            // Those of the configuration: they may change as long as the disk is there.
            monitors: vec![],
            username: Some(self.user.clone()),
            secret: Some(secret),
            conf_file: self.conf_file.clone(),
        }
    }

    pub(super) fn image(&self, name: &str) -> RbdImage {
        RbdImage { pool: self.pool.clone(), namespace: self.namespace.clone(), name: name.to_owned() }
    }

    /// The user's key.
    pub(super) fn key(&self) -> Result<Secret, PoolError> {
        let (user, file) = (self.user.clone(), self.keyring.clone());
        let text = match fs::read_to_string(&file) {
            Ok(text) => Zeroizing::new(text),
            Err(source) => return Err(PoolError::Keyring { user, file, source }),
        };
        ceph_key_of(&text, &self.user).map(Secret::new).ok_or(PoolError::KeyNotInKeyring { user, file })
    }

    /// An image as QEMU's tools name it.
    pub(super) fn qemu_name(&self, name: &str) -> PathBuf {
        let mut text = format!("rbd:{}:id={}:keyring={}", self.image(name), self.user, escaped(&self.keyring));
        if let Some(conf) = &self.conf_file {
            text.push_str(&format!(":conf={}", escaped(conf)));
        }
        for (option, value) in DEADLINES_S {
            text.push_str(&format!(":{option}={value}"));
        }
        text.into()
    }

    /// Makes an image of zeros, tagged from before it has room for a byte. What was there of this name is removed, if it is Bowline's.
    pub(super) async fn create(&self, name: &str, size_bytes: u64) -> Result<(), PoolError> {
        self.remove(name).await?;
        let created = ["create", "--size", "0"];
        if let Ended::Exists = self.run("make", name, &created, SHORT).await? {
            // Its name is taken and there is no image: so far came a try that was cut off.
            self.run("remove what was begun of", name, &["rm", "--no-progress"], SHORT).await?;
            self.run_well("make", name, &created, SHORT).await?;
        }
        self.tag(name, TAG, name).await?;
        self.resize(name, size_bytes).await
    }

    pub(super) async fn tag(&self, name: &str, key: &str, value: &str) -> Result<(), PoolError> {
        self.on_image("tag", name, &["image-meta", "set"], &[key, value]).await
    }

    pub(super) async fn resize(&self, name: &str, size_bytes: u64) -> Result<(), PoolError> {
        let size = format!("{size_bytes}B");
        self.run_well("resize", name, &["resize", "--no-progress", "--size", &size], SHORT).await
    }

    /// Removes an image. One that is not there is fine; one that is somebody else's stays.
    pub(super) async fn remove(&self, name: &str) -> Result<(), PoolError> {
        let Some(seen) = self.look(name).await? else { return Ok(()) };
        if !seen.is_disk() {
            return Err(PoolError::Foreign { image: self.image(name).to_string(), tag: TAG });
        }
        self.run("remove", name, &["rm", "--no-progress"], LONG).await.map(drop)
    }

    /// The image of this name, if there is one.
    pub(super) async fn look(&self, name: &str) -> Result<Option<Seen>, PoolError> {
        let unread = |said: serde_json::Error| PoolError::Rbd {
            operation: "look at",
            image: self.image(name).to_string(),
            said: said.to_string(),
        };
        let Ended::Well(info) = self.run("look at", name, &["info", "--format", "json"], SHORT).await? else { return Ok(None) };
        let Info { size: size_bytes } = serde_json::from_slice(&info).map_err(unread)?;
        let Ended::Well(tags) = self.run("look at", name, &["image-meta", "list", "--format", "json"], SHORT).await? else {
            return Ok(None);
        };
        // Without any, older ones say nothing at all.
        let tags = if tags.is_empty() { BTreeMap::new() } else { serde_json::from_slice(&tags).map_err(unread)? };
        Ok(Some(Seen { tags, size_bytes }))
    }

    /// Why the pool takes no more, if that is so. Asked where something took too long: Ceph lets writes into a full pool wait.
    pub(super) async fn check_room(&self) -> Result<(), PoolError> {
        let arguments: Vec<OsString> =
            [self.identity(), ["--connect-timeout", "10", "osd", "dump", "--format", "json"].map(OsString::from).to_vec()]
                .concat();
        let Ok(ended) = command::run_large("ceph", &arguments, SHORT).await else { return Ok(()) };
        match serde_json::from_slice::<OsdDump>(&ended.stdout) {
            Ok(dump) if dump.is_full(&self.pool) => Err(PoolError::Full { pool: self.pool.clone() }),
            _ => Ok(()),
        }
    }

    /// Makes a small image for this host, and removes it.
    pub(super) async fn try_out(&self, host: &str) -> Result<(), PoolError> {
        self.key()?;
        let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let name = format!("bowline-doctor-{host}");
        self.create(&name, 1 << 20).await?;
        self.remove(&name).await
    }

    /// Runs a command on an image whose operands follow it.
    async fn on_image(&self, operation: &'static str, name: &str, verb: &[&str], operands: &[&str]) -> Result<(), PoolError> {
        let spec = self.image(name).to_string();
        let words = [verb, &[spec.as_str()], operands].concat();
        self.ended_well(operation, name, self.run_words(operation, name, &words, SHORT).await?)
    }

    pub(super) async fn run_well(
        &self,
        operation: &'static str,
        name: &str,
        verb: &[&str],
        limit: Duration,
    ) -> Result<(), PoolError> {
        self.ended_well(operation, name, self.run(operation, name, verb, limit).await?)
    }

    fn ended_well(&self, operation: &'static str, name: &str, ended: Ended) -> Result<(), PoolError> {
        let image = self.image(name).to_string();
        match ended {
            Ended::Well(_) => Ok(()),
            Ended::Missing => Err(PoolError::Gone { image }),
            Ended::Exists => Err(PoolError::Rbd { operation, image, said: "something of that name is there".to_owned() }),
        }
    }

    /// Runs `rbd VERB.. IMAGE`.
    async fn run(&self, operation: &'static str, name: &str, verb: &[&str], limit: Duration) -> Result<Ended, PoolError> {
        let spec = self.image(name).to_string();
        self.run_words(operation, name, &[verb, &[spec.as_str()]].concat(), limit).await
    }

    async fn run_words(
        &self,
        operation: &'static str,
        name: &str,
        words: &[&str],
        limit: Duration,
    ) -> Result<Ended, PoolError> {
        let mut arguments = self.identity();
        for (option, value) in DEADLINES_S {
            arguments.extend([format!("--{}", option.replace('_', "-")).into(), value.into()]);
        }
        arguments.extend(words.iter().map(OsString::from));
        let image = || self.image(name).to_string();
        let ended = command::run("rbd", &arguments, limit).await;
        let ended = match ended {
            Ok(ended) => ended,
            Err(source @ CommandError::Timeout { .. }) => {
                self.check_room().await?;
                return Err(PoolError::Command { operation, image: image(), source });
            }
            Err(source) => return Err(PoolError::Command { operation, image: image(), source }),
        };
        let said = own_words_of_rbd(&ended.stderr);
        let (pool, user) = (self.pool.clone(), self.user.clone());
        Err(match ended.code {
            Some(0) => return Ok(Ended::Well(ended.stdout)),
            Some(ENOENT) if is_no_pool(&ended.stderr) => PoolError::NoPool { pool },
            Some(ENOENT) if ended.stderr.contains("namespace '") => {
                PoolError::NoNamespace { pool, namespace: self.namespace.clone().unwrap_or_default() }
            }
            Some(ENOENT) if !ended.stderr.contains("couldn't connect") => return Ok(Ended::Missing),
            Some(EEXIST) => return Ok(Ended::Exists),
            Some(EPERM | EACCES) => PoolError::Refused { user, keyring: self.keyring.clone(), image: image(), pool, said },
            Some(EBUSY) => PoolError::InUse { image: image() },
            Some(ENOSPC | EDQUOT) => PoolError::Full { pool },
            Some(ETIMEDOUT) => {
                self.check_room().await?;
                PoolError::Silent { operation, image: image(), said }
            }
            _ if ended.stderr.contains("couldn't connect") => PoolError::Silent { operation, image: image(), said },
            _ => PoolError::Rbd { operation, image: image(), said },
        })
    }

    /// Which cluster, and as whom.
    fn identity(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--id".into(), self.user.clone().into(), "--keyring".into(), self.keyring.clone().into()];
        if let Some(conf) = &self.conf_file {
            arguments.extend(["--conf".into(), conf.into()]);
        }
        arguments
    }
}

impl Seen {
    /// It is a disk of Bowline's, or holds nothing: so far came a making that was cut off before it was tagged.
    fn is_disk(&self) -> bool {
        self.tags.contains_key(TAG) || self.size_bytes == 0
    }
}

/// `ceph osd dump --format json`.
#[derive(Deserialize)]
struct OsdDump {
    pools: Vec<PoolFlags>,
}

#[derive(Deserialize)]
struct PoolFlags {
    pool_name: String,
    /// With commas between them.
    flags_names: String,
}

impl OsdDump {
    fn is_full(&self, pool: &str) -> bool {
        let ours = self.pools.iter().filter(|found| found.pool_name == pool);
        ours.flat_map(|found| found.flags_names.split(',')).any(|flag| matches!(flag, "full" | "full_quota"))
    }
}

fn is_no_pool(said: &str) -> bool {
    said.contains("error opening pool '") || said.contains("error opening default pool")
}

/// QEMU's RBD client takes a name apart at these.
fn escaped(path: &Path) -> String {
    let text = path.display().to_string();
    text.chars().flat_map(|c| [Some('\\').filter(|_| ":@=\\/".contains(c) && c != '/'), Some(c)]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(("vms".into(), Some("ns".into())), "nova".into(), Some("/etc/ceph/a:b.conf".into()), None)
    }

    #[test]
    fn qemu_is_told_by_name_who_asks_where_and_nothing_of_the_key() {
        assert_eq!(
            pool().qemu_name("bowline-1-vda").to_str(),
            Some(
                "rbd:vms/ns/bowline-1-vda:id=nova:keyring=/etc/ceph/ceph.client.nova.keyring:conf=/etc/ceph/a\\:b.conf\
                 :client_mount_timeout=10:rados_mon_op_timeout=10:rados_osd_op_timeout=60"
            )
        );
        assert_eq!(Pool::of(&pool().device("bowline-1-vda", uuid::Uuid::nil()), None), pool());
    }

    #[test]
    fn the_key_is_the_users_own_and_no_error_shows_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = dir.path().join("keyring");
        let of = |user: &str| Pool::new(("vms".into(), None), user.into(), None, Some(keyring.clone())).key();
        assert!(matches!(of("nova").unwrap_err(), PoolError::Keyring { .. }));
        fs::write(&keyring, "[client.nova]\nkey = QURNSU4=\n").unwrap();
        assert_eq!(of("nova").unwrap().expose(), "QURNSU4=");
        let error = of("cinder").unwrap_err();
        assert!(matches!(&error, PoolError::KeyNotInKeyring { user, .. } if user == "cinder"), "{error}");
        assert!(!error.to_string().contains("QURN"));
    }

    #[test]
    fn what_has_bytes_and_no_tag_is_somebody_elses() {
        let seen = |tag: Option<&str>, size_bytes| Seen {
            tags: tag.map(|tag| (tag.to_owned(), String::new())).into_iter().collect(),
            size_bytes,
        };
        assert!(seen(Some(TAG), 1).is_disk() && seen(None, 0).is_disk());
        assert!(!seen(None, 1).is_disk() && !seen(Some("conf_rbd_cache"), 1).is_disk());
    }

    #[test]
    fn a_full_pool_is_known_by_its_flags() {
        let text = r#"{"pools": [{"pool_name": "a", "flags_names": "hashpspool"}, {"pool_name": "b", "flags_names": "hashpspool,full,full_quota"}]}"#;
        let dump: OsdDump = serde_json::from_str(text).unwrap();
        assert!(dump.is_full("b") && !dump.is_full("a"));
        assert!(is_no_pool("rbd: error opening pool 'x': (2) No such file or directory"));
    }
}
