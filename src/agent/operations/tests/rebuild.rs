//! A rebuild, struck at every call: the guest has the one root disk or the other, whole, and nothing else is touched. On a volume: what
//! happens where the service cannot write, or will not; `matrix.rs` strikes that at every call.

use super::{FAULTS, live, world::*};
use crate::agent::api::{DeleteRequest, OperationState, RebuildRequest, Request, StopRequest};
use crate::model::{BootRequest, ErrorKind};

fn rebuild() -> Request {
    Request::Rebuild(RebuildRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib: Some(2) })
}

/// A guest that was booted onto an ephemeral root disk and has swap and a volume; off again.
fn booted() -> (World, tempfile::TempDir) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = false;
    let mapping = r#"[{"source_type": "blank", "destination_type": "local", "volume_size": 1, "guest_format": "swap"},
                      {"source_type": "volume", "uuid": "data"}]"#;
    let request = BootRequest {
        guest: "guest-1".into(),
        image: Some("tiny".into()),
        image_size_gib: Some(1),
        mapping: mapping.into(),
        clauses: vec![],
        lazy: false,
        definition: None,
    };
    live(&world, dir.path(), Some(Request::Boot(request)));
    live(&world, dir.path(), Some(Request::Stop(StopRequest { guest: "guest-1".into(), force: true })));
    (world, dir)
}

/// The root disk's file; it, swap and nothing else are there and in the definition.
fn root(world: &World, context: &str) -> String {
    world.assert_clean(true, context);
    let state = world.state.lock().unwrap();
    assert_eq!(state.files, state.defined, "{context}: files, and the definition");
    let names: Vec<_> = state.files.iter().cloned().collect();
    assert!(names.len() == 2 && names[1] == "vdb" && names[0].starts_with("vda"), "{context}: {names:?}");
    names[0].clone()
}

#[test]
fn a_rebuild_struck_at_any_call_leaves_one_root_disk_or_the_other() {
    let calls = {
        let (world, dir) = booted();
        let before = world.state.lock().unwrap().calls;
        let view = live(&world, dir.path(), Some(rebuild())).unwrap();
        assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
        let first = root(&world, "after a rebuild");
        assert_ne!(first, "vda");
        let calls = world.state.lock().unwrap().names[before..].to_vec();
        live(&world, dir.path(), Some(rebuild()));
        assert_ne!(root(&world, "after the second rebuild"), first);
        live(&world, dir.path(), Some(Request::Delete(DeleteRequest { guest: "guest-1".into() })));
        let state = world.state.lock().unwrap();
        assert!(state.files.is_empty() && state.defined.is_empty(), "a rebuilt disk goes with its guest: {state:?}");
        calls
    };
    for (at, name) in calls.iter().enumerate() {
        for fault in FAULTS {
            let (world, dir) = booted();
            {
                let mut state = world.state.lock().unwrap();
                state.fault = Some((state.calls + at, fault));
            }
            let view = live(&world, dir.path(), Some(rebuild()));
            if view.is_none() {
                live(&world, dir.path(), None);
            }
            let context = format!("{fault:?} at {name} ({at}): {view:?}");
            let left = root(&world, &context);
            if let Some(view) = view {
                assert_eq!(left == "vda", view.state == OperationState::Failed, "{context}");
            }
            let settled = live(&world, dir.path(), Some(rebuild())).unwrap();
            assert_eq!(settled.state, OperationState::Succeeded, "{context}, and then {settled:?}");
            assert_ne!(root(&world, &context), left, "{context}");
        }
    }
}

#[test]
fn without_an_image_or_a_size_it_is_made_as_it_was() {
    use crate::agent::api::{AgentApi, RescueRequest};
    let (world, dir) = booted();
    live(&world, dir.path(), Some(rebuild()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = super::start(&world, dir.path()).await;
        let (guest, image) = (|| "guest-1".to_owned(), String::new);
        let again = RebuildRequest { guest: guest(), image: image(), size_gib: None };
        let plan = agent.dry_run(Request::Rebuild(again)).await.unwrap();
        let text = &plan.steps[0].description;
        assert!(text.contains(&image_id().to_string()) && text.contains("2 GiB"), "as the rebuild before made it: {text}");
        let rescue = RescueRequest { guest: guest(), image: image(), size_gib: None, force: true };
        let plan = agent.dry_run(Request::Rescue(rescue)).await.unwrap();
        assert!(plan.steps[0].description.contains(&image_id().to_string()), "{plan:?}");
    });
}

#[test]
fn only_the_ephemeral_root_of_a_guest_that_is_off_is_made_anew() {
    let refusal = |world: &World, dir: &std::path::Path| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use crate::agent::api::AgentApi;
            super::start(world, dir).await.submit(rebuild()).await.unwrap_err()
        })
    };
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    assert_eq!(refusal(&world, dir.path()).kind, ErrorKind::NotFound);
    let (world, dir) = booted();
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = true;
    let error = refusal(&world, dir.path());
    assert!(error.kind == ErrorKind::Conflict && error.message.contains("bowline stop guest-1"), "{error}");
}

/// A guest that boots from the volume that is there.
pub fn boot_from_volume(world: &World) -> Request {
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().bootable = true;
    Request::Boot(BootRequest {
        guest: "guest-1".into(),
        image: None,
        image_size_gib: None,
        mapping: r#"[{"source_type": "volume", "uuid": "data", "boot_index": 0, "tag": "root"}]"#.into(),
        clauses: vec![],
        lazy: false,
        definition: None,
    })
}

