//! The certificate of the test servers that speak TLS: for `localhost` and the loopback's addresses, under an authority
//! whose key was thrown away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The authority, in PEM.
pub const CA_PEM: &[u8] = include_bytes!("tls/test-ca.pem");

/// The file of the authority, for a configuration's `ca_file`.
pub fn ca_file() -> PathBuf {
    folder().join("test-ca.pem")
}

pub(super) fn certificate_file() -> PathBuf {
    folder().join("localhost.test.pem")
}

pub(super) fn key_file() -> PathBuf {
    folder().join("localhost.test.key.pem")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testing/tls")
}

pub(super) fn server_config() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/localhost.test.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/localhost.test.key.pem"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows both versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.expect("the test certificate is in PEM")],
            key.expect("the key of the test certificate is in PEM"),
        )
        .expect("the key belongs to the test certificate");
    Arc::new(config)
}
