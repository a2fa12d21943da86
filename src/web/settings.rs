//! Where the HTTP side listens and whom it serves, checked before anything is opened. No sockets here.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use meerkat_base::Secret;
use meerkat_store::LinkKey;

/// Shortest token that is accepted, in bytes.
const MIN_TOKEN_BYTES: usize = 8;
/// Names that always mean this machine.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Settings of the HTTP side.
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// `http.listen`: address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `http.hosts`: further names under which browsers may reach the node, without port.
    pub hosts: Vec<String>,
    /// `http.token`: what clients must prove to know; needed when `listen` is not loopback.
    pub token: Option<Secret>,
    /// `data_dir`: the folder that clips and snapshots lie in.
    pub data_dir: PathBuf,
    /// `http.public_url`: the host in it is one of the node's, too.
    pub public_url: Option<String>,
    /// Checks signed links; without it none opens anything.
    pub link_key: Option<LinkKey>,
}

/// The HTTP side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Anybody in the network could look on.
    #[error(
        "http.listen = {listen} can be reached from other machines, so http.token must be set \
         (or listen on 127.0.0.1)"
    )]
    NeedsToken {
        /// The address in question.
        listen: SocketAddr,
    },
    /// The token could be guessed.
    #[error("http.token must have at least {MIN_TOKEN_BYTES} bytes")]
    ShortToken,
    /// An entry of `http.hosts` can never match.
    #[error("http.hosts: `{host}` is not a host name or address without port")]
    BadHost {
        /// The entry in question.
        host: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on http.listen = {listen}: {source}")]
    Listen {
        /// The address in question.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The thread or its runtime did not start.
    #[error("the thread of the HTTP side did not start: {0}")]
    Thread(io::Error),
}

/// Settings past this point cannot be wrong.
#[derive(Debug, Clone)]
pub(crate) struct CheckedSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) token: Option<Secret>,
    pub(crate) data_dir: PathBuf,
    pub(crate) link_key: Option<LinkKey>,
    /// Names from `http.hosts`, lower case.
    pub(crate) own_hosts: BTreeSet<String>,
    /// All names that a Host header may carry, lower case.
    pub(crate) allowed_hosts: BTreeSet<String>,
}

impl WebSettings {
    pub(crate) fn check(self) -> Result<CheckedSettings, WebError> {
        let address = self.listen.ip().to_canonical();
        match &self.token {
            None if !address.is_loopback() => return Err(WebError::NeedsToken { listen: self.listen }),
            Some(token) if token.reveal().len() < MIN_TOKEN_BYTES => return Err(WebError::ShortToken),
            _ => {}
        }
        let mut own_hosts = BTreeSet::new();
        for host in self.hosts {
            own_hosts.insert(normal_host(&host).ok_or(WebError::BadHost { host })?);
        }
        own_hosts.extend(self.public_url.as_deref().and_then(host_of));
        let mut allowed_hosts: BTreeSet<String> = LOOPBACK_NAMES.map(str::to_owned).into();
        allowed_hosts.extend(own_hosts.iter().cloned());
        if !address.is_unspecified() {
            allowed_hosts.insert(address.to_string());
        }
        Ok(CheckedSettings {
            listen: self.listen,
            token: self.token,
            data_dir: self.data_dir,
            link_key: self.link_key,
            own_hosts,
            allowed_hosts,
        })
    }
}

/// The host of an address, in the form that is compared.
fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = match authority.rsplit_once(':') {
        // The colon inside the brackets of an IPv6 address is none before a port.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    normal_host(host)
}

/// Brings a host name or address (IPv6 with or without brackets) into the one form that is compared.
/// Nothing for what can be neither.
pub(crate) fn normal_host(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    if let Ok(address) = inner.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    let is_name = !inner.is_empty()
        && inner.len() == text.len()
        && inner.len() <= 253
        && inner.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    is_name.then(|| inner.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &str, token: Option<&str>, hosts: &[&str]) -> WebSettings {
        WebSettings {
            listen: listen.parse().unwrap(),
            hosts: hosts.iter().map(|&h| h.to_owned()).collect(),
            token: token.map(Secret::new),
            data_dir: PathBuf::from("data"),
            public_url: None,
            link_key: None,
        }
    }

    #[test]
    fn other_machines_need_a_token() {
        for (listen, token, fits) in [
            ("127.0.0.1:0", None, true),
            ("127.3.2.1:0", None, true),
            ("[::1]:0", None, true),
            ("[::ffff:127.0.0.1]:0", None, true),
            ("0.0.0.0:0", None, false),
            ("[::]:0", None, false),
            ("192.168.1.2:80", None, false),
            ("[::ffff:10.0.0.1]:80", None, false),
            ("0.0.0.0:0", Some("long enough"), true),
            ("0.0.0.0:0", Some(""), false),
            ("127.0.0.1:0", Some("short"), false),
        ] {
            assert_eq!(settings(listen, token, &[]).check().is_ok(), fits, "{listen} {token:?}");
        }
        let refused = settings("0.0.0.0:80", None, &[]).check().unwrap_err().to_string();
        assert!(refused.contains("http.token") && refused.contains("127.0.0.1"), "{refused}");
    }

    #[test]
    fn the_public_address_is_a_name_of_the_node() {
        for (url, host) in [
            ("https://cams.example.org", "cams.example.org"),
            ("https://Cams.example.org:8443/node", "cams.example.org"),
            ("http://[2001:db8::7]:80", "2001:db8::7"),
            ("http://[2001:db8::7]", "2001:db8::7"),
            ("http://192.0.2.7/a/b", "192.0.2.7"),
        ] {
            assert_eq!(host_of(url).as_deref(), Some(host), "{url}");
        }
        let mut public = settings("127.0.0.1:0", None, &[]);
        public.public_url = Some("https://cams.example.org".to_owned());
        assert!(public.check().unwrap().allowed_hosts.contains("cams.example.org"));
    }

    #[test]
    fn hosts_are_names_without_port() {
        let checked =
            settings("[::1]:0", None, &["Cam.Example.org", "10.0.0.1", "[fe80::1]"]).check().unwrap();
        for host in ["cam.example.org", "10.0.0.1", "fe80::1", "localhost", "::1"] {
            assert!(checked.allowed_hosts.contains(host), "{host}");
        }
        for bad in ["", "a:80", "http://a", "a/b", "[a]", "*", "[::1"] {
            assert!(
                matches!(settings("[::1]:0", None, &[bad]).check(), Err(WebError::BadHost { .. })),
                "{bad}"
            );
        }
    }
}
