//! What a connection reads into. A frame shares the memory that it was read into and is not copied, unless that is much
//! more than the frame: a few bytes in the ring must not hold on to the megabytes of a frame that was cut off.

use bytes::{Bytes, BytesMut};

/// Buffers are of few different sizes, so that memory that one frame leaves fits the next.
pub(super) const BUFFER_STEP: usize = 4096;
/// A frame holds on to at most so many times its length, and [`SLACK`] bytes. Memory that grew with it is up to twice as
/// much.
const TIMES: usize = 3;
const SLACK: usize = 2 * BUFFER_STEP;

/// The bytes of one connection that nobody has made sense of yet.
#[derive(Default)]
pub(super) struct ReadBuffer {
    bytes: BytesMut,
    /// Size of the memory that they lie in; frames that were taken from it may share it.
    memory: usize,
}

impl ReadBuffer {
    /// For whoever reads into it, within the room that was made, and takes from it.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits in it, and its memory is more than what waiting for the next byte takes.
    pub fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.memory > BUFFER_STEP
    }

    /// Makes room for so many more bytes. Memory that a far longer frame left is let go of.
    pub fn make_room(&mut self, wanted: usize) {
        let needed = self.bytes.len() + wanted;
        if is_much_more(self.memory, needed) {
            let mut fitting = BytesMut::with_capacity(needed);
            fitting.extend_from_slice(&self.bytes);
            self.bytes = fitting;
            self.memory = self.bytes.capacity();
            return;
        }
        let before = self.bytes.as_ptr();
        self.bytes.reserve(wanted);
        // At the same place its end is the same too, or further away when it could grow there.
        let capacity = self.bytes.capacity();
        self.memory = if self.bytes.as_ptr() == before { self.memory.max(capacity) } else { capacity };
    }

    /// A frame that was taken from it, in memory that fits it.
    pub fn fit(&mut self, frame: Bytes) -> Bytes {
        if !is_much_more(self.memory, frame.len()) {
            return frame;
        }
        let own = Bytes::copy_from_slice(&frame);
        if self.bytes.is_empty() {
            // So the next one like it is read into memory that fits, and not copied.
            self.let_go();
        }
        own
    }

    /// Lets go of the memory; what waits in it is lost.
    pub fn let_go(&mut self) {
        *self = Self::default();
    }
}

fn is_much_more(memory: usize, needed: usize) -> bool {
    memory > needed.saturating_mul(TIMES).saturating_add(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes come as from a socket, never more than there is room for.
    fn receive(buffer: &mut ReadBuffer, mut count: usize, room: usize) {
        while count > 0 {
            buffer.make_room(room);
            let now = count.min(room);
            buffer.bytes().extend(std::iter::repeat_n(7_u8, now));
            count -= now;
        }
    }

    /// Takes a frame; says whether it was copied.
    fn take(buffer: &mut ReadBuffer, len: usize) -> (Bytes, bool) {
        let frame = buffer.bytes().split_to(len).freeze();
        let place = frame.as_ptr();
        let fitting = buffer.fit(frame);
        assert_eq!(fitting.len(), len);
        let copied = fitting.as_ptr() != place;
        (fitting, copied)
    }

    /// Memory that a frame holds on to, once nobody else does.
    fn memory_of(frame: Bytes) -> usize {
        frame.try_into_mut().expect("nobody else holds it").capacity()
    }

    #[test]
    fn frames_of_ordinary_sizes_are_not_copied() {
        for held in [false, true] {
            let (mut buffer, mut last, mut ring) = (ReadBuffer::default(), 0, Vec::new());
            let sizes = [60_000, 61_000, 46_000, 90_000, 64_000, 63_000, 45_000, 250_000, 180_000];
            // Then far less than the memory that is there: the first of them is copied, and the memory let go of.
            for (size, is_copied) in
                sizes.map(|size| (size, false)).into_iter().chain([(40_000, true), (40_000, false)])
            {
                // As a session does it: room for a frame like the last one, then more as it comes.
                receive(&mut buffer, size.min(last + 1024), last + 1024);
                if size > last + 1024 {
                    let come = last + 1024;
                    receive(&mut buffer, size - come, (last + 1024).min(65_536));
                }
                let (frame, copied) = take(&mut buffer, size);
                assert_eq!(copied, is_copied, "{size} bytes after {last}");
                last = size;
                if held {
                    ring.push(frame);
                }
            }
        }
    }

    #[test]
    fn a_few_bytes_do_not_hold_on_to_the_memory_of_a_long_frame() {
        let mut buffer = ReadBuffer::default();
        let mut ring = Vec::new();
        for _ in 0..4 {
            // A long frame that was cut off and refused, and right behind it a tiny one.
            receive(&mut buffer, (1 << 20) + 500, 65_536);
            let _ = buffer.bytes().split_to(1 << 20);
            let (frame, copied) = take(&mut buffer, 500);
            assert!(copied);
            ring.push(frame);
            buffer.make_room(BUFFER_STEP);
            assert!(
                buffer.bytes().capacity() <= TIMES * BUFFER_STEP + SLACK,
                "and what is left is let go of"
            );
        }
        for frame in ring {
            assert!(memory_of(frame) <= TIMES * 500 + SLACK);
        }
    }

    #[test]
    fn memory_is_let_go_of_while_nothing_comes() {
        let mut buffer = ReadBuffer::default();
        receive(&mut buffer, 300_000, 65_536);
        assert!(!buffer.is_idle(), "something waits");
        let (frame, _) = take(&mut buffer, 300_000);
        assert!(buffer.is_idle());
        buffer.let_go();
        buffer.make_room(BUFFER_STEP);
        assert!(!buffer.is_idle() && buffer.bytes().capacity() <= BUFFER_STEP);
        assert!(memory_of(frame) >= 300_000, "the frame is its own");
    }
}
