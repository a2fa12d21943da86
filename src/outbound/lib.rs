//! The one HTTP client of the node: small posts to services that tell people, and what the command line asks of a
//! running node. It is no browser: no redirects, no cookies, no decompression, bounded time and bounded replies, and no key in anything it says.
#![forbid(unsafe_code)]

pub mod address;
pub mod url;

pub mod client;
pub mod error;

pub use client::{HttpClient, OutboundSettings, Reply, RetryAfter};
pub use error::OutboundError;
pub use url::{BadUrl, SecretUrl};
