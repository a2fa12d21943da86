//! The charts: figures become drawings, drawings become SVG, PNG or JPEG. Reads no tables.

mod font;
mod colour;

mod drawing;
mod render;

mod heat_map;
mod bars;
mod pie;
mod pair_grid;
mod cloud;

mod of_table;

pub use drawing::Drawing;
pub use font::use_font;
pub use render::CLIENT_JPEG_BYTES;

pub(crate) use bars::{Bar, bars, columns};
pub(crate) use heat_map::{HeatMap, Scale, heat_map};
pub(crate) use of_table::{correlations, missing, pair_grid, skewness, word_clouds};
