//! How many tools of one kind run at once.
//!
//! A burst of attaches would start as many processes at once, and on a busy host each then takes as long as all of them together: longer
//! than the deadline that one of them has. So they take turns, and a deadline begins with the turn. Whoever waits for a
//! target or a cluster that does not answer gives its place up after a while, so that it holds up nobody for longer than that.

use std::{future::Future, pin::pin, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// How long one keeps its place: beyond what a tool works for, short of what it waits for somebody else.
const TURN: Duration = Duration::from_secs(5);

/// The places.
#[derive(Debug)]
pub(super) struct Turns(Semaphore);

impl Turns {
    /// So many at once.
    pub(super) const fn new(at_once: usize) -> Self {
        Self(Semaphore::const_new(at_once))
    }

    /// Does the work once there is a place.
    pub(super) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        // Never closed, so there always is a place in the end.
        let place = self.0.acquire().await;
        let mut work = pin!(work);
        match timeout(TURN, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                drop(place);
                work.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_work_at_once() {
        let turns = Turns::new(2);
        let begun = Instant::now();
        // A sleep begins when it is made: not before its turn.
        let work = || turns.take(async { sleep(Duration::from_secs(1)).await });
        tokio::join!(work(), work(), work(), work());
        assert_eq!(begun.elapsed().as_secs(), 2);
        assert!(turns.take(async {}).now_or_never().is_some(), "a place was not given back");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_gives_its_place_up_and_goes_on() {
        let turns = Turns::new(1);
        let begun = Instant::now();
        let hanging = turns.take(sleep(Duration::from_secs(60)));
        let next = async {
            tokio::task::yield_now().await;
            turns.take(async {}).await;
            begun.elapsed()
        };
        let ((), waited) = tokio::join!(hanging, next);
        assert_eq!((waited, begun.elapsed().as_secs()), (TURN, 60));
    }
}
