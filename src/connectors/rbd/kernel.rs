//! Images that this host's kernel maps as block devices, for guests that want one and for namespaces, which libvirt cannot name.
//!
//! ```text
//! connect:    nothing mapped -> claim -> `rbd map` -> found in sysfs -> own name -> RbdBlockDevice
//! disconnect, undo: own name gone -> unmapped -> claim gone
//! ```
//! The claim says "nothing of the image was mapped, and Bowline was about to": so what is mapped later is Bowline's, even when the
//! agent died before it could say which device it is. What somebody else has mapped is never taken and never unmapped, and a mapping is
//! known by cluster, pool, namespace, name and id, never by its name alone.
//!
//! `rbd map` is run, and not its one write to sysfs made here, since only a process can be killed when the cluster does not answer;
//! it also hands the key to the kernel so that it stands in no file of sysfs, and waits until udev is done with the device. A mapping is
//! never unmapped by force: that is for devices in use, and fails what their users still write.

use super::{
    RbdConfig, RbdError, info,
    sysfs::{Bus, Mapping},
    tool::{Access, in_memory},
    under_way,
};
use crate::connectors::{
    ConnectorsConfig, DeviceState, Disconnected,
    command::{self, CommandError, Finished},
    own_name::OwnNames,
};
use crate::model::{DeviceIdentity, ObservedIdentity, RbdBlockDevice, RbdImage, VolumeId};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The kernel's client.
#[derive(Debug)]
pub(super) struct Kernel {
    bus: Bus,
    /// Where the kernel shows the processes.
    proc: PathBuf,
    names: OwnNames,
    options: Option<String>,
    limit: Duration,
}

impl Kernel {
    pub(super) fn new(config: &RbdConfig, host: &ConnectorsConfig) -> Self {
        Self {
            bus: Bus::new(&host.sysfs),
            proc: "/proc".into(),
            names: OwnNames::new(&host.run_dir),
            options: config.map_options.clone(),
            limit: Duration::from_secs(config.map_timeout_s),
        }
    }

    /// A second connect finds the first one's mapping.
    pub(super) async fn connect(
        &self,
        volume: VolumeId,
        access: &Access<'_>,
        read_only: bool,
    ) -> Result<RbdBlockDevice, RbdError> {
        let image = access.image;
        if !self.bus.is_there() {
            return Err(RbdError::NoModule { image: image.to_string() });
        }
        let mapping = match self.ours(volume, image, None)? {
            Some(mapping) => mapping,
            None => match self.map(volume, access, read_only).await {
                Ok(mapping) => mapping,
                Err(error) => {
                    if !matches!(error, RbdError::ForeignMapping { .. })
                        && let Err(error) = self.undo(volume, image).await
                    {
                        // The first error tells why; whoever called undoes the step again and reports what stays.
                        tracing::warn!(%volume, error = &error as &dyn std::error::Error, "the failed connect could not be unwound");
                    }
                    return Err(error);
                }
            },
        };
        let kernel_name = mapping.kernel_name();
        let path = self.names.set_link(volume, &kernel_name).map_err(RbdError::system("name the mapped device"))?;
        Ok(RbdBlockDevice {
            path,
            kernel_name,
            image: image.clone(),
            cluster: mapping.cluster,
            monitors: access.monitors.to_vec(),
        })
    }

    async fn map(&self, volume: VolumeId, access: &Access<'_>, read_only: bool) -> Result<Mapping, RbdError> {
        let image = access.image;
        if let Some(other) = self.bus.mappings_of(image)?.first() {
            return Err(RbdError::ForeignMapping { image: image.to_string(), device: other.kernel_name() });
        }
        self.must_be_still(volume, image)?;
        // A name that somebody has unmapped the device of leads to whatever is mapped next.
        self.names.remove_link(volume).map_err(RbdError::system("forget an old name"))?;
        self.names.claim(volume, &claim(image)).map_err(RbdError::system("claim the image"))?;
        let mut verb = vec!["device", "map"];
        if read_only {
            verb.push("--read-only");
        }
        if let Some(options) = &self.options {
            verb.extend(["--options", options]);
        }
        let said = access.run("map", &verb, self.limit).await?;
        let mapping = self.ours(volume, image, None)?;
        mapping.filter(|mapping| said.trim() == format!("/dev/{}", mapping.kernel_name())).ok_or_else(|| RbdError::Answer {
            image: image.to_string(),
            problem: format!("it says it mapped {:?}, which is not what the kernel has", said.trim()),
        })
    }

