//! From the bytes of a file to the cells of its rows: encoding, rows, and what a cell means. Computes nothing.

pub mod encoding;
mod decoded;
pub mod rows;

pub mod cell;
