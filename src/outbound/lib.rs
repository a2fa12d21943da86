//! The one HTTP client of the node: small posts to services that tell people, what the command line asks of a running
//! node, and downloads of files whose length is known. What speaks another protocol (mail, MQTT) takes from here which
//! addresses it may reach and whom it trusts. It is no browser: no redirects (downloads excepted, by strict
//! rules), no cookies, no decompression, bounded time and bounded replies, and no key in anything it says.
#![forbid(unsafe_code)]

pub mod address;
pub mod multipart;
pub mod url;

pub mod client;
pub mod download;
pub mod tls;
pub mod error;

pub use address::resolve;
pub use client::{HttpClient, OutboundSettings, Reply, RetryAfter};
pub use download::{DownloadError, DownloadLimits, Downloader, Partial};
pub use error::OutboundError;
pub use multipart::Form;
pub use tls::{ExtraRoots, client_tls};
pub use url::{BadUrl, SecretUrl};