    /// `None`: it is not mapped.
    pub(super) fn observe(&self, volume: VolumeId, device: &RbdBlockDevice) -> Result<Option<ObservedIdentity>, RbdError> {
        self.of_device(volume, device)?.map(|mapping| observed(&mapping)).transpose()
    }

    pub(super) fn state(
        &self,
        volume: VolumeId,
        device: &RbdBlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<DeviceState, RbdError> {
        Ok(match self.observe(volume, device)? {
            None => DeviceState::Absent,
            Some(observed) if identity.is_none_or(|identity| *identity == observed.identity) => {
                DeviceState::Present { observed }
            }
            Some(observed) => DeviceState::Foreign { observed },
        })
    }

    /// Unmaps the image if it is the one that was journalled and nobody has it open; the guest has closed it by now, which has
    /// written it out.
    pub(super) async fn disconnect(
        &self,
        volume: VolumeId,
        device: &RbdBlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<Disconnected, RbdError> {
        let mapping = self.of_device(volume, device)?;
        if let (Some(mapping), Some(identity)) = (&mapping, identity) {
            let found = observed(mapping)?.identity;
            if found != *identity {
                return Err(RbdError::NotTheVolume {
                    device: mapping.kernel_name(),
                    volume,
                    expected: Box::new(identity.clone()),
                    found: Box::new(found),
                });
            }
        }
        self.release(volume, mapping).await
    }

    /// Undoes a connect whose device nobody has written down.
    pub(super) async fn undo(&self, volume: VolumeId, image: &RbdImage) -> Result<Disconnected, RbdError> {
        // In this order: a map that ends in between is found.
        let still = self.must_be_still(volume, image);
        let mapping = self.ours(volume, image, None)?;
        if mapping.is_none() {
            // Without the claim, what it maps after all would be a stranger's for ever.
            still?;
        }
        self.release(volume, mapping).await
    }

    /// Makes the kernel see the image's new size if it was not told of it; the size of the block device.
    pub(super) async fn grow(&self, volume: VolumeId, device: &RbdBlockDevice, wanted_bytes: u64) -> Result<u64, RbdError> {
        let mapped = || self.of_device(volume, device)?.ok_or_else(|| RbdError::NotMapped { image: device.image.to_string() });
        let mut mapping = mapped()?;
        if mapping.size_bytes < wanted_bytes {
            self.write(&self.bus.refresh_file(&mapping), "1", &mapping).await?;
            mapping = mapped()?;
        }
        let found = self.bus.block_size_bytes(&mapping).unwrap_or(mapping.size_bytes);
        if found < wanted_bytes || found != mapping.size_bytes {
            return Err(RbdError::NotGrown { image: device.image.to_string(), found_bytes: found, wanted_bytes });
        }
        Ok(found)
    }

    /// Own name first: nothing may lead to a device that another image can be under the next moment.
    async fn release(&self, volume: VolumeId, mapping: Option<Mapping>) -> Result<Disconnected, RbdError> {
        let forgetting = || RbdError::system("forget the mapped device's name");
        let was_named = self.names.remove_link(volume).map_err(forgetting())?;
        let Some(mapping) = mapping else {
            let was_known = self.names.forget(volume).map_err(forgetting())?;
            return Ok(if was_named || was_known { Disconnected::Changed } else { Disconnected::Unchanged });
        };
        if let Err(error) = self.write(&self.bus.removal_file(), &mapping.number.to_string(), &mapping).await {
            if matches!(error, RbdError::InUse { .. }) && was_named {
                // It stays what it was to whoever has it open.
                self.names.set_link(volume, &mapping.kernel_name()).map_err(RbdError::system("name the mapped device"))?;
            }
            return Err(error);
        }
        self.names.forget(volume).map_err(forgetting())?;
        Ok(Disconnected::Changed)
    }

    /// Writes into a file of sysfs from a process that can be killed: the kernel answers when the cluster has.
    async fn write(&self, file: &Path, text: &str, mapping: &Mapping) -> Result<(), RbdError> {
        let device = || mapping.kernel_name();
        let input = in_memory(text).map_err(RbdError::system("hold a number in memory"))?;
        match command::run_with_input("tee", &[Path::new("--"), file], input, self.limit).await {
            Ok(Finished { code: Some(0), .. }) => Ok(()),
            // The C locale's words, since it is what `command` sets.
            Ok(Finished { stderr, .. }) if stderr.contains("resource busy") => Err(RbdError::InUse { device: device() }),
            Ok(Finished { stderr, .. }) => {
                Err(RbdError::Kernel { device: device(), image: mapping.image.to_string(), said: stderr })
            }
            Err(CommandError::Timeout { timeout_s, .. }) => {
                Err(RbdError::KernelTimeout { device: device(), image: mapping.image.to_string(), waited_s: timeout_s })
            }
            Err(error) => Err(RbdError::Tee { device: device(), source: error }),
        }
    }

    /// That no map of the image that Bowline began, and killed, is still at work.
    fn must_be_still(&self, volume: VolumeId, image: &RbdImage) -> Result<(), RbdError> {
        if self.names.is_claimed(volume, &claim(image)) && under_way::is_mapping(&self.proc, image) {
            return Err(RbdError::MapUnderWay { image: image.to_string() });
        }
        Ok(())
    }

    fn of_device(&self, volume: VolumeId, device: &RbdBlockDevice) -> Result<Option<Mapping>, RbdError> {
        self.ours(volume, &device.image, Some(&device.cluster))
    }

    /// The mapping that Bowline made for the volume: its own name leads to it, or its claim.
    fn ours(&self, volume: VolumeId, image: &RbdImage, cluster: Option<&str>) -> Result<Option<Mapping>, RbdError> {
        let linked = self.names.linked(volume);
        let is_claimed = self.names.is_claimed(volume, &claim(image));
        let mut mappings = self.bus.mappings_of(image)?;
        mappings.retain(|mapping| cluster.is_none_or(|cluster| mapping.cluster == cluster));
        Ok(match linked {
            Some(name) => mappings.into_iter().find(|mapping| mapping.kernel_name() == name),
            None if is_claimed => mappings.into_iter().next(),
            None => None,
        })
    }
}

/// What a claim of the image says. No target or portal of iSCSI reads so.
fn claim(image: &RbdImage) -> String {
    format!("rbd {image}")
}

fn observed(mapping: &Mapping) -> Result<ObservedIdentity, RbdError> {
    info::identity(&mapping.image, &mapping.image_id, mapping.size_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::tests::mapped;
    use super::*;
    use std::fs;

    struct Host {
        dir: tempfile::TempDir,
        kernel: Kernel,
        image: RbdImage,
    }

    fn volume() -> VolumeId {
        "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap()
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let host = ConnectorsConfig { run_dir: dir.path().join("run"), sysfs: dir.path().into(), ..Default::default() };
            fs::create_dir_all(dir.path().join("bus/rbd/devices")).unwrap();
            let kernel = Kernel { proc: dir.path().join("proc"), ..Kernel::new(&RbdConfig::default(), &host) };
            Self { dir, kernel, image: RbdImage { pool: "volumes".into(), namespace: None, name: "v".into() } }
        }

        fn mapped(&self, number: u32, pool: &str, id: &str) {
            mapped(self.dir.path(), number, [pool, "", "v"], id, "-");
        }

        fn device(&self) -> RbdBlockDevice {
            RbdBlockDevice {
                path: self.kernel.names.link(volume()),
                kernel_name: "rbd0".into(),
                image: self.image.clone(),
                cluster: "5e0f3a52-6d7b-4a3c-9d1e-1b6f0c9a7d11".into(),
                monitors: vec![],
            }
        }

        fn unmapped(&self) -> String {
            fs::read_to_string(self.kernel.bus.removal_file()).unwrap_or_default()
        }
    }

    #[tokio::test]
    async fn only_the_very_mapping_that_was_made_is_unmapped() {
        let host = Host::new();
        host.mapped(0, "others", "aa");
        host.mapped(1, "volumes", "bb");
        // Somebody else's: neither claimed nor named.
        assert_eq!(host.kernel.undo(volume(), &host.image).await.unwrap(), Disconnected::Unchanged);
        assert_eq!(host.unmapped(), "");
        // Claimed, and the agent died before it was named.
        host.kernel.names.claim(volume(), &claim(&host.image)).unwrap();
        assert_eq!(host.kernel.undo(volume(), &host.image).await.unwrap(), Disconnected::Changed);
        assert_eq!(host.unmapped(), "1");
        assert_eq!(host.kernel.undo(volume(), &host.image).await.unwrap(), Disconnected::Unchanged, "a second time");
    }

    #[tokio::test]
    async fn a_map_that_was_killed_and_goes_on_is_waited_for_and_its_mapping_is_undone() {
        let host = Host::new();
        host.kernel.names.claim(volume(), &claim(&host.image)).unwrap();
        let process = host.dir.path().join("proc/4711");
        fs::create_dir_all(&process).unwrap();
        fs::write(process.join("cmdline"), "rbd\0device\0map\0--pool\0volumes\0--image\0v\0").unwrap();
        let error = host.kernel.undo(volume(), &host.image).await.unwrap_err();
        assert!(matches!(error, RbdError::MapUnderWay { .. }), "{error}");
        // The cluster answers, and the process ends.
        fs::remove_dir_all(process).unwrap();
        host.mapped(1, "volumes", "bb");
        assert_eq!(host.kernel.undo(volume(), &host.image).await.unwrap(), Disconnected::Changed);
        assert_eq!(host.unmapped(), "1");
    }

    #[tokio::test]
    async fn another_image_under_the_journalled_name_is_left_alone() {
        let host = Host::new();
        host.mapped(1, "volumes", "bb");
        host.kernel.names.set_link(volume(), "rbd1").unwrap();
        let journalled = info::identity(&host.image, "aa", 1).unwrap().identity;
        let error = host.kernel.disconnect(volume(), &host.device(), Some(&journalled)).await.unwrap_err();
        assert!(matches!(error, RbdError::NotTheVolume { .. }), "{error}");
        let state = host.kernel.state(volume(), &host.device(), Some(&journalled)).unwrap();
        assert!(matches!(state, DeviceState::Foreign { .. }), "{state:?}");
        // In another cluster.
        let device = RbdBlockDevice { cluster: "other".into(), ..host.device() };
        assert_eq!(host.kernel.state(volume(), &device, None).unwrap(), DeviceState::Absent);
        assert_eq!(host.unmapped(), "");
    }

    #[tokio::test]
    async fn the_kernel_is_asked_to_look_again_and_believed_when_it_does_not_see_the_new_size() {
        let host = Host::new();
        host.mapped(1, "volumes", "bb");
        host.kernel.names.set_link(volume(), "rbd1").unwrap();
        fs::create_dir_all(host.dir.path().join("block/rbd1")).unwrap();
        let block_size = host.dir.path().join("block/rbd1/size");
        fs::write(&block_size, "2097152\n").unwrap();
        let asked = host.dir.path().join("bus/rbd/devices/1/refresh");
        assert_eq!(host.kernel.grow(volume(), &host.device(), 1 << 30).await.unwrap(), 1 << 30);
        assert!(!asked.exists(), "it was asked for what it had told");
        let error = host.kernel.grow(volume(), &host.device(), 2 << 30).await.unwrap_err();
        assert!(matches!(error, RbdError::NotGrown { found_bytes, .. } if found_bytes == 1 << 30), "{error}");
        assert_eq!(fs::read_to_string(asked).unwrap(), "1");
        // The image has it and the block device has not.
        fs::write(host.dir.path().join("bus/rbd/devices/1/size"), "2147483648\n").unwrap();
        assert!(host.kernel.grow(volume(), &host.device(), 2 << 30).await.is_err());
        fs::write(block_size, "4194304\n").unwrap();
        assert_eq!(host.kernel.grow(volume(), &host.device(), 2 << 30).await.unwrap(), 2 << 30);
    }

    #[tokio::test]
    async fn an_image_that_somebody_else_has_mapped_is_not_taken() {
        let host = Host::new();
        host.mapped(7, "volumes", "bb");
        let monitors = ["127.0.0.1:1".parse().unwrap()];
        let access =
            Access { image: &host.image, monitors: &monitors, cluster: "ceph", conf_file: None, user: None, key: None };
        let error = host.kernel.connect(volume(), &access, false).await.unwrap_err();
        assert!(matches!(&error, RbdError::ForeignMapping { device, .. } if device == "rbd7"), "{error}");
        assert_eq!(host.unmapped(), "");
    }
}
