//! What a look found, weighed against what was known: since when is it so, and is it news?

use crate::agent::api::{FaultView, HealthState, HealthView};
use crate::model::{Fault, Health};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The part that a failed I/O of QEMU is told as.
const GUEST_IO: &str = "the guest's I/O";

/// The last I/O of the guest that QEMU could not do.
#[derive(Debug, Clone)]
pub(super) struct IoError {
    /// QEMU's reason, or empty.
    pub(super) reason: String,
    /// When it was told.
    pub(super) at: Instant,
}

impl IoError {
    /// A path that looks well is believed again once nothing failed for this long.
    pub(super) fn is_over(&self, now: Instant, after: Duration) -> bool {
        now.duration_since(self.at) >= after
    }
}

/// Adds to what a look found that the guest's own I/O fails: whatever the look says, not all is well then.
pub(super) fn with_io_error(found: Health, error: Option<&IoError>) -> Health {
    let Some(error) = error else { return found };
    let problem = match error.reason.as_str() {
        "" => "QEMU told of a failed read or write".to_owned(),
        reason => format!("QEMU told of a failed read or write ({reason})"),
    };
    let fault = Fault { part: GUEST_IO.to_owned(), problem };
    match found {
        Health::Healthy => Health::Degraded(vec![fault]),
        Health::Degraded(mut faults) => {
            faults.push(fault);
            Health::Degraded(faults)
        }
        Health::Lost(mut faults) => {
            faults.push(fault);
            Health::Lost(faults)
        }
    }
}

/// The new view. A state, and each broken part, keeps the time it began. Equal to `before` where there is no news.
pub(super) fn view(before: &HealthView, found: &Health, now: SystemTime) -> HealthView {
    let state = HealthState::from(found);
    let since = if state == before.state { before.since } else { now };
    let faults = found
        .faults()
        .iter()
        .map(|fault| {
            // A part stays broken since its first problem, even as the kernel's word for it changes.
            let known = before.faults.iter().find(|known| known.part == fault.part);
            FaultView {
                part: fault.part.clone(),
                problem: fault.problem.clone(),
                since: known.map_or(now, |known| known.since),
            }
        })
        .collect();
    HealthView { state, since, faults }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn fault(part: &str, problem: &str) -> Fault {
        Fault { part: part.into(), problem: problem.into() }
    }

    #[test]
    fn a_state_and_a_part_keep_the_time_they_began() {
        let healthy = view(&HealthView::default(), &Health::Healthy, at(1));
        assert_eq!((healthy.state, healthy.since), (HealthState::Healthy, at(1)));
        assert_eq!(view(&healthy, &Health::Healthy, at(2)), healthy, "no news");

        let one = view(&healthy, &Health::Degraded(vec![fault("a", "failed")]), at(3));
        let two = view(&one, &Health::Degraded(vec![fault("a", "gone"), fault("b", "failed")]), at(4));
        assert_eq!((two.since, two.faults[0].since, two.faults[1].since), (at(3), at(3), at(4)));
        let lost = view(&two, &Health::Lost(vec![fault("b", "failed")]), at(5));
        assert_eq!((lost.state, lost.since, lost.faults[0].since), (HealthState::Lost, at(5), at(4)));
        assert_eq!(view(&lost, &Health::Healthy, at(6)).since, at(6));
    }

    #[test]
    fn failed_io_of_the_guest_is_never_healthy() {
        let error = IoError { reason: String::new(), at: Instant::now() };
        assert_eq!(with_io_error(Health::Healthy, None), Health::Healthy);
        let degraded = with_io_error(Health::Healthy, Some(&error));
        assert_eq!((degraded.as_str(), degraded.faults()[0].part.as_str()), ("degraded", GUEST_IO));
        let lost = with_io_error(Health::Lost(vec![fault("a", "gone")]), Some(&error));
        assert_eq!((lost.as_str(), lost.faults().len()), ("lost", 2));
        assert!(!error.is_over(error.at + Duration::from_secs(1), Duration::from_secs(2)));
        assert!(error.is_over(error.at + Duration::from_secs(2), Duration::from_secs(2)));
    }
}
