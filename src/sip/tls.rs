//! TLS for SIP: whom we trust, who we say we are, and what is wrong with a certificate in words (RFC 3261 §26.3, RFC 5922).
//!
//! TLS 1.2 and 1.3. A server's certificate must stand for the name that was configured, not for what DNS made of it. One
//! that is in `tls_ca_file` itself is trusted as it is while it is valid, since many PBXes sign their own. Not
//! implemented: names in a `sip:` URI of the certificate (RFC 5922 §7.1), revocation, asking callers for a certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Target;
use super::certificate::PeerCertificate;
use crate::config::Trunk;

/// How long [`probe`] waits for the connection, and again for the handshake.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// A trunk's TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain (PEM).
    pub certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    pub key_file: Option<PathBuf>,
    /// The name that the certificate must have; absent: the target's.
    pub server_name: Option<String>,
}

impl From<&Trunk> for TlsSettings {
    fn from(trunk: &Trunk) -> Self {
        Self {
            ca_file: trunk.tls_ca_file.clone(),
            certificate_file: trunk.tls_certificate_file.clone(),
            key_file: trunk.tls_key_file.clone(),
            server_name: trunk.tls_server_name.clone(),
        }
    }
}

/// Why there is no TLS with somebody, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or is no PEM.
    #[error("cannot read {what} from {file}: {reason}; the file must be PEM and readable for the user of the service", file = file.display())]
    File {
        /// What should be in it.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate is set and its key is not, or the other way round.
    #[error("the TLS certificate and its key go together: set tls_certificate_file and tls_key_file, or neither")]
    Half,
    /// Certificate and key do not fit, or cannot be used.
    #[error("the TLS certificate in {file} cannot be used with its key: {reason}", file = file.display())]
    Unusable {
        /// The certificate's file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has no trusted certificates.
    #[error("the system has no trusted certificates; install ca-certificates, or set tls_ca_file")]
    NoRoots,
    /// It can be no name of a certificate.
    #[error("{name:?} can be no name in a certificate; set tls_server_name")]
    Name {
        /// The name.
        name: String,
    },
    /// The certificate is over.
    #[error("the certificate of {name} has expired; its owner must renew it, or the clock of this box is wrong")]
    Expired {
        /// Who should have shown it.
        name: String,
    },
    /// The certificate's time has not come.
    #[error("the certificate of {name} is not valid yet; the clock of this box is probably wrong")]
    NotYetValid {
        /// Who should have shown it.
        name: String,
    },
    /// The certificate is somebody else's.
    #[error(
        "the certificate is not for {name} but for {}; set tls_server_name if that is whom you mean",
        if shown.is_empty() { "no name at all".to_owned() } else { shown.join(", ") }
    )]
    WrongName {
        /// Who should have shown it.
        name: String,
        /// For whom it is.
        shown: Vec<String>,
    },
    /// Nobody whom we trust has signed the certificate.
    #[error(
        "the certificate of {name} is signed by nobody whom this box trusts; put the certificate of its CA, or the server's own, into tls_ca_file"
    )]
    UnknownIssuer {
        /// Who should have shown it.
        name: String,
    },
    /// There is another fault in the certificate.
    #[error("the certificate of {name} cannot be accepted: {reason}")]
    Certificate {
        /// Who should have shown it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The two sides did not come together.
    #[error("no TLS with {name}: {reason}")]
    Handshake {
        /// The other side.
        name: String,
        /// What either side said.
        reason: String,
    },
}

/// How we connect to the servers of one trunk.
#[derive(Debug, Clone)]
pub(super) struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl ClientTls {
    /// Reads the files that the settings name; blocks on the disk.
    pub(super) fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        match &settings.ca_file {
            Some(file) => {
                pinned = certificates(file)?;
                // A server's own certificate need not be one that can be a root.
                roots.add_parsable_certificates(pinned.iter().cloned());
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoRoots);
                }
            }
        }
        let chain = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|_| TlsError::NoRoots)?,
            ),
        };
        let verifier = Arc::new(Verifier { chain, pinned, provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| handshake("the peer", error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&settings.certificate_file, &settings.key_file) {
            (Some(certificate_file), Some(key_file)) => config
                .with_client_auth_cert(certificates(certificate_file)?, key(key_file)?)
                .map_err(|error| TlsError::Unusable { file: certificate_file.clone(), reason: error.to_string() })?,
            (None, None) => config.with_no_client_auth(),
            _ => return Err(TlsError::Half),
        };
        Ok(Self { config: Arc::new(config), server_name: settings.server_name.clone() })
    }

    /// Makes TLS of a connection to `name`. Takes as long as the peer does.
    pub(super) async fn connect(&self, name: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(name);
        let bare = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let server_name =
            ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name { name: name.to_owned() })?;
        let connected = TlsConnector::from(self.config.clone()).connect(server_name, stream).await;
        connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => named(bare, error),
            None => handshake(bare, error),
        })
    }
}

