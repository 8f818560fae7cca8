//! How often a password may be guessed. After some failures in a row each further one makes the wait twice as long, for that user
//! from that address; and, more patiently, for all users from that address together, so that trying many names with one password
//! gains nothing. Somebody elsewhere who knows the password is not kept out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one user from one address before it has to wait: who mistypes needs fewer.
const FREE: u32 = 5;

/// The same for all users from one address: an office behind one may have as many on a bad morning.
const FREE_OF_ADDRESS: u32 = 50;

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// A failure is forgotten after so long without another.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// So many are remembered; beyond that only what is waited for already. How fast passwords are compared bounds the rest.
const MOST: usize = 4096;

/// Who tries: from where, and as whom; without a name it is everybody from there.
type Who = (IpAddr, Option<String>);

/// Failures in a row, and when the last was.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<Who, (u32, Instant)>>);

impl Attempts {
    /// How long `name` has to wait at this address; none where it need not.
    pub fn wait(&self, from: IpAddr, name: &str) -> Option<Duration> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        [(who(from, Some(name)), FREE), (who(from, None), FREE_OF_ADDRESS)]
            .into_iter()
            .filter_map(|(who, free)| {
                let (failures, last) = kept.get(&who)?;
                let beyond = failures.checked_sub(free)?;
                let wait = Duration::from_secs(1 << beyond.min(6)).min(LONGEST);
                wait.checked_sub(last.elapsed()).filter(|left| !left.is_zero())
            })
            .max()
    }

    /// Remembers a failure.
    pub fn failed(&self, from: IpAddr, name: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.retain(|_, (_, last)| last.elapsed() < FORGOTTEN);
        }
        let full = kept.len() >= MOST;
        for who in [who(from, Some(name)), who(from, None)] {
            if full && !kept.contains_key(&who) {
                continue;
            }
            let (failures, last) = kept.entry(who).or_insert((0, Instant::now()));
            *failures = if last.elapsed() < FORGOTTEN { failures.saturating_add(1) } else { 1 };
            *last = Instant::now();
        }
    }

    /// Forgets a user's failures: it has logged in.
    pub fn succeeded(&self, from: IpAddr, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&who(from, Some(name)));
    }
}

/// Names are compared as the longest that can be one, so that nobody is made to remember more.
fn who(from: IpAddr, name: Option<&str>) -> Who {
    (from, name.map(|name| name.chars().take(255).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn after_five_failures_a_user_waits_there_and_nobody_else_does() {
        let attempts = Attempts::default();
        for _ in 0..FREE {
            assert_eq!(attempts.wait(HERE, "cook"), None);
            attempts.failed(HERE, "cook");
        }
        assert!(attempts.wait(HERE, "cook").unwrap() <= Duration::from_secs(1));
        assert_eq!((attempts.wait(HERE, "chef"), attempts.wait(THERE, "cook")), (None, None));
        for _ in 0..40 {
            attempts.failed(HERE, "cook");
        }
        let wait = attempts.wait(HERE, "cook").unwrap();
        assert!(wait > Duration::from_secs(50) && wait <= LONGEST, "{wait:?}");
        attempts.succeeded(HERE, "cook");
        assert_eq!(attempts.wait(HERE, "cook"), None);
    }

    #[test]
    fn many_names_from_one_address_wait_together_and_no_more_are_remembered_than_fit() {
        let attempts = Attempts::default();
        for n in 0..2 * MOST {
            attempts.failed(HERE, &format!("user-{n}"));
        }
        assert!(attempts.wait(HERE, "another").unwrap() > Duration::from_secs(50));
        assert_eq!(attempts.wait(THERE, "another"), None);
        assert!(attempts.0.lock().unwrap().len() <= MOST + 1);
    }
}
