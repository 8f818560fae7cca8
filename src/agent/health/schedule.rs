//! When an attachment is looked at, and when it is tried to be mended.
//!
//! ```text
//! event or change --> look soon, then after 1 s, 2 s, 4 s, … up to the interval
//! ```
//! The looks after an event are closer because an event is often only the beginning: a session fails first, and the initiator acts on
//! it a moment later. What is not healthy is looked at every few seconds, since the kernel tells of a loss but not of a return.

use rand::RngExt as _;
use std::time::Duration;
use tokio::time::Instant;

/// Events come in bursts; a look this long after the first sees the rest of them too.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(100);

/// The first pause after an event or a change.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause while something is not healthy.
const UNWELL_PAUSE: Duration = Duration::from_secs(5);

/// How long the initiator may mend a fault by itself before the agent tries, and the longest pause between tries.
const FIRST_REPAIR: Duration = Duration::from_secs(5);
const LAST_REPAIR: Duration = Duration::from_secs(300);

/// Pauses between the looks at one attachment.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    pause: Duration,
}

impl Schedule {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, pause: FIRST_PAUSE }
    }

    /// Something happened: the next looks come sooner.
    pub(super) fn wake(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// How long to wait for events before the next look all the same. Jitter keeps many attachments apart.
    pub(super) fn next(&mut self, healthy: bool) -> Duration {
        let longest = if healthy { self.interval } else { self.interval.min(UNWELL_PAUSE) };
        let pause = self.pause.min(longest);
        self.pause = (self.pause * 2).min(self.interval);
        pause.mul_f64(rand::rng().random_range(0.8..1.2))
    }
}

/// When the next attempt to mend may be made.
#[derive(Debug, Default)]
pub(super) struct RepairSchedule {
    next: Option<(Instant, Duration)>,
}

impl RepairSchedule {
    /// Nothing is broken any more.
    pub(super) fn reset(&mut self) {
        self.next = None;
    }

    /// Whether it is time, called while something is broken.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        match self.next {
            None => {
                self.next = Some((now + FIRST_REPAIR, FIRST_REPAIR));
                false
            }
            Some((at, _)) if now < at => false,
            Some((_, pause)) => {
                let pause = (pause * 2).min(LAST_REPAIR);
                self.next = Some((now + pause, pause));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_interval_and_shrink_at_an_event() {
        let mut schedule = Schedule::new(Duration::from_secs(30));
        let pauses: Vec<_> = (0..8).map(|_| schedule.next(true).as_secs_f64()).collect();
        assert!(pauses[0] < 1.3 && pauses[7] > 23.0 && pauses[7] < 37.0, "{pauses:?}");
        schedule.wake();
        assert!(schedule.next(true).as_secs_f64() < 1.3);
    }

    #[test]
    fn what_is_not_healthy_is_looked_at_more_often() {
        let mut schedule = Schedule::new(Duration::from_secs(3600));
        assert!((0..20).all(|_| schedule.next(false) < Duration::from_secs(7)));
    }

    #[test]
    fn mending_waits_first_and_then_backs_off() {
        let (mut repair, begun) = (RepairSchedule::default(), Instant::now());
        let due: Vec<u64> = (0..2000).filter(|second| repair.is_due(begun + Duration::from_secs(*second))).collect();
        assert_eq!(due[..6], [5, 15, 35, 75, 155, 315]);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] <= 300), "{due:?}");
        repair.reset();
        assert!(!repair.is_due(begun + Duration::from_secs(2001)));
    }
}
