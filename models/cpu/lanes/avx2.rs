//! Sixteen f32 in two AVX registers, with FMA; eight in one.
#![allow(unsafe_op_in_unsafe_fn, reason = "whole methods are intrinsics; see the reason at the impl")]

use std::arch::x86_64::*;

use super::{Job, Lanes};

/// Two ymm registers.
#[derive(Clone, Copy)]
pub struct Avx2(__m256, __m256);

// SAFETY: every method is intrinsics of AVX, AVX2 and FMA only; loads and stores are the unaligned ones.
unsafe impl Lanes for Avx2 {
    // 6 * 2 accumulators, 2 weights and a broadcast: 15 of 16 registers.
    tile_widths!(1 2 3 4 5 6 most 6);
    const OUTPUT_BLOCKS: usize = 1;
    type Narrow = Avx2Low;

    #[inline(always)]
    unsafe fn outline<J: Job>(job: J) {
        #[target_feature(enable = "avx2,fma")]
        #[inline(never)]
        unsafe fn compiled<J: Job>(job: J) {
            job.run::<Avx2>()
        }
        compiled(job)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm256_set1_ps(value), _mm256_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        let (low, high) = (_mm_loadl_epi64(from.cast()), _mm_loadl_epi64(from.add(8).cast()));
        Self(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
        _mm256_storeu_ps(to.add(8), self.1);
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        Self(_mm256_fmadd_ps(self.0, factor.0, summand.0), _mm256_fmadd_ps(self.1, factor.1, summand.1))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1))
    }

    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        let one = _mm256_set1_ps(1.0);
        Self(_mm256_div_ps(one, self.0), _mm256_div_ps(one, self.1))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Self(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, power: Self) -> Self {
        let bias = _mm256_set1_epi32(127);
        let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(power.0), bias));
        let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(power.1), bias));
        Self(
            _mm256_mul_ps(self.0, _mm256_castsi256_ps(first)),
            _mm256_mul_ps(self.1, _mm256_castsi256_ps(second)),
        )
    }

    #[inline(always)]
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
        let zero = _mm256_setzero_ps();
        let first = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, zero);
        let second = _mm256_cmp_ps::<_CMP_GT_OQ>(self.1, zero);
        Self(_mm256_blendv_ps(otherwise.0, then.0, first), _mm256_blendv_ps(otherwise.1, then.1, second))
    }
}

/// The first eight lanes in one ymm register.
#[derive(Clone, Copy)]
pub struct Avx2Low(__m256);

// SAFETY: as above; loads and stores touch eight values.
unsafe impl Lanes for Avx2Low {
    // 8 accumulators hide the latency of the multiply-add.
    tile_widths!(1 2 3 4 5 6 7 8 most 8);
    const OUTPUT_BLOCKS: usize = 1;
    const LIVE: usize = 8;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn outline<J: Job>(job: J) {
        #[target_feature(enable = "avx2,fma")]
        #[inline(never)]
        unsafe fn compiled<J: Job>(job: J) {
            job.run::<Avx2Low>()
        }
        compiled(job)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm256_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        Self(_mm256_fmadd_ps(self.0, factor.0, summand.0))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm256_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm256_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm256_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        Self(_mm256_div_ps(_mm256_set1_ps(1.0), self.0))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Self(_mm256_round_ps::<NEAREST>(self.0))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, power: Self) -> Self {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(power.0), _mm256_set1_epi32(127));
        Self(_mm256_mul_ps(self.0, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))))
    }

    #[inline(always)]
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
        let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, _mm256_setzero_ps());
        Self(_mm256_blendv_ps(otherwise.0, then.0, positive))
    }
}
