//! Sixteen f32 in four NEON registers.
#![allow(unsafe_op_in_unsafe_fn, reason = "whole methods are intrinsics; see the reason at the impl")]

use std::arch::aarch64::*;

use super::{Job, Lanes};

/// Four q registers.
#[derive(Clone, Copy)]
pub struct Neon([float32x4_t; 4]);

/// One value per register; `I` is its number.
macro_rules! each_register {
    ($i:ident => $value:expr) => {
        Neon([
            {
                const $i: usize = 0;
                $value
            },
            {
                const $i: usize = 1;
                $value
            },
            {
                const $i: usize = 2;
                $value
            },
            {
                const $i: usize = 3;
                $value
            },
        ])
    };
}

// SAFETY: every method is intrinsics of NEON only, which AArch64 always has; loads and stores need no alignment.
unsafe impl Lanes for Neon {
    // 6 * 4 accumulators, 4 weights and a broadcast: 29 of 32 registers.
    tile_widths!(1 2 3 4 5 6 most 6);
    const OUTPUT_BLOCKS: usize = 1;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn outline<J: Job>(job: J) {
        #[target_feature(enable = "neon")]
        #[inline(never)]
        unsafe fn compiled<J: Job>(job: J) {
            job.run::<Neon>()
        }
        compiled(job)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([vdupq_n_f32(value); 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self([vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))])
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        let all = vld1q_s8(from);
        let (low, high) = (vmovl_s8(vget_low_s8(all)), vmovl_s8(vget_high_s8(all)));
        Self([
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
            vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
            vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
        ])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        vst1q_f32(to, self.0[0]);
        vst1q_f32(to.add(4), self.0[1]);
        vst1q_f32(to.add(8), self.0[2]);
        vst1q_f32(to.add(12), self.0[3]);
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        each_register!(I => vfmaq_f32(summand.0[I], self.0[I], factor.0[I]))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each_register!(I => vaddq_f32(self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each_register!(I => vsubq_f32(self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each_register!(I => vmulq_f32(self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // As on x86: where `self` is NaN the comparison fails and `other` is taken.
        each_register!(I => vbslq_f32(vcgtq_f32(self.0[I], other.0[I]), self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        each_register!(I => vbslq_f32(vcltq_f32(self.0[I], other.0[I]), self.0[I], other.0[I]))
    }

    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        each_register!(I => vdivq_f32(vdupq_n_f32(1.0), self.0[I]))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        each_register!(I => vrndnq_f32(self.0[I]))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, power: Self) -> Self {
        let bias = vdupq_n_s32(127);
        each_register!(I => {
            let biased = vaddq_s32(vcvtnq_s32_f32(power.0[I]), bias);
            vmulq_f32(self.0[I], vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        })
    }

    #[inline(always)]
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
        let zero = vdupq_n_f32(0.0);
        each_register!(I => vbslq_f32(vcgtq_f32(self.0[I], zero), then.0[I], otherwise.0[I]))
    }
}