/// The rebuild of that guest.
pub fn on_volume() -> Request {
    Request::Rebuild(RebuildRequest { guest: guest_uuid().to_string(), image: "tiny".into(), size_gib: None })
}

/// Off, after that boot.
fn booted_from_volume() -> (World, tempfile::TempDir) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = false;
    live(&world, dir.path(), Some(boot_from_volume(&world)));
    live(&world, dir.path(), Some(Request::Stop(StopRequest { guest: "guest-1".into(), force: true })));
    world.assert_clean(true, "after the boot");
    (world, dir)
}

/// The guest's one disk: its target name, and the images that were written over it.
fn root_volume(world: &World, context: &str) -> (String, usize) {
    world.assert_clean(true, context);
    let state = world.state.lock().unwrap();
    let disks = &state.guests[&guest_uuid()].disks;
    assert_eq!(disks.iter().map(|disk| disk.volume).collect::<Vec<_>>(), [Some(volume_id())], "{context}");
    (disks[0].target.clone(), state.written.len())
}

#[test]
fn a_volume_is_written_over_and_is_the_same_disk_again() {
    let (world, dir) = booted_from_volume();
    let before = root_volume(&world, "before");
    let attachment = *world.state.lock().unwrap().attachments.keys().next().unwrap();
    let view = live(&world, dir.path(), Some(on_volume())).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert_eq!(root_volume(&world, "after"), (before.0, 1));
    let state = world.state.lock().unwrap();
    assert!(!state.attachments.contains_key(&attachment), "the attachment is a new one: {:?}", state.attachments);
    assert_eq!(state.written, [(volume_id(), image_id())]);
}

#[test]
fn a_volume_that_the_service_will_not_write_over_is_the_guests_again_as_it_was() {
    let (world, dir) = booted_from_volume();
    let before = root_volume(&world, "before");
    world.state.lock().unwrap().refuses_images = true;
    let view = live(&world, dir.path(), Some(on_volume())).unwrap();
    assert_eq!(view.state, OperationState::Failed, "{view:?}");
    assert!(view.failure.unwrap().message.starts_with("RequestReimage"), "by the service's word");
    assert_eq!(root_volume(&world, "after a refusal"), before);
}

#[test]
fn a_volume_that_could_not_be_written_is_written_again_and_no_guest_has_it_before() {
    let (world, dir) = booted_from_volume();
    world.state.lock().unwrap().spoils = 2;
    let view = live(&world, dir.path(), Some(on_volume())).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert_eq!(root_volume(&world, "after two failures").1, 3);
}

#[tokio::test]
async fn a_rebuild_on_a_volume_that_was_given_up_is_taken_up_by_the_next_one() {
    use crate::agent::api::AgentApi;
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = false;
    let agent = super::start(&world, dir.path()).await;
    for request in [boot_from_volume(&world), Request::Stop(StopRequest { guest: "guest-1".into(), force: true })] {
        let id = agent.submit(request).await.unwrap();
        assert_eq!(super::end_of(&agent, id).await.state, OperationState::Succeeded);
    }
    let target = root_volume(&world, "before").0;
    world.state.lock().unwrap().spoils = usize::MAX;
    let mut events = agent.events();
    let id = agent.submit(on_volume()).await.unwrap();
    while agent.operation(id).unwrap().state != OperationState::Stuck {
        let _ = events.recv().await;
    }
    agent.abandon(id).await.unwrap();
    let told = agent.operation(id).unwrap().failure.unwrap();
    assert!(told.message.contains("half written over") && told.remedy.contains("bowline rebuild guest-1"), "{told:?}");
    assert!(!told.message.contains("may still have volumes"), "{told:?}");
    world.state.lock().unwrap().spoils = 0;
    let id = agent.submit(on_volume()).await.unwrap();
    assert_eq!(super::end_of(&agent, id).await.state, OperationState::Succeeded);
    assert_eq!(root_volume(&world, "after").0, target);
}

#[test]
fn nothing_is_touched_where_no_image_can_be_written_over_a_volume() {
    let refusal = |change: fn(&mut State), size_gib| {
        let (world, dir) = booted_from_volume();
        change(&mut world.state.lock().unwrap());
        let calls = world.state.lock().unwrap().calls;
        let request = RebuildRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(async {
            use crate::agent::api::AgentApi;
            super::start(&world, dir.path()).await.submit(Request::Rebuild(request)).await.unwrap_err()
        });
        assert_eq!(world.state.lock().unwrap().calls, calls, "{error}");
        error
    };
    let too_old = refusal(|state| state.cannot_reimage = true, None);
    assert!(too_old.kind == ErrorKind::Unsupported && too_old.message.contains("3.68"), "{too_old}");
    let sized = refusal(|_| (), Some(2));
    assert!(sized.kind == ErrorKind::InvalidInput && sized.message.contains("bowline extend"), "{sized}");
    let running = refusal(|state| state.guests.get_mut(&guest_uuid()).unwrap().active = true, None);
    assert!(running.kind == ErrorKind::Conflict && running.message.contains("bowline stop guest-1"), "{running}");
}
