//! What was spent of budgets, by share, in memory.

use std::cmp::Ordering;
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
    /// There are too many accounts to open another; the first of them ends at `until`, seconds since 1970.
    Full {
        /// Seconds since 1970.
        until: u64,
    },
}

/// The accounts. What is of a period that has ended is as good as never written.
#[derive(Debug, Default)]
pub(super) struct Book {
    accounts: HashMap<Account, Spent>,
    /// Accounts that changed since they were last written down.
    dirty: HashSet<Account>,
    /// Whether anybody writes them down.
    is_written: bool,
    most: usize,
}

impl Book {
    /// A book of at most `most` accounts, which nobody writes down.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Adds what was written down to what is known: of the same period their sum, else the later one. From now on changes are
    /// noted for whoever writes them down.
    pub(super) fn take_over(&mut self, written: impl IntoIterator<Item = (Account, Spent)>) {
        self.is_written = true;
        self.dirty.extend(self.accounts.keys());
        for (account, spent) in written {
            match self.accounts.get_mut(&account) {
                None => drop(self.accounts.insert(account, spent)),
                Some(known) => match known.until.cmp(&spent.until) {
                    Ordering::Less => *known = spent,
                    Ordering::Equal => known.cells = known.cells.saturating_add(spent.cells),
                    Ordering::Greater => {}
                },
            }
        }
    }

    /// Notes that an account is to be written down.
    fn touch(&mut self, account: Account) {
        if self.is_written {
            self.dirty.insert(account);
        }
    }

    /// What an account spent in this period.
    pub(super) fn spent(&self, account: Account, window: Window) -> u64 {
        self.accounts.get(&account).filter(|spent| spent.until == window.end).map_or(0, |spent| spent.cells)
    }

    /// Whether `cells` more fit under `limit`. Makes room for a new account by closing those whose period has ended, and those
    /// of which nothing is spent after all: whoever makes calls that fail fills no book.
    pub(super) fn check(&mut self, account: Account, window: Window, want: Want) -> Result<(), Overdrawn> {
        if self.spent(account, window).saturating_add(want.cells) > want.limit {
            return Err(Overdrawn::Spent);
        }
        if !self.accounts.contains_key(&account) && self.accounts.len() >= self.most {
            let (is_written, dirty) = (self.is_written, &mut self.dirty);
            self.accounts.retain(|account, spent| {
                let is_open = spent.until > want.now;
                if is_open && spent.cells == 0 && is_written {
                    // The file may say more of it.
                    dirty.insert(*account);
                }
                is_open && spent.cells > 0
            });
            if self.accounts.len() >= self.most {
                let soonest = self.accounts.values().map(|spent| spent.until).min().unwrap_or(want.now);
                return Err(Overdrawn::Full { until: soonest });
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
        self.touch(account);
    }

    /// Puts right what was spent in this same period.
    pub(super) fn correct(&mut self, account: Account, window: Window, cells: i64) {
        if let Some(spent) = self.accounts.get_mut(&account).filter(|spent| spent.until == window.end) {
            spent.cells = spent.cells.saturating_add_signed(cells);
            self.touch(account);
        }
    }

    /// Forgets what an account spent. Says whether it had spent anything.
    pub(super) fn reset(&mut self, account: Account) -> bool {
        let Some(spent) = self.accounts.get_mut(&account) else { return false };
        let had = std::mem::take(&mut spent.cells) != 0;
        self.touch(account);
        had
    }

    /// The accounts whose period has not ended at `now`, seconds since 1970.
    pub(super) fn open(&self, now: u64) -> impl Iterator<Item = &Spent> {
        self.accounts.values().filter(move |spent| spent.until > now && spent.cells > 0)
    }

    /// What changed since the last call; nothing for an account that is as good as never written.
    pub(super) fn take_changes(&mut self) -> Vec<(Account, Option<Spent>)> {
        self.dirty.drain().map(|account| (account, self.accounts.get(&account).cloned())).collect()
    }

    /// Notes that changes could not be written down after all.
    pub(super) fn put_back(&mut self, changes: &[(Account, Option<Spent>)]) {
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
        let mut book = Book::new(10);
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
        let mut book = Book::new(2);
        let accounts = ["a", "b", "c"].map(|name| Account::new("day", &Share::Caller(name)));
        book.add(accounts[0], HOUR, 10, nobody);
        book.add(accounts[1], NEXT, 10, nobody);
        assert_eq!(book.check(accounts[2], HOUR, want(1, 10)), Err(Overdrawn::Full { until: HOUR.end }));
        assert_eq!(book.check(accounts[0], HOUR, want(1, 10)), Err(Overdrawn::Spent), "nobody is forgotten early");
        book.check(accounts[2], NEXT, want(1, 3600)).unwrap();
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn an_account_of_which_nothing_is_spent_after_all_makes_room() {
        let mut book = Book::new(2);
        book.take_over([]);
        let accounts = ["a", "b", "c"].map(|name| Account::new("day", &Share::Caller(name)));
        for account in &accounts[..2] {
            book.add(*account, HOUR, 10, nobody);
        }
        book.correct(accounts[1], HOUR, -10);
        book.take_changes();
        book.check(accounts[2], HOUR, want(1, 10)).unwrap();
        assert_eq!((book.len(), book.spent(accounts[0], HOUR)), (1, 10));
        assert_eq!(book.take_changes(), [(accounts[1], None)], "the file forgets it too");
    }

    #[test]
    fn changes_are_told_once_and_read_back() {
        let mut book = Book::new(9);
        let ann = Account::new("day", &Share::Caller("ann"));
        book.add(ann, HOUR, 7, nobody);
        assert!(book.take_changes().is_empty(), "nobody writes them down");
        book.take_over([]);
        let changes = book.take_changes();
        let spent = Spent { until: 3600, cells: 7, label: nobody() };
        assert_eq!(changes, [(ann, Some(spent.clone()))]);
        assert!(book.take_changes().is_empty());
        book.put_back(&changes);
        assert_eq!(book.take_changes().len(), 1);
        let mut other = Book::new(9);
        other.take_over([(ann, spent)]);
        assert_eq!(other.spent(ann, HOUR), 7);
    }
}
