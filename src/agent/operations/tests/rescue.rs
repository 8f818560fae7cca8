//! A rescue and its end: the guest runs from the rescue disk or from its own, and its definition is never another.

use super::{live, world::*};
use crate::agent::api::{OperationState, RebuildRequest, Request, RescueRequest, StartRequest, StopRequest, UnrescueRequest};
use crate::agent::operations::tests::boot;
use crate::model::ErrorKind;

pub fn rescue() -> Request {
    Request::Rescue(RescueRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib: None, force: false })
}

pub fn unrescue() -> Request {
    Request::Unrescue(UnrescueRequest { guest: "guest-1".into(), force: false })
}

fn booted() -> (World, tempfile::TempDir) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = false;
    live(&world, dir.path(), Some(boot::boot()));
    (world, dir)
}

/// Runs, and from the rescue disk.
fn runs_rescued(world: &World) -> (bool, bool) {
    let state = world.state.lock().unwrap();
    let guest = &state.guests[&guest_uuid()];
    (guest.active, guest.disks.iter().any(is_rescue))
}

#[test]
fn a_rescued_guest_is_started_so_until_the_end_of_its_rescue_and_its_delete_takes_all() {
    let (world, dir) = booted();
    let done = |request| {
        let view = live(&world, dir.path(), Some(request)).unwrap();
        assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    };
    done(rescue());
    assert_eq!(runs_rescued(&world), (true, true));
    done(Request::Stop(StopRequest { guest: "guest-1".into(), force: true }));
    done(Request::Start(StartRequest { guest: "guest-1".into() }));
    assert_eq!(runs_rescued(&world), (true, true), "started as it is: rescued");
    done(unrescue());
    assert_eq!(runs_rescued(&world), (true, false));
    assert!(!world.state.lock().unwrap().files.contains("rescue"));
    done(rescue());
    done(boot::delete());
    let state = world.state.lock().unwrap();
    assert!(state.files.is_empty() && state.crimes.is_empty(), "{state:?}");
}

#[test]
fn a_guest_that_does_not_shut_down_is_rescued_all_the_same() {
    let (world, dir) = booted();
    world.state.lock().unwrap().ignores_shutdown = true;
    assert_eq!(live(&world, dir.path(), Some(rescue())).unwrap().state, OperationState::Succeeded);
    assert_eq!(runs_rescued(&world), (true, true));
}

#[test]
fn what_is_not_booted_not_rescued_or_rescued_already_is_refused() {
    let refusal = |world: &World, dir: &std::path::Path, request| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use crate::agent::api::AgentApi;
            super::start(world, dir).await.submit(request).await.unwrap_err()
        })
    };
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    assert_eq!(refusal(&world, dir.path(), rescue()).kind, ErrorKind::NotFound);
    let (world, dir) = booted();
    assert_eq!(refusal(&world, dir.path(), unrescue()).kind, ErrorKind::Conflict);
    live(&world, dir.path(), Some(rescue()));
    let rebuild = Request::Rebuild(RebuildRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib: None });
    for request in [rescue(), rebuild] {
        let error = refusal(&world, dir.path(), request);
        assert!(error.kind == ErrorKind::Conflict && error.message.contains("bowline unrescue guest-1"), "{error}");
    }
}
