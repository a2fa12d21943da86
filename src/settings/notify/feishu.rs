//! Settings of a Feishu robot.

use meerkat_base::Secret;

use super::keys::{per_minute, required_url};
use super::wecom_app::word;
use crate::reader::Reader;

/// A Feishu robot.
#[derive(Debug, Clone, PartialEq)]
pub struct FeishuTarget {
    /// The robot's whole address: a secret.
    pub url: Secret,
    /// Key of the signature; `None`: the robot wants none.
    pub secret: Option<Secret>,
    /// Id and secret of the application that uploads pictures; `None`: alerts are words.
    pub application: Option<(String, Secret)>,
    /// Messages a minute, 1 to 100.
    pub per_minute: usize,
}

impl FeishuTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = |name| format!("{section}.{name}");
        let url = required_url(reader, &key("url"));
        let secret = reader.secret(&key("secret"), 8);
        let before = reader.problem_count();
        let app_id = reader.read_if(&key("app_id"), word("an application's id", 64));
        let app_secret = reader.secret(&key("app_secret"), 8);
        let application = match (app_id, app_secret) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            (Some(_), None) if reader.problem_count() == before => {
                reader.complain(&key("app_id"), "needs app_secret or app_secret_file beside it");
                None
            }
            (None, Some(_)) if reader.problem_count() == before => {
                reader.complain(&key("app_secret"), "needs app_id beside it");
                None
            }
            _ => None,
        };
        let per_minute = per_minute(reader, section, 100, 100);
        Some(Self { url: url?, secret, application, per_minute })
    }
}
