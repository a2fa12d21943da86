//! What a detector found in one frame, in pixels of the upright frame.

use serde::Serialize;

/// A point in pixels of the upright frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
}

/// An axis-aligned box in pixels of the upright frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rect {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width, at least 0.
    pub width: f32,
    /// Height, at least 0.
    pub height: f32,
}

impl Rect {
    /// Makes a box; a NaN or negative extent becomes 0.
    pub fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        let tame = |v: f32| if v.is_finite() { v } else { 0.0 };
        Self { x: tame(x), y: tame(y), width: tame(width).max(0.0), height: tame(height).max(0.0) }
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width * self.height
    }

    /// The middle of the box.
    pub fn center(&self) -> Point {
        Point { x: self.x + self.width / 2.0, y: self.y + self.height / 2.0 }
    }

    /// Area shared with another box.
    pub fn intersection(&self, other: &Rect) -> f32 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        if width <= 0.0 || height <= 0.0 { 0.0 } else { width * height }
    }

    /// Intersection over union in 0..=1; 0 for two empty boxes.
    pub fn iou(&self, other: &Rect) -> f32 {
        let shared = self.intersection(other);
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }

    /// The same box in a picture that is `factor` times as large.
    pub fn scaled(&self, factor: f32) -> Self {
        Self::new(self.x * factor, self.y * factor, self.width * factor, self.height * factor)
    }
}

/// One thing found in one frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection {
    /// What it is: `person`, `face`, `motion`, or a class name of the network.
    pub label: String,
    /// Certainty in 0..=1.
    pub score: f32,
    /// Where it is.
    #[serde(flatten)]
    pub bbox: Rect,
    /// Who it is, for recognised faces; `unknown` for a face that matched nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

impl Detection {
    /// A detection without identity; a score outside 0..=1 is clamped, NaN becomes 0.
    pub fn new(label: impl Into<String>, score: f32, bbox: Rect) -> Self {
        let score = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) };
        Self { label: label.into(), score, bbox, identity: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_measured() {
        let a = Rect::new(0.0, 0.0, 10.0, 10.0);
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(a.iou(&Rect::new(20.0, 0.0, 5.0, 5.0)), 0.0);
        assert!((a.iou(&Rect::new(5.0, 0.0, 10.0, 10.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(Rect::new(0.0, 0.0, 0.0, 0.0).iou(&Rect::new(0.0, 0.0, 0.0, 0.0)), 0.0);
    }

    #[test]
    fn nan_never_gets_in() {
        let r = Rect::new(f32::NAN, 1.0, -3.0, f32::INFINITY);
        assert_eq!(r, Rect::new(0.0, 1.0, 0.0, 0.0));
        assert_eq!(Detection::new("person", f32::NAN, r).score, 0.0);
        assert_eq!(Detection::new("person", 7.0, r).score, 1.0);
    }

    #[test]
    fn json_is_flat() {
        let d = Detection::new("person", 0.5, Rect::new(1.0, 2.0, 3.0, 4.0));
        assert_eq!(
            serde_json::to_string(&d).unwrap(),
            r#"{"label":"person","score":0.5,"x":1.0,"y":2.0,"width":3.0,"height":4.0}"#
        );
    }
}
