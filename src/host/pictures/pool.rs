//! Bounded workers for picture work, away from the async threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::PictureSettings;

/// Runs picture work on blocking threads: at most `workers` at once, at most `waiting` behind them.
///
/// Cheap to clone; clones share the bounds. Dropping a call that waits frees its place; work that has begun runs to its
/// end and holds its worker until then.
#[derive(Debug, Clone)]
pub struct PicturePool {
    workers: Arc<Semaphore>,
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    taken: AtomicUsize,
    limit: usize,
}

/// All workers are busy and enough callers wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("picture pool is full at {limit} pictures")]
pub struct PoolFull {
    /// Pictures that may be worked on or wait.
    pub limit: usize,
}

struct Place(Arc<Places>);

impl Places {
    fn take(self: &Arc<Self>) -> Result<Place, PoolFull> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if taken < self.limit { Ok(place) } else { Err(PoolFull { limit: self.limit }) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PicturePool {
    /// A pool with the bounds of the settings. Threads come from the runtime that calls it.
    #[must_use]
    pub fn new(settings: &PictureSettings) -> Self {
        let workers = settings.workers.get().min(Semaphore::MAX_PERMITS);
        let limit = workers.saturating_add(settings.waiting);
        let places = Arc::new(Places { taken: AtomicUsize::new(0), limit });
        Self { workers: Arc::new(Semaphore::new(workers)), places }
    }

    /// Runs `work` on a worker.
    ///
    /// # Errors
    /// [`PoolFull`] at once when nobody more may wait.
    pub async fn run<T, F>(&self, work: F) -> Result<T, PoolFull>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.places.take()?;
        Ok(self
            .run_unrefused(move || {
                let _held = place;
                work()
            })
            .await)
    }

    /// Runs `work` on a worker, however many wait: for results that cost device time and must not be lost to a refusal.
    /// Its callers must be bounded by something else.
    pub async fn run_unrefused<T, F>(&self, work: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let worker = Arc::clone(&self.workers).acquire_owned().await.expect("the pool never closes its semaphore");
        let task = tokio::task::spawn_blocking(move || {
            let _held = worker;
            work()
        });
        match task.await {
            Ok(result) => result,
            Err(failed) => match failed.try_into_panic() {
                // A panic in a decoder is a bug: it goes on in the caller's task, where the gate turns it into a 500.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is being torn down, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_full_pool_refuses_at_once_and_frees_its_places() {
        let settings =
            PictureSettings { workers: NonZeroUsize::new(1).unwrap(), waiting: 1, ..PictureSettings::default() };
        let pool = PicturePool::new(&settings);
        let (release, wait) = mpsc::channel::<()>();
        let (began, beginning) = tokio::sync::oneshot::channel();
        let busy = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    began.send(()).unwrap();
                    wait.recv().unwrap();
                })
                .await
            }
        });
        beginning.await.unwrap();
        let mut waiting = Box::pin(pool.run(|| 2));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(pool.run(|| 3).await, Err(PoolFull { limit: 2 }));
        drop(waiting);
        let mut waiting = Box::pin(pool.run(|| 4));
        assert!((&mut waiting).now_or_never().is_none());
        release.send(()).unwrap();
        assert_eq!(waiting.await, Ok(4));
        assert_eq!(busy.await.unwrap(), Ok(()));
    }
}
