//! Says what a picture shows: torchvision's transforms before a network that gives one number per class, a softmax and
//! the likeliest classes behind it.

use meerkat_base::{
    DetectorError, DetectorInfo, Guess, Image, ImageWish, MOST_GUESSES, ObjectClassifier, PixelFormat,
    Weights,
};

use super::antialias::{self, Span};
use super::error::ModelError;
use super::imagenet;
use super::network::Network;
use crate::engine::RunError;

/// Length that the shorter side of a picture is scaled to, of which the middle is looked at, as a share of the input.
const SHORTER: (usize, usize) = (256, 224);

/// A picture that is wider than this is as good as a larger one; most have a shorter side of 256 then.
const ENOUGH_WIDTH: u32 = 512;

/// Names what a picture shows.
#[derive(Debug)]
pub struct PictureNet {
    network: Network,
    labels: Vec<String>,
}

impl PictureNet {
    /// Whether a network gives what is needed: one row of numbers for a square picture.
    pub fn fits(network: &Network) -> bool {
        let (width, height) = network.size();
        width == height && matches!(network.outputs(), [port] if matches!(port.shape[..], [1, _]))
    }

    /// A classifier. `labels` are the names of the classes in the network's order.
    ///
    /// # Errors
    /// When the network gives something else, or has another number of classes.
    pub fn new<'a>(network: Network, labels: impl IntoIterator<Item = &'a str>) -> Result<Self, ModelError> {
        if !Self::fits(&network) {
            return Err(
                network.misfit("is no classifier: that gives one number per class for a square picture")
            );
        }
        let labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
        let classes = network.outputs().first().map_or(0, |port| port.len());
        if classes != labels.len() {
            let given = labels.len();
            return Err(network.misfit(format!("has {classes} classes, and {given} names were given")));
        }
        Ok(Self { network, labels })
    }

    /// A classifier with ImageNet's classes.
    ///
    /// # Errors
    /// As [`PictureNet::new`].
    pub fn imagenet(network: Network) -> Result<Self, ModelError> {
        Self::new(network, imagenet::names())
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// The likeliest classes of a picture, best first.
    ///
    /// # Errors
    /// When the device fails.
    pub fn guess(&mut self, image: &Image) -> Result<Vec<Guess>, RunError> {
        let Self { network, labels } = self;
        let side = network.size().0;
        let mut guesses = Vec::new();
        network.run(
            1,
            |_, planes| prepare(image, side, planes),
            |_, (), outputs| {
                let best = best(outputs.first().copied().unwrap_or_default(), MOST_GUESSES);
                guesses = best
                    .into_iter()
                    .filter_map(|(class, score)| Some(Guess { label: labels.get(class)?.clone(), score }))
                    .collect();
            },
        )?;
        Ok(guesses)
    }
}

impl ObjectClassifier for PictureNet {
    fn info(&self) -> DetectorInfo {
        self.network.info()
    }

    fn wish(&self) -> ImageWish {
        ImageWish { format: PixelFormat::Bgr8, enough_width: ENOUGH_WIDTH }
    }

    fn classify(&mut self, image: &Image) -> Result<Vec<Guess>, DetectorError> {
        self.guess(image).map_err(|error| self.network.failed(&error))
    }

    fn weights(&self) -> Vec<Weights> {
        vec![Weights { model: self.network.name().to_owned(), sha256: self.network.sha256().to_owned() }]
    }
}

/// Writes the middle of a picture as (3, side, side): blue, green, red, 0..=255. The shorter side is scaled to 256 of
/// 224 pixels before.
///
/// # Panics
/// When `out` does not have that size.
pub fn prepare(image: &Image, side: usize, out: &mut [f32]) {
    let (across, down) = middle((image.width() as usize, image.height() as usize), side);
    antialias::planes(image, across, down, out);
}

/// Which part of a picture is looked at.
fn middle((width, height): (usize, usize), side: usize) -> (Span, Span) {
    let short = width.min(height);
    let to = side * SHORTER.0 / SHORTER.1;
    let span = |from: usize| {
        // No product overflows: a picture has fewer than 2^32 pixels along a side.
        let whole = (to as u64 * from as u64 / short as u64) as usize;
        Span { from, to: whole, first: half(whole - side), count: side }
    };
    (span(width), span(height))
}

/// Half of a number; of two that are equally near, the even one.
fn half(number: usize) -> usize {
    let floor = number / 2;
    floor + (number % 2) * (floor % 2)
}

