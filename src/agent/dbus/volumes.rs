//! `org.bowline.Volumes1`: the volumes themselves, for whoever has no other client of the volume service at hand.

use super::{
    authority::{Action, Authority},
    error::MethodError,
    options::{Options, designation, volume_options},
};
use crate::{
    agent::api::AgentApi,
    model::{ErrorKind, NewVolume, Volume, VolumeOrigin},
};
use std::{collections::HashMap, sync::Arc};
use zbus::{Connection, OwnedVariant, Variant, interface, message::Header};

/// A volume on the wire.
type WireVolume = HashMap<&'static str, OwnedVariant>;

/// The object.
pub struct Volumes {
    api: Arc<dyn AgentApi>,
    authority: Arc<Authority>,
}

impl Volumes {
    /// The volumes `api` can see.
    pub const fn new(api: Arc<dyn AgentApi>, authority: Arc<Authority>) -> Self {
        Self { api, authority }
    }
}

/// Volumes of the volume service that the agent's credentials can see.
#[interface(name = "org.bowline.Volumes1")]
impl Volumes {
    /// Makes a volume and returns it once it is available, which may take the service a while.
    ///
    /// The name may be empty. Options: "type" (s), a volume type; without it the service takes its default. "multiattach" (b):
    /// several guests may have it at once; Cinder wants a volume type for that instead. The volume is a dictionary as of Get. polkit action: org.bowline.agent1.manage-volumes.
    #[zbus(out_args("volume"))]
    async fn create(
        &self,
        name: String,
        size_gib: u64,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<WireVolume, MethodError> {
        self.authority.check(connection, &header, Action::ManageVolumes).await?;
        if size_gib == 0 {
            return Err(MethodError::invalid("the size is 0 GiB: a volume has at least 1"));
        }
        let name = if name.is_empty() { name } else { designation("name", name)? };
        let (volume_type, multiattach) = volume_options(options)?;
        let volume =
            self.api.create_volume(NewVolume { name, size_gib, volume_type, multiattach, origin: VolumeOrigin::Blank }).await?;
        wire(&volume)
    }

    /// All volumes the agent's credentials can see, each a dictionary as of Get. polkit action: org.bowline.agent1.list.
    #[zbus(out_args("volumes"))]
    async fn list(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<WireVolume>, MethodError> {
        self.authority.check(connection, &header, Action::List).await?;
        self.api.volumes().await?.iter().map(wire).collect()
    }

    /// One volume, by id or unique name. polkit action: org.bowline.agent1.list.
    ///
    /// It is a dictionary: "id" (s), "name" (s), "size-gib" (t), "status" (s), "type" (s, empty for none), "bootable",
    /// "multiattach" and "encrypted" (b), "created-at" (s), and "attachments" (a(sss): the attachment's UUID, the guest's
    /// UUID and the host, of which the last two may be empty). Keys may be added.
    #[zbus(out_args("volume"))]
    async fn get(
        &self,
        volume: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<WireVolume, MethodError> {
        self.authority.check(connection, &header, Action::List).await?;
        wire(&self.api.volume(&designation("volume", volume)?).await?)
    }

    /// Deletes a volume, by id or unique name, and returns once it is gone. polkit action:
    /// org.bowline.agent1.manage-volumes.
    async fn delete(
        &self,
        volume: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), MethodError> {
        self.authority.check(connection, &header, Action::ManageVolumes).await?;
        Ok(self.api.delete_volume(&designation("volume", volume)?).await?)
    }
}

fn wire(volume: &Volume) -> Result<WireVolume, MethodError> {
    let attachments: Vec<(String, String, String)> = volume
        .attachments
        .iter()
        .map(|entry| {
            let guest = entry.guest.map_or_else(String::new, |guest| guest.to_string());
            (entry.attachment.to_string(), guest, entry.host.clone().unwrap_or_default())
        })
        .collect();
    let fields: [(&'static str, Variant<'_>); 10] = [
        ("id", volume.id.to_string().into()),
        ("name", volume.name.as_str().into()),
        ("size-gib", volume.size_gib.into()),
        ("status", volume.status.as_str().into()),
        ("type", volume.volume_type.as_deref().unwrap_or_default().into()),
        ("bootable", volume.bootable.into()),
        ("multiattach", volume.multiattach.into()),
        ("encrypted", volume.encrypted.into()),
        ("created-at", volume.created_at.as_str().into()),
        ("attachments", attachments.into()),
    ];
    fields
        .into_iter()
        .map(|(key, value)| Ok((key, value.try_into_owned()?)))
        .collect::<zbus::Result<_>>()
        .map_err(|error| MethodError::new(ErrorKind::Internal, format!("volume {}: {error}", volume.id)))
}
