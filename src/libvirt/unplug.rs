//! When to ask a guest to let go of a disk, when to look, and when to give up. Pure: what happens comes in, what to do
//! next goes out, and time is what the caller says it is, counted from the beginning.
//!
//! ```text
//!            asked, underway
//!   +-----+ -----------------> +---------+  refused by the guest ---> Refused
//!   | ask |                    | waiting |
//!   +-----+ <--+   +---------- +---------+ <--+
//!      |       |   | removed, stopped,        | still there, not yet time to ask again;
//!      |missed |   | reconnected, time is up  | libvirt unreachable
//!      |       |   v                          |
//!      |     +------+ ------------------------+
//!      +---> | look | absent ------------------------------> Gone
//!            +------+ still there after the time limit ----> Ignored (or LostSight, if it could not be seen)
//! ```
//! Only a look at the live domain ends in `Gone`: an event is a reason to look, so that neither a lost event nor one of
//! another time decides whether a volume is still in use.

use std::time::Duration;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// QEMU took the request.
    Asked,
    /// QEMU said that it still waits for the guest since an earlier request.
    Underway,
    /// There was no such device or guest to ask.
    Missed,
    /// libvirt could not be reached, to ask or to look.
    Unreachable,
    /// Event: the device was removed.
    Removed,
    /// Event: the guest refused.
    Refused,
    /// Event: the guest stopped.
    Stopped,
    /// The connection to libvirt was made anew, or events were missed.
    Reconnected,
    /// The time of a [`Action::WaitUntil`] has come.
    Tick,
    /// Looked: the running guest has the disk.
    Present,
    /// Looked: it has not, or does not run.
    Absent,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the guest.
    Ask,
    /// Read the live domain.
    Look,
    /// Wait for an event, at most until this time.
    WaitUntil(Duration),
    /// End: the guest has let go.
    Gone,
    /// End: the guest refused.
    Refused,
    /// End: the guest did nothing in time.
    Ignored,
    /// End: time is up and libvirt cannot be reached.
    LostSight,
}

/// The state between two inputs.
#[derive(Debug)]
pub(super) struct Unplug {
    interval: Duration,
    limit: Duration,
    next_ask: Duration,
    requests: u32,
}

impl Unplug {
    /// `interval`: how long a guest may ignore one request. `limit`: how long all of it may take. Begin with
    /// [`Action::Ask`].
    pub(super) fn new(interval: Duration, limit: Duration) -> Self {
        Self { interval, limit, next_ask: Duration::ZERO, requests: 0 }
    }

    /// How many requests QEMU took.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    pub(super) fn step(&mut self, now: Duration, input: Input) -> Action {
        match input {
            Input::Asked => {
                self.requests += 1;
                self.next_ask = now + self.interval;
                self.wait()
            }
            // QEMU's own time for the pending request is nearly up, so the next one follows soon.
            Input::Underway => {
                self.next_ask = now + self.interval / 5;
                self.wait()
            }
            Input::Missed => {
                self.next_ask = now + self.interval;
                Action::Look
            }
            Input::Removed | Input::Stopped | Input::Tick => Action::Look,
            Input::Reconnected => {
                self.next_ask = now;
                Action::Look
            }
            Input::Refused => Action::Refused,
            Input::Absent => Action::Gone,
            Input::Present if now >= self.limit => Action::Ignored,
            Input::Present if now >= self.next_ask => Action::Ask,
            Input::Present => self.wait(),
            Input::Unreachable if now >= self.limit => Action::LostSight,
            Input::Unreachable => {
                self.next_ask = now;
                Action::WaitUntil(self.limit.min(now + self.interval))
            }
        }
    }

    fn wait(&self) -> Action {
        Action::WaitUntil(self.limit.min(self.next_ask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn unplug() -> Unplug {
        Unplug::new(s(5), s(12))
    }

    #[test]
    fn a_guest_that_lets_go_is_looked_at_before_it_is_believed() {
        let mut unplug = unplug();
        assert_eq!(unplug.step(s(0), Input::Asked), Action::WaitUntil(s(5)));
        assert_eq!(unplug.step(s(1), Input::Removed), Action::Look);
        assert_eq!(unplug.step(s(1), Input::Absent), Action::Gone);
    }

    #[test]
    fn an_event_that_is_not_so_does_not_end_it() {
        let mut unplug = unplug();
        unplug.step(s(0), Input::Asked);
        assert_eq!(unplug.step(s(1), Input::Removed), Action::Look);
        assert_eq!(unplug.step(s(1), Input::Present), Action::WaitUntil(s(5)));
    }

    #[test]
    fn a_guest_that_ignores_is_asked_again_and_given_up_at_the_limit() {
        let mut unplug = unplug();
        unplug.step(s(0), Input::Asked);
        assert_eq!(unplug.step(s(5), Input::Tick), Action::Look);
        assert_eq!(unplug.step(s(5), Input::Present), Action::Ask);
        assert_eq!(unplug.step(s(5), Input::Asked), Action::WaitUntil(s(10)));
        assert_eq!(unplug.step(s(10), Input::Present), Action::Ask);
        assert_eq!(unplug.step(s(10), Input::Underway), Action::WaitUntil(s(11)));
        assert_eq!(unplug.step(s(11), Input::Present), Action::Ask);
        assert_eq!(unplug.step(s(11), Input::Asked), Action::WaitUntil(s(12)));
        assert_eq!(unplug.step(s(12), Input::Tick), Action::Look);
        assert_eq!(unplug.step(s(12), Input::Present), Action::Ignored);
        assert_eq!(unplug.requests(), 3);
    }

    #[test]
    fn a_lost_event_is_made_up_for_by_looking() {
        let mut unplug = unplug();
        unplug.step(s(0), Input::Asked);
        assert_eq!(unplug.step(s(5), Input::Tick), Action::Look);
        assert_eq!(unplug.step(s(5), Input::Absent), Action::Gone);
    }

    #[test]
    fn a_refusal_is_final() {
        let mut unplug = unplug();
        unplug.step(s(0), Input::Asked);
        assert_eq!(unplug.step(s(1), Input::Refused), Action::Refused);
    }

    #[test]
    fn a_restart_of_the_daemon_is_waited_out_and_the_guest_asked_again() {
        let mut unplug = unplug();
        unplug.step(s(0), Input::Asked);
        assert_eq!(unplug.step(s(1), Input::Tick), Action::Look);
        assert_eq!(unplug.step(s(1), Input::Unreachable), Action::WaitUntil(s(6)));
        assert_eq!(unplug.step(s(3), Input::Reconnected), Action::Look);
        assert_eq!(unplug.step(s(3), Input::Present), Action::Ask);
    }

    #[test]
    fn a_daemon_that_stays_away_ends_in_not_knowing() {
        let mut unplug = unplug();
        unplug.step(s(0), Input::Asked);
        assert_eq!(unplug.step(s(11), Input::Unreachable), Action::WaitUntil(s(12)));
        assert_eq!(unplug.step(s(12), Input::Unreachable), Action::LostSight);
    }

    #[test]
    fn a_missing_device_is_not_asked_for_without_end() {
        let mut unplug = unplug();
        assert_eq!(unplug.step(s(0), Input::Missed), Action::Look);
        assert_eq!(unplug.step(s(0), Input::Present), Action::WaitUntil(s(5)));
    }
}
