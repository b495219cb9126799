//! How many calls or sockets a share has at the same time.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what lasts, by share. A share is forgotten with its last place, so there are never more than lasting things.
#[derive(Debug, Clone, Default)]
pub(in crate::guard) struct Lasts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hashers: [RandomState; 2],
    taken: Mutex<HashMap<[u64; 2], u32>>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(in crate::guard) struct Place {
    lasts: Lasts,
    key: [u64; 2],
}

impl Lasts {
    /// Places that the share has taken.
    pub(super) fn taken(&self, share: impl Hash) -> u32 {
        let key = self.0.hashers.each_ref().map(|hasher| hasher.hash_one(&share));
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied().unwrap_or(0)
    }

    /// Places that are taken by all shares.
    pub(super) fn all_taken(&self) -> u64 {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).values().copied().map(u64::from).sum()
    }

    /// Takes a place of the share, unless `most` are taken.
    pub(in crate::guard) fn take(&self, share: impl Hash, most: u32) -> Option<Place> {
        let key = self.0.hashers.each_ref().map(|hasher| hasher.hash_one(&share));
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { lasts: self.clone(), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.lasts.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let lasts = Lasts::default();
        let (one, two) = (lasts.take("ann", 2), lasts.take("ann", 2));
        assert!(one.is_some() && two.is_some() && lasts.take("ann", 2).is_none());
        assert!(lasts.take("bob", 1).is_some(), "another share is another count");
        drop(one);
        assert!(lasts.take("ann", 2).is_some());
        drop(two);
        assert!(lasts.0.taken.lock().unwrap().is_empty());
    }
}
