//! Finds the contour of the object that stands in a zone, from one picture of the zone: what differs from its
//! surroundings, lies wholly inside, and has a clear outline. Needs no difference of frames.
//!
//! No single rule serves every object and every background, so several make proposals and the one with the
//! best outline wins: thresholds at many levels (an object darker or brighter than all around it), rows that
//! differ from what the zone shows at its left and right edge in the same row (an object before a wall and on
//! a table), and closed edges.

use opencv::core::{
    BORDER_REPLICATE, Mat, MatExprTraitConst, MatTraitConst, MatTraitConstManual, Point, Scalar, Size,
    ToInputArray, Vector,
};
use opencv::imgproc;

use crate::VisionError;

/// A part of a plane in whole pixels, half open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) right: usize,
    pub(super) bottom: usize,
}

impl Area {
    pub(super) fn width(&self) -> usize {
        self.right - self.left
    }

    pub(super) fn height(&self) -> usize {
        self.bottom - self.top
    }

    /// The same area with a margin, inside a plane.
    pub(super) fn grown(&self, by: usize, width: usize, height: usize) -> Self {
        Self {
            left: self.left.saturating_sub(by),
            top: self.top.saturating_sub(by),
            right: (self.right + by).min(width),
            bottom: (self.bottom + by).min(height),
        }
    }
}

/// The object must cover at least this share of the zone, and at most [`LARGEST`].
const SMALLEST: f64 = 0.006;
const LARGEST: f64 = 0.7;
/// An object of fewer pixels of the plane has no outline to speak of.
const FEWEST_PIXELS: f64 = 20.0;
/// This share of the outline must lie on edges.
const OUTLINE: f32 = 0.55;
/// A step of so many grey levels across three pixels is an edge.
const EDGE_LEVELS: f32 = 10.0;

/// Returns the object's pixels as a mask (0 or 255) of the size of the plane; nothing when nothing stands out.
/// With a hint, only an object that mostly lies on the hint's pixels is taken.
pub(super) fn object_in(
    levels: &[u8],
    width: usize,
    zone: Area,
    hint: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, VisionError> {
    if zone.width() < 12 || zone.height() < 12 {
        return Ok(None);
    }
    let patch = cut(levels, width, zone)?;
    let hint = hint.map(|h| cut(h, width, zone)).transpose()?;
    let mut smooth = Mat::default();
    imgproc::gaussian_blur(&patch, &mut smooth, Size::new(3, 3), 0.0, 0.0, BORDER_REPLICATE)?;
    let edges = edge_strength(&smooth)?;
    let mut best = Best { edges: &edges, hint: hint.as_ref(), score: 0.0, contour: None };
    propose_thresholds(&smooth, &mut best)?;
    propose_rows(&smooth, &mut best)?;
    propose_edges(&edges, &mut best)?;
    let Some(contour) = best.contour else { return Ok(None) };

    let filled = fill(&contour, smooth.size()?)?;
    let mut mask = vec![0; levels.len()];
    let rows = mask.chunks_exact_mut(width).skip(zone.top);
    for (row, filled) in rows.zip(filled.data_bytes()?.chunks_exact(zone.width())) {
        row[zone.left..zone.right].copy_from_slice(filled);
    }
    Ok(Some(mask))
}

/// The best outline so far.
struct Best<'a> {
    edges: &'a Mat,
    hint: Option<&'a Mat>,
    score: f32,
    contour: Option<Vector<Point>>,
}

impl Best<'_> {
    /// Looks at every region of a binary picture of the zone.
    fn consider(&mut self, binary: &Mat) -> Result<(), VisionError> {
        let mut contours = Vector::<Vector<Point>>::new();
        imgproc::find_contours_def(
            binary,
            &mut contours,
            imgproc::RETR_EXTERNAL,
            imgproc::CHAIN_APPROX_NONE,
        )?;
        for contour in &contours {
            let score = self.rate(&contour)?;
            if score > self.score {
                self.score = score;
                self.contour = Some(contour);
            }
        }
        Ok(())
    }

    /// How much a contour looks like the outline of an object; 0 for none at all.
    fn rate(&self, contour: &Vector<Point>) -> Result<f32, VisionError> {
        let size = self.edges.size()?;
        let whole = f64::from(size.width) * f64::from(size.height);
        let area = imgproc::contour_area_def(contour)?;
        if area < (SMALLEST * whole).max(FEWEST_PIXELS) || area > LARGEST * whole {
            return Ok(0.0);
        }
        let bounds = imgproc::bounding_rect(contour)?;
        let inside = bounds.x > 0
            && bounds.y > 0
            && bounds.x + bounds.width < size.width
            && bounds.y + bounds.height < size.height;
        if !inside {
            return Ok(0.0);
        }
        let (mut on_edge, mut strength) = (0u32, 0.0);
        for point in contour {
            // The edge may run beside the contour.
            let mut here = 0.0f32;
            for (dx, dy) in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)] {
                let (x, y) =
                    ((point.x + dx).clamp(0, size.width - 1), (point.y + dy).clamp(0, size.height - 1));
                here = here.max(*self.edges.at_2d::<f32>(y, x)?);
            }
            on_edge += u32::from(here >= EDGE_LEVELS);
            strength += here;
        }
        let points = contour.len() as f32;
        let (outline, strength) = (on_edge as f32 / points, strength / points);
        if outline < OUTLINE {
            return Ok(0.0);
        }
        if let Some(hint) = self.hint {
            let filled = fill(contour, size)?;
            let on_hint = filled.data_bytes()?.iter().zip(hint.data_bytes()?);
            let (own, both) = on_hint.fold((0u32, 0u32), |(own, both), (&f, &h)| {
                (own + u32::from(f != 0), both + u32::from(f != 0 && h != 0))
            });
            if both * 2 < own {
                return Ok(0.0);
            }
        }
        // People draw the zone around the object: the middle counts a little more.
        let off = |at: i32, extent: i32, of: i32| (at as f32 + extent as f32 / 2.0) / of as f32 - 0.5;
        let (dx, dy) = (off(bounds.x, bounds.width, size.width), off(bounds.y, bounds.height, size.height));
        let central = 1.0 - 0.7 * dx.hypot(dy);
        Ok(outline * outline * strength.sqrt() * (area as f32).powf(0.35) * central)
    }
}

