//! What the guard remembers of the undisturbed scene: the levels of the whole plane, the object's pixels, its
//! outline and its surroundings; and the questions asked of it for each frame. Decides nothing.

use opencv::core::{Mat, MatTraitConst, MatTraitConstManual};
use opencv::imgproc;

use super::segment::{self, Area};
use crate::VisionError;
use crate::light::{self, Light};

/// Every so many pixels in each direction are looked at to tell the light.
const SAMPLE_STEP: usize = 4;
/// Pixels of the object and of its surroundings that are compared for each frame, at most, each.
const MOST_COMPARED: usize = 1500;
/// The outline still holds where the gradient has at least this share of its old strength …
const OUTLINE_STRENGTH: f32 = 0.4;
/// … and points the same way (cosine).
const OUTLINE_DIRECTION: f32 = 0.75;

/// The undisturbed scene.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) levels: Vec<u8>,
    pub(super) zone: Area,
    pub(super) object: Option<Object>,
}

/// The guarded object in the reference.
#[derive(Debug)]
pub(super) struct Object {
    /// 255 on its pixels, of the size of the plane.
    pub(super) mask: Vec<u8>,
    pub(super) bounds: Area,
    /// Middle of its pixels, in pixels of the plane.
    pub(super) centroid: (f32, f32),
    inside: Vec<u32>,
    around: Vec<u32>,
    outline: Vec<Outline>,
    template: Mat,
    template_mask: Mat,
    /// Where the template's corner is in the plane.
    corner: (usize, usize),
    search: Area,
    /// How well the template matches what is not the object, in the reference.
    rival: f32,
}

#[derive(Debug, Clone, Copy)]
struct Outline {
    at: u32,
    dx: f32,
    dy: f32,
}

/// Shares of the compared pixels that differ from the reference, 0..=1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed {
    pub(super) object: f32,
    pub(super) around: f32,
}

/// Where the object was found in a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// How far it is from its place, in pixels of the plane.
    pub(super) dx: i32,
    pub(super) dy: i32,
}

impl Reference {
    /// Looks for the object in the zone of an averaged plane. With a hint, only there.
    pub(super) fn new(
        levels: Vec<u8>,
        width: usize,
        zone: Area,
        hint: Option<&[u8]>,
    ) -> Result<Self, VisionError> {
        let height = levels.len() / width;
        let mask = segment::object_in(&levels, width, zone, hint)?;
        let mut reference = Self { width, height, levels, zone, object: None };
        if let Some(mask) = mask {
            reference.object = Object::new(mask, &[], &reference)?;
        }
        Ok(reference)
    }

    /// The light of a frame compared with the reference, and the share of the picture that it explains.
    pub(super) fn light(&self, pixels: &[u8], pairs: &mut Vec<(u8, u8)>) -> (Light, f32) {
        pairs.clear();
        let rows = self.levels.chunks_exact(self.width).zip(pixels.chunks_exact(self.width));
        for (reference, now) in rows.step_by(SAMPLE_STEP) {
            pairs.extend(reference.iter().copied().zip(now.iter().copied()).step_by(SAMPLE_STEP));
        }
        light::fit(pairs)
    }

    /// How much of the object's place and of its surroundings differs.
    pub(super) fn changed(&self, object: &Object, pixels: &[u8], light: Light, levels: u8) -> Changed {
        let table = light.table();
        let share = |places: &[u32]| {
            let differs = |&&i: &&u32| {
                let i = i as usize;
                pixels[i].abs_diff(table[usize::from(self.levels[i])]) > levels
            };
            places.iter().filter(differs).count() as f32 / places.len().max(1) as f32
        };
        Changed { object: share(&object.inside), around: share(&object.around) }
    }

    /// 255 where the zone differs, of the size of the plane, and the share of the zone that does.
    pub(super) fn zone_changes(&self, pixels: &[u8], light: Light, levels: u8) -> (Vec<u8>, f32) {
        let table = light.table();
        let mut mask = vec![0; pixels.len()];
        let mut count = 0usize;
        for y in self.zone.top..self.zone.bottom {
            for i in y * self.width + self.zone.left..y * self.width + self.zone.right {
                if pixels[i].abs_diff(table[usize::from(self.levels[i])]) > levels {
                    mask[i] = 255;
                    count += 1;
                }
            }
        }
        (mask, count as f32 / (self.zone.width() * self.zone.height()).max(1) as f32)
    }

