//! What was spent of budgets, by share, in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::period::Window;
use super::subject::Share;

/// A budget's name and a share of it, reduced to a hash that is the same in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Account(pub(super) [u8; 16]);

impl Account {
    /// The account of `share` in the budget called `budget`.
    pub(super) fn new(budget: &str, share: &Share<'_>) -> Self {
        let digest = Sha256::new().chain_update(budget).chain_update([0]).chain_update(share.bytes()).finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Self(first)
    }
}

/// What an account spent in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spent {
    /// The end of the period, in seconds since 1970.
    pub(super) until: u64,
    /// Cells.
    pub(super) cells: u64,
    /// The budget, and whose account it is, for a person's eyes.
    pub(super) label: Arc<str>,
}

/// Why nothing can be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdrawn {
    /// The budget is used up, or what is left is too little.
    Spent,
    /// There are too many accounts to open another.
    Full,
}

/// The accounts. What is of a period that has ended is as good as never written.
#[derive(Debug, Default)]
pub(super) struct Book {
    accounts: HashMap<Account, Spent>,
    /// Accounts that changed since they were last written down.
    dirty: HashSet<Account>,
    most: usize,
}

impl Book {
    /// A book of at most `most` accounts that begins with what was written down.
    pub(super) fn new(most: usize, written: impl IntoIterator<Item = (Account, Spent)>) -> Self {
        Self { accounts: written.into_iter().collect(), dirty: HashSet::new(), most }
    }

    /// What an account spent in this period.
    pub(super) fn spent(&self, account: Account, window: Window) -> u64 {
        self.accounts.get(&account).filter(|spent| spent.until == window.end).map_or(0, |spent| spent.cells)
    }

    /// Whether `cells` more fit under `limit`. Makes room for a new account by closing those whose period has ended.
    pub(super) fn check(&mut self, account: Account, window: Window, want: Want) -> Result<(), Overdrawn> {
        if self.spent(account, window).saturating_add(want.cells) > want.limit {
            return Err(Overdrawn::Spent);
        }
        if !self.accounts.contains_key(&account) && self.accounts.len() >= self.most {
            self.accounts.retain(|_, spent| spent.until > want.now);
            if self.accounts.len() >= self.most {
                return Err(Overdrawn::Full);
            }
        }
        Ok(())
    }

    /// Spends `cells`; `label` is asked for when the account is opened.
    pub(super) fn add(&mut self, account: Account, window: Window, cells: u64, label: impl FnOnce() -> Arc<str>) {
        let spent = self.spent(account, window).saturating_add(cells);
        let entry = self.accounts.entry(account);
        let entry = entry.or_insert_with(|| Spent { until: window.end, cells: 0, label: label() });
        (entry.until, entry.cells) = (window.end, spent);
        self.dirty.insert(account);
    }

    /// Puts right what was spent in this same period.
    pub(super) fn correct(&mut self, account: Account, window: Window, cells: i64) {
        if let Some(spent) = self.accounts.get_mut(&account).filter(|spent| spent.until == window.end) {
            spent.cells = spent.cells.saturating_add_signed(cells);
            self.dirty.insert(account);
        }
    }

    /// Forgets what an account spent. Says whether it had spent anything.
    pub(super) fn reset(&mut self, account: Account) -> bool {
        let Some(spent) = self.accounts.get_mut(&account) else { return false };
        self.dirty.insert(account);
        std::mem::take(&mut spent.cells) != 0
    }

    /// The accounts whose period has not ended at `now`, seconds since 1970.
    pub(super) fn open(&self, now: u64) -> impl Iterator<Item = &Spent> {
        self.accounts.values().filter(move |spent| spent.until > now && spent.cells > 0)
    }

    /// What changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<(Account, Spent)> {
        self.dirty.drain().filter_map(|account| Some((account, self.accounts.get(&account)?.clone()))).collect()
    }

    /// Notes that changes could not be written down after all.
    pub(super) fn put_back(&mut self, changes: &[(Account, Spent)]) {
        self.dirty.extend(changes.iter().map(|(account, _)| account));
    }

    /// Open accounts.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }
}

/// What somebody wants to spend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// Cells.
    pub(super) cells: u64,
    /// The most that may be spent in the period, in cells.
    pub(super) limit: u64,
    /// Seconds since 1970.
    pub(super) now: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Window = Window { start: 0, end: 3600 };
    const NEXT: Window = Window { start: 3600, end: 7200 };

    fn nobody() -> Arc<str> {
        "nobody".into()
    }

    fn want(cells: u64, now: u64) -> Want {
        Want { cells, limit: 10, now }
    }

    #[test]
    fn a_budget_is_spent_to_the_last_cell_and_starts_anew() {
        let mut book = Book::new(10, []);
        let ann = Account::new("day", &Share::Caller("ann"));
        book.check(ann, HOUR, want(10, 1)).unwrap();
        book.add(ann, HOUR, 10, nobody);
        assert_eq!(book.check(ann, HOUR, want(1, 2)), Err(Overdrawn::Spent));
        book.check(ann, NEXT, want(10, 3601)).unwrap();
        book.correct(ann, HOUR, -4);
        assert_eq!(book.spent(ann, HOUR), 6, "what failed is given back");
        book.correct(ann, NEXT, 9);
        assert_eq!(book.spent(ann, NEXT), 0, "another period is not touched");
        assert!(book.reset(ann) && !book.reset(ann));
        assert_ne!(ann, Account::new("hour", &Share::Caller("ann")));
    }

    #[test]
    fn a_full_book_closes_what_has_ended_and_nothing_else() {
        let mut book = Book::new(2, []);
        let accounts = ["a", "b", "c"].map(|name| Account::new("day", &Share::Caller(name)));
        book.add(accounts[0], HOUR, 10, nobody);
        book.add(accounts[1], NEXT, 10, nobody);
        assert_eq!(book.check(accounts[2], HOUR, want(1, 10)), Err(Overdrawn::Full));
        assert_eq!(book.check(accounts[0], HOUR, want(1, 10)), Err(Overdrawn::Spent), "nobody is forgotten early");
        book.check(accounts[2], NEXT, want(1, 3600)).unwrap();
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn changes_are_told_once_and_read_back() {
        let mut book = Book::new(9, []);
        let ann = Account::new("day", &Share::Caller("ann"));
        book.add(ann, HOUR, 7, nobody);
        let changes = book.take_changes();
        assert_eq!(changes, [(ann, Spent { until: 3600, cells: 7, label: nobody() })]);
        assert!(book.take_changes().is_empty());
        book.put_back(&changes);
        assert_eq!(book.take_changes().len(), 1);
        assert_eq!(Book::new(9, changes).spent(ann, HOUR), 7);
    }
}
