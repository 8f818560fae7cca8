//! What libvirt tells without being asked.

use crate::model::GuestUuid;

/// News of a guest, or of the connection itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// The connection stands and events arrive. Whatever happened before it was not told: look again.
    Connected,
    /// The connection is gone; it is being made anew. Ephemeral secrets are lost if the daemon restarted.
    Disconnected,
    /// The guest came, went or changed state.
    Lifecycle {
        /// Which guest.
        guest: GuestUuid,
        /// What happened.
        change: LifecycleChange,
    },
    /// The guest has let go of a device and QEMU has closed it.
    DeviceRemoved {
        /// Which guest.
        guest: GuestUuid,
        /// The device's alias.
        alias: String,
    },
    /// QEMU could not do a guest's I/O.
    IoError {
        /// Which guest.
        guest: GuestUuid,
        /// The disk's alias.
        alias: String,
        /// QEMU's word for the reason; empty where it has none, as for most errors.
        reason: String,
    },
    /// A job that copied disks of a guest has ended.
    BackupEnded {
        /// Which guest.
        guest: GuestUuid,
        /// Why it failed; `None` where all is copied.
        problem: Option<String>,
    },
    /// A block job of a guest has ended, or could.
    BlockJob {
        /// Which guest.
        guest: GuestUuid,
    },
    /// The guest refused to let go of a device.
    DeviceRemovalFailed {
        /// Which guest.
        guest: GuestUuid,
        /// The device's alias.
        alias: String,
    },
}

/// What happened to a guest as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleChange {
    /// Its persistent definition is new or changed.
    Defined,
    /// Its persistent definition is gone.
    Undefined,
    /// It runs.
    Started,
    /// It was shut down, or its power was cut.
    Stopped,
    /// Its QEMU ended by itself or was killed, or the guest's kernel panicked.
    Crashed,
    /// QEMU paused it, because it could not do its I/O.
    Paused,
    /// Suspended by somebody, resumed, shutting down and the like: its devices stay.
    Other,
}
