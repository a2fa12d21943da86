//! Which camera a connection is, and whether it may be. No sockets.

use std::net::IpAddr;

use meerkat_base::{CameraId, Secret};
use meerkat_settings::{Admission, Settings};

/// What is known of the peer before it says anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether it came over TLS.
    pub secure: bool,
    /// Whether it may be an unproven camera.
    pub admission: Admission,
}

/// Who the connection turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// This camera; `proven` by its token.
    Camera {
        /// Its id.
        id: CameraId,
        /// Whether a token was shown and right.
        proven: bool,
    },
    /// Nobody in particular: named by its address.
    Unnamed,
}

/// Why a connection may not be who it says. Also a label of the protocol error metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The token is wrong, or none was given where one is needed.
    BadToken,
    /// A token came over an untrusted network without TLS.
    TokenInClear,
    /// Cameras that are not configured are not accepted.
    Unconfigured,
    /// The camera is reached from other addresses only.
    WrongAddress,
}

impl Denied {
    pub(super) const ALL: [Denied; 4] =
        [Denied::BadToken, Denied::TokenInClear, Denied::Unconfigured, Denied::WrongAddress];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Denied::BadToken => "bad_token",
            Denied::TokenInClear => "token_in_clear",
            Denied::Unconfigured => "unconfigured",
            Denied::WrongAddress => "wrong_address",
        }
    }
}

/// Judges `camera:<id>[:<token>]`.
pub(super) fn claimed(
    settings: &Settings,
    peer: Peer,
    id: CameraId,
    token: Option<&Secret>,
) -> Result<Who, Denied> {
    if token.is_some() && !peer.secure && !settings.frame.trusts_plaintext(peer.address) {
        // The token is burnt now; saying whether it was right would only help a listener.
        return Err(Denied::TokenInClear);
    }
    let Some(camera) = settings.cameras.get(&id) else {
        let open = settings.frame.accept_unconfigured && peer.admission == Admission::Open;
        return if open { Ok(Who::Camera { id, proven: false }) } else { Err(Denied::Unconfigured) };
    };
    match (&camera.token, token) {
        (Some(own), Some(given)) if own.matches(given.reveal().as_bytes()) => {
            Ok(Who::Camera { id, proven: true })
        }
        (Some(_), _) => Err(Denied::BadToken),
        (None, _) if peer.admission != Admission::Open => Err(Denied::BadToken),
        (None, _) if camera.addresses.is_empty() => Ok(Who::Camera { id, proven: false }),
        (None, _) => {
            let address = peer.address.to_canonical();
            let mapped = camera.addresses.iter().any(|network| network.contains(&address));
            if mapped { Ok(Who::Camera { id, proven: false }) } else { Err(Denied::WrongAddress) }
        }
    }
}

/// Judges a connection that begins with a mode.
pub(super) fn silent(settings: &Settings, peer: Peer) -> Result<Who, Denied> {
    if peer.admission != Admission::Open {
        return Err(Denied::BadToken);
    }
    if let Some(id) = settings.camera_at(peer.address) {
        return Ok(Who::Camera { id: id.clone(), proven: false });
    }
    if settings.frame.accept_unconfigured { Ok(Who::Unnamed) } else { Err(Denied::Unconfigured) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(accept_unconfigured: bool) -> Settings {
        let env = [
            ("MEERKAT__CAMERAS__DOOR__TOKEN", "open-sesame"),
            ("MEERKAT__CAMERAS__YARD__ADDRESS", "127.0.0.7"),
            ("MEERKAT__CAMERAS__SHED__NAME", "Shed"),
            ("MEERKAT__FRAME__ACCEPT_UNCONFIGURED", if accept_unconfigured { "true" } else { "false" }),
        ];
        let env = env.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Settings::load(&[], env).unwrap()
    }

    fn peer(address: &str) -> Peer {
        Peer { address: address.parse().unwrap(), secure: false, admission: Admission::Open }
    }

    fn claim(settings: &Settings, peer: Peer, id: &str, token: Option<&str>) -> Result<Who, Denied> {
        claimed(settings, peer, CameraId::parse(id).unwrap(), token.map(Secret::new).as_ref())
    }

    fn is(id: &str, proven: bool) -> Result<Who, Denied> {
        Ok(Who::Camera { id: CameraId::parse(id).unwrap(), proven })
    }

    #[test]
    fn a_token_is_needed_where_there_is_one() {
        let s = settings(true);
        let here = peer("127.0.0.1");
        assert_eq!(claim(&s, here, "door", Some("open-sesame")), is("door", true));
        assert_eq!(claim(&s, here, "door", Some("open-sesam")), Err(Denied::BadToken));
        assert_eq!(claim(&s, here, "door", None), Err(Denied::BadToken));
    }

    #[test]
    fn tokens_do_not_travel_in_clear() {
        let s = settings(true);
        let far = Peer { admission: Admission::TokenOnly, ..peer("10.0.0.1") };
        assert_eq!(claim(&s, far, "door", Some("open-sesame")), Err(Denied::TokenInClear));
        let tls = Peer { secure: true, ..far };
        assert_eq!(claim(&s, tls, "door", Some("open-sesame")), is("door", true));
        assert_eq!(claim(&s, tls, "shed", None), Err(Denied::BadToken), "only a token opens this door");
        assert_eq!(silent(&s, tls), Err(Denied::BadToken));
    }

    #[test]
    fn a_mapped_camera_is_reached_from_its_addresses_only() {
        let s = settings(true);
        assert_eq!(claim(&s, peer("127.0.0.7"), "yard", None), is("yard", false));
        assert_eq!(claim(&s, peer("127.0.0.8"), "yard", None), Err(Denied::WrongAddress));
        assert_eq!(silent(&s, peer("127.0.0.7")), is("yard", false));
        assert_eq!(silent(&s, peer("127.0.0.8")), Ok(Who::Unnamed));
    }

    #[test]
    fn strangers_are_accepted_only_where_that_is_set() {
        let open = settings(true);
        let shut = settings(false);
        assert_eq!(claim(&open, peer("127.0.0.1"), "tree", None), is("tree", false));
        assert_eq!(claim(&shut, peer("127.0.0.1"), "tree", None), Err(Denied::Unconfigured));
        assert_eq!(silent(&shut, peer("127.0.0.1")), Err(Denied::Unconfigured));
        assert_eq!(claim(&shut, peer("127.0.0.1"), "shed", None), is("shed", false));
    }
}
