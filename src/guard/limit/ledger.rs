//! Budgets that survive a restart: a book in memory, written down by a thread of its own.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Database, DatabaseError, ReadOnlyDatabase, ReadableTable as _, TableDefinition};

use super::book::{Account, Book, Spent};

/// Account → end of its period, cells spent in it, label.
const TABLE: TableDefinition<'_, [u8; 16], (u64, u64, &str)> = TableDefinition::new("falgate_spent_1");

/// Why a ledger cannot be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file cannot be opened: it is another program's, in use, or not to be had.
    #[error("the ledger cannot be opened")]
    Open(#[source] redb::Error),
    /// What is in it cannot be read.
    #[error("the ledger cannot be read")]
    Read(#[source] redb::Error),
    /// It may not be written, or not be made in its folder.
    #[error("the ledger cannot be written")]
    Write(#[source] std::io::Error),
    /// The system gives no thread.
    #[error("the ledger has no thread to write it")]
    Thread(#[source] std::io::Error),
}

/// A book that may be kept in a file.
///
/// Every change is in memory at once and in the file within the interval, and when the ledger is dropped. A file that
/// cannot be written is said in the log each time and tried again: the book in memory goes on counting.
#[derive(Debug)]
pub(super) struct Ledger {
    book: Arc<Mutex<Book>>,
    writer: Mutex<Option<Writer>>,
}

/// The thread that writes, which ends when its sender is dropped.
type Writer = (Sender<()>, JoinHandle<()>);

impl Ledger {
    /// A ledger that lives as long as the process.
    pub(super) fn in_memory(most: usize) -> Self {
        Self { book: Arc::new(Mutex::new(Book::new(most))), writer: Mutex::new(None) }
    }

    #[cfg(test)]
    fn open(file: &Path, most: usize, every: Duration) -> Result<Self, LedgerError> {
        let ledger = Self::in_memory(most);
        ledger.keep_in(file, every)?;
        Ok(ledger)
    }

    /// Keeps in `file` from now on what so far was in memory alone, and takes over what is in it. The file is made, and the
    /// folder that it is in, if there is none. A ledger that is in a file stays there.
    pub(super) fn keep_in(&self, file: &Path, every: Duration) -> Result<(), LedgerError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_some() {
            return Ok(());
        }
        if let Some(folder) = folder_to_make(file) {
            std::fs::create_dir(folder).map_err(LedgerError::Write)?;
        }
        let database = Database::create(file).map_err(|cause| LedgerError::Open(cause.into()))?;
        let written = read(&database).map_err(LedgerError::Read)?;
        self.book().take_over(written);
        let (stop, stopped) = channel();
        let shared = Arc::clone(&self.book);
        let run = move || {
            loop {
                let ended = !matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout));
                write_changes(&database, &shared);
                if ended {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(run).map_err(LedgerError::Thread)?;
        *writer = Some((stop, thread));
        Ok(())
    }

    /// Finds out whether [`Ledger::open`] would succeed, and leaves everything as it was. A file that a running gate holds
    /// is taken for a ledger; a file that is not there must be one that could be made.
    pub(super) fn rehearse(file: &Path) -> Result<(), LedgerError> {
        match std::fs::OpenOptions::new().read(true).write(true).open(file) {
            Ok(there) if there.metadata().is_ok_and(|about| about.len() == 0) => Ok(()),
            Ok(_) => match ReadOnlyDatabase::open(file) {
                // What was not closed in good order is repaired when it is opened to be written.
                Ok(_) | Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::RepairAborted) => Ok(()),
                Err(cause) => Err(LedgerError::Open(cause.into())),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => try_to_make(file).map_err(LedgerError::Write),
            Err(error) => Err(LedgerError::Write(error)),
        }
    }

    /// The book. Held for a decision, never over anything that waits.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread that writes the ledger had panicked");
            }
        }
    }
}

/// The folder of a file, where it is not there.
fn folder_to_make(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
}

/// Makes another file beside it, or its folder, and removes it: only the system knows what it lets us do.
fn try_to_make(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = folder_to_make(file) {
        std::fs::create_dir(folder)?;
        return std::fs::remove_dir(folder);
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".check-{}", std::process::id()));
    let probe = file.with_file_name(name);
    drop(std::fs::OpenOptions::new().write(true).create_new(true).open(&probe)?);
    std::fs::remove_file(&probe)
}

fn read(database: &Database) -> Result<Vec<(Account, Spent)>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut accounts = Vec::new();
    {
        let table = transaction.open_table(TABLE)?;
        for row in table.iter()? {
            let (account, spent) = row?;
            let (until, cells, label) = spent.value();
            accounts.push((Account(account.value()), Spent { until, cells, label: label.into() }));
        }
    }
    transaction.commit()?;
    Ok(accounts)
}

