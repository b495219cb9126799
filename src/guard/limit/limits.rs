//! The limits, put together: one call of [`Limits::charge`] takes everything that a call costs, or nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::book::{Book, Overdrawn, Want};
use super::cost::Cost;
use super::error::LimitError;
use super::headers::Told;
use super::ledger::{Ledger, LedgerError};
use super::metrics::LimitMetrics;
use super::period::Window;
use super::receipt::{BudgetShare, Receipt, Taken};
use super::redis::RedisStore;
use super::refusal::{Refusal, Why};
use super::rows::Rows;
use super::settings::{Lasting, LimitSettings, ShareBy};
use super::store_settings::LimitStore;
use super::subject::Subject;
use super::table::Table;
use super::top::Top;

/// How often, how many at once, and how much in all. Clones share what they remember.
///
/// Memory is bounded by `memory_bytes` for rules, by what lasts for `at_once`, and by `ledger_entries` for budgets; where
/// a bound is reached, newcomers are refused and nobody who is exhausted is let off.
///
/// ```
/// use falgate::guard::{Cost, Dimension, LimitSettings, Limits, Subject};
///
/// let settings: LimitSettings = serde_json::from_str(
///     r#"{"rule": [{"name": "rps", "of": "requests", "by": "address", "amount": 2, "per_ms": 1000}]}"#,
/// ).unwrap();
/// let limits = Limits::open(&settings).unwrap();
/// let caller = Subject { address: [203, 0, 113, 7].into(), caller: None, tier: None, endpoint: None };
/// let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
/// assert!(limits.charge(&caller, call, None).is_ok());
/// assert!(limits.charge(&caller, call, None).is_ok());
/// let refusal = limits.charge(&caller, call, None).unwrap_err();
/// assert_eq!(refusal.rule(), "rps");
/// ```
#[derive(Debug, Clone)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    /// What limits now.
    pub(super) rows: ArcSwap<Rows>,
    pub(super) table: Table,
    pub(super) ledger: Ledger,
    pub(super) metrics: LimitMetrics,
    pub(super) top: Top,
    /// What was set at the start and holds until the end: everything but the rows.
    fixed: LimitSettings,
    started: Instant,
    clock: Clock,
    pub(super) store: Option<RedisStore>,
}

/// Where the calendar's time comes from.
#[derive(Debug, Clone, Copy)]
enum Clock {
    System,
    /// The system's at the start, moved on by tokio's clock, so that a test can pause it.
    From(SystemTime),
}

impl Limits {
    /// Limits as the settings say; opens the ledger.
    ///
    /// # Errors
    /// [`LimitError`] for the first setting that cannot work, and for a ledger that cannot be used.
    pub fn open(settings: &LimitSettings) -> Result<Self, LimitError> {
        Self::with_clock(settings, Clock::System, None)
    }

    /// Limits that are kept in `store`, for every gate that is connected to it.
    ///
    /// # Errors
    /// As [`Limits::open`].
    pub fn open_shared(settings: &LimitSettings, store: RedisStore) -> Result<Self, LimitError> {
        Self::with_clock(settings, Clock::System, Some(store))
    }

    /// Finds out whether [`Limits::open`] would succeed, and opens and makes nothing for good.
    ///
    /// # Errors
    /// As [`Limits::open`].
    pub fn rehearse(settings: &LimitSettings) -> Result<(), LimitError> {
        if let Some((key, why)) = settings.faults().into_iter().next() {
            return Err(LimitError::Setting { key, why });
        }
        let Some(file) = settings.ledger_file() else { return Ok(()) };
        Ledger::rehearse(file).map_err(|cause| unusable(file, cause))
    }

    /// Limits whose calendar starts at `start` and moves with tokio's clock, which tests can pause.
    ///
    /// # Errors
    /// As [`Limits::open`].
    pub fn open_at(settings: &LimitSettings, start: SystemTime) -> Result<Self, LimitError> {
        Self::with_clock(settings, Clock::From(start), None)
    }

