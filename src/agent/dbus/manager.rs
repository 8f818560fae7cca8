//! `org.bowline.Manager1`: requests, and what there is.

use super::{
    authority::{Action, Authority},
    error::MethodError,
    names::{attachment_path, operation_path},
    objects::Objects,
    operation::{guest_text, volume_text},
    options::{
        Options, attach_request, boot_plan_request, boot_request, delete_request, detach_request, extend_plan_request,
        extend_request, rebuild_plan_request, rebuild_request, rescue_plan_request, rescue_request, snapshot_plan_request,
        snapshot_request, start_request, stop_request, unrescue_request,
    },
};
use crate::{
    agent::api::{AgentApi, AgentEvent, Request},
    model::{Difference, ErrorKind, Finding},
};
use std::sync::Arc;
use zbus::{Connection, OwnedObjectPath, interface, message::Header, object_server::SignalEmitter};

/// A plan on the wire: kind, volume, guest, guest's name, and each step's name and description.
type WirePlan = (String, String, String, String, Vec<(String, String)>);

/// A finding on the wire: area, check, verdict, message, remedy.
type WireFinding = (String, String, String, String, String);

/// A difference on the wire: area, volume, guest, what was found, its meaning, remedy, mending.
type WireDifference = (String, String, String, String, String, String, String);

/// The object.
pub struct Manager {
    api: Arc<dyn AgentApi>,
    authority: Arc<Authority>,
    objects: Arc<Objects>,
}

impl Manager {
    /// The manager of `api`.
    pub const fn new(api: Arc<dyn AgentApi>, authority: Arc<Authority>, objects: Arc<Objects>) -> Self {
        Self { api, authority, objects }
    }

    async fn submit(&self, connection: &Connection, request: Request) -> Result<OwnedObjectPath, MethodError> {
        let id = self.api.submit(request).await?;
        self.objects.refresh_operation(connection, id).await.map_err(|error| {
            MethodError::new(ErrorKind::Internal, format!("operation {id} was taken up but has no D-Bus object: {error}"))
        })?;
        Ok(operation_path(id))
    }
}

