//! One input on its way to the device and through it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout};

use super::frame_budget::FrameReceipt;
use super::seat::{Asked, Reply, Seat};
use super::similar::{Look, settings_of};
use crate::engine::{EngineError, Job, Order, Picture, Ticket, Timings};
use crate::host::HostError;
use crate::host::load::{Loaded, Loader, Patience};
use crate::host::pictures::Sizes;
use crate::host::run::{seed_of, take_image};
use crate::host::safety::Safety;
use crate::host::waiting::{Guest, Place, Standing, Wait};
use crate::wire::{ImageSource, LcmInput, PictureFormat, PublicOrigin, Seed};

/// What came of an input.
pub(super) enum Drawing {
    /// Pictures, still to be encoded.
    Drawn(Box<Drawn>),
    /// It looks like the last one and was not rendered.
    Similar(Reply),
}

/// Pictures as the device gave them.
pub(super) struct Drawn {
    pub(super) pictures: Vec<Picture>,
    /// One flag a picture, of the safety checker.
    pub(super) flagged: Vec<bool>,
    pub(super) safety: Safety,
    pub(super) sizes: Sizes,
    pub(super) format: PictureFormat,
    pub(super) seed: Seed,
    pub(super) decode: Duration,
    pub(super) queue: Duration,
    pub(super) timings: Timings,
    pub(super) reply: Reply,
    pub(super) look: Option<Look>,
}

/// An input without a picture, and why.
pub(super) struct Failed {
    pub(super) error: HostError,
    pub(super) reply: Reply,
}

/// What a drawing shares with its socket.
#[derive(Clone, Default)]
pub(super) struct Progress {
    no_room: Arc<AtomicBool>,
    /// How its caller stands in the waiting room, until it is told.
    news: Arc<Mutex<Option<Standing>>>,
}

impl Progress {
    /// Whether the input only waits for room in the engine's queue, so that a newer one may take its place.
    pub(super) fn waits_for_room(&self) -> bool {
        self.no_room.load(Ordering::Relaxed)
    }

    /// How its caller stands in the waiting room, if that has changed.
    pub(super) fn take_news(&self) -> Option<Standing> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn waits(&self, standing: Standing) {
        self.no_room.store(true, Ordering::Relaxed);
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }
}

/// Renders an input. Dropping the future cancels the work at its next step.
pub(super) async fn draw(
    seat: Arc<Seat>,
    asked: Asked,
    last: Option<Look>,
    progress: Progress,
) -> Result<Drawing, Failed> {
    let Asked { mut input, reply, memory, receipt } = asked;
    let mut bill = Bill { receipt, progress: progress.clone() };
    let failed = |error: HostError, reply: &Reply| Failed { error, reply: reply.clone() };
    let safety = safety(&seat, &input).map_err(|error| failed(error, &reply))?;
    // A picture that waits for a place waits as it came, which is less than it is once it is decoded.
    let _place = place(&seat, &progress).await.map_err(|error| failed(error, &reply))?;
    let source = take_image(&mut input);
    // What has to be fetched keeps nobody waiting meanwhile, and is not waited for afterwards.
    let early = if is_fetched(&source) { None } else { Some(slot(&seat, &progress).await) };
    let early = early.transpose().map_err(|error| failed(error, &reply))?;
    let began = Instant::now();
    let waited = began - reply.arrived;
    let loaded = load(&seat, source).await.map_err(|error| failed(error, &reply))?;
    let slot = early.map_or_else(|| seat.host.drawings.try_acquire().map_err(|_| busy(&seat)), Ok);
    let slot = slot.map_err(|error| failed(error, &reply))?;
    drop(memory);
    let decode = began.elapsed();
    let similar = seat.similar();
    let look = similar.map(|_| Look::of(&loaded.picture, settings_of(&input)));
    if let (Some(threshold), Some(look), Some(last)) = (similar, &look, &last)
        && look.is_like(last, threshold)
    {
        return Ok(Drawing::Similar(reply));
    }
    let format = input.format.unwrap_or(seat.host.settings.pictures.format);
    let seed = seed_of(&input);
    let sizes = loaded.sizes;
    let job = seat.host.job(&mut input, loaded.picture, &seed);
    let job = Job { lane: seat.lane, order: Order::NewestFirst, safety: safety.job(), ..job };
    let asking = Instant::now();
    let ticket = submit(&seat, job, &progress).await.map_err(|error| failed(error.into(), &reply))?;
    drop(slot);
    let receipt = bill.receipt.take();
    let done = match ticket.await {
        Ok(done) => done,
        Err(error) => {
            receipt.into_iter().for_each(FrameReceipt::unrendered);
            return Err(failed(error.into(), &reply));
        }
    };
    let room = asking.elapsed().saturating_sub(done.timings.queued + done.timings.inference());
    Ok(Drawing::Drawn(Box::new(Drawn {
        pictures: done.pictures,
        flagged: done.flagged,
        safety,
        sizes,
        format,
        seed,
        decode,
        queue: waited + room + done.timings.queued,
        timings: done.timings,
        reply,
        look,
    })))
}

