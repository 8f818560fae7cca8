//! A disk's limits, and its decryption: worked out of what the volume service says and what the settings ask for.
//!
//! What cannot be carried out is refused before this host connects anything. Of an encrypted volume the journal has the layout and
//! the UUID of the libvirt secret, never the passphrase: that is asked of the key manager again after a restart.

use super::{
    Shared,
    ports::{PortError, PortResult},
};
use crate::agent::journal::AttachTask;
use crate::model::{
    AttachmentId, ConnectedDevice, DiskEncryption, DiskFormat, DiskTuning, ErrorKind, IoTune, LUKS_HEAD_BYTES, Secret,
    SecretKind, VerifiedDevice, VolumeId, VolumeTraits, check_luks_header,
};
use uuid::Uuid;

/// Namespace of the UUIDs of libvirt secrets with passphrases, each derived from its attachment's id, so that a secret is found
/// again after a crash. A random UUID of Bowline's own.
const PASSPHRASE_NAMESPACE: Uuid = Uuid::from_u128(0x3f2a_91c4_58d7_4b6c_a0e3_7d1c_64b2_95fe);

/// How the disk is driven: the settings, the volume's QoS specs and its block sizes together.
pub(super) fn tuning(shared: &Shared, task: &AttachTask, traits: &VolumeTraits) -> PortResult<DiskTuning> {
    let iotune = IoTune::from_qos(&traits.qos_specs, task.size_gib).map_err(|error| {
        let message = format!("the volume type of volume {} cannot be carried out: {error}", task.volume);
        PortError::new(ErrorKind::InvalidInput, message)
    })?;
    Ok(DiskTuning { iotune, block_sizes: traits.block_sizes, ..shared.disk_tuning.clone() })
}

/// How the disk is decrypted, if it is to be. That it is encrypted is believed of whoever says so, the volume or its connection
/// info: a guest that is shown ciphertext takes it for a blank disk, and writes to it.
pub(super) async fn encryption(
    shared: &Shared,
    task: &AttachTask,
    traits: &VolumeTraits,
    attachment: AttachmentId,
) -> PortResult<Option<DiskEncryption>> {
    if !task.encrypted && !traits.encrypted {
        return Ok(None);
    }
    let told = shared.volumes.encryption(task.volume).await?;
    let secret = Uuid::new_v5(&PASSPHRASE_NAMESPACE, attachment.0.as_bytes());
    Ok(told.map(|told| DiskEncryption { version: told.version, secret }))
}

/// The passphrase of a volume.
pub(super) async fn passphrase(shared: &Shared, volume: VolumeId) -> PortResult<Secret> {
    let Some(told) = shared.volumes.encryption(volume).await? else {
        let message = format!("volume {volume} was encrypted, and the volume service says that it is not any more");
        return Err(PortError::new(ErrorKind::Conflict, message));
    };
    shared.volumes.passphrase(told.key).await
}

/// Gives libvirt the passphrase of a volume.
pub(super) async fn define_passphrase(
    shared: &Shared,
    encryption: DiskEncryption,
    volume: VolumeId,
    passphrase: &Secret,
) -> PortResult<()> {
    let whose = format!("volume {volume}");
    shared.hypervisor.define_secret(encryption.secret, SecretKind::Passphrase, &whose, passphrase).await
}

/// Proves that the device begins with the LUKS header it should have. What this host cannot read itself, QEMU opens and judges.
pub(super) async fn check_encrypted(
    shared: &Shared,
    encryption: DiskEncryption,
    volume: VolumeId,
    device: &VerifiedDevice,
) -> PortResult<()> {
    if let ConnectedDevice::File(file) = device.device()
        && file.format != DiskFormat::Raw
    {
        let message = format!("volume {volume} is encrypted within a {} file, which is not supported", file.format.as_str());
        return Err(PortError::new(ErrorKind::Unsupported, message));
    }
    let Some(head) = shared.connectors.head(device.device(), LUKS_HEAD_BYTES).await? else { return Ok(()) };
    check_luks_header(&head, encryption.version, device.observed().size_bytes).map_err(|problem| {
        let name = encryption.version.name();
        let message = format!(
            "volume {volume} should be encrypted with {name}, but {problem}; it was left as it is, since formatting would destroy what is \
             there: if nothing is, format it by hand with its key (cryptsetup luksFormat), else correct its volume type"
        );
        PortError::new(ErrorKind::Conflict, message)
    })
}
