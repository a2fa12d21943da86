//! How a connection of the node's own making is encrypted where it does not speak HTTP: which certificates are trusted,
//! and by which settings of rustls. The names of hosts are checked as always; there is no way not to.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::client::system_roots;
use crate::error::OutboundError;

/// A text in PEM, of the certificates that are trusted beside the system's or in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraRoots(Vec<CertificateDer<'static>>);

impl ExtraRoots {
    /// Reads at least one certificate.
    pub fn parse(pem: &[u8]) -> Result<Self, OutboundError> {
        let wrong = |reason: String| OutboundError::Setup(format!("certificates: {reason}"));
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let found = found.map_err(|e| wrong(e.to_string()))?;
        if found.is_empty() {
            return Err(wrong("the text holds none in PEM".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &found {
            roots.add(certificate.clone()).map_err(|e| wrong(e.to_string()))?;
        }
        Ok(Self(found))
    }

    /// The certificates in DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|certificate| certificate.as_ref())
    }
}

/// Settings for TLS 1.2 and 1.3 as a client. With `extra`, only those are trusted: whoever names the authority of a
/// server of their own does not want every other one in the world to be able to stand in for it.
pub fn client_tls(extra: Option<&ExtraRoots>) -> Result<Arc<ClientConfig>, OutboundError> {
    let roots = match extra {
        None => system_roots(),
        Some(extra) => {
            let mut roots = RootCertStore::empty();
            for certificate in &extra.0 {
                roots.add(certificate.clone()).map_err(|e| OutboundError::Setup(e.to_string()))?;
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| OutboundError::Setup(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_or_the_reason_is_given() {
        let pem = include_bytes!("client/tls/test-ca.pem");
        let roots = ExtraRoots::parse(pem).unwrap();
        assert_eq!(roots.der().count(), 1);
        assert!(client_tls(Some(&roots)).is_ok());
        let key = include_bytes!("client/tls/robot.test.key.pem");
        for wrong in
            [&b""[..], b"certificate", key, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(matches!(ExtraRoots::parse(wrong), Err(OutboundError::Setup(_))));
        }
    }
}
