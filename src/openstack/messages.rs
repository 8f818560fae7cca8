//! Why something went wrong in the service, after it had said yes: its user messages (`GET /messages`, Block Storage API 3.5 and later).

use super::{
    OpenstackError, Operation, VolumeService,
    fault::{MESSAGE_CHARS, printable},
    volume_service::Call,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    user_message: String,
    created_at: String,
}

impl VolumeService {
    /// The same error, with what the service says of its cause. What it does not say is no further error.
    pub(super) async fn with_cause(&self, mut error: OpenstackError) -> OpenstackError {
        match &mut error {
            OpenstackError::VolumeFailed { volume, cause, .. } => *cause = self.last_message(volume.to_string()).await,
            OpenstackError::Snapshot { snapshot, in_time: true, cause, .. } => {
                *cause = self.last_message(snapshot.to_string()).await;
            }
            _ => {}
        }
        error
    }

    async fn last_message(&self, about: String) -> Option<String> {
        let operation = Operation::ReadMessages(about.clone());
        let query = [("resource_uuid", about.as_str())];
        let call = Call { query: &query, ..Call::get(operation.clone(), "messages") };
        let mut messages = self.call(call).await.ok()?.json::<Page>(&operation).ok()?.messages;
        messages.sort_by(|one, other| one.created_at.cmp(&other.created_at));
        messages.pop().map(|message| printable(&message.user_message, MESSAGE_CHARS))
    }
}