/// The classes with the largest certainty after a softmax, best first, the first of equals first. None when there is a
/// number among them that is none, or all are minus infinity.
pub fn best(logits: &[f32], most: usize) -> Vec<(usize, f32)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() || logits.iter().any(|value| value.is_nan()) {
        return Vec::new();
    }
    let shares: Vec<f64> = logits.iter().map(|&value| f64::from(value - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    let mut classes: Vec<(usize, f32)> =
        shares.iter().map(|share| (share / sum) as f32).enumerate().collect();
    classes.sort_by(|a, b| b.1.total_cmp(&a.1));
    classes.truncate(most);
    classes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::networks::testing::{board, brightness_network, noise, odd_number};

    #[test]
    fn the_likeliest_come_first_and_sum_up_to_one() {
        let found = best(&[0.0, 2.0f32.ln(), 0.0, 4.0f32.ln()], 5);
        let classes: Vec<_> = found.iter().map(|(class, _)| *class).collect();
        assert_eq!(classes, [3, 1, 0, 2]);
        for ((_, score), wanted) in found.iter().zip([0.5, 0.25, 0.125, 0.125]) {
            assert!((score - wanted).abs() < 1e-6);
        }
        assert_eq!(best(&[1e30, 0.0, -1e30], 2), [(0, 1.0), (1, 0.0)], "without overflow");
        assert!(best(&[], 5).is_empty() && best(&[f32::NAN, 1.0], 5).is_empty());
        assert!(best(&[f32::INFINITY, 1.0], 5).is_empty() && best(&[f32::NEG_INFINITY; 3], 5).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_a_network_says_certainties_are_certainties(logits in prop::collection::vec(odd_number(), 0..40)) {
            let found = best(&logits, MOST_GUESSES);
            prop_assert!(found.len() <= MOST_GUESSES.min(logits.len()));
            prop_assert!(found.iter().all(|(class, score)| *class < logits.len() && (0.0..=1.0).contains(score)));
            prop_assert!(found.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        }

        #[test]
        fn any_picture_is_prepared(width in 1u32..700, height in 1u32..700, gray: bool) {
            let format = if gray { PixelFormat::Gray8 } else { PixelFormat::Bgr8 };
            let image = noise(width, height, format, 1);
            let mut out = vec![-1.0; 3 * 28 * 28];
            prepare(&image, 28, &mut out);
            prop_assert!(out.iter().all(|value| (0.0..=255.0).contains(value)));
        }
    }

    #[test]
    fn the_middle_is_where_torchvision_has_it() {
        // Python rounds a half to the even number.
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(half), [0, 0, 1, 2, 2, 2, 3, 4]);
        let (across, down) = middle((640, 480), 224);
        assert_eq!(across, Span { from: 640, to: 341, first: 58, count: 224 });
        assert_eq!(down, Span { from: 480, to: 256, first: 16, count: 224 });
        // Slivers take no more than what is looked at.
        for size in [(1, 60_000), (60_000, 1)] {
            let image = Image::new(size.0, size.1, PixelFormat::Gray8, vec![9; 60_000]).unwrap();
            let mut out = vec![0.0; 3 * 224 * 224];
            prepare(&image, 224, &mut out);
            assert!(out.iter().all(|&value| value == 9.0));
        }
    }

    /// Says the first class of bright pictures and the last of dark ones.
    fn bright() -> Network {
        brightness_network("bright", (28, 28), ("out", &[1, 3]), &[0.1, 0.0, -0.1], &[0.0, 0.0, 20.0])
    }

    #[test]
    fn pictures_get_labels() {
        let mut net = PictureNet::new(bright(), ["bright", "grey", "dark"]).unwrap();
        assert_eq!(net.info().backend, "candle");
        assert_eq!(net.wish().format, PixelFormat::Bgr8);
        for (brightness, label) in [(240, "bright"), (10, "dark")] {
            let guesses = net.classify(&board(64, 48, brightness, 5)).unwrap();
            assert_eq!(guesses.len(), 3);
            assert_eq!(guesses[0].label, label);
            assert!(guesses[0].score > 0.9, "{guesses:?}");
        }
    }

    #[test]
    fn other_networks_are_refused() {
        let message = PictureNet::new(bright(), ["one"]).unwrap_err().to_string();
        assert!(message.contains("3 classes"), "{message}");
        for (size, shape) in [((28, 14), &[1, 3][..]), ((28, 28), &[1, 1, 3])] {
            let other = brightness_network("other", size, ("out", shape), &[0.0; 3], &[0.0; 3]);
            assert!(PictureNet::new(other, ["a", "b", "c"]).is_err());
        }
    }
}
