//! The 1000 classes of ImageNet's challenge (Russakovsky et al., IJCV 2015) in the order in which networks trained on it
//! number them, by the names that torchvision publishes with its weights.

/// Number of the classes.
pub const CLASSES: usize = 1000;

/// Names of the classes; no name stands there twice.
pub fn names() -> impl Iterator<Item = &'static str> {
    include_str!("imagenet.txt").lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_thousand_in_order() {
        let names: Vec<_> = names().collect();
        assert_eq!(names.len(), CLASSES);
        assert!(names.iter().all(|name| !name.is_empty() && name.trim() == *name));
        assert_eq!(
            (names[0], names[281], names[504], names[999]),
            ("tench", "tabby", "coffee mug", "toilet tissue")
        );
        let unique: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), CLASSES);
    }
}
