//! What volumes and attachments are and which changes of state are allowed: pure, no I/O.
//!
//! ```text
//! statuses.rs    the words of both state machines, as the API spells them
//! volume.rs      the volume and its transitions
//! attachment.rs  the attachment, the connector it was asked for, its CHAP account
//! rules.rs       who may do what in which state
//! refusal.rs     why not, in the words the field's clients know
//! ```

pub mod attachment;
pub mod refusal;
pub mod rules;
pub mod statuses;
pub mod volume;

pub use attachment::{Attachment, ChapAccount, Connector};
pub use refusal::Refusal;
pub use statuses::{AttachMode, AttachStatus, VolumeStatus};
pub use volume::{NewVolume, Volume};
