//! How many sockets are open with a token.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::check::TokenFault;
use super::metrics::TokenMetrics;
use crate::guard::{Caller, Tier};

/// Sockets by the number of their token. An entry stands as long as one of its sockets is open, so there are never more
/// entries than sockets.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<HashMap<u128, u32>>);

impl Seats {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tokens have a socket open.
    #[cfg(test)]
    pub(super) fn tokens(&self) -> usize {
        self.lock().len()
    }
}

/// Whoever showed a token that is good.
#[derive(Debug, Clone)]
pub struct TokenHolder {
    /// Whom the token was minted for, where it had a name.
    pub caller: Option<Caller>,
    /// Its tier, where it had one.
    pub tier: Option<Tier>,
    /// When the token ends. A socket that is open by then stays open.
    pub expires: SystemTime,
    pub(super) token: u128,
    pub(super) most: NonZeroU32,
    pub(super) seats: Arc<Seats>,
    pub(super) metrics: TokenMetrics,
}

impl TokenHolder {
    /// Takes one of the token's seats for a socket.
    ///
    /// # Errors
    /// [`TokenFault::Seats`] if as many sockets are open with the token as may be.
    pub fn sit(&self) -> Result<TokenSeat, TokenFault> {
        let limit = self.most.get();
        let mut seats = self.seats.lock();
        let taken = seats.entry(self.token).or_insert(0);
        if *taken >= limit {
            let fault = TokenFault::Seats { limit };
            self.metrics.refused(fault);
            return Err(fault);
        }
        *taken += 1;
        drop(seats);
        Ok(TokenSeat(Arc::new(Taken { token: self.token, seats: Arc::clone(&self.seats) })))
    }
}

/// A seat. It is free again when the last clone is dropped: keep one as long as the socket.
#[derive(Debug, Clone)]
pub struct TokenSeat(#[expect(dead_code, reason = "kept for its drop")] Arc<Taken>);

#[derive(Debug)]
struct Taken {
    token: u128,
    seats: Arc<Seats>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.seats.lock().entry(self.token) {
            match taken.get() {
                0 | 1 => drop(taken.remove()),
                more => *taken.get_mut() = more - 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_so_many_seats_and_each_is_free_after_its_socket() {
        let seats = Arc::new(Seats::default());
        let most = NonZeroU32::new(2).unwrap();
        let holder = |token| TokenHolder {
            caller: None,
            tier: None,
            expires: SystemTime::UNIX_EPOCH,
            token,
            most,
            seats: Arc::clone(&seats),
            metrics: TokenMetrics::default(),
        };
        let (one, other) = (holder(1), holder(2));
        let first = one.sit().unwrap();
        let second = one.sit().unwrap();
        assert_eq!(one.sit().unwrap_err(), TokenFault::Seats { limit: 2 });
        let others = other.sit().unwrap();
        let clone = first.clone();
        drop(first);
        assert!(one.sit().is_err(), "a clone still sits");
        drop(clone);
        drop(one.sit().unwrap());
        drop((second, others));
        assert_eq!(seats.tokens(), 0);
    }
}
