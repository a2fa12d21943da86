//! Full-range frames, as JPEG has them, to limited-range 4:2:0, as players expect, where the size stays. It is what
//! swscale would do, at a tenth of its price; every other conversion is swscale's (see `scale`).
//!
//! Recommendation ITU-R BT.601: luma 0..=255 becomes 16..=235, chroma 16..=240.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Error, frame};

use crate::library::new_frame;
use crate::scale::Colours;

/// 219/255 and 224/255 with 16 fractional bits.
const LUMA: u32 = 56_284;
const CHROMA: u32 = 57_569;
/// What is added with 8 fractional bits, one half for rounding among it: 16, and 128 less 128 * 224/255.
const LUMA_OFFSET: u16 = 16 * 256 + 128;
const CHROMA_OFFSET: u16 = 3_984 + 128;

/// The frame as limited-range 4:2:0 of the same size, a frame that nobody else refers to. `None`: it is not of the kind
/// that is done here, full-range 4:2:0 or 4:2:2 of BT.601 with even sides, or grey.
pub(crate) fn limited(source: &frame::Video) -> Option<Result<frame::Video, Error>> {
    let (width, height) = (source.width(), source.height());
    let even = width.is_multiple_of(2) && height.is_multiple_of(2);
    // A grey frame has no chroma for a matrix to be wrong about.
    let rows_per_row = match source.format() {
        Pixel::YUVJ420P => 1,
        Pixel::YUVJ422P => 2,
        Pixel::GRAY8 => 0,
        _ => return None,
    };
    if !even || width == 0 || height == 0 || !Colours::of(source).is_bt601() {
        return None;
    }
    Some(new_frame(Pixel::YUV420P, width, height).map(|mut target| {
        fill(source, &mut target, rows_per_row);
        target
    }))
}

/// `rows_per_row`: how many rows of the source's chroma make one of the target's; 0: there is none.
fn fill(source: &frame::Video, target: &mut frame::Video, rows_per_row: usize) {
    let (width, height) = (source.width() as usize, source.height() as usize);
    let (from_stride, to_stride) = (source.stride(0), target.stride(0));
    let lines = source.data(0).chunks(from_stride).zip(target.data_mut(0).chunks_mut(to_stride));
    for (from, to) in lines.take(height) {
        luma(from.get(..width).unwrap_or(from), to);
    }
    for plane in 1..3 {
        let to_stride = target.stride(plane);
        let lines = target.data_mut(plane).chunks_mut(to_stride).take(height / 2);
        if rows_per_row == 0 {
            lines.for_each(|to| to.fill(128));
            continue;
        }
        let from_stride = source.stride(plane);
        let groups = source.data(plane).chunks(from_stride * rows_per_row);
        for (group, to) in groups.zip(lines) {
            let (upper, lower) = group.split_at(group.len().min(from_stride));
            let upper = upper.get(..width / 2).unwrap_or(upper);
            match lower.get(..width / 2) {
                Some(lower) => chroma_of_two(upper, lower, to),
                None => chroma(upper, to),
            }
        }
    }
}

/// The upper half of a product of 16 bits each: what vector units have an instruction for.
#[inline(always)]
fn high(value: u16, factor: u32) -> u16 {
    ((u32::from(value) * factor) >> 16) as u16
}

fn luma(from: &[u8], to: &mut [u8]) {
    for (from, to) in from.iter().zip(to) {
        *to = ((high(u16::from(*from) << 8, LUMA) + LUMA_OFFSET) >> 8) as u8;
    }
}

fn chroma(from: &[u8], to: &mut [u8]) {
    for (from, to) in from.iter().zip(to) {
        *to = ((high(u16::from(*from) << 8, CHROMA) + CHROMA_OFFSET) >> 8) as u8;
    }
}

