//! What happened to the sockets of one character.

use crate::error::LoadError;

/// Counts of one character.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Sockets opened.
    pub(crate) opened: u64,
    /// Handshakes that were refused.
    pub(crate) refused: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages that came.
    pub(crate) received: u64,
    /// Sockets that the gate closed.
    pub(crate) closed: u64,
    /// Sockets that ended in any other way than the character's own.
    pub(crate) failed: u64,
    /// Sockets that the gate should have closed and did not.
    pub(crate) hung: u64,
}

impl Tally {
    /// Adds another's counts.
    pub(crate) const fn join(&mut self, other: &Self) {
        self.opened += other.opened;
        self.refused += other.refused;
        self.sent += other.sent;
        self.received += other.received;
        self.closed += other.closed;
        self.failed += other.failed;
        self.hung += other.hung;
    }

    /// Counts how a socket ended.
    pub(crate) fn end(&mut self, ended: &Result<(), LoadError>) {
        match ended {
            Ok(()) => {}
            Err(LoadError::Handshake(_)) => self.refused += 1,
            Err(LoadError::Closed { .. } | LoadError::Io(_)) => self.closed += 1,
            Err(_) => self.failed += 1,
        }
    }

    /// Prints a table.
    pub(crate) fn print<'a>(rows: impl Iterator<Item = (&'static str, &'a Self)>) {
        println!("| sockets | opened | refused | sent | received | closed by the gate | failed | hung |");
        println!("|---|---:|---:|---:|---:|---:|---:|---:|");
        for (name, Self { opened, refused, sent, received, closed, failed, hung }) in rows {
            println!("| {name} | {opened} | {refused} | {sent} | {received} | {closed} | {failed} | {hung} |");
        }
    }
}
