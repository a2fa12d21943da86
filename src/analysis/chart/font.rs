//! The font of the charts: found once, among what Debian's packages install, or named by the operator. Pictures cannot be
//! drawn without one; in an SVG the viewer's own fonts are used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ab_glyph::{Font as _, FontRef, ScaleFont};
use plotters::style::{FontStyle, register_font};

use crate::error::DrawError;

/// The name under which the font is known to the backends. An SVG carries it too, so it says what a viewer should take.
pub const FAMILY: &str = "Noto Sans CJK SC, WenQuanYi Zen Hei, DejaVu Sans, sans-serif";

/// Where the packages put their fonts; those with Chinese first.
const PLACES: &[&str] = &[
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/droid/DroidSansFallback.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
];

/// Larger files are no fonts.
const MAX_FONT_BYTES: u64 = 64 << 20;

static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();

/// A font that was read.
pub struct Chosen {
    path: PathBuf,
    font: FontRef<'static>,
}

/// Draws with the font in a file from now on. Only before the first drawing: later the font stays as it is, and the
/// answer is `false`.
pub fn use_font(path: &Path) -> Result<bool, DrawError> {
    if CHOSEN.get().is_some() {
        return Ok(false);
    }
    let chosen = Chosen::read(path)
        .map_err(|reason| DrawError::BadFont { path: path.display().to_string(), reason })?;
    Ok(CHOSEN.set(Some(chosen)).is_ok())
}

/// The font that is drawn with.
pub fn chosen() -> Option<&'static Chosen> {
    CHOSEN.get_or_init(|| PLACES.iter().find_map(|place| Chosen::read(Path::new(place)).ok())).as_ref()
}

impl Chosen {
    fn read(path: &Path) -> Result<Self, String> {
        let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
        if size > MAX_FONT_BYTES {
            return Err(format!("{size} bytes, at most {MAX_FONT_BYTES} are read"));
        }
        // Read once for the whole process, and the backend wants it for good.
        let bytes: &'static [u8] = fs::read(path).map_err(|error| error.to_string())?.leak();
        let font = FontRef::try_from_slice(bytes).map_err(|error| error.to_string())?;
        register_font(FAMILY, FontStyle::Normal, bytes).map_err(|_| "it is no font".to_owned())?;
        Ok(Self { path: path.to_owned(), font })
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can show a character.
    pub fn shows(&self, c: char) -> bool {
        c.is_whitespace() || self.font.glyph_id(c).0 != 0
    }

    fn width(&self, text: &str, size: f32) -> f32 {
        let font = self.font.as_scaled(size);
        text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
    }
}

/// How wide a text of a size (as the backends count it: height from top to bottom of a line) is, px. Guessed where there
/// is no font.
pub fn width_px(text: &str, size: f64) -> f64 {
    match chosen() {
        Some(chosen) => f64::from(chosen.width(text, size as f32)),
        None => text.chars().map(|c| if c.is_ascii() { 0.5 * size } else { 0.85 * size }).sum(),
    }
}

/// A text cut so that it is at most so wide, without control characters.
pub fn fitted(text: &str, size: f64, most_px: f64) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect();
    if width_px(&clean, size) <= most_px {
        return clean;
    }
    let mut cut = clean;
    while cut.pop().is_some() {
        let with_dots = format!("{}…", cut.trim_end());
        if width_px(&with_dots, size) <= most_px {
            return with_dots;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_to_their_room() {
        assert_eq!(fitted("a\nb", 12.0, 500.0), "a b");
        let cut = fitted(&"城".repeat(300), 12.0, 60.0);
        assert!(cut.ends_with('…') && width_px(&cut, 12.0) <= 60.0, "{cut}");
        assert_eq!(fitted("abc", 12.0, 0.0), "");
    }

    #[test]
    fn a_file_that_is_no_font_is_refused() {
        let reason = Chosen::read(Path::new("/proc/self/exe")).err().unwrap();
        assert!(!reason.is_empty());
        assert!(Chosen::read(Path::new("/nowhere")).is_err());
    }
}