/// Who we are to those who connect to us; blocks on the disk.
pub(super) fn server(certificate_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = (certificates(certificate_file)?, key(key_file)?);
    let unusable =
        |error: rustls::Error| TlsError::Unusable { file: certificate_file.to_owned(), reason: error.to_string() };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    Ok(Arc::new(config))
}

/// A connection as bytes, for who need not know what carries it.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Connects to a target, and tells from which of our addresses and whose certificate it shows; nothing of SIP is said.
///
/// # Errors
/// [`TlsError`], one for each thing that can be wrong with files, connection and certificate.
pub async fn connect(
    target: &Target,
    settings: &TlsSettings,
) -> Result<(Box<dyn ByteStream>, SocketAddr, PeerCertificate), TlsError> {
    let name = &target.name;
    let tls = ClientTls::new(settings)?;
    let late = |what: &'static str| handshake(name, format!("{what} within {} s", PROBE_PATIENCE.as_secs()));
    let stream = tokio::time::timeout(PROBE_PATIENCE, TcpStream::connect(target.address))
        .await
        .map_err(|_| late("no connection"))?
        .map_err(|error| handshake(name, error))?;
    let local = stream.local_addr().map_err(|error| handshake(name, error))?;
    let stream = tokio::time::timeout(PROBE_PATIENCE, tls.connect(name, stream))
        .await
        .map_err(|_| late("the handshake was not over"))??;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = shown
        .and_then(|certificate| PeerCertificate::read(certificate))
        .ok_or_else(|| handshake(name, "the certificate cannot be read"))?;
    Ok((Box::new(stream), local, certificate))
}

/// Whose certificate a target shows.
///
/// # Errors
/// [`TlsError`].
pub async fn probe(target: &Target, settings: &TlsSettings) -> Result<PeerCertificate, TlsError> {
    connect(target, settings).await.map(|(_, _, certificate)| certificate)
}

fn handshake(name: &str, reason: impl ToString) -> TlsError {
    TlsError::Handshake { name: name.to_owned(), reason: reason.to_string() }
}

/// What rustls found, in our words.
fn named(name: &str, error: &rustls::Error) -> TlsError {
    let name = name.to_owned();
    let rustls::Error::InvalidCertificate(fault) = error else {
        return handshake(&name, error);
    };
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsError::Expired { name },
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsError::NotYetValid { name },
        CertificateError::NotValidForName => TlsError::WrongName { name, shown: Vec::new() },
        CertificateError::NotValidForNameContext { presented, .. } => {
            TlsError::WrongName { name, shown: presented.clone() }
        }
        // A CA of the same name with another key: one that was made anew, and whose old certificate we have.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsError::UnknownIssuer { name },
        other => TlsError::Certificate { name, reason: other.to_string() },
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificates";
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_file_iter(file).and_then(|found| found.collect());
    match found {
        Ok(found) if found.is_empty() => {
            Err(TlsError::File { what, file: file.to_owned(), reason: "there is none in it".to_owned() })
        }
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::File { what, file: file.to_owned(), reason: error.to_string() }),
    }
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let reason = match error {
            pem::Error::NoItemsFound => "there is none in it".to_owned(),
            // No more words: they might quote the key.
            pem::Error::Io(error) => error.to_string(),
            _ => "it is no PEM".to_owned(),
        };
        TlsError::File { what: "a private key", file: file.to_owned(), reason }
    })
}

/// Trusts chains to the roots, and certificates of `tls_ca_file` themselves.
#[derive(Debug)]
struct Verifier {
    /// Absent when no root is to be had: only the pinned ones count.
    chain: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
            return match PeerCertificate::read(end_entity) {
                Some(certificate) if certificate.is_valid_at(at) => Ok(ServerCertVerified::assertion()),
                Some(certificate) if at < certificate.not_before => Err(CertificateError::NotValidYet.into()),
                Some(_) => Err(CertificateError::Expired.into()),
                None => Err(CertificateError::BadEncoding.into()),
            };
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
