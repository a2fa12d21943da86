//! Where a tensor's values lie in the plan's memory. No kernels here.
//!
//! **Blocked**: channels in blocks of sixteen, `[block][y][x][16]`, so that one vector holds sixteen channels of one
//! pixel. **Planar**: `[channel][y][x]`, for network inputs of few channels. Both may have a **halo**: zeros around
//! each plane, which spare the kernels of padded convolutions every question about borders. **Plain**: row-major
//! without gaps, for everything that is not a picture.

use super::lanes::LANES;

/// Zeros around a plane, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Halo {
    /// Above.
    pub top: usize,
    /// To the left.
    pub left: usize,
    /// Below.
    pub bottom: usize,
    /// To the right.
    pub right: usize,
}

impl Halo {
    /// Wide enough for both.
    pub fn union(self, other: Self) -> Self {
        Self {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }

    /// There is none.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Channels, height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Channels.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Size {
    /// Blocks of sixteen channels.
    pub fn blocks(self) -> usize {
        self.c.div_ceil(LANES)
    }
}

/// A picture tensor in the plan's memory. Offsets and steps count f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The buffer it lies in, until addresses are given out; see `plan`.
    pub buffer: usize,
    /// Channels, rows, columns without the halo.
    pub size: Size,
    /// Of channel 0, row 0, column 0.
    pub offset: usize,
    /// From one block (blocked) or channel (planar) to the next.
    pub plane: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one pixel to the next: 16 (blocked) or 1 (planar).
    pub pixel: usize,
    /// Zeros around each plane.
    pub halo: Halo,
}

impl View {
    /// A blocked tensor whose memory, halo included, is a buffer from its beginning.
    pub fn blocked(size: Size, halo: Halo, buffer: usize) -> Self {
        Self::with_pixel(size, halo, buffer, LANES)
    }

    /// A planar tensor whose memory, halo included, is a buffer from its beginning.
    pub fn planar(size: Size, halo: Halo, buffer: usize) -> Self {
        Self::with_pixel(size, halo, buffer, 1)
    }

    fn with_pixel(size: Size, halo: Halo, buffer: usize, pixel: usize) -> Self {
        let row = (size.w + halo.left + halo.right) * pixel;
        let plane = row * (size.h + halo.top + halo.bottom);
        Self { buffer, size, offset: halo.top * row + halo.left * pixel, plane, row, pixel, halo }
    }

    /// `len` values one after the other as one row of sixteen channels; the last vector may reach beyond them.
    pub fn line(buffer: usize, offset: usize, len: usize) -> Self {
        let w = len.div_ceil(LANES);
        let size = Size { c: LANES, h: 1, w };
        Self { buffer, size, offset, plane: w * LANES, row: w * LANES, pixel: LANES, halo: Halo::default() }
    }

    /// Planes: blocks or channels.
    pub fn planes(&self) -> usize {
        if self.pixel == LANES { self.size.blocks() } else { self.size.c }
    }

    /// Where its memory begins, halo included.
    pub fn start(&self) -> usize {
        self.offset - self.halo.top * self.row - self.halo.left * self.pixel
    }

    /// Its memory, halo included.
    pub fn len(&self) -> usize {
        self.planes() * self.plane
    }

    /// The part that begins at block `block` and has `channels` channels.
    pub fn part(&self, block: usize, channels: usize) -> Self {
        let size = Size { c: channels, ..self.size };
        Self { size, offset: self.offset + block * self.plane, ..*self }
    }

    /// Of channel block (or channel) `plane`, row `y`, column `x`.
    #[inline(always)]
    pub fn at(&self, plane: usize, y: usize, x: usize) -> usize {
        self.offset + plane * self.plane + y * self.row + x * self.pixel
    }
}
