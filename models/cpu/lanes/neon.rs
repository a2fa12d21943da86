//! Sixteen f32 in four NEON registers.

use std::arch::aarch64::*;

use super::{Job, Lanes};

/// Four q registers.
#[derive(Clone, Copy)]
pub struct Neon([float32x4_t; 4]);

impl Neon {
    #[inline(always)]
    fn map(self, f: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        let [a, b, c, d] = self.0;
        Self([f(a), f(b), f(c), f(d)])
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        let ([a, b, c, d], [e, g, h, i]) = (self.0, other.0);
        Self([f(a, e), f(b, g), f(c, h), f(d, i)])
    }
}

// SAFETY: every method is intrinsics of NEON only, which AArch64 always has; loads and stores need no alignment.
unsafe impl Lanes for Neon {
    // 6 * 4 accumulators, 4 weights and a broadcast: 29 of 32 registers.
    tile_widths!(1 2 3 4 5 6 most 6);
    const OUTPUT_BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn outline<J: Job>(job: J) {
        #[target_feature(enable = "neon")]
        #[inline(never)]
        unsafe fn compiled<J: Job>(job: J) {
            unsafe { job.run::<Neon>() }
        }
        unsafe { compiled(job) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self([vdupq_n_f32(value); 4]) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe {
            Self([vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))])
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        unsafe {
            let all = vld1q_s8(from);
            let (low, high) = (vmovl_s8(vget_low_s8(all)), vmovl_s8(vget_high_s8(all)));
            Self([
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
            ])
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            vst1q_f32(to, self.0[0]);
            vst1q_f32(to.add(4), self.0[1]);
            vst1q_f32(to.add(8), self.0[2]);
            vst1q_f32(to.add(12), self.0[3]);
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        let product = |i: usize| unsafe { vfmaq_f32(summand.0[i], self.0[i], factor.0[i]) };
        Self([product(0), product(1), product(2), product(3)])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // As on x86: where `self` is NaN the comparison fails and `other` is taken.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }

    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        self.map(|a| unsafe { vdivq_f32(vdupq_n_f32(1.0), a) })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        self.map(|a| unsafe { vrndnq_f32(a) })
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, power: Self) -> Self {
        self.zip(power, |a, n| unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        })
    }

    #[inline(always)]
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
        let pick = |i: usize| unsafe {
            vbslq_f32(vcgtq_f32(self.0[i], vdupq_n_f32(0.0)), then.0[i], otherwise.0[i])
        };
        Self([pick(0), pick(1), pick(2), pick(3)])
    }
}
