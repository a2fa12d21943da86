//! What stands before and behind each network: pictures to planes of numbers, numbers to boxes, points and
//! embeddings. One network per file, all of it plain functions that need no weights. No graph and no kernel here.

pub mod nms;
pub mod resample;
pub mod warp;

#[cfg(test)]
mod testing;
