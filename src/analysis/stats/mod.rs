//! Statistics in one pass and bounded memory: moments, correlations, the mode, a sample. Knows no files and no text.

pub mod moments;
pub mod pairs;

pub mod mode;
pub mod sample;

pub mod block;
