//! The limits, put together: one call of [`Limits::charge`] takes everything that a call costs, or nothing.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::at_once::{Lasts, Place};
use super::book::{Account, Book, Overdrawn, Want};
use super::cost::Cost;
use super::error::LimitError;
use super::gcra::Pace;
use super::headers::Told;
use super::ledger::Ledger;
use super::metrics::{LimitMetrics, RuleCounts};
use super::period::Window;
use super::receipt::{BudgetShare, Receipt, Taken};
use super::redis::RedisStore;
use super::refusal::{Refusal, Why};
use super::settings::{AtOnceSettings, BudgetSettings, Lasting, LimitHeaders, LimitSettings, RuleSettings};
use super::store_settings::LimitStore;
use super::subject::Subject;
use super::table::{Entry, MOST_ENTRIES, Standing, Table};

/// Time between two looks of a caller who waits for a place.
pub(super) const PLACE_WAIT: Duration = Duration::from_secs(1);

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
    pub(super) rules: Vec<Rule>,
    pub(super) budgets: Vec<Budget>,
    pub(super) at_once: Vec<AtOnce>,
    pub(super) table: Table,
    pub(super) ledger: Ledger,
    pub(super) metrics: LimitMetrics,
    pub(super) headers: LimitHeaders,
    ipv6_prefix: u8,
    started: Instant,
    clock: Clock,
    pub(super) store: Option<RedisStore>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) settings: RuleSettings,
    pub(super) pace: Pace,
    pub(super) name: Arc<str>,
    pub(super) counts: RuleCounts,
}

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) settings: BudgetSettings,
    pub(super) name: Arc<str>,
    pub(super) counts: RuleCounts,
}

