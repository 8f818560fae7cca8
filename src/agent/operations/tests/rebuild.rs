//! A rebuild, struck at every call: the guest has the one root disk or the other, whole, and nothing else is touched.

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
