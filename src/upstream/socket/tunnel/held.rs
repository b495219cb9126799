//! Bytes of messages that are held, out of one memory for all sockets.

use crate::wire::frame::apply_mask;
use crate::wire::{MemoryBudget, Reserved};

/// So much is held without a charge: small inputs find room whatever others hold.
const FREE: usize = 4096;

/// Bytes of a message, charged as they come and not as they are announced.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    room: Option<Reserved>,
}

/// The messages of all sockets fill their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Held {
    /// Adds bytes. Without room for them nothing changes.
    pub(super) fn extend(&mut self, bytes: &[u8], memory: &MemoryBudget) -> Result<(), NoRoom> {
        let (wanted, has) = (self.bytes.len() + bytes.len(), self.bytes.capacity());
        if wanted > has {
            // A part more than is needed, so that not every piece is a copy of all; as much as is needed, where that is all.
            self.grow(wanted.max(has + has / 4), memory).or_else(|NoRoom| self.grow(wanted, memory))?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds bytes that came under a mask, of which `offset` came before.
    pub(super) fn extend_masked(
        &mut self,
        bytes: &[u8],
        (mask, offset): ([u8; 4], u64),
        memory: &MemoryBudget,
    ) -> Result<(), NoRoom> {
        let before = self.bytes.len();
        self.extend(bytes, memory)?;
        apply_mask(&mut self.bytes[before..], mask, offset);
        Ok(())
    }

    fn grow(&mut self, capacity: usize, memory: &MemoryBudget) -> Result<(), NoRoom> {
        if capacity > FREE {
            let charged = if self.room.is_some() { self.bytes.capacity() } else { 0 };
            let more = memory.reserve((capacity - charged) as u64).ok_or(NoRoom)?;
            match &mut self.room {
                Some(room) => room.merge(more),
                room => *room = Some(more),
            }
        }
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    /// Lets go of what it holds. What costs nothing is kept for the next message.
    pub(super) fn clear(&mut self) {
        self.room = None;
        if self.bytes.capacity() > FREE {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, and their room for as long as they are held elsewhere.
    pub(super) fn into_parts(self) -> (Vec<u8>, Option<Reserved>) {
        (self.bytes, self.room)
    }
}

/// Room for bytes that are held once more. `None` where they cost nothing.
pub(super) fn room_for(bytes: usize, memory: &MemoryBudget) -> Result<Option<Reserved>, NoRoom> {
    if bytes > FREE { memory.reserve(bytes as u64).map(Some).ok_or(NoRoom) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_charged_until_it_is_let_go() {
        let memory = MemoryBudget::new(100_000);
        let mut held = Held::default();
        held.extend(&[1; 4096], &memory).unwrap();
        assert_eq!(memory.free(), 100_000, "small ones are free");
        held.extend(&[2; 50_000], &memory).unwrap();
        assert!(memory.free() <= 100_000 - 54_096, "{}", memory.free());
        held.extend(&[3; 45_904], &memory).unwrap();
        assert_eq!((memory.free(), held.bytes().len()), (0, 100_000), "no more than is needed where there is no more");
        assert_eq!(held.extend(&[4], &memory), Err(NoRoom));
        assert_eq!(held.bytes().len(), 100_000);
        held.clear();
        assert_eq!((memory.free(), held.bytes().len()), (100_000, 0));
        assert!(held.bytes.capacity() <= FREE, "its capacity goes with its charge");
    }

    #[test]
    fn room_goes_with_the_bytes() {
        let memory = MemoryBudget::new(10_000);
        let mut held = Held::default();
        held.extend_masked(b"ab", ([1, 0, 0, 0], 3), &memory).unwrap();
        held.extend(&[0; 9_000], &memory).unwrap();
        let (bytes, room) = held.into_parts();
        assert_eq!(bytes[..2], *b"ac");
        assert!(memory.free() < 1_000 && room_for(5_000, &memory).is_err() && room_for(10, &memory).is_ok());
        drop(room);
        assert_eq!(memory.free(), 10_000);
    }
}