fn write_changes(database: &Database, book: &Mutex<Book>) {
    let changes = book.lock().unwrap_or_else(PoisonError::into_inner).take_changes();
    if changes.is_empty() {
        return;
    }
    if let Err(error) = write(database, &changes) {
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::error!(error, accounts = changes.len(), "the ledger of budgets cannot be written, will try again");
        book.lock().unwrap_or_else(PoisonError::into_inner).put_back(&changes);
    }
}

/// Writes the changes in one transaction, and forgets what had ended a month before the earliest of them.
fn write(database: &Database, changes: &[(Account, Option<Spent>)]) -> Result<(), redb::Error> {
    const MONTH: u64 = 32 * 86_400;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (account, spent) in changes {
            match spent {
                Some(spent) => table.insert(account.0, (spent.until, spent.cells, &*spent.label))?,
                None => table.remove(account.0)?,
            };
        }
        let earliest = changes.iter().filter_map(|(_, spent)| Some(spent.as_ref()?.until)).min().unwrap_or(0);
        table.retain(|_, (until, _, _)| until.saturating_add(MONTH) >= earliest)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::limit::period::Window;
    use crate::guard::limit::subject::Share;

    const WINDOW: Window = Window { start: 0, end: 1 << 40 };

    #[test]
    fn a_restart_keeps_budgets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let ann = Account::new("day", &Share::Caller("ann"));
        for round in 1..=3 {
            let ledger = Ledger::open(&file, 10, Duration::from_secs(3600)).unwrap();
            assert_eq!(ledger.book().spent(ann, WINDOW), (round - 1) * 5);
            ledger.book().add(ann, WINDOW, 5, || "ann".into());
        }
    }

    #[test]
    fn a_book_in_memory_can_be_kept_in_a_file_later() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first.redb"), folder.path().join("second.redb"));
        let account = |name| Account::new("day", &Share::Caller(name));
        let hour = Duration::from_secs(3600);
        let before = Ledger::open(&first, 10, hour).unwrap();
        before.book().add(account("ann"), WINDOW, 5, || "ann".into());
        before.book().add(account("bob"), WINDOW, 7, || "bob".into());
        drop(before);
        let ledger = Ledger::in_memory(10);
        ledger.book().add(account("bob"), WINDOW, 1, || "bob".into());
        ledger.keep_in(&first, hour).unwrap();
        let spent = |ledger: &Ledger| ["ann", "bob"].map(|name| ledger.book().spent(account(name), WINDOW));
        assert_eq!(spent(&ledger), [5, 8], "what was spent in either was spent");
        ledger.keep_in(&second, hour).unwrap();
        assert!(!second.exists(), "it is in a file already");
        drop(ledger);
        assert_eq!(spent(&Ledger::open(&first, 10, hour).unwrap()), [5, 8]);
    }

    #[test]
    fn a_rehearsal_says_what_opening_would_and_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        Ledger::rehearse(&file).unwrap();
        Ledger::rehearse(&folder.path().join("state/ledger.redb")).unwrap();
        assert_eq!(names(), 0, "neither it nor its folder is made");
        let ledger = Ledger::open(&file, 10, Duration::from_secs(3600)).unwrap();
        Ledger::rehearse(&file).unwrap();
        drop(ledger);
        let before = std::fs::read(&file).unwrap();
        Ledger::rehearse(&file).unwrap();
        assert_eq!((std::fs::read(&file).unwrap() == before, names()), (true, 1), "it is left as it was");
        let text = folder.path().join("text");
        std::fs::write(&text, "a text that is no ledger".repeat(99)).unwrap();
        assert!(matches!(Ledger::rehearse(&text), Err(LedgerError::Open(_))));
        assert!(matches!(Ledger::rehearse(&folder.path().join("no/such/ledger")), Err(LedgerError::Write(_))));
        assert!(matches!(Ledger::rehearse(folder.path()), Err(LedgerError::Write(_))), "a folder is none");
    }

    #[test]
    fn a_ledger_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        std::fs::write(&file, "a text").unwrap();
        assert!(matches!(Ledger::open(&file, 10, Duration::from_secs(1)), Err(LedgerError::Open(_))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a text", "it is left as it was");
        let missing = folder.path().join("no/such/folder/ledger.redb");
        assert!(matches!(Ledger::open(&missing, 10, Duration::from_secs(1)), Err(LedgerError::Write(_))));
        assert!(Ledger::open(&folder.path().join("state/ledger.redb"), 10, Duration::from_secs(1)).is_ok());
    }
}