    /// A frame as it would look in the light of the reference.
    pub(super) fn in_own_light(&self, pixels: &[u8], light: Light) -> Vec<u8> {
        if light == Light::SAME {
            return pixels.to_vec();
        }
        let back: [u8; 256] = std::array::from_fn(|level| (light.undone(level as f32) + 0.5) as u8);
        pixels.iter().map(|&p| back[usize::from(p)]).collect()
    }

    /// Moves the reference by at most one level towards a frame, where the two differ by at most `levels` or
    /// outside of the zone.
    pub(super) fn follow(&mut self, pixels: &[u8], light: Light, levels: u8) {
        let now = self.in_own_light(pixels, light);
        let rows = self.levels.chunks_exact_mut(self.width).zip(now.chunks_exact(self.width));
        for (y, (row, now)) in rows.enumerate() {
            let in_zone_rows = (self.zone.top..self.zone.bottom).contains(&y);
            for (x, (level, &now)) in row.iter_mut().zip(now).enumerate() {
                let in_zone = in_zone_rows && (self.zone.left..self.zone.right).contains(&x);
                let apart = level.abs_diff(now);
                if apart >= 2 && (!in_zone || apart <= levels) {
                    *level = if now > *level { level.saturating_add(1) } else { level.saturating_sub(1) };
                }
            }
        }
    }

    /// Takes a frame in as the new look of the scene while the object stays where it is.
    pub(super) fn refresh(&mut self, pixels: &[u8], light: Light) -> Result<(), VisionError> {
        self.levels = self.in_own_light(pixels, light);
        if let Some(object) = self.object.take() {
            self.object = Object::new(object.mask, &[], self)?;
        }
        Ok(())
    }

    /// Takes the object's new place over. What lies around is remembered as it was, since a hand may still be
    /// in the picture; what the object uncovered is known from now only and not compared.
    pub(super) fn rebase(&mut self, pixels: &[u8], light: Light, found: Found) -> Result<(), VisionError> {
        let Some(object) = self.object.take() else { return Ok(()) };
        let now = self.in_own_light(pixels, light);
        let mask = shifted(&object.mask, self.width, found);
        let (old, new) = (grown(&object.mask, self.width, 2)?, grown(&mask, self.width, 2)?);
        for (i, level) in self.levels.iter_mut().enumerate() {
            if old[i] != 0 || new[i] != 0 {
                *level = now[i];
            }
        }
        self.object = Object::new(mask, &old, self)?;
        Ok(())
    }

    /// Looks for the object near its place. Brightness does not matter. It is found where it matches well,
    /// better than anything else in the reference did, and where the reference did not look like this before.
    pub(super) fn find(
        &self,
        object: &Object,
        pixels: &[u8],
        light: Light,
        levels: u8,
    ) -> Result<Option<Found>, VisionError> {
        let matches = object.match_in(pixels, self.width)?;
        let mut best: Option<(f32, Found)> = None;
        let columns = matches.cols() as usize;
        for (i, &score) in matches.data_typed::<f32>()?.iter().enumerate() {
            if score.is_finite() && score <= 1.01 && best.is_none_or(|b| score > b.0) {
                best = Some((score, object.offset(i % columns, i / columns)));
            }
        }
        let Some((score, found)) = best else { return Ok(None) };
        if found.dx.abs().max(found.dy.abs()) <= 1 {
            return Ok((score >= 0.7).then_some(found));
        }
        if score < 0.75 || score < object.rival + 0.05 {
            return Ok(None);
        }
        // Where it stands now and did not stand before, the picture must have changed.
        let table = light.table();
        let now = shifted(&object.mask, self.width, found);
        let (mut fresh, mut changed) = (0u32, 0u32);
        for i in 0..now.len() {
            if now[i] != 0 && object.mask[i] == 0 {
                fresh += 1;
                changed += u32::from(pixels[i].abs_diff(table[usize::from(self.levels[i])]) > levels);
            }
        }
        Ok((changed * 2 >= fresh).then_some(found))
    }

