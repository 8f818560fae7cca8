//! What the agent alone can tell whoever examines the host: libvirt, the volume service, its journal, what is attached.

use super::{
    Shared, boot,
    ports::{HypervisorFacts, PortError, PortResult},
};
use crate::doctor::{
    self,
    facts::{AgentFacts, CloudFacts, Facts, LibvirtFacts},
};
use crate::model::{DiskEncryption, ErrorKind, Finding};
use nix::unistd::{AccessFlags, access};
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{task::spawn_blocking, time::timeout};
use uuid::Uuid;

/// For each of those who are asked; somebody waits for the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What of the settings an examination goes by.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// `iscsi.initiator` as a word.
    pub(super) initiator: &'static str,
    /// `iscsi.initiator_name_file`
    pub(super) initiator_name_file: PathBuf,
    /// `paths.state_dir`
    pub(super) state_dir: PathBuf,
    /// `rbd.client` is the kernel.
    pub(super) rbd_in_kernel: bool,
    pub(super) thin_disks: Option<bool>,
    /// `iscsi.multipath`: `required` or `off`; `None` where it is preferred.
    pub(super) wants_multipath: Option<bool>,
    /// `rbd.conf_file` and `rbd.keyring_file`, where they are set.
    pub(super) ceph_files: Vec<(&'static str, PathBuf)>,
}

/// Looks at everything, side by side.
pub(super) async fn examine(shared: &Shared) -> Vec<Finding> {
    let name_file = shared.setup.initiator_name_file.clone();
    let (host, libvirt, cloud, pool, folder, group) = tokio::join!(
        spawn_blocking(move || doctor::gather(&name_file)),
        within(LIMIT, shared.hypervisor.examine()),
        within(LIMIT, shared.volumes.examine()),
        pool_problem(shared),
        within(LIMIT, shared.boot_sources.room()),
        within(LIMIT, shared.boot_sources.group_room()),
    );
    let mut attached = BTreeMap::new();
    for record in shared.registry.attachments() {
        *attached.entry(format!("{}/{}", record.protocol, record.device.initiator().as_str())).or_default() += 1;
    }
    let state_dir = shared.setup.state_dir.clone();
    let ceph_files = shared.setup.ceph_files.iter();
    let agent = AgentFacts {
        rbd_in_kernel: shared.setup.rbd_in_kernel,
        thin_disks: shared.setup.thin_disks,
        disk_pool: pool,
        folder: folder.map_err(|error| error.message),
        group: group.map_err(|error| error.message),
        wants_multipath: shared.setup.wants_multipath,
        ceph_files: ceph_files.map(|(key, path)| (*key, path.clone(), doctor::file(path))).collect(),
        metrics_problem: shared.metrics_problem.get().cloned(),
        initiator: shared.setup.initiator.to_owned(),
        attached,
        libvirt: libvirt.map(|facts| libvirt_facts(shared, facts)).map_err(|error| error.message),
        cloud: cloud.map_err(|error| error.message).map(|facts| CloudFacts {
            skew_s: facts.skew_s,
            service_roles: facts.service_roles,
            has_service_user: facts.has_service_user,
            has_keystone: facts.has_keystone,
        }),
        journal: (state_dir.display().to_string(), unwritable(&state_dir)),
    };
    doctor::examine(&Facts { host: host.unwrap_or_default(), agent: Some(agent) })
}

/// Whether the pool of ephemeral disks can be used; `None` where there is none.
async fn pool_problem(shared: &Shared) -> Option<Result<(), String>> {
    let examined = timeout(LIMIT, shared.boot_sources.examine_pool()).await;
    let late = || Some(Err(PortError::new(ErrorKind::Timeout, format!("no answer within {} s", LIMIT.as_secs()))));
    Some(examined.unwrap_or_else(|_| late())?.map_err(|error| error.message))
}

/// What was asked for, where it comes within the limit.
pub(super) async fn within<T>(limit: Duration, asked: impl Future<Output = PortResult<T>>) -> PortResult<T> {
    let late = |_| PortError::new(ErrorKind::Timeout, format!("no answer within {} s", limit.as_secs()));
    timeout(limit, asked).await.map_err(late)?
}

fn libvirt_facts(shared: &Shared, facts: HypervisorFacts) -> LibvirtFacts {
    let forgotten = forgotten_secrets(shared, facts.secrets);
    LibvirtFacts {
        version: facts.version,
        hypervisor_version: facts.hypervisor_version,
        forgotten_secrets: forgotten.iter().map(Uuid::to_string).collect(),
    }
}

/// Those of Bowline's secrets that nobody has.
pub(super) fn forgotten_secrets(shared: &Shared, secrets: Vec<Uuid>) -> Vec<Uuid> {
    let known = known_secrets(shared);
    secrets.into_iter().filter(|secret| !known.contains(secret)).collect()
}

/// The secrets that belong to an attachment, to an ephemeral disk, or to an operation that is not over yet.
pub(super) fn known_secrets(shared: &Shared) -> HashSet<Uuid> {
    let attached = shared.registry.attachments().into_iter().map(|record| (record.secret, record.encryption));
    let under_way: Vec<_> = shared.registry.records().into_iter().filter(|record| !record.state.is_over()).collect();
    let made = under_way.iter().flat_map(boot::secrets_of).collect::<Vec<_>>();
    let under_way = under_way.into_iter().map(|record| (record.facts.secret, record.facts.encryption));
    let booted = shared.registry.booted_guests();
    let of_disks = booted.iter().flat_map(boot::local_disks).filter_map(|disk| disk.place.secret()).collect::<Vec<_>>();
    let both = |(secret, encryption): (Option<Uuid>, Option<DiskEncryption>)| {
        secret.into_iter().chain(encryption.map(|encryption| encryption.secret))
    };
    attached.chain(under_way).flat_map(both).chain(of_disks).chain(made).collect()
}

/// Less room than this, bytes, and the journal may not take the next operation.
const ROOM_BYTES: u64 = 16 << 20;

fn unwritable(folder: &Path) -> Option<String> {
    if let Err(error) = access(folder, AccessFlags::W_OK) {
        return Some(error.desc().to_owned());
    }
    let room = nix::sys::statvfs::statvfs(folder).ok()?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    (free < ROOM_BYTES).then(|| format!("only {} KiB are free", free >> 10))
}
