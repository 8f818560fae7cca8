//! libvirt's event loop: one thread a process, since libvirt has one loop a process.
//!
//! It sleeps in poll until libvirt has something to do (a reply, an event, a keepalive that is due): libvirt wakes it
//! itself when a connection comes, so it needs no timer of its own.

use super::error::LibvirtError;
use std::{io, sync::OnceLock, thread};

/// Errors are kept as text: an `io::Error` cannot be handed out twice.
static STARTED: OnceLock<Result<(), String>> = OnceLock::new();

/// Callbacks only pass messages on, so the thread needs little stack.
const STACK_BYTES: usize = 256 * 1024;

/// Starts the loop, the first time it is called. It must run before the first connection is made.
pub(super) fn start() -> Result<(), LibvirtError> {
    STARTED
        .get_or_init(|| {
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl().map_err(|error| error.message().to_owned())?;
            thread::Builder::new()
                .name("libvirt-events".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(run)
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .clone()
        .map_err(|problem| LibvirtError::EventLoop(io::Error::other(problem)))
}

fn run() {
    while virt::event::event_run_default_impl().is_ok() {}
    // libvirt's loop fails only where none was registered, and one was. Keepalives and events would stop, calls go on.
    tracing::error!("libvirt's event loop ended: guests' events are no longer heard; restart bowlined");
}
