//! A font for what OpenCV's own cannot write, such as Chinese names. Found where Debian's packages put fonts; without one,
//! `draw` writes question marks. Lays out from left to right, one character after the other, and shapes nothing.

use std::path::{Path, PathBuf};

use ab_glyph::{Font as _, FontVec, Glyph, PxScale, ScaleFont, point};
use meerkat_base::{Image, PixelFormat};

use crate::VisionError;

/// Fonts with Chinese characters, by Debian package, and which font of a collection is meant.
const USUAL: [(&str, &str, u32); 7] = [
    // The third of its collection is the one for simplified Chinese.
    ("fonts-noto-cjk", "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", 2),
    ("fonts-wqy-zenhei", "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc", 0),
    ("fonts-wqy-microhei", "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc", 0),
    ("fonts-arphic-uming", "/usr/share/fonts/truetype/arphic/uming.ttc", 0),
    ("fonts-droid-fallback", "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf", 0),
    ("fonts-droid-fallback", "/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf", 0),
    ("Fedora's google-noto-sans-cjk-fonts", "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc", 2),
];

/// No font file is larger than this.
const MAX_FONT_BYTES: u64 = 64 << 20;

/// A font, ready to be drawn with. Large: make one and share it.
pub struct Font {
    font: FontVec,
    path: PathBuf,
}

/// A text in the glyphs of a font, with its extent in pixels.
pub(crate) struct Line {
    glyphs: Vec<Glyph>,
    pub width: i32,
    pub height: i32,
}

impl Font {
    /// Loads the font at `path`: a TrueType or OpenType file, or the first font of a collection.
    ///
    /// # Errors
    /// When it cannot be read, or is no font.
    pub fn load(path: &Path) -> Result<Self, VisionError> {
        let index =
            USUAL.iter().find(|(_, usual, _)| Path::new(usual) == path).map_or(0, |(.., index)| *index);
        Self::load_one(path, index)
    }

    /// The first of the usual fonts that is there; `None` where there is none.
    pub fn find() -> Option<Self> {
        USUAL.iter().find_map(|(_, path, index)| Self::load_one(Path::new(path), *index).ok())
    }

    /// Names of the Debian packages that have a font which is looked for.
    pub fn packages() -> impl Iterator<Item = &'static str> {
        USUAL.iter().map(|(package, ..)| *package).filter(|package| package.starts_with("fonts-"))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn load_one(path: &Path, index: u32) -> Result<Self, VisionError> {
        let unusable = |reason: String| VisionError::UnusableFont { path: path.to_owned(), reason };
        let length = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?.len();
        if length > MAX_FONT_BYTES {
            return Err(unusable(format!("{length} bytes are more than a font has")));
        }
        let bytes = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let font =
            FontVec::try_from_vec_and_index(bytes, index).map_err(|_| unusable("not a font".into()))?;
        Ok(Self { font, path: path.to_owned() })
    }

    /// Lays a text out, `height` pixels high. A character that the font does not have becomes a question mark.
    pub(crate) fn line(&self, text: &str, height: f32) -> Line {
        let scaled = self.font.as_scaled(PxScale::from(height));
        let (mut glyphs, mut x) = (Vec::new(), 0.0);
        for c in text.chars() {
            let id = scaled.glyph_id(c);
            let id = if id.0 == 0 { scaled.glyph_id('?') } else { id };
            glyphs.push(id.with_scale_and_position(PxScale::from(height), point(x, scaled.ascent())));
            x += scaled.h_advance(id);
        }
        Line { glyphs, width: x.ceil() as i32, height: scaled.height().ceil() as i32 }
    }

    /// Writes a line with its upper left corner at a place, in one level of grey. What lies outside is left out.
    pub(crate) fn write(&self, image: &mut Image, line: Line, left: i32, top: i32, ink: u8) {
        let channels = image.format().channels();
        debug_assert!(matches!(image.format(), PixelFormat::Gray8 | PixelFormat::Bgr8));
        let (width, height) = (i64::from(image.width()), i64::from(image.height()));
        let pixels = image.data_mut();
        for glyph in line.glyphs {
            let Some(outline) = self.font.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            let (at_x, at_y) = (i64::from(left) + bounds.min.x as i64, i64::from(top) + bounds.min.y as i64);
            outline.draw(|x, y, cover| {
                let (x, y) = (at_x + i64::from(x), at_y + i64::from(y));
                if !(0..width).contains(&x) || !(0..height).contains(&y) {
                    return;
                }
                let Ok(at) = usize::try_from((y * width + x) * channels as i64) else { return };
                for pixel in pixels.get_mut(at..at + channels).unwrap_or_default() {
                    let cover = cover.clamp(0.0, 1.0);
                    *pixel = (f32::from(*pixel) * (1.0 - cover) + f32::from(ink) * cover).round() as u8;
                }
            });
        }
    }
}

impl std::fmt::Debug for Font {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Font").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gray;

    #[test]
    fn a_file_that_is_no_font_is_named() {
        let error = Font::load(Path::new("/does/not/exist.ttf")).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist.ttf"), "{error}");
        let error = Font::load(Path::new(env!("CARGO_MANIFEST_PATH"))).unwrap_err().to_string();
        assert!(error.contains("not a font"), "{error}");
    }

    #[test]
    fn characters_have_shapes_of_their_own_and_stay_inside() {
        // `scripts/setup.sh` installs one for the tests.
        let font = Font::find().expect("one of the usual fonts is there");
        let drawn = |text: &str, left: i32| {
            let mut image = gray(120, 40, 0);
            let line = font.line(text, 24.0);
            assert!(line.height >= 20 && line.height <= 48, "{}", line.height);
            font.write(&mut image, line, left, 4, 255);
            image
        };
        assert_ne!(drawn("张", 4), drawn("伟", 4));
        assert_ne!(drawn("张", 4), drawn("?", 4));
        assert_eq!(drawn("\u{10ffff}", 4), drawn("?", 4), "what the font does not have");
        assert!(font.line("张伟", 24.0).width >= 40);
        for left in [-1_000_000, -10, 110, i32::MAX] {
            drawn("张伟张伟", left);
        }
        assert_eq!(drawn("", 4), gray(120, 40, 0));
    }
}
