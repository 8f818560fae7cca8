//! Where a volume is put: pure decisions over what the volume services say of themselves, so that every one can be tested. And what
//! must be looked after when nobody asks: hosts that have fallen silent, and what was left with them.
//!
//! ```text
//! filters.rs      which pools would do, and why the others would not
//! extra_specs.rs  the language in which volume types ask
//! weigh.rs        which of those that would do is best
//! role.rs         the role: takes operations from the scheduler's queue
//! watch.rs        what it looks after beside that, now and then
//! silent.rs       what waits for volume services that have fallen silent
//! leases.rs       attachments whose host has
//! ```

mod extra_specs;
mod filters;
mod leases;
mod role;
mod silent;
mod watch;
mod weigh;

pub use filters::{Verdicts, judge};
pub use role::Scheduler;
pub use watch::Watchman;
pub use weigh::best;