    fn with_clock(settings: &LimitSettings, clock: Clock, store: Option<RedisStore>) -> Result<Self, LimitError> {
        if let Some((key, why)) = settings.faults().into_iter().next() {
            return Err(LimitError::Setting { key, why });
        }
        if (settings.store == LimitStore::Redis) != store.is_some() {
            let why = "needs a Redis that is connected, and only `redis` does".to_owned();
            return Err(LimitError::Setting { key: "store".to_owned(), why });
        }
        let ledger = Ledger::in_memory(settings.ledger_entries.get() as usize);
        if let Some(file) = settings.ledger_file() {
            ledger.keep_in(file, settings.ledger_interval()).map_err(|cause| unusable(file, cause))?;
        }
        let metrics = LimitMetrics::default();
        let table = Table::new(settings.memory_bytes.get() as usize);
        Ok(Self(Arc::new(Inner {
            rows: ArcSwap::from_pointee(Rows::new(settings, &table, &metrics, None)),
            table,
            ledger,
            top: Top::default(),
            fixed: settings.clone(),
            // A second ago, so that no reading is the zero that stands for a key that was never seen.
            started: Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now),
            clock,
            metrics,
            store,
        })))
    }

    /// Limits by these rows from now on. What callers did stays: rules, budgets and counts at once go on where a row keeps
    /// its name and what it counts; a rule's callers wait as long as they had to, and its new pace counts from there.
    /// Receipts are settled by the rows under which they were charged.
    ///
    /// Gives the keys inside `[limits]` that differ and cannot be changed before the next start.
    ///
    /// # Errors
    /// [`LimitError::Setting`] for the first setting that cannot work, [`LimitError::Ledger`] where these are the first budgets
    /// and their ledger cannot be used; nothing is changed then.
    pub fn replace(&self, settings: &LimitSettings) -> Result<Vec<&'static str>, LimitError> {
        if let Some((key, why)) = settings.faults().into_iter().next() {
            return Err(LimitError::Setting { key, why });
        }
        let inner = &*self.0;
        let kept = LimitSettings { budget: settings.budget.clone(), ..inner.fixed.clone() };
        if let Some(file) = kept.ledger_file() {
            inner.ledger.keep_in(file, kept.ledger_interval()).map_err(|cause| unusable(file, cause))?;
        }
        let before = inner.rows.load_full();
        let after = Arc::new(Rows::new(settings, &inner.table, &inner.metrics, Some(&before)));
        inner.rows.store(Arc::clone(&after));
        if let Some(store) = &inner.store {
            // Taken ahead at the pace of before.
            store.forget_leases();
        }
        for gone in before.names().filter(|name| after.names().all(|kept| kept != *name)) {
            inner.metrics.forget(gone);
        }
        let fixed = &inner.fixed;
        let differ = [
            ("memory_bytes", fixed.memory_bytes != settings.memory_bytes),
            ("ipv6_prefix", fixed.ipv6_prefix != settings.ipv6_prefix),
            ("ledger", fixed.ledger != settings.ledger),
            ("ledger_write_ms", fixed.ledger_write_ms != settings.ledger_write_ms),
            ("ledger_entries", fixed.ledger_entries != settings.ledger_entries),
            ("store", fixed.store != settings.store),
            ("redis", fixed.redis != settings.redis),
        ];
        Ok(differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect())
    }

    /// Whether nothing is limited at the moment.
    #[must_use]
    pub fn are_off(&self) -> bool {
        self.0.rows.load().is_empty()
    }

    /// Shows in `registry` what each rule let through and refused.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Takes what the call costs from every share that it is charged to, or nothing from any.
    ///
    /// `lasting` says what begins with it; its places are held until the receipt is dropped. A cost that is an estimate is
    /// put right by [`Receipt::settle`]; where it is not, the estimate stands. Where several gates share a store, this does not
    /// wait for it: the call is charged in this process, refused by what this process has counted, and owed to the store,
    /// which lets [`Limits::charge_soon`] wait for it at all gates. What lasts is counted in this process alone.
    ///
    /// # Errors
    /// [`Refusal`] names the limit that lets the call wait longest; [`Why::NoStore`] after the store did not answer, where
    /// a limit may not do without.
    pub fn charge(&self, subject: &Subject, cost: Cost, lasting: Option<Lasting>) -> Result<Receipt, Refusal> {
        match &self.0.store {
            Some(store) => store.owe(self, subject, (cost, lasting)),
            None => self.charge_here(subject, cost, lasting),
        }
    }

    /// As [`Limits::charge`], and asks the store that several gates share where there is one. Dropping the future may leave
    /// the call charged.
    ///
    /// # Errors
    /// As [`Limits::charge`]; [`Why::NoStore`] where the store does not answer in time and a limit may not do without.
    pub async fn charge_soon(
        &self,
        subject: &Subject,
        cost: Cost,
        lasting: Option<Lasting>,
    ) -> Result<Receipt, Refusal> {
        match &self.0.store {
            Some(store) => store.charge(self, subject, (cost, lasting)).await,
            None => self.charge_here(subject, cost, lasting),
        }
    }

    /// Whether a charge has to wait for a store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.store.is_some()
    }

    /// Charges in this process.
    pub(super) fn charge_here(
        &self,
        subject: &Subject,
        cost: Cost,
        lasting: Option<Lasting>,
    ) -> Result<Receipt, Refusal> {
        let charged = self.decide(subject, cost, lasting);
        self.0.note(subject, &charged);
        charged
    }

    fn decide(&self, subject: &Subject, cost: Cost, lasting: Option<Lasting>) -> Result<Receipt, Refusal> {
        let inner = &*self.0;
        let rows = inner.rows.load_full();
        let (places, unplaced) = match rows.take_places(subject, lasting, inner.ipv6_prefix()) {
            Ok(places) => (places, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        let now = inner.now();
        let mut charged = rows.entries(&inner.table, subject, cost, inner.ipv6_prefix());
        let mut book = (!rows.budgets.is_empty()).then(|| inner.ledger.book());
        let (budgets, overdrawn) = match &mut book {
            Some(book) => inner.check_budgets(&rows, book, (subject, cost)),
            None => (Vec::new(), None),
        };
        let worst = overdrawn.into_iter().fold(unplaced, |worst, next| Some(Refusal::longer(worst, next)));
        let entries = &mut charged.entries;
        let passes = match worst {
            None => inner.table.charge(now, entries).is_ok(),
            Some(_) => {
                // Only to see how the rules stand: the caller may have to wait longer for them.
                let _ = inner.table.look(now, entries);
                false
            }
        };
        let told = Told::new(&rows.words, rows.quotas(&charged, now));
        if !passes {
            let refusal =
                rows.refusals(&charged, now).into_iter().fold(worst, |worst, next| Some(Refusal::longer(worst, next)));
            return Err(refusal.expect("whatever refused has said so").with_told(told));
        }
        for (at, rule) in charged.which.iter().enumerate() {
            let counts = &rows.rules[*rule].counts;
            if charged.entries[at].standing.refuses() { counts.would_refuse() } else { counts.passed() }
        }
        if let Some(book) = &mut book {
            for share in &budgets {
                let budget = &rows.budgets[share.budget];
                budget.counts.passed();
                let label = || {
                    let share = subject.share(budget.settings.by, inner.ipv6_prefix());
                    format!("{} {share}", budget.name).into()
                };
                book.add(share.account, share.window, cost.cells(budget.settings.of), label);
            }
        }
        drop(book);
        places.iter().for_each(|(row, _)| rows.at_once[*row].counts.passed());
        let places = places.into_iter().map(|(_, place)| place).collect();
        Ok(Receipt::new(self.clone(), Taken { rows, charged, budgets, places, cost, told, shared: None }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

fn unusable(file: &Path, cause: LedgerError) -> LimitError {
    LimitError::Ledger { file: file.display().to_string(), cause }
}

impl Inner {
    /// Counts a decision for whoever asks who calls most.
    pub(super) fn note(&self, subject: &Subject, charged: &Result<Receipt, Refusal>) {
        self.top.note(subject.share(ShareBy::Caller, self.ipv6_prefix()), self.unix(), charged.is_ok());
    }

    /// Nanoseconds on the limits' own clock.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The calendar's time.
    pub(super) fn wall(&self) -> SystemTime {
        match self.clock {
            Clock::System => SystemTime::now(),
            Clock::From(start) => start + self.started.elapsed(),
        }
    }

    /// The calendar's time in seconds since 1970.
    pub(super) fn unix(&self) -> u64 {
        self.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Length of the prefix of IPv6 that counts as one address.
    pub(super) const fn ipv6_prefix(&self) -> u8 {
        self.fixed.ipv6_prefix
    }

    /// The budgets that the call would spend from, and the refusal of those that are spent.
    fn check_budgets(
        &self,
        rows: &Rows,
        book: &mut Book,
        (subject, cost): (&Subject, Cost),
    ) -> (Vec<BudgetShare>, Option<Refusal>) {
        let (mut shares, mut worst) = (Vec::new(), None);
        let (wall, now) = (self.wall(), self.unix());
        for (at, budget) in rows.budgets.iter().enumerate() {
            let row = &budget.settings;
            let cells = cost.cells(row.of);
            if cells == 0 || !subject.is_meant(row.by, &row.tiers, &row.endpoints) {
                continue;
            }
            let window = row.per.around(wall);
            let account = budget.account(&subject.share(row.by, self.ipv6_prefix()));
            let limit = row.amount.get().saturating_mul(row.of.cells_per_unit());
            let share = BudgetShare { budget: at, account, window };
            let (why, wait) = match book.check(account, window, Want { cells, limit, now }) {
                Ok(()) => {
                    shares.push(share);
                    continue;
                }
                Err(Overdrawn::Spent) if cells > limit => (Why::Never { of: row.of }, Duration::ZERO),
                Err(Overdrawn::Spent) => (Why::Spent { of: row.of }, window.left(wall)),
                Err(Overdrawn::Full { until }) => (Why::NoRoom, Duration::from_secs(until.saturating_sub(now))),
            };
            if row.dry_run {
                budget.counts.would_refuse();
                shares.push(share);
            } else {
                budget.counts.refused();
                worst = Some(Refusal::longer(worst, Refusal::new(&budget.name, why, wait)));
            }
        }
        (shares, worst)
    }
}

impl Window {
    /// Whether a moment, in seconds since 1970, lies in it.
    pub(super) const fn holds(self, unix: u64) -> bool {
        self.start <= unix && unix < self.end
    }
}
