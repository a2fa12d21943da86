//! Sixteen f32 in an array: runs everywhere, and is what the others are compared with.
#![allow(unsafe_op_in_unsafe_fn, reason = "the trait is unsafe for its pointers; see the reason at the impl")]

use super::{Job, LANES, Lanes};

/// An array; the compiler may find vector registers for it.
#[derive(Clone, Copy)]
pub struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i])))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

// SAFETY: plain Rust; the pointers are read and written as arrays that need only the alignment of f32.
unsafe impl Lanes for Portable {
    tile_widths!(1 2 most 2);
    const OUTPUT_BLOCKS: usize = 1;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn outline<J: Job>(job: J) {
        #[inline(never)]
        unsafe fn compiled<J: Job>(job: J) {
            job.run::<Portable>()
        }
        compiled(job)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(from.cast::<[f32; LANES]>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(from.cast::<[i8; LANES]>().read().map(f32::from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        to.cast::<[f32; LANES]>().write_unaligned(self.0)
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        // Two roundings: without the instruction, `f32::mul_add` is a call into the C library.
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + summand.0[i]))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        self.map(|a| 1.0 / a)
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        self.map(f32::round_ties_even)
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, power: Self) -> Self {
        self.zip(power, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] > 0.0 { then.0[i] } else { otherwise.0[i] }))
    }
}