    /// The share of the object's outline that is still there, in its place, 0..=1.
    pub(super) fn outline_left(&self, object: &Object, pixels: &[u8], light: Light) -> f32 {
        let holds = |outline: &&Outline| {
            let least = OUTLINE_STRENGTH * outline.dx.hypot(outline.dy) * light.gain;
            let at = outline.at as usize;
            let around = [0, 1, self.width, self.width + 1, self.width - 1];
            let places = around.iter().flat_map(|&d| [at.checked_sub(d), at.checked_add(d)]).flatten();
            places.filter_map(|place| gradient(pixels, self.width, place)).any(|(dx, dy)| {
                let strength = dx.hypot(dy);
                let along = (dx * outline.dx + dy * outline.dy) / outline.dx.hypot(outline.dy).max(1e-6);
                strength >= least && along >= OUTLINE_DIRECTION * strength
            })
        };
        object.outline.iter().filter(holds).count() as f32 / object.outline.len().max(1) as f32
    }

    /// The pixels on which stillness is judged, in the light of the reference.
    pub(super) fn nearby(&self, object: Option<&Object>, pixels: &[u8], light: Light) -> Vec<u8> {
        let look = |i: usize| (light.undone(f32::from(pixels[i])) + 0.5) as u8;
        match object {
            Some(object) => object.inside.iter().chain(&object.around).map(|&i| look(i as usize)).collect(),
            None => {
                let rows = (self.zone.top..self.zone.bottom).step_by(2);
                rows.flat_map(|y| (self.zone.left..self.zone.right).step_by(2).map(move |x| (x, y)))
                    .map(|(x, y)| look(y * self.width + x))
                    .collect()
            }
        }
    }
}

impl Object {
    /// Measures an object by its mask; nothing when hardly a pixel is left. Pixels of `unsure` are not
    /// compared as surroundings.
    fn new(mask: Vec<u8>, unsure: &[u8], reference: &Reference) -> Result<Option<Self>, VisionError> {
        let (width, height) = (reference.width, reference.height);
        let levels = &reference.levels;
        let mut bounds = Area { left: width, top: height, right: 0, bottom: 0 };
        let mut inside = Vec::new();
        let (mut sum_x, mut sum_y, mut sum, mut squares) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (i, _) in mask.iter().enumerate().filter(|(_, m)| **m != 0) {
            let (x, y) = (i % width, i / width);
            bounds.left = bounds.left.min(x);
            bounds.right = bounds.right.max(x + 1);
            bounds.top = bounds.top.min(y);
            bounds.bottom = bounds.bottom.max(y + 1);
            sum_x += x as f64 + 0.5;
            sum_y += y as f64 + 0.5;
            let level = f64::from(levels[i]);
            sum += level;
            squares += level * level;
            inside.push(i as u32);
        }
        if inside.len() < 12 {
            return Ok(None);
        }
        let count = inside.len() as f64;
        let deviation = (squares / count - (sum / count).powi(2)).max(0.0).sqrt();

        // The object's own pattern is what to look for; a plain one is known by its outline.
        let margin = if deviation >= 8.0 { 1 } else { 3 };
        let template_area = bounds.grown(margin, width, height);
        let template = segment::cut(levels, width, template_area)?;
        let template_mask = segment::cut(&grown(&mask, width, margin as i32)?, width, template_area)?;

        let side = bounds.width().max(bounds.height());
        let near = bounds.grown((side * 3 / 4).clamp(8, 24), width, height);
        let apart = grown(&mask, width, 2)?;
        let mut around = Vec::new();
        for y in near.top..near.bottom {
            for x in near.left..near.right {
                let i = y * width + x;
                if apart[i] == 0 && unsure.get(i).is_none_or(|&u| u == 0) {
                    around.push(i as u32);
                }
            }
        }
        let eroded = shrunk(&mask, width)?;
        let outline = inside
            .iter()
            .filter(|&&i| eroded[i as usize] == 0)
            .filter_map(|&at| steepest(levels, width, at))
            .collect();
        let mut object = Self {
            bounds,
            centroid: ((sum_x / count) as f32, (sum_y / count) as f32),
            inside: thinned(inside),
            around: thinned(around),
            outline,
            template,
            template_mask,
            corner: (template_area.left, template_area.top),
            search: template_area.grown(side.clamp(12, 40), width, height),
            rival: 0.0,
            mask,
        };
        object.rival = object.rival_in(levels, width)?;
        Ok(Some(object))
    }

    /// How well the template matches each place of the search area (one f32 per place).
    fn match_in(&self, pixels: &[u8], width: usize) -> Result<Mat, VisionError> {
        let image = segment::cut(pixels, width, self.search)?;
        let mut out = Mat::default();
        let method = imgproc::TM_CCOEFF_NORMED;
        imgproc::match_template(&image, &self.template, &mut out, method, &self.template_mask)?;
        Ok(out)
    }

