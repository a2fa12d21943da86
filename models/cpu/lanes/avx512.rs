//! Sixteen f32 in one AVX-512 register.
#![allow(unsafe_op_in_unsafe_fn, reason = "whole methods are intrinsics; see the reason at the impl")]

use std::arch::x86_64::*;

use super::{Job, Lanes};

/// One zmm register.
#[derive(Clone, Copy)]
pub struct Avx512(__m512);

// SAFETY: every method is intrinsics of AVX-512F only; loads and stores are the unaligned ones.
unsafe impl Lanes for Avx512 {
    // 2 * 14 accumulators, 2 weights and a broadcast: 31 of 32 registers.
    tile_widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 most 14);
    const OUTPUT_BLOCKS: usize = 2;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn outline<J: Job>(job: J) {
        #[target_feature(enable = "avx512f")]
        #[inline(never)]
        unsafe fn compiled<J: Job>(job: J) {
            job.run::<Avx512>()
        }
        compiled(job)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm512_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm512_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self.0)
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, factor.0, summand.0))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm512_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm512_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm512_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        // 14 bits from the table, doubled by one Newton step.
        let guess = _mm512_rcp14_ps(self.0);
        let error = _mm512_fnmadd_ps(self.0, guess, _mm512_set1_ps(2.0));
        Self(_mm512_mul_ps(guess, error))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(_mm512_roundscale_ps::<0>(self.0))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, power: Self) -> Self {
        Self(_mm512_scalef_ps(self.0, power.0))
    }

    #[inline(always)]
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
        let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, _mm512_setzero_ps());
        Self(_mm512_mask_blend_ps(positive, otherwise.0, then.0))
    }
}
