//! The cloud of these tests: one host rig with `up`'s services, the agent, and what their own tools say of a volume.

use std::time::Duration;

use serde_json::Value;

use crate::common::{HostRig, Machine, Services, Site, repository};

/// How long the services may take to start; 25 s where nothing else runs.
const START_LIMIT: Duration = Duration::from_secs(400);
const CLOUDS: &str = "/run/openstack/clouds.yaml";

/// What a volume is kept in, by Cinder's name of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Cinder's RBD driver.
    Ceph,
    /// A file behind Cinder's tgt code.
    Iscsi,
}

impl Backend {
    /// The volume type, which has the backend's name.
    pub fn volume_type(self) -> &'static str {
        match self {
            Self::Ceph => "ceph",
            Self::Iscsi => "iscsi",
        }
    }
}

/// Keystone, Cinder and their storage; all of it ends when dropped.
pub struct Cloud {
    host: HostRig,
}

impl Cloud {
    /// Starts everything but the agent.
    #[track_caller]
    pub fn start(name: &str) -> Self {
        let host = HostRig::start(name);
        let script = repository().join("tests/openstack/up");
        println!("{}", host.exec_for(&format!("exec 2>&1; {}", script.display()), START_LIMIT).ok());
        Self { host }
    }

    /// The machine.
    pub fn host(&self) -> &HostRig {
        &self.host
    }

    /// The agent asks Cinder as that entry of clouds.yaml, and goes with the service's token where it must.
    #[track_caller]
    pub fn agent_as(&self, entry: &str) -> Site<'_, HostRig> {
        let site = Site::at(&self.host, Services::Processes);
        if site.agent_runs() {
            site.stop_agent();
        }
        self.host.ok("mkdir -p /etc/bowline/bowlined.d");
        let fragment = format!(
            "[cloud]\nfile = \"{CLOUDS}\"\nname = \"{entry}\"\nservice_name = \"service\"\n[iscsi]\ninitiator = \"qemu\""
        );
        self.host.write("/etc/bowline/bowlined.d/10-cloud.toml", &fragment);
        site.start_agent("");
        site
    }

    /// Makes an image of the tenant's in Glance; its id.
    #[track_caller]
    pub fn upload(&self, name: &str, file: &str) -> String {
        let script = repository().join("tests/openstack/catalogue.py");
        self.host.ok(&format!("{} --upload {CLOUDS} {name} {file}", script.display()))
    }

    /// What Glance has of an image.
    #[track_caller]
    pub fn image(&self, id: &str) -> Value {
        self.cinder(&format!("http://127.0.0.1:9292/v2/images/{id}"))
    }

    /// What Cinder tells its administrator, or whoever a whole URL names.
    #[track_caller]
    pub fn cinder(&self, path: &str) -> Value {
        let script = repository().join("tests/openstack/catalogue.py");
        let said = self.host.ok(&format!("{} --ask {CLOUDS} '{path}'", script.display()));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path} said {said:?}: {error}"))
    }

    /// The bundled volume service lets in whom this Keystone knows, and nobody whose token is forged, expired or revoked; its volumes
    /// are made from this Glance's images, and become such.
    #[track_caller]
    pub fn bundled_service_takes_its_tokens_and_images(&self) {
        let script = repository().join("tests/openstack/bundled_service.py");
        assert_eq!(self.host.ok(&format!("{} {CLOUDS} /run/openstack/bundled", script.display())).trim(), "ok");
    }

    /// The states of all attachments that Cinder has.
    #[track_caller]
    pub fn attachments(&self) -> Vec<String> {
        let all = self.cinder("/attachments/detail?all_tenants=1");
        all["attachments"].as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap().to_owned()).collect()
    }

    /// Bytes of the volume, read on the storage's side.
    #[track_caller]
    pub fn stored(&self, backend: Backend, volume: &str, offset: u64, length: u64) -> String {
        let from = offset + 1;
        match backend {
            // Cut off as soon as it has said enough: an image has 1 GiB and more.
            Backend::Ceph => self.host.ok(&format!(
                "set +o pipefail; rbd export --no-progress volumes/volume-{volume} - 2>/dev/null | tail -c +{from} | head -c {length}"
            )),
            Backend::Iscsi => self.host.ok(&format!("tail -c +{from} /run/openstack/files/volume-{volume} | head -c {length}")),
        }
    }

    /// Who has the volume open, as its storage sees it.
    #[track_caller]
    pub fn users(&self, backend: Backend, volume: &str) -> String {
        self.host.ok(&match backend {
            Backend::Ceph => format!("rbd status --format json volumes/volume-{volume} | jq -r '.watchers[].address'"),
            Backend::Iscsi => "tgtadm --lld iscsi --op show --mode target | grep 'I_T nexus:' || :".to_owned(),
        })
    }

    /// Nothing of any attachment is left: not with Cinder, not at its storage, not in libvirt, not with the agent.
    #[track_caller]
    pub fn assert_nothing_left(&self, site: &Site<'_, HostRig>, backend: Backend, volume: &str, context: &str) {
        let found = self.cinder(&format!("/volumes/{volume}"));
        assert_eq!(found["volume"]["status"], "available", "{context}: {found}");
        assert_eq!(found["volume"]["attachments"], Value::Array(vec![]), "{context}");
        assert_eq!(self.attachments(), Vec::<String>::new(), "{context}: attachments that Cinder has");
        assert_eq!(self.users(backend, volume), "", "{context}: users of the volume");
        assert_eq!(site.json("list")["attachments"], Value::Array(vec![]), "{context}: attachments of the agent");
        let left =
            self.host.ok("for side in '' --inactive; do virsh -q domblklist g1 $side | sed 's/^/disk of the guest: /'; done
             virsh -q secret-list | sed 's/^/secret: /'
             tgtadm --lld iscsi --op show --mode target | sed -n 's/^Target/exported: &/p'
             ls /run/bowline/volumes 2>/dev/null | sed 's/^/own name: /'");
        assert_eq!(left, "", "{context}");
    }
}
