//! The networks with their weights against what their own engines compute, and how well they find and tell apart.
//! Needs the test data.

mod data;

mod accuracy;
mod goldens;
mod odd;
