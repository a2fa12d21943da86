//! The eight ways in which a picture can lie, and turning it upright. Reads display matrices, which containers have and
//! which the JPEG decoder makes of EXIF; does not read EXIF itself.

use meerkat_base::Image;

/// How stored pixels become upright ones: first exchange rows and columns, then mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Orientation {
    transpose: bool,
    mirror_x: bool,
    mirror_y: bool,
}

impl Orientation {
    /// From a display matrix: nine 32-bit numbers in the machine's byte order, of which `a b / c d` turn and mirror:
    /// x' = a·x + c·y, y' = b·x + d·y. Angles in between go to the nearest quarter turn.
    pub(crate) fn from_display_matrix(bytes: &[u8]) -> Self {
        let cell = |index: usize| -> i64 {
            let at = index * 4;
            let four = bytes.get(at..at + 4).and_then(|slice| <[u8; 4]>::try_from(slice).ok());
            four.map_or(0, |four| i64::from(i32::from_ne_bytes(four)))
        };
        let (a, b, c, d) = (cell(0), cell(1), cell(3), cell(4));
        if a.abs() + d.abs() >= b.abs() + c.abs() {
            Self { transpose: false, mirror_x: a < 0, mirror_y: d < 0 }
        } else {
            Self { transpose: true, mirror_x: c < 0, mirror_y: b < 0 }
        }
    }

    /// Whether stored pixels are upright already.
    pub(crate) fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// The upright size of a stored size.
    pub(crate) fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.transpose { (height, width) } else { (width, height) }
    }

    /// Turns a stored picture upright.
    pub(crate) fn apply(self, image: Image) -> Image {
        if self.is_upright() {
            return image;
        }
        let channels = image.format().channels();
        let stored_width = image.width() as usize;
        let (width, height) = self.size((image.width(), image.height()));
        let (columns, rows) = (width as usize, height as usize);
        let mut data = Vec::with_capacity(image.data().len());
        for upright_y in 0..rows {
            let y = if self.mirror_y { rows - 1 - upright_y } else { upright_y };
            for upright_x in 0..columns {
                let x = if self.mirror_x { columns - 1 - upright_x } else { upright_x };
                let (stored_x, stored_y) = if self.transpose { (y, x) } else { (x, y) };
                let at = (stored_y * stored_width + stored_x) * channels;
                data.extend_from_slice(&image.data()[at..at + channels]);
            }
        }
        Image::new(width, height, image.format(), data).expect("every pixel was taken exactly once")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meerkat_base::PixelFormat;

    fn matrix(a: i32, b: i32, c: i32, d: i32) -> Vec<u8> {
        [a, b, 0, c, d, 0, 0, 0, 1 << 30].iter().flat_map(|cell| cell.to_ne_bytes()).collect()
    }

    /// ```text
    /// 1 2 3
    /// 4 5 6
    /// ```
    fn check(cells: (i32, i32, i32, i32), width: u32, expected: [u8; 6]) {
        let one = 1 << 16;
        let bytes = matrix(cells.0 * one, cells.1 * one, cells.2 * one, cells.3 * one);
        let image = Image::new(3, 2, PixelFormat::Gray8, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let turned = Orientation::from_display_matrix(&bytes).apply(image);
        assert_eq!((turned.width(), turned.data()), (width, &expected[..]), "{cells:?}");
    }

    #[test]
    fn all_eight_ways() {
        check((1, 0, 0, 1), 3, [1, 2, 3, 4, 5, 6]);
        check((-1, 0, 0, 1), 3, [3, 2, 1, 6, 5, 4]);
        check((1, 0, 0, -1), 3, [4, 5, 6, 1, 2, 3]);
        check((-1, 0, 0, -1), 3, [6, 5, 4, 3, 2, 1]);
        // A quarter turn clockwise: the left column becomes the top row, from below.
        check((0, 1, -1, 0), 2, [4, 1, 5, 2, 6, 3]);
        check((0, -1, 1, 0), 2, [3, 6, 2, 5, 1, 4]);
        check((0, 1, 1, 0), 2, [1, 4, 2, 5, 3, 6]);
        check((0, -1, -1, 0), 2, [6, 3, 5, 2, 4, 1]);
    }

    #[test]
    fn a_strange_matrix_turns_nothing() {
        for bytes in [&[][..], &[1, 2, 3], &[0; 36]] {
            assert!(Orientation::from_display_matrix(bytes).is_upright());
        }
        let _ = Orientation::from_display_matrix(&matrix(i32::MIN, i32::MIN, i32::MIN, i32::MIN));
    }
}
