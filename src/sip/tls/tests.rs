use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::sip::Transport;

/// A CA and a folder for the files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        Self::called("CA")
    }

    fn called(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer };
        std::fs::write(authority.file("ca"), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues a certificate; its files are `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str, host: &str, years: (i32, i32)) {
        let mut parameters = CertificateParams::new([host.to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(years.0, 1, 1);
        parameters.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A server that shows that certificate to whoever connects.
    async fn serve(&self, name: &str) -> SocketAddr {
        let config = server(&self.file(&format!("{name}.pem")), &self.file(&format!("{name}.key"))).unwrap();
        serve(config).await
    }

    fn trusted(&self) -> TlsSettings {
        TlsSettings { ca_file: Some(self.file("ca")), ..Default::default() }
    }
}

async fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = TlsAcceptor::from(config.clone()).accept(stream).await {
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
    });
    address
}

fn target(address: SocketAddr, name: &str) -> Target {
    Target { address, transport: Transport::Tls, name: name.to_owned() }
}

#[tokio::test]
async fn a_good_certificate_tells_its_names_and_dates() {
    let authority = Authority::new();
    authority.issue("good", "sip.example.com", (2020, 2051));
    let address = authority.serve("good").await;
    let shown = probe(&target(address, "sip.example.com"), &authority.trusted()).await.unwrap();
    assert_eq!(shown.names, ["sip.example.com"]);
    assert!(shown.is_valid_at(SystemTime::now()));
    // The configured name counts, not the target's.
    let settings = TlsSettings { server_name: Some("sip.example.com".to_owned()), ..authority.trusted() };
    probe(&target(address, "192.0.2.1"), &settings).await.unwrap();
    authority.issue("address", "127.0.0.1", (2020, 2051));
    probe(&target(authority.serve("address").await, "127.0.0.1"), &authority.trusted()).await.unwrap();
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_error() {
    let authority = Authority::new();
    let probed = async |name: &str, years, asked: &str, settings: &TlsSettings| {
        authority.issue("server", name, years);
        probe(&target(authority.serve("server").await, asked), settings).await.unwrap_err()
    };
    let trusted = authority.trusted();
    let expired = probed("sip.example.com", (2001, 2002), "sip.example.com", &trusted).await;
    assert!(matches!(&expired, TlsError::Expired { name } if name == "sip.example.com"), "{expired}");
    let early = probed("sip.example.com", (2100, 2101), "sip.example.com", &trusted).await;
    assert!(matches!(&early, TlsError::NotYetValid { .. }), "{early}");
    let wrong = probed("other.example.com", (2020, 2051), "sip.example.com", &trusted).await;
    assert!(wrong.to_string().contains("not for sip.example.com but for"), "{wrong}");
    assert!(matches!(&wrong, TlsError::WrongName { shown, .. } if shown[0].contains("other.example.com")), "{wrong:?}");
    // Another CA, and another one of the same name.
    for stranger in [Authority::called("other CA"), Authority::new()] {
        let unknown = probed("sip.example.com", (2020, 2051), "sip.example.com", &stranger.trusted()).await;
        assert!(matches!(&unknown, TlsError::UnknownIssuer { .. }), "{unknown}");
    }
}

#[tokio::test]
async fn a_server_that_signed_for_itself_is_trusted_by_its_certificate_until_that_expires() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (folder.path().join("self.pem"), folder.path().join("self.key"));
    let settings = TlsSettings { ca_file: Some(certificate_file.clone()), ..Default::default() };
    for (years, trusted) in [((2020, 2051), true), ((2001, 2002), false)] {
        let mut parameters = CertificateParams::new(["pbx".to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.not_before = date_time_ymd(years.0, 1, 1);
        parameters.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        std::fs::write(&certificate_file, parameters.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let address = serve(server(&certificate_file, &key_file).unwrap()).await;
        match probe(&target(address, "192.168.1.5"), &settings).await {
            Ok(_) => assert!(trusted),
            Err(error) => assert!(!trusted && matches!(error, TlsError::Expired { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn our_certificate_is_shown_to_a_server_that_asks() {
    let authority = Authority::new();
    authority.issue("server", "127.0.0.1", (2020, 2051));
    authority.issue("client", "offhook.example.com", (2020, 2051));
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            certificates(&authority.file("server.pem")).unwrap(),
            key(&authority.file("server.key")).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = async || acceptor.accept(listener.accept().await.unwrap().0).await;
    let connected = async |settings: &TlsSettings| {
        let tls = ClientTls::new(settings).unwrap();
        tls.connect("127.0.0.1", TcpStream::connect(address).await.unwrap()).await
    };
    let with = TlsSettings {
        certificate_file: Some(authority.file("client.pem")),
        key_file: Some(authority.file("client.key")),
        ..authority.trusted()
    };
    let (server, client) = tokio::join!(accepted(), connected(&with));
    client.unwrap();
    let server = server.unwrap();
    let shown = PeerCertificate::read(&server.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(shown.names, ["offhook.example.com"]);
    let without = authority.trusted();
    let (server, _) = tokio::join!(accepted(), connected(&without));
    assert!(server.is_err());
}

#[test]
fn errors_name_the_file_and_what_to_do() {
    let authority = Authority::new();
    authority.issue("good", "a", (2020, 2051));
    let fails = |settings: TlsSettings| ClientTls::new(&settings).unwrap_err().to_string();
    let missing = fails(TlsSettings { ca_file: Some("/nowhere/ca.pem".into()), ..Default::default() });
    assert!(missing.contains("/nowhere/ca.pem") && missing.contains("PEM"), "{missing}");
    let no_certificate = fails(TlsSettings { ca_file: Some(authority.file("good.key")), ..Default::default() });
    assert!(no_certificate.contains("good.key") && no_certificate.contains("none in it"), "{no_certificate}");
    let half = fails(TlsSettings { certificate_file: Some(authority.file("good.pem")), ..authority.trusted() });
    assert!(half.contains("tls_key_file"), "{half}");
    let key = server(&authority.file("good.pem"), &authority.file("good.pem")).unwrap_err().to_string();
    assert!(key.contains("private key") && key.contains("good.pem"), "{key}");
    authority.issue("other", "a", (2020, 2051));
    let pair = server(&authority.file("good.pem"), &authority.file("other.key")).unwrap_err().to_string();
    assert!(pair.contains("good.pem") && pair.contains("key"), "{pair}");
}

#[tokio::test]
async fn a_name_that_no_certificate_can_have_and_a_server_that_speaks_no_tls_are_said() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = probe(&target(address, "not a name"), &authority.trusted()).await.unwrap_err();
    assert!(error.to_string().contains("tls_server_name"), "{error}");
    drop(listener);
    let error = probe(&target(address, "127.0.0.1"), &authority.trusted()).await.unwrap_err();
    assert!(matches!(error, TlsError::Handshake { .. }), "{error}");
}
