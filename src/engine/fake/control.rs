//! The other end of a fake backend, for the test that runs it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{FakeFault, FakePart};

/// Calls that the log keeps: past it, the older half is forgotten.
const LOG_LIMIT: usize = 65_536;

/// One call that the backend got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeCall {
    /// The method.
    pub part: FakePart,
    /// Rows of the call.
    pub rows: usize,
    /// The rows' timesteps, for [`FakePart::Step`].
    pub timesteps: Vec<u32>,
}

/// Reads a fake backend's log, holds its calls and makes them fail. Clones control the same backend.
///
/// Calls are counted from the moment of [`FakeControl::clear`], which a test does after the engine's warm-up. The log keeps
/// the last 32,768 calls at least.
#[derive(Debug, Clone, Default)]
pub struct FakeControl(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: watch::Sender<Vec<FakeCall>>,
    script: Mutex<Script>,
    bell: Condvar,
}

impl Default for Inner {
    fn default() -> Self {
        Self { log: watch::Sender::new(Vec::new()), script: Mutex::default(), bell: Condvar::new() }
    }
}

#[derive(Debug, Default)]
struct Script {
    /// Parts whose calls are held, and how many may pass before.
    held: HashMap<FakePart, usize>,
    /// Faults to come: the part, how many of its calls go well before, and what goes wrong.
    faults: Vec<(FakePart, usize, FakeFault)>,
}

impl FakeControl {
    /// The calls so far, also those that failed or are being held.
    #[must_use]
    pub fn calls(&self) -> Vec<FakeCall> {
        self.0.log.borrow().clone()
    }

    /// The calls of one part so far.
    #[must_use]
    pub fn calls_of(&self, part: FakePart) -> Vec<FakeCall> {
        self.0.log.borrow().iter().filter(|call| call.part == part).cloned().collect()
    }

    /// Forgets the calls so far.
    pub fn clear(&self) {
        self.0.log.send_modify(Vec::clear);
    }

    /// Waits until `part` was called `count` times. A held call counts from the moment it is held.
    pub async fn called(&self, part: FakePart, count: usize) {
        let enough = |log: &Vec<FakeCall>| log.iter().filter(|call| call.part == part).count() >= count;
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.0.log.subscribe().wait_for(enough).await;
    }

    /// Holds every call of `part` at its beginning from now on.
    pub fn hold(&self, part: FakePart) {
        self.script().held.insert(part, 0);
    }

    /// Lets `count` calls of a held `part` pass.
    pub fn pass(&self, part: FakePart, count: usize) {
        if let Some(passes) = self.script().held.get_mut(&part) {
            *passes += count;
        }
        self.0.bell.notify_all();
    }

    /// Lets all calls of `part` pass again.
    pub fn release(&self, part: FakePart) {
        self.script().held.remove(&part);
        self.0.bell.notify_all();
    }

    /// Makes a later call of `part` go wrong: the one after `well` calls that go well.
    pub fn inject(&self, part: FakePart, well: usize, fault: FakeFault) {
        self.script().faults.push((part, well, fault));
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a call, waits while it is held, and says what goes wrong in it.
    pub(super) fn enter(&self, call: FakeCall) -> Option<FakeFault> {
        let part = call.part;
        self.0.log.send_modify(|log| {
            if log.len() == LOG_LIMIT {
                log.drain(..LOG_LIMIT / 2);
            }
            log.push(call);
        });
        let mut script = self.script();
        while script.held.get(&part) == Some(&0) {
            script = self.0.bell.wait(script).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(passes) = script.held.get_mut(&part) {
            *passes -= 1;
        }
        let mut due = None;
        script.faults.retain_mut(|(faulty, well, fault)| {
            if *faulty != part {
                return true;
            }
            if *well == 0 && due.is_none() {
                due = Some(*fault);
                return false;
            }
            *well = well.saturating_sub(1);
            true
        });
        due
    }
}
