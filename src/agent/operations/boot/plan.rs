//! Planning a boot: everything that the mapping names is looked up, and then it is resolved. Nothing is touched.

use super::super::{
    Shared,
    ports::{GuestDiskFacts, GuestFacts, PortError},
};
use crate::agent::api::ApiError;
use crate::agent::journal::{BootTask, DeleteTask, RebuildTask, ReimageTask, RescueTask, Step, Task};
use crate::bootsource::{Facts, Mapping, MappingError, Source};
use crate::model::{
    BootPlan, BootRequest, ErrorKind, GIB, GuestDefinition, GuestUuid, Image, LocalContent, MIB, NewGuest, OperationId,
    PlannedDisk, PlannedStorage, VolumeOrigin,
};

impl From<MappingError> for ApiError {
    fn from(error: MappingError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// Plans a boot.
pub(in super::super) async fn plan_boot(shared: &Shared, request: &BootRequest) -> Result<Task, ApiError> {
    let new_guest = match &request.definition {
        Some(definition) => Some(shared.hypervisor.prepare_guest(&request.guest, definition).await?),
        None => None,
    };
    let guest = match &new_guest {
        Some(new) => {
            check_undefined(shared, new).await?;
            facts_of(new)
        }
        None => {
            let guest = shared.hypervisor.guest(&request.guest).await.map_err(undefined)?;
            check_free(shared, guest.uuid, &guest)?;
            guest
        }
    };
    let called = Mapping::image_of(request)?;
    let image = match &called {
        Some(name) => Some(shared.boot_sources.find_image(name).await?),
        None => None,
    };
    if let Some(image) = &image {
        check_memory(image, &guest)?;
    }
    let mapping = Mapping::of(request, image.as_ref())?;
    let mut facts = Facts {
        root_device_name: image.as_ref().and_then(|image| image.root_device_name.clone()),
        guest_name: guest.name.clone(),
        taken: guest.disks.iter().map(|disk| disk.target.clone()).collect(),
        default_bus: shared.default_bus,
        suffix: OperationId::random().to_string().chars().take(8).collect(),
        ..Facts::default()
    };
    if let (Some(called), Some(image)) = (called, image) {
        facts.images.extend([(image.id.to_string(), image.clone()), (called, image)]);
    }
    for reference in mapping.references() {
        let name = reference.name;
        match reference.source {
            Source::Image if facts.images.contains_key(&name) => {}
            Source::Image => {
                let image = shared.boot_sources.find_image(&name).await?;
                facts.images.insert(name, image);
            }
            Source::Volume => {
                let volume = shared.volumes.find_volume(&name).await?;
                facts.volumes.insert(name, volume);
            }
            Source::Snapshot => {
                let snapshot = shared.volumes.find_snapshot(&name).await?;
                facts.snapshots.insert(name, snapshot);
            }
            Source::Blank => {}
        }
    }
    let plan = mapping.resolve(&facts)?;
    check_lazy(request, &plan, shared.boot_sources.makes_files())?;
    // By its UUID it is the same request, whatever the guest was called in it. One that is to be defined has only its name.
    let called = if new_guest.is_some() { guest.name.clone() } else { guest.uuid.to_string() };
    let request = BootRequest { guest: called, ..request.clone() };
    Ok(Task::Boot(BootTask { guest: guest.uuid, guest_name: guest.name, request, plan, new_guest }))
}

/// The guest as it will be before it has disks of the boot.
fn facts_of(new: &NewGuest) -> GuestFacts {
    let disk = |target: &String| GuestDiskFacts { target: target.clone(), volume: None, live: false, defined: true };
    let disks = new.targets.iter().map(disk).collect();
    GuestFacts {
        uuid: new.guest,
        name: new.name.clone(),
        active: false,
        run: None,
        persistent: true,
        memory_mib: new.memory_mib,
        disks,
    }
}

/// An image may need more memory than the guest has.
fn check_memory(image: &Image, guest: &GuestFacts) -> Result<(), ApiError> {
    match guest.memory_mib {
        Some(memory_mib) if memory_mib < image.min_ram_mib => {
            let problem = format!(
                "image {} needs {} MiB of memory (its min_ram), and guest {} has {memory_mib} MiB: give it more",
                image.id, image.min_ram_mib, guest.name
            );
            Err(ApiError::new(ErrorKind::InvalidInput, problem))
        }
        _ => Ok(()),
    }
}

fn undefined(error: PortError) -> ApiError {
    match error.kind {
        ErrorKind::NotFound => {
            let way = "define it first, or have the boot do it (--memory, or --xml)";
            ApiError::new(error.kind, format!("{}: {way}", error.message))
        }
        _ => error.into(),
    }
}

/// Nobody has the name or the UUID of the guest that is to be defined.
pub(in super::super) async fn check_undefined(shared: &Shared, new: &NewGuest) -> Result<(), ApiError> {
    for called in [new.guest.to_string(), new.name.clone()] {
        match shared.hypervisor.guest(&called).await {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let problem = format!(
                    "guest {called} is defined already: boot it without a definition, or give another name (and no <uuid>)"
                );
                return Err(ApiError::new(ErrorKind::Conflict, problem));
            }
        }
    }
    if shared.registry.booted(new.guest).is_some() {
        let problem = format!("a former guest with UUID {} has disks left: bowline delete {}", new.guest, new.guest);
        return Err(ApiError::new(ErrorKind::Conflict, problem));
    }
    Ok(())
}

/// What comes while the guest runs is an image on a disk of this host that is a file.
fn check_lazy(request: &BootRequest, plan: &BootPlan, makes_files: bool) -> Result<(), ApiError> {
    let of_image = |disk: &PlannedDisk| matches!(disk.storage, PlannedStorage::Local(LocalContent::Image { .. }));
    let is_of_image = plan.disks.first().is_some_and(of_image);
    let foreign = plan.disks.iter().find_map(|disk| match &disk.storage {
        PlannedStorage::Local(LocalContent::Image { image, .. }) => image.comes_as.map(|_| image),
        _ => None,
    });
    if let Some(image) = foreign.filter(|_| request.lazy) {
        let problem = format!(
            "a lazy boot reads an image as it comes, and image {} comes as {}, which is converted first: leave --lazy out",
            image.id,
            image.declared()
        );
        return Err(ApiError::new(ErrorKind::Unsupported, problem));
    }
    if !request.lazy || (is_of_image && makes_files) {
        return Ok(());
    }
    if is_of_image {
        let problem = "a lazy boot is onto a file over its image, and this host's ephemeral disks are logical volumes or RBD images \
                       (images.disks_on), which are made whole before: leave --lazy out";
        return Err(ApiError::new(ErrorKind::Unsupported, problem));
    }
    let problem = "a lazy boot is of an image onto an ephemeral disk, whose bytes come while the guest runs: a volume is made whole by its \
                   service before (leave --lazy out, or --to volume)";
    Err(ApiError::new(ErrorKind::InvalidInput, problem))
}

/// A guest is booted once, and only when it is off: what runs has its disks already.
pub(in super::super) fn check_free(shared: &Shared, uuid: GuestUuid, guest: &GuestFacts) -> Result<(), ApiError> {
    let name = &guest.name;
    let problem = if shared.registry.booted(uuid).is_some() {
        format!(
            "guest {name} was booted already: start it as it is (bowline start {name}), or delete its disks (bowline delete {name})"
        )
    } else if guest.active {
        format!("guest {name} runs: it can be booted when it is off")
    } else {
        return Ok(());
    };
    Err(ApiError::new(ErrorKind::Conflict, problem))
}

/// A step of a boot in words.
pub(in super::super) fn describe(step: Step, task: &Task) -> String {
    match task {
        Task::Boot(task) => of_boot(step, task),
        Task::Delete(task) => of_delete(step, task),
        Task::Rebuild(task) => of_rebuild(step, task),
        Task::Reimage(task) => of_reimage(step, task),
        Task::Rescue(RescueTask { target, content, .. }) if step == Step::MakeDisks => {
            format!("make a rescue disk: {}", of_content(target, content))
        }
        Task::Unrescue(_) if step == Step::RemoveDisks => "remove the rescue disk, with all that is on it".to_owned(),
        Task::Unrescue(_) if step == Step::StartGuest => format!("start guest {} from its own disks", task.guest_name()),
        Task::Rescue(_) | Task::Unrescue(_) if step == Step::ShutDownGuest => {
            format!("ask guest {} to shut down, and cut its power if it does not", task.guest_name())
        }
        Task::Start(_) | Task::Stop(_) | Task::Rescue(_) | Task::Unrescue(_) => of_power(step, task.guest_name()),
        Task::Attach(_) | Task::Detach(_) | Task::Extend(_) | Task::Snapshot(_) | Task::Fill(_) => step.name().to_owned(),
    }
}

fn of_boot(step: Step, task: &BootTask) -> String {
    let guest = &task.guest_name;
    let each = |describe: fn(&PlannedDisk) -> Option<String>| -> String {
        task.plan.disks.iter().filter_map(describe).collect::<Vec<_>>().join("; ")
    };
    match step {
        Step::DefineGuest => format!(
            "define guest {guest} in libvirt, {}",
            match &task.request.definition {
                Some(GuestDefinition::Template(template)) => {
                    let networks = if template.networks.is_empty() { "none".to_owned() } else { template.networks.join(", ") };
                    format!("with {} MiB of memory, {} vCPUs, networks: {networks}", template.memory_mib, template.vcpus)
                }
                _ => "by the XML that was handed over".to_owned(),
            }
        ),
        Step::MakeDisks => format!("make ephemeral disks: {}", each(local)),
        Step::CreateVolumes => format!("have the volume service make volumes, side by side: {}", each(new_volume)),
        Step::GiveDisks => {
            let remarks: String = task.plan.remarks.iter().map(|remark| format!("; {remark}")).collect();
            format!("give guest {guest} its disks in this order, each volume by an attach of its own: {}{remarks}", each(given))
        }
        Step::StartGuest => format!("start guest {guest}"),
        other => other.name().to_owned(),
    }
}

fn of_delete(step: Step, task: &DeleteTask) -> String {
    let guest = &task.guest_name;
    let volumes = |deleted: Option<bool>| -> String {
        let wanted = task.volumes.iter().filter(|(_, delete)| deleted.is_none_or(|deleted| deleted == *delete));
        wanted.map(|(volume, _)| volume.to_string()).collect::<Vec<_>>().join(", ")
    };
    match step {
        Step::StopGuest => format!("stop guest {guest} at once"),
        Step::DetachVolumes => format!("detach volumes, each by an operation of its own: {}", volumes(None)),
        Step::UndefineDisks => format!("take the ephemeral disks out of the definition of guest {guest}"),
        Step::DeleteVolumes => format!("have the volume service delete volumes: {}", volumes(Some(true))),
        Step::RemoveDisks => {
            let targets: Vec<_> = task.disks.iter().map(|disk| disk.target.as_str()).collect();
            format!("remove ephemeral disks: {}", targets.join(", "))
        }
        Step::UndefineGuest => format!("undefine guest {guest}, which its boot defined"),
        other => other.name().to_owned(),
    }
}

fn of_rebuild(step: Step, task: &RebuildTask) -> String {
    let (guest, target) = (&task.guest_name, &task.root.target);
    match step {
        Step::MakeDisks => format!("make an ephemeral disk beside the one that is: {}", of_content(target, &task.content)),
        Step::ReplaceRoot => format!("put it into the definition of guest {guest} as {target}, in the place of the root disk"),
        Step::RemoveDisks => format!("remove the root disk that guest {guest} had, with all that is on it"),
        other => other.name().to_owned(),
    }
}

fn of_reimage(step: Step, task: &ReimageTask) -> String {
    let ReimageTask { guest_name: guest, volume, image, target, bus, .. } = task;
    match step {
        Step::DetachVolumes => format!("detach volume {volume} from guest {guest}, by an operation of its own"),
        Step::RequestReimage => {
            format!("ask the volume service to write image {image} over volume {volume}, which can never be taken back")
        }
        Step::ReimageVolume => "see that it is written; what fails is asked for again".to_owned(),
        Step::GiveDisks => {
            format!("attach volume {volume} to guest {guest} again, as {target} on bus {bus}, by an operation of its own")
        }
        other => other.name().to_owned(),
    }
}

fn of_power(step: Step, guest: &str) -> String {
    match step {
        Step::ConnectVolumes => format!("connect what of guest {guest}'s volumes is not connected, and prove that it is them"),
        Step::StartGuest => format!("start guest {guest}, if it is off"),
        Step::ShutDownGuest => {
            format!("ask guest {guest} to shut down, and wait until it has; one that does not is left running")
        }
        Step::StopGuest => format!("cut the power of guest {guest}"),
        Step::StartRescue => format!("start guest {guest} from the rescue disk, with its own disks behind it"),
        other => other.name().to_owned(),
    }
}

fn local(disk: &PlannedDisk) -> Option<String> {
    let PlannedStorage::Local(content) = &disk.storage else { return None };
    Some(of_content(&disk.target, content))
}

fn of_content(target: &str, content: &LocalContent) -> String {
    let size = |bytes: u64| match bytes % GIB {
        0 => format!("{} GiB", bytes / GIB),
        _ => format!("{} MiB", bytes / MIB),
    };
    match content {
        LocalContent::Image { image, size_bytes } => {
            let size = size_bytes.map_or_else(|| "as large as it is".to_owned(), size);
            format!("{target} of image {} ({}), {size}", image.id, image.declared())
        }
        LocalContent::Blank { size_bytes, filesystem } => {
            let content = filesystem.map_or("blank", |filesystem| filesystem.as_str());
            format!("{target} {content}, {}", size(*size_bytes))
        }
    }
}

fn kept(disk: &PlannedDisk) -> &'static str {
    if disk.delete_on_termination { "deleted with the guest" } else { "kept when the guest is deleted" }
}

fn new_volume(disk: &PlannedDisk) -> Option<String> {
    let PlannedStorage::NewVolume { name, size_gib, origin, .. } = &disk.storage else { return None };
    let origin = match origin {
        VolumeOrigin::Blank => "blank".to_owned(),
        VolumeOrigin::Image(image) => format!("from image {image}"),
        VolumeOrigin::Snapshot(snapshot) => format!("from snapshot {snapshot}"),
    };
    Some(format!("{name}, {size_gib} GiB, {origin}, {}", kept(disk)))
}

fn given(disk: &PlannedDisk) -> Option<String> {
    let (target, bus) = (&disk.target, disk.bus);
    Some(match &disk.storage {
        PlannedStorage::Local(_) => format!("{target} on bus {bus}"),
        PlannedStorage::Volume(volume) => format!("volume {volume} as {target} on bus {bus}, {}", kept(disk)),
        PlannedStorage::NewVolume { name, .. } => format!("volume {name} as {target} on bus {bus}"),
    })
}