    fn offset(&self, column: usize, row: usize) -> Found {
        Found {
            dx: (self.search.left + column) as i32 - self.corner.0 as i32,
            dy: (self.search.top + row) as i32 - self.corner.1 as i32,
        }
    }

    /// The best match that does not overlap the object by much.
    fn rival_in(&self, levels: &[u8], width: usize) -> Result<f32, VisionError> {
        let matches = self.match_in(levels, width)?;
        let columns = matches.cols() as usize;
        let mut rival = 0.0f32;
        for (i, &score) in matches.data_typed::<f32>()?.iter().enumerate() {
            let at = self.offset(i % columns, i / columns);
            let apart = at.dx.unsigned_abs() as usize * 2 > self.bounds.width()
                || at.dy.unsigned_abs() as usize * 2 > self.bounds.height();
            if apart && score.is_finite() && score <= 1.01 {
                rival = rival.max(score);
            }
        }
        Ok(rival)
    }
}

/// Keeps every n-th place so that at most [`MOST_COMPARED`] remain.
fn thinned(places: Vec<u32>) -> Vec<u32> {
    let step = places.len().div_ceil(MOST_COMPARED).max(1);
    places.into_iter().step_by(step).collect()
}

/// The Sobel gradient at a place, nothing at the border.
fn gradient(pixels: &[u8], width: usize, at: usize) -> Option<(f32, f32)> {
    let x = at % width;
    if x == 0 || x + 1 >= width || at < width {
        return None;
    }
    let row = |from: usize| pixels.get(from - 1..from + 2);
    let (above, here, below) = (row(at - width)?, row(at)?, row(at + width)?);
    let f = |row: &[u8], i: usize| f32::from(row[i]);
    let dx = f(above, 2) + 2.0 * f(here, 2) + f(below, 2) - f(above, 0) - 2.0 * f(here, 0) - f(below, 0);
    let dy = f(below, 0) + 2.0 * f(below, 1) + f(below, 2) - f(above, 0) - 2.0 * f(above, 1) - f(above, 2);
    Some((dx / 4.0, dy / 4.0))
}

/// The strongest gradient at or beside a place, if it is an edge at all.
fn steepest(levels: &[u8], width: usize, at: u32) -> Option<Outline> {
    let at = at as usize;
    let places = [Some(at), at.checked_sub(1), Some(at + 1), at.checked_sub(width), Some(at + width)];
    let best = places
        .into_iter()
        .flatten()
        .filter_map(|place| gradient(levels, width, place).map(|(dx, dy)| (place, dx, dy)))
        .max_by(|a, b| a.1.hypot(a.2).total_cmp(&b.1.hypot(b.2)))?;
    (best.1.hypot(best.2) >= 6.0).then_some(Outline { at: best.0 as u32, dx: best.1, dy: best.2 })
}

fn morphed(mask: &[u8], width: usize, by: i32, grow: bool) -> Result<Vec<u8>, VisionError> {
    let source = Mat::new_rows_cols_with_bytes::<u8>((mask.len() / width) as i32, width as i32, mask)?;
    let side = opencv::core::Size::new(by * 2 + 1, by * 2 + 1);
    let kernel = imgproc::get_structuring_element_def(imgproc::MORPH_RECT, side)?;
    let mut out = Mat::default();
    if grow {
        imgproc::dilate_def(&source, &mut out, &kernel)?;
    } else {
        imgproc::erode_def(&source, &mut out, &kernel)?;
    }
    Ok(out.data_bytes()?.to_vec())
}

fn grown(mask: &[u8], width: usize, by: i32) -> Result<Vec<u8>, VisionError> {
    morphed(mask, width, by, true)
}

fn shrunk(mask: &[u8], width: usize) -> Result<Vec<u8>, VisionError> {
    morphed(mask, width, 1, false)
}

/// A mask moved by whole pixels; what leaves the plane is gone.
fn shifted(mask: &[u8], width: usize, by: Found) -> Vec<u8> {
    let mut out = vec![0; mask.len()];
    let height = mask.len() / width;
    for (i, _) in mask.iter().enumerate().filter(|(_, m)| **m != 0) {
        let x = (i % width).checked_add_signed(by.dx as isize).filter(|&x| x < width);
        let y = (i / width).checked_add_signed(by.dy as isize).filter(|&y| y < height);
        if let (Some(x), Some(y)) = (x, y) {
            out[y * width + x] = 255;
        }
    }
    out
}