/// Two rows become the one between them.
fn chroma_of_two(upper: &[u8], lower: &[u8], to: &mut [u8]) {
    for ((upper, lower), to) in upper.iter().zip(lower).zip(to) {
        let sum = u16::from(*upper) + u16::from(*lower);
        *to = ((high(sum << 7, CHROMA) + CHROMA_OFFSET) >> 8) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::init;
    use crate::scale::Scaler;

    #[test]
    fn every_level_is_rounded_as_the_recommendation_has_it() {
        let levels: Vec<u8> = (0..=255).collect();
        let mut got = [0; 256];
        luma(&levels, &mut got);
        for (level, got) in levels.iter().zip(got) {
            let exact = 16.0 + f64::from(*level) * 219.0 / 255.0;
            assert_eq!(f64::from(got), exact.round(), "luma {level}");
        }
        let mut got = [0; 256];
        chroma(&levels, &mut got);
        for (level, got) in levels.iter().zip(got) {
            let exact = 128.0 + (f64::from(*level) - 128.0) * 224.0 / 255.0;
            // Two levels lie so near the middle that 8 fractional bits do not tell on which side.
            assert!((f64::from(got) - exact).abs() < 0.51, "chroma {level}: {got} for {exact}");
        }
        for upper in 0..=255 {
            for lower in [0, 1, 77, 128, 254, 255] {
                let mut got = [0];
                chroma_of_two(&[upper], &[lower], &mut got);
                let mean = (f64::from(upper) + f64::from(lower)) / 2.0;
                let exact = 128.0 + (mean - 128.0) * 224.0 / 255.0;
                assert!(
                    (f64::from(got[0]) - exact).abs() < 0.51,
                    "{upper} and {lower}: {} for {exact}",
                    got[0]
                );
            }
        }
        assert_eq!(
            [16, 235],
            [0, 255].map(|level| {
                let mut got = [0];
                luma(&[level], &mut got);
                got[0]
            })
        );
    }

    /// A frame of slopes up and down through all levels, other ones in each plane, which go on behind the rows' ends.
    fn frame(format: Pixel, width: u32, height: u32) -> frame::Video {
        init();
        let mut frame = new_frame(format, width, height).unwrap();
        for plane in 0..frame.planes() {
            let stride = frame.stride(plane);
            for (at, byte) in frame.data_mut(plane).iter_mut().enumerate() {
                let level = (at % stride * (plane + 2) + at / stride * 2 + plane * 70) % 510;
                *byte = u8::try_from(level.min(510 - level)).unwrap();
            }
        }
        frame
    }

    /// The pixels of a plane, without what lies behind its rows.
    fn pixels(frame: &frame::Video, plane: usize) -> Vec<u8> {
        let width = frame.plane_width(plane) as usize;
        let rows = frame.data(plane).chunks(frame.stride(plane)).take(frame.plane_height(plane) as usize);
        rows.flat_map(|row| row[..width].to_vec()).collect()
    }

    #[test]
    fn a_frame_becomes_what_swscale_makes_of_it() {
        for format in [Pixel::YUVJ420P, Pixel::YUVJ422P, Pixel::GRAY8] {
            for (width, height) in [(2, 2), (16, 16), (34, 6), (640, 480)] {
                let source = frame(format, width, height);
                let ours = limited(&source).unwrap().unwrap();
                let theirs = Scaler::default().run(&source, Pixel::YUV420P, width, height).unwrap();
                for plane in 0..3 {
                    let (ours, theirs) = (pixels(&ours, plane), pixels(&theirs, plane));
                    assert_eq!(ours.len(), theirs.len());
                    // swscale does not round as exactly, and looks at four rows of 4:2:2 for one.
                    let worst = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
                    assert!(worst <= Some(2), "{format:?} {width}x{height} plane {plane}: {worst:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_of_another_kind_is_left_to_swscale() {
        for (format, width, height) in [
            (Pixel::YUVJ420P, 3, 2),
            (Pixel::YUVJ420P, 2, 3),
            (Pixel::YUVJ444P, 2, 2),
            (Pixel::YUV420P, 2, 2),
        ] {
            assert!(limited(&frame(format, width, height)).is_none(), "{format:?} {width}x{height}");
        }
        let mut other = frame(Pixel::YUVJ420P, 4, 4);
        other.set_color_space(ffmpeg_next::color::Space::BT709);
        assert!(limited(&other).is_none());
    }
}
