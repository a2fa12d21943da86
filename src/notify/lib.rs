//! Ways to tell people: the WeCom group robot and our own webhook. A channel delivers one message once and says
//! what came of it; keeping messages, choosing the next and trying again belong to the notifier.
#![forbid(unsafe_code)]

pub mod alert;
pub mod render;

pub mod channel;
pub mod limiter;
pub mod webhook;
pub mod wecom;

pub mod retry;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use alert::{Alert, ClipPart, Digest, PicturePolicy, TestMessage};
pub use channel::{Channel, Delivery, Outcome};
pub use render::{Language, Style, Zone};
pub use retry::{NextTry, RetryPolicy};
pub use webhook::{Webhook, WebhookSettings};
pub use wecom::{Wecom, WecomSettings};
