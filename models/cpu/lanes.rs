//! Sixteen f32 at a time: what the kernels are written with, once, for every instruction set. The instruction sets
//! stand in the folder; what they have in common, the exponential among it, stands here.
#![allow(clippy::missing_safety_doc, reason = "said once, at the trait")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "each unsafe function is a method of `Lanes` or a job; their contracts say what is asked for"
)]

/// Channels in a block of the layout, and values in one [`Lanes`].
pub const LANES: usize = 16;

/// A piece of work that is compiled for each instruction set.
pub trait Job {
    /// Does it. Implementations must be `#[inline(always)]`: only then are they compiled for the instruction set.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn run<V: Lanes>(self);
}

/// A piece of work that is compiled for each instruction set and for several widths of tile.
pub trait TileJob {
    /// Does it with tiles of `P` pixels. Implementations must be `#[inline(always)]`.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn run<V: Lanes, const P: usize>(self);
}

/// A tile job with its width.
pub struct OfWidth<J, const P: usize>(pub J);

impl<J: TileJob, const P: usize> Job for OfWidth<J, P> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        self.0.run::<V, P>()
    }
}

/// The two methods of [`Lanes`] that choose among widths of tile: each width listed is compiled once per job.
macro_rules! tile_widths {
    ($($width:literal)* most $most:literal) => {
        const TILE: usize = $most;

        #[inline(always)]
        unsafe fn with_any_tile<J: crate::cpu::lanes::TileJob>(width: usize, job: J) {
            use crate::cpu::lanes::OfWidth;
                match width {
                    $($width => Self::outline(OfWidth::<J, $width>(job)),)*
                    _ => Self::outline(OfWidth::<J, 1>(job)),
                }
        }

        #[inline(always)]
        unsafe fn with_narrow_tile<J: crate::cpu::lanes::TileJob>(width: usize, job: J) {
            use crate::cpu::lanes::OfWidth;
                match width {
                    1 => Self::outline(OfWidth::<J, 1>(job)),
                    2 => Self::outline(OfWidth::<J, 2>(job)),
                    3 if $most >= 3 => Self::outline(OfWidth::<J, 3>(job)),
                    4 if $most >= 4 => Self::outline(OfWidth::<J, 4>(job)),
                    5 if $most >= 5 => Self::outline(OfWidth::<J, 5>(job)),
                    _ => Self::outline(OfWidth::<J, 1>(job)),
                }
        }

        #[inline(always)]
        unsafe fn with_wide_tile<J: crate::cpu::lanes::TileJob>(width: usize, job: J) {
            use crate::cpu::lanes::OfWidth;
                if width >= $most {
                    Self::outline(OfWidth::<J, $most>(job));
                } else {
                    Self::outline(OfWidth::<J, 1>(job));
                }
        }
    };
}

pub mod portable;

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;

/// Instruction sets that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512F.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain Rust.
    Portable,
}

impl Isa {
    /// All that this processor has, the best first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                found.push(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa::Neon);
        found.push(Isa::Portable);
        found
    }

    /// The best that this processor has.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// Does the job with these instructions.
    ///
    /// # Safety
    /// The processor has them ([`Isa::available`] says so), and what the job itself asks for.
    pub unsafe fn run(self, job: impl Job) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::Avx512::outline(job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::Avx2::outline(job),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::Neon::outline(job),
            Isa::Portable => portable::Portable::outline(job),
        }
    }
}

/// Sixteen f32 in registers.
///
/// # Safety
/// Methods of an implementation may only run on a processor that has its instructions. `load` and `store` touch at most
/// sixteen values at the pointer, which needs no alignment. An implementation is [`Lanes::LIVE`] f32 in memory.
pub unsafe trait Lanes: Copy {
    /// Pixels of a convolution tile: so many, times [`Lanes::OUTPUT_BLOCKS`], accumulators fit the registers.
    const TILE: usize;
    /// Output blocks of a convolution tile, 1 or 2.
    const OUTPUT_BLOCKS: usize;

    /// Lanes that are computed, loaded and stored: all, or the first eight.
    const LIVE: usize = LANES;
    /// The same instructions on the first eight lanes alone, where that takes half as many; else the type itself. For
    /// pictures of at most eight channels, whose other lanes nobody reads.
    type Narrow: Lanes;

    /// Runs a job in a function of its own, compiled for this instruction set.
    unsafe fn outline<J: Job>(job: J);

    /// Runs the job with tiles of this width, or of one pixel where there is no such tile.
    unsafe fn with_any_tile<J: TileJob>(width: usize, job: J);

    /// Runs the job with tiles of this width if it is at most 5, or of one pixel.
    unsafe fn with_narrow_tile<J: TileJob>(width: usize, job: J);

    /// Runs the job with the widest tile when there are that many pixels, else with tiles of one pixel: for what is
    /// rare, so that not every width is compiled.
    unsafe fn with_wide_tile<J: TileJob>(width: usize, job: J);

    /// All lanes the same.
    unsafe fn splat(value: f32) -> Self;
    /// From memory.
    unsafe fn load(from: *const f32) -> Self;
    /// From sixteen whole numbers of 8 bits.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// To memory.
    unsafe fn store(self, to: *mut f32);
    /// self * factor + summand, in one rounding where the processor can.
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self;
    /// self + other
    unsafe fn add(self, other: Self) -> Self;
    /// self - other
    unsafe fn sub(self, other: Self) -> Self;
    /// self * other
    unsafe fn mul(self, other: Self) -> Self;
    /// The larger; `other` where self is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; `other` where self is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// 1 / self, to about 1e-7 relative.
    unsafe fn reciprocal(self) -> Self;
    /// To the nearest whole number.
    unsafe fn round(self) -> Self;
    /// self * 2^power for whole powers of -126..=127.
    unsafe fn scale_by_power(self, power: Self) -> Self;
    /// `then` where self > 0, else `otherwise`.
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self;

    /// e^self for self clamped to -87..=88 (NaN counts as -87). Relative error below 2e-6.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // Cephes' scheme: x = n ln 2 + r, e^r by a polynomial on |r| <= ln 2 / 2 (coefficients: minimax, degree 6).
        let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
        let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(Self::splat(-0.693_359_4), x);
        let r = n.mul_add(Self::splat(2.121_944_4e-4), r);
        let mut p = Self::splat(8.375_215e-3);
        p = p.mul_add(r, Self::splat(4.166_583_2e-2));
        p = p.mul_add(r, Self::splat(1.666_650_3e-1));
        p = p.mul_add(r, Self::splat(0.499_999_94));
        p = p.mul_add(r.mul(r), r).add(Self::splat(1.0));
        p.scale_by_power(n)
    }

    /// 1 / (1 + e^-self), self clamped to -60..=60: what lies beyond would become denormal numbers further on, and
    /// those take processors a hundred times as long.
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        let x = self.max(Self::splat(-60.0)).min(Self::splat(60.0));
        Self::splat(0.0).sub(x).exp().add(Self::splat(1.0)).reciprocal()
    }
}
