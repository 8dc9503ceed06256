//! `sslmode` in, a rustls configuration out.

use std::sync::Arc;

use rollcall_model::Fault;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::{ConnectConfig, SslMode};

/// How much of the server's certificate is looked at.
#[derive(Debug)]
enum Check {
    /// Nothing: the line is encrypted, the other end is not known.
    Nothing,
    /// That a trusted root signed it, whatever its name.
    Chain(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    check: Check,
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
        let Check::Chain(webpki) = &self.check else { return Ok(ServerCertVerified::assertion()) };
        match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // webpki looks at the name last: everything before it was right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn roots(config: &ConnectConfig) -> Result<Arc<RootCertStore>, Fault> {
    let mut store = RootCertStore::empty();
    if let Some(path) = &config.sslrootcert {
        let bad = |why: &str| {
            Fault::config(format!("sslrootcert {} {why}", path.display()))
                .repair("give the PEM file of the authority that signed the server's certificate")
        };
        let certs = CertificateDer::pem_file_iter(path).map_err(|_| bad("can't be read"))?;
        for cert in certs {
            let cert = cert.map_err(|_| bad("is no PEM file"))?;
            store
                .add(cert)
                .map_err(|error| bad("holds a certificate that can't be used").from_source(error))?;
        }
        if store.is_empty() {
            return Err(bad("holds no certificate"));
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(Fault::config(format!("no root certificate is known to check {config} with"))
                .repair("give sslrootcert=FILE in the url"));
        }
    }
    Ok(Arc::new(store))
}

/// The TLS configuration that the URL's `sslmode` and `sslrootcert` ask for.
pub(crate) fn client_config(config: &ConnectConfig) -> Result<Arc<ClientConfig>, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // libpq: with a root file at hand, `require` checks the chain as `verify-ca` does.
    let chain = config.sslmode == SslMode::Require && config.sslrootcert.is_some();
    let mode = if chain { SslMode::VerifyCa } else { config.sslmode };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::bug("the TLS provider has no protocol version").from_source(error))?;
    let check = match mode {
        SslMode::VerifyFull => {
            return Ok(Arc::new(builder.with_root_certificates(roots(config)?).with_no_client_auth()));
        }
        SslMode::VerifyCa => Check::Chain(
            WebPkiServerVerifier::builder_with_provider(roots(config)?, Arc::clone(&provider))
                .build()
                .map_err(|error| Fault::config("the root certificates can't be used").from_source(error))?,
        ),
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Check::Nothing,
    };
    let verifier = Arc::new(Verifier { check, provider });
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}
