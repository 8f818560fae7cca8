//! Where a volume is put: pure decisions over what the volume services say of themselves, so that every one can be tested.
//!
//! ```text
//! filters.rs      which pools would do, and why the others would not
//! extra_specs.rs  the language in which volume types ask
//! weigh.rs        which of those that would do is best
//! role.rs         the role: takes operations from the scheduler's queue
//! ```

mod extra_specs;
mod filters;
mod role;
mod weigh;

pub use filters::{Verdicts, judge};
pub use role::Scheduler;
pub use weigh::best;
