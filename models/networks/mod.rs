//! What stands before and behind each network: pictures to planes of numbers, numbers to boxes, points and
//! embeddings. One network per file, all of it plain functions that need no weights. No graph and no kernel here.

pub mod resample;
pub mod warp;

pub mod embedding;
pub mod face;
pub mod nms;

pub mod coco;
pub mod ssd;
pub mod yolox;
pub mod yunet;

pub mod age_gender;
pub mod landmarks;
pub mod reid_face;
pub mod reid_person;

#[cfg(test)]
mod testing;
