//! An address that carries a key. It can be sent to, but never shown whole. Whether its host may be reached is
//! decided in `address`.

use std::fmt;

use meerkat_base::Secret;
use reqwest::Url;

/// Parts of an address shorter than this are not scrubbed from texts: cutting every `v1` or `send` out of an error
/// message would hide nothing and make it unreadable.
const SCRUB_FROM_BYTES: usize = 8;

/// An `http` or `https` address. Debug and Display show scheme, host and port only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

/// Says why a text is no usable address. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// The text does not parse.
    #[error("not an address: {0}")]
    Syntax(String),
    /// Only `http` and `https` are spoken.
    #[error("only http:// and https:// addresses are allowed")]
    Scheme,
}

impl SecretUrl {
    /// Accepts absolute `http` and `https` addresses with a host.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        // The parser's errors are fixed sentences; they repeat nothing of the text.
        let url = Url::parse(text.trim()).map_err(|e| BadUrl::Syntax(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadUrl::Scheme);
        }
        // The standard demands a host for these two schemes, so this cannot be reached by parsing.
        if url.host().is_none() {
            return Err(BadUrl::Syntax("no host".into()));
        }
        Ok(Self(url))
    }

    /// The same address with a path appended below its own and one query parameter instead of its own query.
    #[must_use]
    pub fn below(&self, path: &str, key: &str, value: &Secret) -> Self {
        let mut url = self.0.clone();
        let joined = format!("{}/{}", url.path().trim_end_matches('/'), path.trim_start_matches('/'));
        url.set_path(&joined);
        url.set_fragment(None);
        url.query_pairs_mut().clear().append_pair(key, value.reveal());
        Self(url)
    }

    /// The same address with a path appended below its own; its query stays.
    #[must_use]
    pub fn child(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{}", url.path().trim_end_matches('/'), path.trim_start_matches('/')));
        url.set_fragment(None);
        Self(url)
    }

    /// The same address with one more query parameter behind its own.
    #[must_use]
    pub fn and(&self, key: &str, value: &str) -> Self {
        let mut url = self.0.clone();
        url.query_pairs_mut().append_pair(key, value);
        Self(url)
    }

    /// The address beside this one: its last part is another, its query stays.
    #[must_use]
    pub fn sibling(&self, last: &str) -> Self {
        let mut url = self.0.clone();
        let parent = url.path().rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        url.set_path(&format!("{parent}/{last}"));
        url.set_fragment(None);
        Self(url)
    }

    /// Scheme, host and port alone.
    #[must_use]
    pub fn origin(&self) -> Self {
        let mut url = self.0.clone();
        url.set_path("");
        url.set_query(None);
        url.set_fragment(None);
        // These two fail only for addresses that have no host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Self(url)
    }

    /// The last part of the path: what names a robot whose key is no query parameter.
    pub fn last_segment(&self) -> Secret {
        Secret::new(self.0.path().rsplit('/').next().unwrap_or_default())
    }

    /// The first query parameter of that name.
    pub fn query_value(&self, key: &str) -> Option<Secret> {
        self.0.query_pairs().find(|(name, _)| name == key).map(|(_, value)| Secret::new(value))
    }

    /// Whether it is an `https` address.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Host name or address, without port. May be shown.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Takes every part of this address that could be a key out of a text that somebody else wrote.
    pub fn scrub(&self, text: &str) -> String {
        let mut secrets: Vec<String> = Vec::new();
        let mut hide = |part: &str| {
            if part.len() >= SCRUB_FROM_BYTES {
                secrets.push(part.to_owned());
            }
        };
        hide(self.0.username());
        hide(self.0.path());
        self.0.path_segments().into_iter().flatten().for_each(&mut hide);
        hide(self.0.query().unwrap_or_default());
        for (_, value) in self.0.query_pairs() {
            hide(&value);
        }
        for raw in self.0.query().unwrap_or_default().split(['&', '=']) {
            hide(raw);
        }
        // A password of any length is one.
        secrets.extend(self.0.password().filter(|p| !p.is_empty()).map(str::to_owned));
        // Longest first, or a part would be cut out of the whole and leave the rest standing.
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        secrets.iter().fold(text.to_owned(), |shown, secret| shown.replace(secret.as_str(), "[redacted]"))
    }

    /// The address itself: only for the place that sends.
    pub(crate) fn reveal(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.host())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str("/…[redacted]")
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROBOT: &str = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a1e36-7a0c-4bc4";

    #[test]
    fn it_shows_scheme_and_host_only() {
        for (text, shown) in [
            (ROBOT, "https://qyapi.weixin.qq.com/…[redacted]"),
            ("http://user:hunter2@10.0.0.1:8080/hook/t0ken#frag", "http://10.0.0.1:8080/…[redacted]"),
            (" https://[2001:db8::1]/x ", "https://[2001:db8::1]/…[redacted]"),
        ] {
            let url = SecretUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("SecretUrl({shown})"));
        }
    }

    #[test]
    fn only_http_and_https_are_addresses() {
        for bad in
            ["ftp://h/hunter2", "file:///etc/hunter2", "hunter2", "", "http://", "https:///", "//h/hunter2"]
        {
            match SecretUrl::parse(bad) {
                Err(e) => assert!(!format!("{e} {e:?}").contains("hunter2")),
                // The URL standard reads `https:///x` as host `x`; anything accepted must have one.
                Ok(url) => assert!(!url.host().is_empty(), "{bad}"),
            }
        }
        assert_eq!(SecretUrl::parse("gopher://h/"), Err(BadUrl::Scheme));
    }

    #[test]
    fn a_path_and_a_key_are_appended() {
        let base = SecretUrl::parse("http://127.0.0.1:9/proxy/?old=1#f").unwrap();
        let url = base.below("/cgi-bin/webhook/send", "key", &Secret::new("a b&c"));
        assert_eq!(url.reveal().as_str(), "http://127.0.0.1:9/proxy/cgi-bin/webhook/send?key=a+b%26c");
        assert_eq!(url.query_value("key"), Some(Secret::new("a b&c")));
        assert_eq!(url.query_value("kex"), None);
        let mirror = SecretUrl::parse("http://127.0.0.1:9/models/?token=1#f").unwrap();
        assert_eq!(mirror.child("a/b.xml").reveal().as_str(), "http://127.0.0.1:9/models/a/b.xml?token=1");
    }

    #[test]
    fn neighbours_of_an_address() {
        let robot = SecretUrl::parse(ROBOT).unwrap();
        assert_eq!(
            robot.sibling("upload_media").and("type", "a b").reveal().as_str(),
            "https://qyapi.weixin.qq.com/cgi-bin/webhook/upload_media?key=693a1e36-7a0c-4bc4&type=a+b"
        );
        let url = SecretUrl::parse("https://u:pw@h:8443/open-apis/bot/v2/hook/t0ken?x=1#f").unwrap();
        assert_eq!(url.origin().reveal().as_str(), "https://h:8443/");
        assert_eq!(url.last_segment(), Secret::new("t0ken"));
        assert_eq!(url.origin().child("a/b").reveal().as_str(), "https://h:8443/a/b");
        assert_eq!(SecretUrl::parse("http://h").unwrap().sibling("x").reveal().as_str(), "http://h/x");
    }

    #[test]
    fn keys_are_scrubbed_from_what_others_say() {
        let url = SecretUrl::parse(ROBOT).unwrap();
        let said = "bad key 693a1e36-7a0c-4bc4 at /cgi-bin/webhook/send?key=693a1e36-7a0c-4bc4";
        assert_eq!(url.scrub(said), "bad key [redacted] at [redacted]?[redacted]");
        let url = SecretUrl::parse("https://u:pw@h/bot12345:AAH-secret/send").unwrap();
        assert_eq!(url.scrub("/bot12345:AAH-secret/sendx pw"), "[redacted]x [redacted]");
    }
}
