//! Where request lines wait to be written: one buffer in memory, emptied by one thread.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes that may wait. What comes on top is dropped and counted: a stuck terminal never stops the gate.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Lines are written together, at the latest after this time.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// So many bytes are written at once: a buffer of this size stays in the processor's cache.
const FLUSH_BYTES: usize = 64 * 1024;

/// Takes lines without waiting for the disk or the terminal. Clones share the buffer.
#[derive(Debug, Clone)]
pub struct LogWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    closed: bool,
}

/// Ends the writer's thread when it is dropped, after everything that waits is written.
#[derive(Debug)]
pub struct LogGuard {
    writer: LogWriter,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts a thread that writes to `sink`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut sink: impl Write + Send + 'static) -> std::io::Result<(Self, LogGuard)> {
        let shared = Shared { state: Mutex::default(), wake: Condvar::new(), dropped: AtomicU64::new(0) };
        let writer = Self(Arc::new(shared));
        let theirs = writer.clone();
        let thread = thread::Builder::new().name("request-log".to_owned()).spawn(move || theirs.run(&mut sink))?;
        let guard = LogGuard { writer: writer.clone(), thread: Some(thread) };
        Ok((writer, guard))
    }

    /// Lets `write` append one line, which it ends itself.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() >= MAX_WAITING_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = state.waiting.len();
        write(&mut state.waiting);
        let is_full = before < FLUSH_BYTES && state.waiting.len() >= FLUSH_BYTES;
        drop(state);
        if before == 0 || is_full {
            self.0.wake.notify_one();
        }
    }

    /// Lines that found no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn run(&self, sink: &mut impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.waiting.is_empty() && !state.closed {
                state = self.0.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if !state.closed {
                // More lines come while this one waits, and go out in one write.
                let is_to_wait = |state: &mut State| !state.closed && state.waiting.len() < FLUSH_BYTES;
                let waited = self.0.wake.wait_timeout_while(state, FLUSH_EVERY, is_to_wait);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let closed = state.closed;
            std::mem::swap(&mut batch, &mut state.waiting);
            drop(state);
            // A log that cannot be written cannot say so either; the lines are counted as lost.
            if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
                let lines = batch.split(|byte| *byte == b'\n').count().saturating_sub(1);
                self.0.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            }
            batch.clear();
            batch.shrink_to(2 * FLUSH_BYTES);
            if closed {
                return;
            }
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.writer.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.writer.0.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; if it did, there is nothing left to write.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Channel(mpsc::Sender<Vec<u8>>);

    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_before_the_guard_is_gone() {
        let (sender, written) = mpsc::channel();
        let (writer, guard) = LogWriter::start(Channel(sender)).unwrap();
        writer.line(|line| line.extend_from_slice(b"one\n"));
        writer.line(|line| line.extend_from_slice(b"two\n"));
        drop(guard);
        assert_eq!(written.try_iter().flatten().collect::<Vec<u8>>(), b"one\ntwo\n");
    }

    #[test]
    fn a_stuck_sink_costs_lines_and_not_memory() {
        let (sender, written) = mpsc::sync_channel::<()>(0);
        struct Stuck(mpsc::SyncSender<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.send(());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (writer, guard) = LogWriter::start(Stuck(sender)).unwrap();
        let long = vec![b'x'; 64 * 1024];
        for _ in 0..200 {
            writer.line(|line| line.extend_from_slice(&long));
        }
        assert!(writer.dropped() > 0);
        drop(written);
        drop(guard);
    }
}
