//! Everything in Meerkat that moves, in the order of the way of a frame. actix lives here and nowhere else.
#![forbid(unsafe_code)]

pub mod supervision;
