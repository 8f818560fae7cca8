//! Who may do what.
//!
//! A caller is who the bus says it is: the uid comes from the bus daemon, for the unique name the bus daemon itself wrote
//! into the message. Nothing a caller says of itself counts. Root is allowed at once, as polkit would allow it; everybody
//! else is put to polkit, and where polkit gives no answer the answer is no.

use super::{error::MethodError, polkit};
use crate::model::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use zbus::{Connection, message::Flags, message::Header};

/// The polkit actions, as `org.bowline.agent1.policy` declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See operations, attachments, volumes and plans.
    List,
    /// Attach a volume.
    Attach,
    /// Detach a volume.
    Detach,
    /// Cancel an operation.
    Cancel,
    /// Give up a stuck operation.
    Abandon,
    /// Mend what differs from the journal.
    Repair,
    /// Create, extend and delete volumes.
    ManageVolumes,
    /// Boot guests, and delete what that made.
    Boot,
    /// Boot guests that an XML defines: with whatever of this host its author likes.
    DefineGuest,
    /// Start and stop guests.
    Power,
}

impl Action {
    /// polkit's name of the action.
    pub const fn id(self) -> &'static str {
        match self {
            Self::List => "org.bowline.agent1.list",
            Self::Attach => "org.bowline.agent1.attach",
            Self::Detach => "org.bowline.agent1.detach",
            Self::Cancel => "org.bowline.agent1.cancel",
            Self::Abandon => "org.bowline.agent1.abandon",
            Self::Repair => "org.bowline.agent1.repair",
            Self::ManageVolumes => "org.bowline.agent1.manage-volumes",
            Self::Boot => "org.bowline.agent1.boot",
            Self::DefineGuest => "org.bowline.agent1.define-guest",
            Self::Power => "org.bowline.agent1.power",
        }
    }
}

/// Decides on calls.
#[derive(Debug, Default)]
pub struct Authority {
    /// Objects are on the bus before recovery is over, and a unique name can be called as well as the well-known one.
    open: AtomicBool,
}

impl Authority {
    /// From now on calls are decided on; until then all are turned away.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Lets the caller of `header` do `action`, or says why not.
    pub async fn check(&self, connection: &Connection, header: &Header<'_>, action: Action) -> Result<(), MethodError> {
        let action = action.id();
        if !self.open.load(Ordering::Acquire) {
            return Err(MethodError::new(ErrorKind::Unavailable, "the agent is still recovering; try again in a moment"));
        }
        let Some(sender) = header.sender() else {
            return Err(MethodError::denied("the message has no sender, so nobody can be held to account for it"));
        };
        let uid = unix_user(connection, sender.as_str()).await?;
        if uid == 0 {
            tracing::debug!(%sender, action, "root may");
            return Ok(());
        }
        let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        match polkit::check(connection, sender.as_str(), action, interactive).await {
            Ok(polkit::Answer::Authorized) => {
                tracing::info!(uid, %sender, action, "polkit allows it");
                Ok(())
            }
            Ok(answer) => {
                tracing::warn!(uid, %sender, action, ?answer, "refused by polkit");
                Err(MethodError::denied(match answer {
                    polkit::Answer::Challenge => format!(
                        "user {uid} needs to authenticate for {action}: call from a session with a polkit agent, or as root"
                    ),
                    _ => format!(
                        "polkit does not allow {action} to user {uid}; an administrator can grant it with a polkit rule"
                    ),
                }))
            }
            Err(error) => {
                tracing::warn!(uid, %sender, action, %error, "refused: polkit gave no answer");
                Err(MethodError::denied(format!("{error}, so only root may do {action}, and the caller is user {uid}")))
            }
        }
    }
}

/// The uid behind a unique name, from the bus daemon.
async fn unix_user(connection: &Connection, sender: &str) -> Result<u32, MethodError> {
    let reply = connection
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionUnixUser",
            &(sender,),
        )
        .await
        .and_then(|reply| reply.body().deserialize::<u32>());
    reply.map_err(|error| MethodError::denied(format!("the bus cannot tell whose connection {sender} is: {error}")))
}
