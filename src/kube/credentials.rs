//! What comes from files that change while the service runs: the token, and the CA that the API server's certificate must come from.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ureq::http::HeaderValue;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::error::Error;
use crate::clock;
use crate::config::{Tls, Token};
use crate::secret::Secret;
use crate::supervise::lock;

/// The kubelet changes a mounted token well before its end, and client-go reads it each minute.
/// <https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>
const TOKEN_AGE_MAX: Duration = Duration::from_secs(60);

pub(super) fn tls_config(tls: &Tls) -> Result<TlsConfig, String> {
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Ok(match tls {
        Tls::Verified(file) => builder.root_certs(root_certificates(file)?).build(),
        Tls::Unverified => builder.disable_verification(true).build(),
    })
}

fn root_certificates(file: &Path) -> Result<RootCerts, String> {
    let shown = file.display();
    let text = fs::read(file).map_err(|error| format!("KUBERNETES_CA_FILE {shown} cannot be read: {error}"))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| format!("KUBERNETES_CA_FILE {shown} is no PEM: {error}"))? {
            certificates.push(certificate);
        }
    }
    // rustls skips what it cannot use, and then trusts nobody.
    let der = certificates.iter().map(|certificate| rustls::pki_types::CertificateDer::from(certificate.der()));
    let (usable, _) = rustls::RootCertStore::empty().add_parsable_certificates(der);
    if usable == 0 {
        return Err(format!("KUBERNETES_CA_FILE {shown} holds no certificate"));
    }
    Ok(RootCerts::from(certificates))
}

/// Where the token comes from, and the one in use.
pub(super) struct TokenSource {
    source: Token,
    held: Mutex<Option<Held>>,
}

struct Held {
    token: Secret,
    /// When it was last tried, also in vain.
    read_at: Instant,
}

impl TokenSource {
    /// A file may come later.
    pub(super) fn new(source: &Token) -> Result<Self, String> {
        if let Token::Fixed(token) = source {
            bearer(token)?;
        }
        Ok(Self { source: source.clone(), held: Mutex::default() })
    }

    /// Read again where it is old. A file that cannot be read leaves the token that there was.
    pub(super) fn current(&self) -> Result<Secret, Error> {
        let path = match &self.source {
            Token::Fixed(token) => return Ok(token.clone()),
            Token::File(path) => path,
        };
        let now = clock::now().instant;
        let mut held = lock(&self.held);
        if let Some(held) = &*held
            && now.saturating_duration_since(held.read_at) < TOKEN_AGE_MAX
        {
            return Ok(held.token.clone());
        }
        let token = match (read_token(path), &*held) {
            (Ok(token), _) => token,
            (Err(problem), Some(held)) => {
                log::warn!("{problem}. The last token stays in use.");
                held.token.clone()
            }
            (Err(problem), None) => return Err(Error::Lost(problem)),
        };
        *held = Some(Held { token: token.clone(), read_at: now });
        Ok(token)
    }

    /// For a token that was refused: the file's, if that is another by now.
    pub(super) fn newer_than(&self, refused: &Secret) -> Option<Secret> {
        let Token::File(path) = &self.source else { return None };
        let mut held = lock(&self.held);
        let token = read_token(path).ok().filter(|token| token != refused)?;
        *held = Some(Held { token: token.clone(), read_at: clock::now().instant });
        Some(token)
    }
}

fn read_token(path: &Path) -> Result<Secret, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("the token in {} cannot be read: {error}", path.display()))?;
    let token = Secret::new(text.trim());
    bearer(&token).map_err(|problem| format!("{}: {problem}", path.display()))?;
    Ok(token)
}

pub(super) fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    let token = token.reveal().trim();
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "the token has a character that no HTTP header takes".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_that_is_gone_leaves_the_last_token() {
        let file = std::env::temp_dir().join(format!("mso-kube-token-{}", std::process::id()));
        let source = TokenSource::new(&Token::File(file.clone())).unwrap();
        assert!(matches!(source.current(), Err(Error::Lost(problem)) if problem.contains(file.to_str().unwrap())));
        fs::write(&file, "one\n").unwrap();
        let one = source.current().unwrap();
        assert_eq!(one.reveal(), "one");
        assert_eq!(source.newer_than(&one), None, "the file holds what was refused");
        fs::write(&file, "two").unwrap();
        assert_eq!(source.current().unwrap().reveal(), "one", "a minute has not gone by");
        assert_eq!(source.newer_than(&one).unwrap().reveal(), "two", "but a refused token is replaced at once");
        assert_eq!(source.current().unwrap().reveal(), "two");
        fs::remove_file(&file).unwrap();
        assert_eq!(source.current().unwrap().reveal(), "two");
        source.held.lock().unwrap().as_mut().unwrap().read_at -= TOKEN_AGE_MAX;
        assert_eq!(source.current().unwrap().reveal(), "two", "the file is read again, in vain");
    }
}