/// What an input gets of the safety checks that it asks for.
fn safety(seat: &Seat, input: &LcmInput) -> Result<Safety, HostError> {
    seat.host.safety(input, &*seat.host.facts()?)
}

/// What an input was charged, as long as the device has not begun with it: dropping it gives back what was not rendered.
struct Bill {
    receipt: Option<Box<dyn FrameReceipt>>,
    progress: Progress,
}

impl Drop for Bill {
    fn drop(&mut self) {
        match self.receipt.take() {
            Some(receipt) if self.progress.waits_for_room() => receipt.superseded(),
            Some(receipt) => receipt.unrendered(),
            None => {}
        }
    }
}

/// Waits for a place at the engine, where callers have places. It is used until the pictures are drawn.
async fn place(seat: &Seat, progress: &Progress) -> Result<Option<Place>, HostError> {
    let Some(room) = &seat.host.waiting else { return Ok(None) };
    let wait = Wait { guest: Guest::of(&seat.subject), until: None, drain: seat.host.drain.clone() };
    let place = room.enter(wait, |standing| progress.waits(standing)).await;
    progress.no_room.store(false, Ordering::Relaxed);
    Ok(Some(place?))
}

/// Waits until few enough inputs are decoded and not queued yet. A newer input ends it.
async fn slot<'a>(seat: &'a Seat, progress: &Progress) -> Result<SemaphorePermit<'a>, HostError> {
    if let Ok(slot) = seat.host.drawings.try_acquire() {
        return Ok(slot);
    }
    progress.no_room.store(true, Ordering::Relaxed);
    let slot = timeout(seat.settings().room_wait(), seat.host.drawings.acquire()).await;
    progress.no_room.store(false, Ordering::Relaxed);
    slot.ok().and_then(Result::ok).ok_or_else(|| busy(seat))
}

fn busy(seat: &Seat) -> HostError {
    HostError::Busy { limit: seat.host.settings.runs_at_once.get() }
}

fn is_fetched(source: &ImageSource) -> bool {
    matches!(source, ImageSource::Url(url) if !url.starts_with("data:"))
}

async fn load(seat: &Seat, source: ImageSource) -> Result<Loaded, HostError> {
    let host = &seat.host;
    let facts = host.facts()?;
    let origins: Vec<&PublicOrigin> = seat.origin.iter().chain(&host.public).collect();
    let loader = Loader {
        settings: &host.settings.pictures,
        pool: &host.pool,
        fetcher: &host.fetcher,
        storage: &host.storage,
        origins: &origins,
        patience: Patience::Waits,
    };
    loader.load(source, facts.size_multiple).await
}

/// Queues a job, and waits a while for room where there is none: a socket has one job at a time, so that waiting builds no
/// backlog, and a newer input ends it.
async fn submit(seat: &Seat, job: Job, progress: &Progress) -> Result<Ticket, EngineError> {
    let mut submitting = pin!(seat.host.engine.submit_within(job, seat.settings().room_wait()));
    poll_fn(|cx| {
        let submitted = submitting.as_mut().poll(cx);
        progress.no_room.store(submitted.is_pending(), Ordering::Relaxed);
        submitted
    })
    .await
}
