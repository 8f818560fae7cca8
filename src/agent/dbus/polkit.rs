//! Asks polkit whether a bus client may do something.
//!
//! The interface is `org.freedesktop.PolicyKit1.Authority`, as polkit's own reference describes it. Of it only
//! `CheckAuthorization` and `CancelCheckAuthorization` are needed.

use std::{collections::HashMap, time::Duration};
use tokio::time::timeout;
use uuid::Uuid;
use zbus::{Connection, Proxy, Variant, fdo, proxy::CacheProperties};

/// `AllowUserInteraction` of polkit's CheckAuthorizationFlags.
const ALLOW_USER_INTERACTION: u32 = 1;

/// polkit answers from memory; what takes longer is a daemon that hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// A person has to find the prompt and type a password.
const INTERACTIVE_DEADLINE: Duration = Duration::from_secs(120);

/// What polkit said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Authorized,
    /// Only after authentication, which the caller did not allow or has no agent for.
    Challenge,
    /// No.
    Refused,
}

/// Why polkit said nothing.
#[derive(Debug, thiserror::Error)]
pub enum PolkitError {
    /// There is no polkit on this bus.
    #[error("polkit is not running on this bus")]
    Absent,
    /// No answer in time.
    #[error("polkit did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It answered an error.
    #[error("polkit failed: {0}")]
    Failed(String),
}

/// Asks whether the client with the unique name `sender` may do `action`.
pub async fn check(connection: &Connection, sender: &str, action: &str, interactive: bool) -> Result<Answer, PolkitError> {
    let proxy: Proxy<'_> = zbus::proxy::Builder::new(connection)
        .destination("org.freedesktop.PolicyKit1")
        .path("/org/freedesktop/PolicyKit1/Authority")
        .interface("org.freedesktop.PolicyKit1.Authority")
        .cache_properties(CacheProperties::No)
        .build()
        .await
        .map_err(|error| PolkitError::Failed(error.to_string()))?;
    let subject = ("system-bus-name", HashMap::from([("name", Variant::from(sender))]));
    let details: HashMap<&str, &str> = HashMap::new();
    // Only a prompt may be left standing after the deadline, so only then is there something to cancel.
    let cancellation = if interactive { Uuid::new_v4().to_string() } else { String::new() };
    let (flags, deadline) = if interactive { (ALLOW_USER_INTERACTION, INTERACTIVE_DEADLINE) } else { (0, DEADLINE) };

    let request = (subject, action, details, flags, cancellation.as_str());
    let call = proxy.call::<_, _, ((bool, bool, HashMap<String, String>),)>("CheckAuthorization", &request);
    match timeout(deadline, call).await {
        Ok(Ok(((true, _, _),))) => Ok(Answer::Authorized),
        Ok(Ok(((false, true, _),))) => Ok(Answer::Challenge),
        Ok(Ok(((false, false, _),))) => Ok(Answer::Refused),
        Ok(Err(error)) if is_absent(&error) => Err(PolkitError::Absent),
        Ok(Err(error)) => Err(PolkitError::Failed(error.to_string())),
        Err(_) => {
            if interactive {
                // Best effort: the caller is refused either way, this only takes the prompt down.
                let _ = proxy.call_noreply("CancelCheckAuthorization", &cancellation).await;
            }
            Err(PolkitError::Timeout(deadline))
        }
    }
}

fn is_absent(error: &zbus::Error) -> bool {
    let zbus::Error::FDO(error) = error else { return false };
    matches!(
        **error,
        fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::SpawnExecFailed(_)
            | fdo::Error::SpawnServiceNotFound(_)
            | fdo::Error::SpawnChildExited(_)
            | fdo::Error::SpawnFailed(_)
    )
}
