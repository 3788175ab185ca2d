//! What comes from files that change while the service runs: the token, and the CA that the API server's certificate must come from.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ureq::http::HeaderValue;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsConfigBuilder, parse_pem};

use super::error::Error;
use crate::clock;
use crate::config::{Tls, Token};
use crate::secret::Secret;
use crate::supervise::lock;

/// The kubelet changes a mounted file well before what was in it ends, and client-go reads a token each minute.
/// <https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>
const FILE_AGE_MAX: Duration = Duration::from_secs(60);

/// The kubelet mounts no more than an object of the API holds.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Whom the API server's certificate must come from.
pub(super) struct Trust {
    source: Tls,
    /// What agents are made with.
    pub(super) tls: TlsConfig,
    /// What `tls` was made of.
    pem: Vec<u8>,
    /// When the file was last looked at, also in vain. None: the next call does.
    looked_at: Option<Instant>,
    /// Why it was of no use then, so as to say it once.
    problem: Option<String>,
}

impl Trust {
    pub(super) fn new(source: &Tls) -> Result<Self, String> {
        let (tls, pem) = match source {
            Tls::Verified(file) => {
                let pem = read_ca(file)?;
                (verified(&pem, file)?, pem)
            }
            Tls::Unverified => (tls_config().disable_verification(true).build(), Vec::new()),
        };
        Ok(Self { source: source.clone(), tls, pem, looked_at: Some(clock::now().instant), problem: None })
    }

    /// Looks at the file where that is due, and says whether `tls` is another one now. A file that is of no use changes nothing.
    pub(super) fn look(&mut self) -> bool {
        let Tls::Verified(file) = &self.source else { return false };
        let now = clock::now().instant;
        if self.looked_at.is_some_and(|looked_at| now.saturating_duration_since(looked_at) < FILE_AGE_MAX) {
            return false;
        }
        self.looked_at = Some(now);
        let changed = read_ca(file).and_then(|pem| if pem == self.pem { Ok(None) } else { Ok(Some((verified(&pem, file)?, pem))) });
        match changed {
            Ok(None) => self.problem = None,
            Ok(Some((tls, pem))) => {
                log::info!("KUBERNETES_CA_FILE {} has changed, and what it holds now is trusted.", file.display());
                (self.tls, self.pem, self.problem) = (tls, pem, None);
                return true;
            }
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    log::warn!("{problem}. What it held before stays trusted.");
                }
                self.problem = Some(problem);
            }
        }
        false
    }

    /// A certificate was not trusted, and its CA may be in the file by now.
    pub(super) fn look_again(&mut self) {
        self.looked_at = None;
    }
}

fn read_ca(file: &Path) -> Result<Vec<u8>, String> {
    read(file).map_err(|error| format!("KUBERNETES_CA_FILE {} cannot be read: {error}", file.display()))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn verified(pem: &[u8], file: &Path) -> Result<TlsConfig, String> {
    let shown = file.display();
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
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
    Ok(tls_config().root_certs(RootCerts::from(certificates)).build())
}

fn tls_config() -> TlsConfigBuilder {
    TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
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
            && now.saturating_duration_since(held.read_at) < FILE_AGE_MAX
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
    let unreadable = |problem: &dyn Display| format!("the token in {} cannot be read: {problem}", path.display());
    let text = String::from_utf8(read(path).map_err(|error| unreadable(&error))?).map_err(|_| unreadable(&"it is no text"))?;
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
    use std::fs;

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
        source.held.lock().unwrap().as_mut().unwrap().read_at -= FILE_AGE_MAX;
        assert_eq!(source.current().unwrap().reveal(), "two", "the file is read again, in vain");
    }

    #[test]
    fn a_ca_file_is_looked_at_each_minute_and_where_a_certificate_was_not_trusted() {
        const CA: &str = include_str!("../../tests/support/another-ca.crt");
        let file = std::env::temp_dir().join(format!("mso-kube-ca-{}", std::process::id()));
        fs::write(&file, CA).unwrap();
        let mut trust = Trust::new(&Tls::Verified(file.clone())).unwrap();
        let a_minute_later = |trust: &mut Trust| *trust.looked_at.as_mut().unwrap() -= FILE_AGE_MAX;
        a_minute_later(&mut trust);
        assert!(!trust.look(), "it is the same");

        fs::write(&file, format!("{CA}{}", include_str!("../../tests/support/loopback-ca.crt"))).unwrap();
        assert!(!trust.look(), "a minute has not gone by");
        a_minute_later(&mut trust);
        assert!(trust.look());
        assert!(!trust.look(), "it is looked at once");

        fs::write(&file, CA).unwrap();
        trust.look_again();
        assert!(trust.look(), "at once");

        fs::remove_file(&file).unwrap();
        a_minute_later(&mut trust);
        assert!(!trust.look(), "nothing else can be trusted");
        assert!(trust.problem.as_ref().is_some_and(|problem| problem.contains("cannot be read")), "{:?}", trust.problem);
        fs::write(&file, CA).unwrap();
        assert!(!trust.look(), "it is not looked at again before a minute has gone by");
        a_minute_later(&mut trust);
        assert!(!trust.look(), "it is what is trusted already");
        assert_eq!(trust.problem, None);
        fs::remove_file(&file).unwrap();
    }
}
