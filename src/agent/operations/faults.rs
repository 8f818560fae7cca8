//! Where a test can have the agent die, as `kill -9` would have it.
//!
//! Only in builds with debug assertions: a release build has no such door. `BOWLINE_CRASH_AT=ConnectVolume:started` kills
//! the process right after that step was journalled as started, `ConnectVolume:succeeded` right after its effect and before
//! that is journalled, `AttachDisk:undone` right after its undoing.

/// Dies here if the environment says so.
#[cfg(debug_assertions)]
pub(super) fn crash_point(step: crate::agent::journal::Step, when: &str) {
    if std::env::var("BOWLINE_CRASH_AT").is_ok_and(|point| point == format!("{}:{when}", step.name())) {
        // Nothing runs after this: no destructor, no flush, just as with a kill from outside.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(super) fn crash_point(_step: crate::agent::journal::Step, _when: &str) {}

#[cfg(test)]
thread_local! {
    /// The step that a test has done twice. Tests run each world on a thread of its own.
    pub(super) static DONE_TWICE: std::cell::Cell<Option<crate::agent::journal::Step>> = const { std::cell::Cell::new(None) };
}

/// A test wants this step done twice, as after a crash that came before its end was journalled.
#[cfg(test)]
pub(super) fn is_done_twice(step: crate::agent::journal::Step) -> bool {
    DONE_TWICE.get() == Some(step)
}

/// Never, but in tests.
#[cfg(not(test))]
pub(super) const fn is_done_twice(_step: crate::agent::journal::Step) -> bool {
    false
}