/// Attaches volumes to the guests of this host, and detaches them; boots guests from disks made for them.
#[interface(name = "org.bowline.Manager1")]
impl Manager {
    /// Takes up an attach and returns its Operation1 object at once.
    ///
    /// The volume is named by its id or by its name where that is unique, the guest by its name or UUID. The same request
    /// made again before the first has ended returns the same object. Options: "bus" (s) "virtio" or "scsi"; "target" (s)
    /// such as "vdc"; "read-only" (b); "tag" (s), what the disk is for; "boot-order" (u), its place among the devices that the
    /// guest boots from. polkit action: org.bowline.agent1.attach.
    ///
    /// Errors of all interfaces are named org.bowline.Error.KIND, where KIND is InvalidInput, NotFound, Conflict,
    /// PermissionDenied, AuthenticationFailed, Unavailable, Timeout, IdentityMismatch, Unsupported, GuestRefused, Cancelled,
    /// Stuck or Internal.
    #[zbus(out_args("operation"))]
    async fn attach(
        &self,
        volume: String,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Attach).await?;
        self.submit(connection, Request::Attach(attach_request(volume, guest, options)?)).await
    }

    /// Takes up a detach and returns its Operation1 object at once.
    ///
    /// An empty guest means the volume's only guest on this host. There are no options yet. polkit action:
    /// org.bowline.agent1.detach.
    #[zbus(out_args("operation"))]
    async fn detach(
        &self,
        volume: String,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Detach).await?;
        self.submit(connection, Request::Detach(detach_request(volume, guest, options)?)).await
    }

    /// Takes up the extension of a volume to a size in GiB and returns its Operation1 object at once.
    ///
    /// The service extends it first, which can never be taken back; then this host and all its guests that have the volume are
    /// made to see the new size. A size that the service has already makes them see it. There are no options yet. polkit
    /// action: org.bowline.agent1.manage-volumes.
    #[zbus(out_args("operation"))]
    async fn extend(
        &self,
        volume: String,
        size_gib: u64,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::ManageVolumes).await?;
        self.submit(connection, Request::Extend(extend_request(volume, size_gib, options)?)).await
    }

    /// Takes up the boot of a guest, defined and off, from disks that are made or taken for it, and returns its Operation1 object at
    /// once.
    ///
    /// The mapping is a JSON list in the form of Nova's block_device_mapping_v2, where "uuid" may also be a unique name; it may be
    /// empty. Options: "image" (s), the image to boot by id or unique name: its disks are those of its own mapping, or one ephemeral
    /// disk made of it, of "image-size-gib" (t); "block-devices" (as), further entries as the option block-device of openstack server
    /// create has them; "lazy" (b), start the guest at once, the image coming while it runs. A guest that is not defined yet is
    /// defined first, under the name given, by "xml" (s), a domain's XML, or by "memory-mib" (t), "vcpus" (u), else 1, "networks"
    /// (as) of libvirt, "virt-type" (s) "kvm" or "qemu", "arch" (s) and "machine" (s), else libvirt's choice. What fails midway
    /// leaves nothing that it made, nor the definition. polkit action: org.bowline.agent1.boot; for "xml", with which any
    /// file and device of the host can be given, the one of that name that ends in define-guest.
    #[zbus(out_args("operation"))]
    async fn boot(
        &self,
        guest: String,
        mapping: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        let action = if options.contains_key("xml") { Action::DefineGuest } else { Action::Boot };
        self.authority.check(connection, &header, action).await?;
        self.submit(connection, Request::Boot(boot_request(guest, mapping, options)?)).await
    }

    /// Takes up the deletion of what a boot made of a guest and returns its Operation1 object at once.
    ///
    /// The guest is stopped at once, and stays defined unless its boot defined it. Its ephemeral disks go, its volumes are detached, and those that were booted
    /// with delete_on_termination are deleted. There are no options yet. polkit action: org.bowline.agent1.boot.
    #[zbus(out_args("operation"))]
    async fn delete(
        &self,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Boot).await?;
        self.submit(connection, Request::Delete(delete_request(guest, options)?)).await
    }

    /// Takes up a snapshot of a guest that was booted, running or off, and returns its Operation1 object at once; its property Image is
    /// the image's UUID.
    ///
    /// The image with that name has the bytes of an ephemeral root disk, or, where the root disk is a volume, names snapshots of all of
    /// the guest's volumes; either boots again. Option: "freeze" (b), default true: the guest's filesystems are frozen for the moment in
    /// which its disks are caught, if its agent answers. polkit action: org.bowline.agent1.boot.
    #[zbus(out_args("operation"))]
    async fn snapshot(
        &self,
        guest: String,
        name: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Boot).await?;
        self.submit(connection, Request::Snapshot(snapshot_request(guest, name, options)?)).await
    }

    /// Takes up making the root disk of a guest anew and returns its Operation1 object at once.
    ///
    /// The guest was booted by Bowline and is off; it stays off, and keeps its other disks. The image is given by id or unique name; where
    /// that is empty it is the one that the root disk was made of. An ephemeral disk is made of it before the old one goes: what fails
    /// midway leaves the guest as it was. A volume is written over by the volume service: from when that was asked there is no way back.
    /// Options: "size-gib" (t) of an ephemeral disk, else the size that was asked for the disk it has, else the image's own. polkit action:
    /// org.bowline.agent1.boot.
    #[zbus(out_args("operation"))]
    async fn rebuild(
        &self,
        guest: String,
        image: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Boot).await?;
        self.submit(connection, Request::Rebuild(rebuild_request(guest, image, options)?)).await
    }

    /// Takes up the rescue of a guest and returns its Operation1 object at once.
    ///
    /// The guest was booted by Bowline. A disk is made of the image, by id or unique name (empty: the guest's own), beside its own; the guest is asked to shut down,
    /// and has its power cut if it does not; then it is started from that disk, with its own disks behind it under the names they
    /// have. What fails midway starts it again as it was. As long as it is rescued, Start starts it so. Options: "size-gib" (t), else the
    /// image's own; "force" (b): its power is cut at once. polkit action: org.bowline.agent1.boot.
    #[zbus(out_args("operation"))]
    async fn rescue(
        &self,
        guest: String,
        image: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Boot).await?;
        self.submit(connection, Request::Rescue(rescue_request(guest, image, options)?)).await
    }

    /// Takes up the end of a rescue and returns its Operation1 object at once.
    ///
    /// The guest is stopped as by Rescue, started from its own disks, and the rescue disk goes. Options: "force" (b): its power is cut at
    /// once. polkit action: org.bowline.agent1.boot.
    #[zbus(out_args("operation"))]
    async fn unrescue(
        &self,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Boot).await?;
        self.submit(connection, Request::Unrescue(unrescue_request(guest, options)?)).await
    }

    /// Takes up the start of a guest and returns its Operation1 object at once.
    ///
    /// What of its volumes is not connected, as after a boot of the host, is connected first, and proved to be the volumes. A guest that
    /// runs is left as it is. There are no options yet. polkit action: org.bowline.agent1.power.
    #[zbus(out_args("operation"))]
    async fn start(
        &self,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Power).await?;
        self.submit(connection, Request::Start(start_request(guest, options)?)).await
    }

    /// Takes up the stop of a guest and returns its Operation1 object at once.
    ///
    /// The guest is asked to shut down, by its agent or else by its power button, and the operation ends once it has. One that runs
    /// on for longer than the configuration allows is left running (GuestRefused). Options: "force" (b): its power is cut at once,
    /// whatever else is under way. Its volumes stay attached. polkit action: org.bowline.agent1.power.
    #[zbus(out_args("operation"))]
    async fn stop(
        &self,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, MethodError> {
        self.authority.check(connection, &header, Action::Power).await?;
        self.submit(connection, Request::Stop(stop_request(guest, options)?)).await
    }

    /// A guest that has storage of Bowline's came or went, whoever saw to it: its UUID, its name, and "started", "stopped", "crashed",
    /// "undefined" or "defined" (again); or it stands still ("paused"), for its I/O could not be done or the image that it was booted
    /// from proved to be damaged, or goes on after that ("resumed").
    ///
    /// Its storage stays as it is, whatever happened: volumes are detached and disks deleted by request alone.
    #[zbus(signal)]
    pub async fn guest_changed(emitter: &SignalEmitter<'_>, guest: &str, name: &str, change: &str) -> zbus::Result<()>;

    /// What an Attach, Detach, Extend, Boot, Delete, Rebuild, Rescue, Unrescue, Start, Stop or Snapshot (kind "attach", "detach", "extend",
    /// "boot", "delete", "rebuild", "rescue", "unrescue", "start", "stop" or "snapshot") with these arguments would do now; touches nothing.
    ///
    /// For an extend the guest is empty and the option "size-gib" (t) tells the size. For a guest as a whole the volume is empty; the
    /// option "mapping" (s) tells a boot's mapping, "image" (s) a rebuild's or a rescue's image, "name" (s) the name of a snapshot's. Returns the kind, the
    /// volume's UUID, the guest's UUID and name, and for each step its name and what it will do.
    /// polkit action: org.bowline.agent1.list.
    #[zbus(out_args("plan"))]
    async fn plan(
        &self,
        kind: String,
        volume: String,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(WirePlan,), MethodError> {
        self.authority.check(connection, &header, Action::List).await?;
        let request = match kind.as_str() {
            "attach" => Request::Attach(attach_request(volume, guest, options)?),
            "detach" => Request::Detach(detach_request(volume, guest, options)?),
            "extend" => Request::Extend(extend_plan_request(volume, &guest, options)?),
            "boot" | "delete" | "rebuild" | "rescue" | "unrescue" | "start" | "stop" | "snapshot" if !volume.is_empty() => {
                return Err(MethodError::invalid(format!("a {kind} is for a guest: leave the volume empty")));
            }
            "boot" => Request::Boot(boot_plan_request(guest, options)?),
            "delete" => Request::Delete(delete_request(guest, options)?),
            "rebuild" => Request::Rebuild(rebuild_plan_request(guest, options)?),
            "rescue" => Request::Rescue(rescue_plan_request(guest, options)?),
            "unrescue" => Request::Unrescue(unrescue_request(guest, options)?),
            "start" => Request::Start(start_request(guest, options)?),
            "stop" => Request::Stop(stop_request(guest, options)?),
            "snapshot" => Request::Snapshot(snapshot_plan_request(guest, options)?),
            _ => {
                let kinds = "the kind of a plan must be \"attach\", \"detach\", \"extend\", \"boot\", \"delete\", \"rebuild\", \"rescue\", \
                             \"unrescue\", \"start\", \"stop\" or \"snapshot\"";
                return Err(MethodError::invalid(kinds));
            }
        };
        let plan = self.api.dry_run(request).await?;
        let steps = plan.steps.into_iter().map(|step| (step.name, step.description)).collect();
        Ok(((plan.kind, volume_text(plan.volume), guest_text(plan.guest), plan.guest_name, steps),))
    }

    /// The operations that have not ended, and the latest that have, oldest first.
    ///
    /// They and each change of them are also told by org.freedesktop.DBus.ObjectManager of this object. polkit action:
    /// org.bowline.agent1.list.
    #[zbus(out_args("operations"))]
    async fn list_operations(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, MethodError> {
        self.authority.check(connection, &header, Action::List).await?;
        Ok(self.api.operations().into_iter().map(|view| operation_path(view.id)).collect())
    }

    /// What is attached through the agent. polkit action: org.bowline.agent1.list.
    #[zbus(out_args("attachments"))]
    async fn list_attachments(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<OwnedObjectPath>, MethodError> {
        self.authority.check(connection, &header, Action::List).await?;
        Ok(self.api.attachments().into_iter().map(|view| attachment_path(view.id)).collect())
    }

    /// Looks at all that attaching needs on this host and tells what is missing; changes nothing.
    ///
    /// For each finding: the area, such as "iscsi" or "cloud"; what was looked at; the verdict "ok", "unknown" (the agent
    /// cannot see it), "warning" or "failure"; what was found; and what mends it. polkit action: org.bowline.agent1.list.
    #[zbus(out_args("findings"))]
    async fn examine(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<WireFinding>, MethodError> {
        self.authority.check(connection, &header, Action::List).await?;
        let wire = |found: Finding| (found.area, found.check, found.verdict.as_str().to_owned(), found.message, found.remedy);
        Ok(self.api.examine().await.into_iter().map(wire).collect())
    }

    /// Holds the journal against libvirt, this host and the volume service, and tells what differs; with "repair" mends what can be
    /// mended without harm.
    ///
    /// For each difference: the area ("guest", "host", "service", "libvirt" or "operation"); the volume's UUID and the guest's
    /// name, empty where it is about none; what was found; what that means; what mends it; and what is to become of it: "by-hand",
    /// "possible" (a repair would mend it), "done", "failed" (the repair; the remedy says why) or "foreign" (somebody else's, never
    /// touched). polkit action: org.bowline.agent1.list, to repair org.bowline.agent1.repair.
    #[zbus(out_args("differences"))]
    async fn check(
        &self,
        repair: bool,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<WireDifference>, MethodError> {
        let action = if repair { Action::Repair } else { Action::List };
        self.authority.check(connection, &header, action).await?;
        let wire = |found: Difference| {
            let volume = found.volume.map(|volume| volume.to_string()).unwrap_or_default();
            let mending = found.mending.as_str().to_owned();
            (found.area, volume, found.guest, found.found, found.meaning, found.remedy, mending)
        };
        Ok(self.api.check(repair).await?.into_iter().map(wire).collect())
    }

    /// Takes over a volume that Nova, another tool or a hand attached to a guest of this host, and returns its Attachment1 object.
    ///
    /// It is proved first: the guest has one disk of the volume, by alias or serial; the service has one complete attachment of it for
    /// that guest; the disk leads where the service says; the device there is the volume. Nothing else of guest or host is touched.
    /// The remark tells what an operator should know of it, if anything. For iSCSI. There are no options yet. polkit action:
    /// org.bowline.agent1.attach.
    #[zbus(out_args("attachment", "remark"))]
    async fn adopt(
        &self,
        volume: String,
        guest: String,
        options: Options,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, String), MethodError> {
        self.authority.check(connection, &header, Action::Attach).await?;
        let request = attach_request(volume, guest, Options::new())?;
        detach_request(request.volume.clone(), String::new(), options)?;
        let adopted = self.api.adopt(&request.volume, &request.guest).await?;
        let told = self.objects.refresh(connection, &AgentEvent::Attachment(adopted.attachment)).await;
        told.map_err(|error| {
            MethodError::new(ErrorKind::Internal, format!("it is taken over but has no D-Bus object: {error}"))
        })?;
        Ok((attachment_path(adopted.attachment), adopted.remark))
    }

    /// Version of the agent.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
