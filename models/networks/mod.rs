//! What stands before and behind each network: pictures to planes of numbers, numbers to boxes, points and
//! embeddings. One network per file, all of it plain functions that need no weights; behind them the detectors that
//! join them with an engine. No kernel here.

pub mod antialias;
pub mod resample;
pub mod warp;

pub mod embedding;
pub mod face;
pub mod nms;

pub mod coco;
pub mod imagenet;
pub mod ssd;
pub mod yolox;
pub mod yunet;

pub mod googlenet;

pub mod age_gender;
pub mod landmarks;
pub mod reid_face;
pub mod reid_person;

pub mod quality;

pub mod error;
pub mod network;
pub mod catalog;

pub mod classifier;
pub mod detector;
pub mod embedder;
pub mod finder;
pub mod recogniser;

#[cfg(test)]
mod testing;