#[derive(Debug)]
pub(super) struct AtOnce {
    pub(super) settings: AtOnceSettings,
    pub(super) name: Arc<str>,
    pub(super) counts: RuleCounts,
    lasts: Lasts,
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
        let most = settings.ledger_entries.get() as usize;
        let ledger = match &settings.ledger {
            None => Ledger::in_memory(most),
            Some(file) => {
                let every = Duration::from_millis(settings.ledger_write_ms.get());
                let unusable = |cause| LimitError::Ledger { file: file.display().to_string(), cause };
                Ledger::open(file, most, every).map_err(unusable)?
            }
        };
        let metrics = LimitMetrics::default();
        let rule = |row: &RuleSettings| Rule {
            pace: row.pace().expect("its faults were looked for"),
            name: row.name.as_str().into(),
            counts: metrics.rule(&row.name),
            settings: row.clone(),
        };
        let at_once = |row: &AtOnceSettings| AtOnce {
            name: row.name.as_str().into(),
            counts: metrics.rule(&row.name),
            settings: row.clone(),
            lasts: Lasts::default(),
        };
        let budget = |row: &BudgetSettings| Budget {
            name: row.name.as_str().into(),
            counts: metrics.rule(&row.name),
            settings: row.clone(),
        };
        Ok(Self(Arc::new(Inner {
            rules: settings.rule.iter().map(rule).collect(),
            at_once: settings.at_once.iter().map(at_once).collect(),
            budgets: settings.budget.iter().map(budget).collect(),
            table: Table::new(settings.memory_bytes.get() as usize),
            ledger,
            headers: settings.headers,
            ipv6_prefix: settings.ipv6_prefix,
            // A second ago, so that no reading is the zero that stands for a key that was never seen.
            started: Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now),
            clock,
            metrics,
            store,
        })))
    }

    /// Shows in `registry` what each rule let through and refused.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Takes what the call costs from every share that it is charged to, or nothing from any.
    ///
    /// `lasting` says what begins with it; its places are held until the receipt is dropped. A cost that is an estimate is
    /// put right by [`Receipt::settle`]; where it is not, the estimate stands. Limits in a store that several gates share are
    /// charged by [`Limits::charge_soon`] only; here they refuse.
    ///
    /// # Errors
    /// [`Refusal`] names the limit that lets the call wait longest.
    pub fn charge(&self, subject: &Subject, cost: Cost, lasting: Option<Lasting>) -> Result<Receipt, Refusal> {
        if self.0.store.is_some() {
            return Err(Refusal::new(&"store".into(), Why::NoStore, PLACE_WAIT));
        }
        self.charge_here(subject, cost, lasting)
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
        let inner = &*self.0;
        let places = inner.take_places(subject, lasting)?;
        let now = inner.now();
        let mut charged = inner.entries(subject, cost);
        let mut book = (!inner.budgets.is_empty()).then(|| inner.ledger.book());
        let (budgets, overdrawn) = match &mut book {
            Some(book) => inner.check_budgets(book, subject, cost),
            None => (Vec::new(), None),
        };
        let entries = &mut charged.entries[..charged.which.len()];
        let passes = match overdrawn {
            None => inner.table.charge(now, entries).is_ok(),
            Some(_) => {
                // Only to see how the rules stand: the caller may have to wait longer for them.
                let _ = inner.table.look(now, entries);
                false
            }
        };
        let told = Told::new(inner.headers, inner.quotas(&charged, now));
        if !passes {
            let refusal = inner
                .refusals(&charged, now)
                .into_iter()
                .fold(overdrawn, |worst, next| Some(Refusal::longer(worst, next)));
            return Err(refusal.expect("whatever refused has said so").with_told(told));
        }
        for (at, rule) in charged.which.iter().enumerate() {
            let counts = &inner.rules[*rule].counts;
            if charged.entries[at].standing.refuses() { counts.would_refuse() } else { counts.passed() }
        }
        if let Some(book) = &mut book {
            for share in &budgets {
                let budget = &inner.budgets[share.budget];
                budget.counts.passed();
                let label = || {
                    let share = subject.share(budget.settings.by, inner.ipv6_prefix);
                    format!("{} {share}", budget.name).into()
                };
                book.add(share.account, share.window, cost.cells(budget.settings.of), label);
            }
        }
        drop(book);
        Ok(Receipt::new(self.clone(), Taken { charged, budgets, places, cost, told, shared: None }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

/// The rules that a call is charged to, and how each stands.
#[derive(Debug, Clone)]
pub(super) struct Charged {
    /// Indices of the rules.
    pub(super) which: Vec<usize>,
    pub(super) entries: [Entry; MOST_ENTRIES],
}

impl Inner {
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
        self.ipv6_prefix
    }

    fn take_places(&self, subject: &Subject, lasting: Option<Lasting>) -> Result<Vec<Place>, Refusal> {
        let mut places = Vec::new();
        let Some(lasting) = lasting else { return Ok(places) };
        for row in self.at_once.iter().filter(|row| row.settings.of == lasting) {
            let settings = &row.settings;
            if !subject.is_meant(&settings.tiers, &settings.endpoints) {
                continue;
            }
            let share = subject.share(settings.by, self.ipv6_prefix);
            match row.lasts.take(share, settings.most.get()) {
                Some(place) => {
                    row.counts.passed();
                    places.push(place);
                }
                None if settings.dry_run => row.counts.would_refuse(),
                None => {
                    row.counts.refused();
                    return Err(Refusal::new(&row.name, Why::AtOnce { of: lasting }, PLACE_WAIT));
                }
            }
        }
        Ok(places)
    }

    pub(super) fn entries(&self, subject: &Subject, cost: Cost) -> Charged {
        let nobody = Entry {
            key: self.table.fingerprint(0_u8),
            pace: Pace { refill: NonZeroU64::MIN, burst: NonZeroU32::MIN },
            cells: NonZeroU32::MIN,
            only_counts: true,
            standing: Standing::default(),
        };
        let mut charged = Charged { which: Vec::new(), entries: [nobody; MOST_ENTRIES] };
        for (at, rule) in self.rules.iter().enumerate() {
            let row = &rule.settings;
            // More than the largest burst is more than any.
            let cells = u32::try_from(cost.cells(row.of)).unwrap_or(u32::MAX);
            let Some(cells) = NonZeroU32::new(cells).filter(|_| subject.is_meant(&row.tiers, &row.endpoints)) else {
                continue;
            };
            charged.entries[charged.which.len()] = Entry {
                key: self.table.fingerprint((at, subject.share(row.by, self.ipv6_prefix))),
                pace: rule.pace,
                cells,
                only_counts: row.dry_run,
                standing: Standing::default(),
            };
            charged.which.push(at);
        }
        charged
    }

    /// The budgets that the call would spend from, and the refusal of those that are spent.
    fn check_budgets(&self, book: &mut Book, subject: &Subject, cost: Cost) -> (Vec<BudgetShare>, Option<Refusal>) {
        let (mut shares, mut worst) = (Vec::new(), None);
        let (wall, now) = (self.wall(), self.unix());
        for (at, budget) in self.budgets.iter().enumerate() {
            let row = &budget.settings;
            let cells = cost.cells(row.of);
            if cells == 0 || !subject.is_meant(&row.tiers, &row.endpoints) {
                continue;
            }
            let window = row.per.around(wall);
            let account = Account::new(&row.name, &subject.share(row.by, self.ipv6_prefix));
            let limit = row.amount.get().saturating_mul(row.of.cells_per_unit());
            let share = BudgetShare { budget: at, account, window };
            let why = match book.check(account, window, Want { cells, limit, now }) {
                Ok(()) => {
                    shares.push(share);
                    continue;
                }
                Err(Overdrawn::Spent) if cells > limit => Why::Never { of: row.of },
                Err(Overdrawn::Spent) => Why::Spent { of: row.of },
                Err(Overdrawn::Full) => Why::NoRoom,
            };
            if row.dry_run {
                budget.counts.would_refuse();
                shares.push(share);
            } else {
                budget.counts.refused();
                worst = Some(Refusal::longer(worst, Refusal::new(&budget.name, why, window.left(wall))));
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
