//! The last seconds of a camera as encoded bytes: where the pre-roll of a clip comes from.

use std::collections::VecDeque;
use std::time::Duration;

use crate::budget::{Budget, Permit};
use crate::frame::Frame;

/// How much a ring keeps: whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Age of the oldest frame kept, counted from the newest.
    pub span: Duration,
    /// Bytes of all frames kept.
    pub bytes: usize,
}

/// Frames of one camera, oldest first. A single frame larger than the byte limit is still kept, alone.
#[derive(Debug)]
pub struct Ring {
    limits: RingLimits,
    total: Budget,
    frames: VecDeque<(Frame, Permit)>,
    bytes: usize,
}

impl Ring {
    /// An empty ring that also counts against the budget of all rings.
    pub fn new(limits: RingLimits, total: Budget) -> Self {
        Self { limits, total, frames: VecDeque::new(), bytes: 0 }
    }

    /// Adds the newest frame and lets go of what no longer fits. Returns how many frames went
    /// because of the byte limits (age is the ordinary case and not counted).
    pub fn push(&mut self, frame: Frame) -> usize {
        let newest = frame.mono;
        let len = frame.len();
        while let Some((oldest, _)) = self.frames.front() {
            if newest.since(oldest.mono) <= self.limits.span {
                break;
            }
            self.drop_oldest();
        }
        let mut squeezed = 0;
        while !self.frames.is_empty() && self.bytes.saturating_add(len) > self.limits.bytes {
            self.drop_oldest();
            squeezed += 1;
        }
        let permit = loop {
            if let Some(permit) = self.total.try_take(len) {
                break permit;
            }
            if self.frames.is_empty() {
                // One frame per camera is always kept: the caller is the camera's only writer.
                break self.total.take_over(len);
            }
            self.drop_oldest();
            squeezed += 1;
        };
        self.bytes += len;
        self.frames.push_back((frame, permit));
        squeezed
    }

    fn drop_oldest(&mut self) {
        if let Some((frame, _permit)) = self.frames.pop_front() {
            self.bytes -= frame.len();
        }
    }

    /// Frames that are at most `span` older than the newest, oldest first. Shares the bytes.
    pub fn last(&self, span: Duration) -> Vec<Frame> {
        let Some((newest, _)) = self.frames.back() else { return Vec::new() };
        let newest = newest.mono;
        self.frames.iter().filter(|(f, _)| newest.since(f.mono) <= span).map(|(f, _)| f.clone()).collect()
    }

    /// The newest frame.
    pub fn newest(&self) -> Option<&Frame> {
        self.frames.back().map(|(f, _)| f)
    }

    /// Every frame kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().map(|(f, _)| f)
    }

    /// Bytes of all frames kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of frames kept.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ImageFormat;
    use crate::ids::CameraId;
    use crate::time::{MonoTime, WallTime};
    use bytes::Bytes;

    fn frame(seq: u64, at_ms: u64, len: usize) -> Frame {
        Frame {
            camera: CameraId::parse("cam").unwrap(),
            seq,
            wall: WallTime(0),
            mono: MonoTime(at_ms * 1_000_000),
            format: ImageFormat::Jpeg,
            width: 1,
            height: 1,
            proven: false,
            bytes: Bytes::from(vec![0; len]),
        }
    }

    fn seqs(frames: &[Frame]) -> Vec<u64> {
        frames.iter().map(|f| f.seq).collect()
    }

    #[test]
    fn age_and_bytes_bound_it() {
        let mut ring = Ring::new(RingLimits { span: Duration::from_secs(1), bytes: 35 }, Budget::new(1000));
        for seq in 0..10 {
            ring.push(frame(seq, seq * 200, 10));
        }
        assert_eq!(seqs(&ring.last(Duration::from_secs(9))), [7, 8, 9], "30 of 35 bytes");
        assert_eq!(seqs(&ring.last(Duration::from_millis(200))), [8, 9]);
        assert_eq!(ring.push(frame(10, 9_000, 10)), 0, "age is not squeezing");
        assert_eq!(ring.len(), 1);
        assert_eq!(ring.push(frame(11, 9_001, 50)), 1, "too large for the limit: kept alone");
        assert_eq!((ring.len(), ring.bytes()), (1, 50));
    }

    #[test]
    fn all_rings_share_a_total() {
        let total = Budget::new(30);
        let limits = RingLimits { span: Duration::from_secs(10), bytes: 1000 };
        let mut a = Ring::new(limits, total.clone());
        let mut b = Ring::new(limits, total.clone());
        for seq in 0..3 {
            a.push(frame(seq, seq, 10));
        }
        b.push(frame(0, 0, 10));
        assert!(total.is_over(), "one frame per camera is kept even so");
        assert_eq!(a.push(frame(3, 3, 10)), 2, "the next push makes room again");
        assert!(!total.is_over());
        a.clear();
        b.clear();
        assert_eq!(total.used(), 0);
    }
}
