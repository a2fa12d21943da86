//! Parts of a camera's picture that nobody may ever see. Where they are, not how they are covered.

use crate::detection::Point;

/// Corners that one area has at most.
pub const MAX_CORNERS: usize = 32;

/// One area: a polygon in shares of the upright picture, every corner within 0..=1 from the left and from the top.
/// It has 3 to [`MAX_CORNERS`] corners.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskArea {
    corners: Vec<Point>,
}

impl MaskArea {
    /// Reads `x,y,width,height` (a rectangle that is not empty) or `x,y x,y x,y …` (a polygon); `None` for anything
    /// else, and for what reaches beyond the picture.
    pub fn parse(text: &str) -> Option<Self> {
        let mut corners = Vec::new();
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() == 1
            || text.matches(',').count() == 3 && !words.iter().all(|word| pair(word).is_some())
        {
            let whole: String = words.concat();
            let numbers: Vec<f32> = whole.split(',').map(number).collect::<Option<_>>()?;
            let &[x, y, width, height] = numbers.as_slice() else { return None };
            if width <= 0.0 || height <= 0.0 {
                return None;
            }
            let (right, bottom) = (x + width, y + height);
            corners.extend([(x, y), (right, y), (right, bottom), (x, bottom)]);
        } else {
            for word in words {
                corners.push(pair(word)?);
            }
        }
        Self::polygon(corners.into_iter().map(|(x, y)| Point { x, y }).collect())
    }

    fn polygon(corners: Vec<Point>) -> Option<Self> {
        // Sums of two shares may end a rounding error above 1.
        let within = |share: f32| (0.0..=1.000_001).contains(&share);
        let fits = (3..=MAX_CORNERS).contains(&corners.len())
            && corners.iter().all(|corner| within(corner.x) && within(corner.y));
        fits.then_some(Self { corners })
    }

    /// Its corners in order.
    pub fn corners(&self) -> &[Point] {
        &self.corners
    }
}

fn pair(word: &str) -> Option<(f32, f32)> {
    let (x, y) = word.split_once(',')?;
    Some((number(x)?, number(y)?))
}

fn number(text: &str) -> Option<f32> {
    text.trim().parse().ok().filter(|number: &f32| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corners(text: &str) -> Option<Vec<(f32, f32)>> {
        Some(MaskArea::parse(text)?.corners().iter().map(|c| (c.x, c.y)).collect())
    }

    #[test]
    fn rectangles_and_polygons_are_read() {
        let rectangle = Some(vec![(0.0, 0.25), (0.5, 0.25), (0.5, 0.75), (0.0, 0.75)]);
        assert_eq!(corners("0,0.25,0.5,0.5"), rectangle);
        assert_eq!(corners(" 0, 0.25, 0.5, 0.5 "), rectangle);
        assert_eq!(corners("0,0 1,0 0.5,1"), Some(vec![(0.0, 0.0), (1.0, 0.0), (0.5, 1.0)]));
        assert!(corners("0.9,0.9,0.1,0.1").is_some(), "rounding is not beyond the picture");
    }

    #[test]
    fn what_is_no_area_is_refused() {
        let many = "0,0 ".repeat(MAX_CORNERS + 1);
        for bad in [
            "",
            "0,0",
            "0,0 1,1",
            "0,0,0,1",
            "0,0,1",
            "0,0,2,1",
            "-0.1,0,0.5,0.5",
            "a,b,c,d",
            "0,0 1,0 2,1",
            "nan,0 1,0 0,1",
            "0,0 1 0,1",
            "0,0,1,1,1",
            &many,
        ] {
            assert_eq!(corners(bad), None, "{bad}");
        }
    }
}
