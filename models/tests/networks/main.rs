//! The networks with their weights against what their own engines compute, and how well they find and tell apart.
//! Needs the test data.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod data;

mod accuracy;
mod goldens;
mod odd;
