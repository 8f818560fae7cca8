//! Which pool is best of those that would do: the one with most room left to promise, then by name, so that the same question has
//! the same answer.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::domain::Pool;

/// The best of `pools`; `allocated_gib` is what each has given out.
pub fn best<'a>(pools: &'a [Pool], allocated_gib: &BTreeMap<String, i64>) -> Option<&'a Pool> {
    let room = |pool: &Pool| {
        if !pool.thin {
            return pool.free_gib;
        }
        let promised = allocated_gib.get(&pool.name).copied().unwrap_or(0) as f64;
        pool.total_gib * pool.max_over_subscription_ratio - promised
    };
    pools.iter().max_by(|a, b| room(a).partial_cmp(&room(b)).unwrap_or(Ordering::Equal).then_with(|| b.name.cmp(&a.name)))
}

#[cfg(test)]
mod tests {
    use super::super::filters::tests::pool;
    use super::*;

    #[test]
    fn the_emptiest_wins_and_equals_are_taken_by_name() {
        let pools = [pool("b@x#x"), pool("a@x#x")];
        assert_eq!(best(&pools, &BTreeMap::new()).unwrap().name, "a@x#x");
        let used = BTreeMap::from([("a@x#x".to_owned(), 1)]);
        assert_eq!(best(&pools, &used).unwrap().name, "b@x#x");
        assert!(best(&[], &used).is_none());
    }
}
