//! How the brightness of the whole picture changed between a reference and now: lamp, clouds, auto exposure.
//! A robust line `now = gain * reference + offset`, so that what moves in less than half of the picture does
//! not matter (Brown and Mood's median line). Knows nothing of motion.

/// Residuals up to this many grey levels count as explained.
const INLIER_LEVELS: f32 = 8.0;
/// Below this shift, in grey levels, the fit is noise and the light is said to be the same.
const SAME_LEVELS: f32 = 0.75;
/// Fewer pairs than this tell nothing.
const MIN_PAIRS: usize = 16;

/// The change of light: `now = gain * reference + offset`, in grey levels of 0..=255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Light {
    pub(crate) gain: f32,
    pub(crate) offset: f32,
}

impl Light {
    /// No change.
    pub(crate) const SAME: Light = Light { gain: 1.0, offset: 0.0 };

    /// What a reference level should look like now, within what a pixel can show.
    pub(crate) fn expected(&self, reference: f32) -> f32 {
        (self.gain * reference + self.offset).clamp(0.0, 255.0)
    }

    /// What a level of now would have been in the light of the reference; unclamped.
    pub(crate) fn undone(&self, now: f32) -> f32 {
        (now - self.offset) / self.gain
    }

    /// The largest shift in grey levels over the middle of the range.
    pub(crate) fn shift(&self) -> f32 {
        let at = |level: f32| (self.gain * level + self.offset - level).abs();
        at(32.0).max(at(224.0))
    }

    /// [`Light::expected`] for each of the 256 levels.
    pub(crate) fn table(&self) -> [u8; 256] {
        // `as` saturates, and the value is clamped anyway.
        std::array::from_fn(|level| (self.expected(level as f32) + 0.5) as u8)
    }
}

/// Fits the light to pairs of (reference, now) and returns it with the share of pairs that it explains.
/// The fit is used only when it explains more pairs than "nothing changed" does.
pub(crate) fn fit(pairs: &[(u8, u8)]) -> (Light, f32) {
    if pairs.len() < MIN_PAIRS {
        return (Light::SAME, 1.0);
    }
    let share = |light: Light| {
        let table = light.table();
        let near = |&&(reference, now): &&(u8, u8)| {
            f32::from(table[usize::from(reference)].abs_diff(now)) <= INLIER_LEVELS
        };
        pairs.iter().filter(near).count() as f32 / pairs.len() as f32
    };
    let Some(line) = median_line(pairs) else { return (Light::SAME, share(Light::SAME)) };
    let same = share(Light::SAME);
    if line.shift() < SAME_LEVELS {
        return (Light::SAME, same);
    }
    let explained = share(line);
    // With noise alone both explain everything; then the finer measure decides.
    if explained >= same { (line, explained) } else { (Light::SAME, same) }
}

fn median_line(pairs: &[(u8, u8)]) -> Option<Light> {
    // Clipped pixels say little about the gain; leave them out where others remain.
    let open = |now: u8| (4..=251).contains(&now);
    let open_pairs = pairs.iter().filter(|p| open(p.1)).count();
    let only_open = open_pairs >= MIN_PAIRS && open_pairs * 4 >= pairs.len();
    let used = || pairs.iter().filter(move |p| !only_open || open(p.1));

    let mut levels = [0u32; 256];
    for &(reference, _) in used() {
        levels[usize::from(reference)] += 1;
    }
    let middle = median(&levels)?;
    let mut dark = Half::default();
    let mut bright = Half::default();
    for &(reference, now) in used() {
        let half = if f32::from(reference) <= middle { &mut dark } else { &mut bright };
        half.levels[usize::from(reference)] += 1;
        half.differences[usize::from(255 + u16::from(now) - u16::from(reference))] += 1;
    }
    let (dark_level, dark_shift) = dark.medians()?;
    let Some((bright_level, bright_shift)) = bright.medians() else {
        return Some(Light { gain: 1.0, offset: dark_shift });
    };
    if bright_level - dark_level < 12.0 {
        return Some(Light { gain: 1.0, offset: (dark_shift + bright_shift) / 2.0 });
    }
    let gain = 1.0 + (bright_shift - dark_shift) / (bright_level - dark_level);
    // A picture that went flat has lost what could be compared; the caller sees it in the explained share.
    let gain = gain.clamp(0.1, 8.0);
    Some(Light { gain, offset: dark_level + dark_shift - gain * dark_level })
}

struct Half {
    levels: [u32; 256],
    differences: [u32; 511],
}

impl Default for Half {
    fn default() -> Self {
        Self { levels: [0; 256], differences: [0; 511] }
    }
}

impl Half {
    /// Median reference level and median difference.
    fn medians(&self) -> Option<(f32, f32)> {
        Some((median(&self.levels)?, median(&self.differences)? - 255.0))
    }
}

/// Median of a histogram, interpolated inside its bin; nothing when it is empty.
fn median(bins: &[u32]) -> Option<f32> {
    let total: u32 = bins.iter().sum();
    let half = total as f32 / 2.0;
    let mut before = 0u32;
    for (bin, &count) in bins.iter().enumerate() {
        if count > 0 && (before + count) as f32 >= half {
            return Some(bin as f32 - 0.5 + (half - before as f32) / count as f32);
        }
        before += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: impl Fn(f32) -> f32) -> Vec<(u8, u8)> {
        (0..800u32).map(|i| (20 + (i * 7 % 200) as u8, 0)).map(|(r, _)| (r, of(f32::from(r)) as u8)).collect()
    }

    #[test]
    fn gain_and_offset_are_found() {
        for (gain, offset) in [(1.0, 30.0), (0.6, 10.0), (1.15, -12.0), (0.3, 0.0)] {
            let (light, explained) = fit(&pairs(|r| (gain * r + offset).round().clamp(0.0, 255.0)));
            assert!((light.gain - gain).abs() < 0.05, "{light:?} for {gain} {offset}");
            assert!((light.offset - offset).abs() < 4.0, "{light:?} for {gain} {offset}");
            assert!(explained > 0.95, "{explained}");
        }
    }

    #[test]
    fn a_third_of_the_picture_may_be_something_else() {
        let mut mixed = pairs(|r| r + 25.0);
        for pair in mixed.iter_mut().step_by(3) {
            pair.1 = 3;
        }
        let (light, explained) = fit(&mixed);
        assert!((light.expected(100.0) - 125.0).abs() < 4.0, "{light:?}");
        assert!((0.6..0.7).contains(&explained));
    }

    #[test]
    fn noise_is_no_change_and_little_data_is_none() {
        let noisy: Vec<_> =
            pairs(|r| r).iter().enumerate().map(|(i, p)| (p.0, p.1 + (i % 3) as u8 - 1)).collect();
        let (light, explained) = fit(&noisy);
        assert!(light.shift() < 1.0, "{light:?}");
        assert_eq!(explained, 1.0);
        assert_eq!(fit(&[(0, 255)]), (Light::SAME, 1.0));
        let (flat, _) = fit(&[(128, 130); 100]);
        assert!((flat.expected(128.0) - 130.0).abs() < 0.6, "{flat:?}");
    }
}