/// Copies an area out of a plane.
pub(super) fn cut(levels: &[u8], width: usize, area: Area) -> Result<Mat, VisionError> {
    let rows = levels.chunks_exact(width).skip(area.top).take(area.height());
    let data: Vec<u8> = rows.flat_map(|row| &row[area.left..area.right]).copied().collect();
    // An area of a plane fits, as the plane did.
    Ok(Mat::new_rows_cols_with_bytes::<u8>(area.height() as i32, area.width() as i32, &data)?.try_clone()?)
}

fn fill(contour: &Vector<Point>, size: Size) -> Result<Mat, VisionError> {
    let mut mask = Mat::zeros_size(size, opencv::core::CV_8UC1)?.to_mat()?;
    let mut one = Vector::<Vector<Point>>::new();
    one.push(contour.clone());
    imgproc::draw_contours_def(&mut mask, &one, 0, Scalar::all(255.0))?;
    imgproc::fill_poly_def(&mut mask, &one, Scalar::all(255.0))?;
    Ok(mask)
}

/// Grey levels per step across three pixels, as f32.
fn edge_strength(smooth: &Mat) -> Result<Mat, VisionError> {
    let (mut dx, mut dy, mut strength) = (Mat::default(), Mat::default(), Mat::default());
    let depth = opencv::core::CV_32F;
    imgproc::sobel(smooth, &mut dx, depth, 1, 0, 3, 0.25, 0.0, BORDER_REPLICATE)?;
    imgproc::sobel(smooth, &mut dy, depth, 0, 1, 3, 0.25, 0.0, BORDER_REPLICATE)?;
    opencv::core::magnitude(&dx, &dy, &mut strength)?;
    Ok(strength)
}

fn closed(binary: &impl ToInputArray, side: i32) -> Result<Mat, VisionError> {
    let kernel = imgproc::get_structuring_element_def(imgproc::MORPH_RECT, Size::new(side, side))?;
    let mut out = Mat::default();
    imgproc::morphology_ex_def(binary, &mut out, imgproc::MORPH_CLOSE, &kernel)?;
    Ok(out)
}

/// Darker or brighter than a level, at levels spread over what occurs.
fn propose_thresholds(smooth: &Mat, best: &mut Best<'_>) -> Result<(), VisionError> {
    let mut sorted = smooth.data_bytes()?.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| f64::from(sorted[((sorted.len() - 1) as f64 * share) as usize]);
    let (low, high) = (at(0.005), at(0.995));
    const STEPS: i32 = 14;
    for step in 1..STEPS {
        let level = low + (high - low) * f64::from(step) / f64::from(STEPS);
        for how in [imgproc::THRESH_BINARY, imgproc::THRESH_BINARY_INV] {
            let mut binary = Mat::default();
            imgproc::threshold(smooth, &mut binary, level, 255.0, how)?;
            best.consider(&binary)?;
        }
    }
    Ok(())
}

/// What differs from everything near the left and right edge of the zone in the same rows.
fn propose_rows(smooth: &Mat, best: &mut Best<'_>) -> Result<(), VisionError> {
    let size = smooth.size()?;
    let (width, height) = (size.width as usize, size.height as usize);
    let pixels = smooth.data_bytes()?;
    let strip = (width / 12).clamp(2, 8);
    let range_of = |row: &[u8]| {
        let edge = || row[..strip].iter().chain(&row[width - strip..]).copied();
        (edge().min().unwrap_or(0), edge().max().unwrap_or(255))
    };
    let ranges: Vec<(u8, u8)> = pixels.chunks_exact(width).map(range_of).collect();
    for tolerance in [8u8, 14, 22, 34] {
        let mut binary = vec![0u8; pixels.len()];
        for (y, (row, out)) in pixels.chunks_exact(width).zip(binary.chunks_exact_mut(width)).enumerate() {
            // A horizontal edge behind the object need not be quite level.
            let near = &ranges[y.saturating_sub(1)..(y + 2).min(height)];
            let low = near.iter().map(|r| r.0).min().unwrap_or(0).saturating_sub(tolerance);
            let high = near.iter().map(|r| r.1).max().unwrap_or(255).saturating_add(tolerance);
            for (out, &p) in out.iter_mut().zip(row) {
                *out = if p < low || p > high { 255 } else { 0 };
            }
        }
        let binary = Mat::new_rows_cols_with_bytes::<u8>(size.height, size.width, &binary)?;
        best.consider(&closed(&binary, 3)?)?;
        best.consider(&closed(&binary, 5)?)?;
    }
    Ok(())
}

/// What closed edges surround.
fn propose_edges(edges: &Mat, best: &mut Best<'_>) -> Result<(), VisionError> {
    for level in [8.0, 14.0, 22.0] {
        let (mut strong, mut binary) = (Mat::default(), Mat::default());
        imgproc::threshold(edges, &mut strong, level, 255.0, imgproc::THRESH_BINARY)?;
        strong.convert_to_def(&mut binary, opencv::core::CV_8U)?;
        best.consider(&closed(&binary, 3)?)?;
    }
    Ok(())
}
