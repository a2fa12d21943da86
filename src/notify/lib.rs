//! Ways to tell people: robots and applications of messaging services, e-mail, MQTT for a home, and our own webhook. A
//! channel delivers one message once and says what came of it; keeping messages, choosing the next and trying again belong
//! to the notifier.
#![forbid(unsafe_code)]

pub mod alert;
pub mod render;
pub mod templates;

mod samples;

pub mod channel;
pub mod limiter;
mod message;
mod outlet;
mod sign;
mod steps;
mod token;
mod uploads;
mod words;

pub mod dingtalk;
pub mod email;
pub mod feishu;
pub mod mqtt;
pub mod ntfy;
pub mod telegram;
pub mod webhook;
pub mod wecom;
pub mod wecom_app;

pub mod retry;
mod size;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod testkit;

pub use alert::{Alert, ClipPart, Digest, PicturePolicy, TestMessage};
pub use channel::{Channel, Delivery, Earlier, Outcome};
pub use dingtalk::{DingTalk, DingTalkSettings};
pub use email::{Email, EmailSettings, Encryption, MailMemory};
pub use feishu::{Feishu, FeishuApplication, FeishuSettings};
pub use limiter::RateBook;
pub use mqtt::{GoingOn, Mqtt, MqttMemory, MqttSettings};
pub use ntfy::{Ntfy, NtfyLogin, NtfySettings};
pub use outlet::Common;
pub use render::{Language, Style, Zone};
pub use retry::{NextTry, RetryPolicy};
pub use size::says_too_large;
pub use telegram::{Telegram, TelegramSettings};
pub use templates::{TemplateError, TemplateSource, Templates};
pub use webhook::{Webhook, WebhookSettings};
pub use wecom::{Wecom, WecomSettings, WordStyle};
pub use wecom_app::{Receivers, WecomApp, WecomAppSettings};
