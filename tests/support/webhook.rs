//! A mutating webhook that gives one answer to all creates of pods in the test's namespace.
//!
//! It listens on loopback: the API server must run on this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::manifests::{ADMISSION_API, ClusterWide, creates_of_pods};
use super::namespace::Namespace;
use super::spawn;

pub(crate) const NAME: &str = "mutates.test.dots";

/// Called no more when it is dropped.
pub(crate) struct Webhook {
    _registration: ClusterWide,
}

impl Webhook {
    /// All pods are changed by this JSON patch.
    pub(crate) fn that_patches(namespace: &Namespace, patch: &Value) -> Self {
        Self::that_answers(namespace, json!({"allowed": true, "patchType": "JSONPatch", "patch": base64(patch.to_string().as_bytes())}))
    }

    /// Is asked from when this returns on.
    pub(crate) fn that_answers(namespace: &Namespace, response: Value) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (asked, is_asked) = crossbeam_channel::unbounded();
        let tls = tls();
        spawn("webhook", move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tls, response, asked) = (tls.clone(), response.clone(), asked.clone());
                spawn("webhook", move || {
                    let connection = ServerConnection::new(tls).expect("the settings are right");
                    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
                    while let Some(review) = read_review(&mut stream) {
                        // Nobody listens any more once it is known to be asked.
                        let _ = asked.send(());
                        if answer(&mut stream, &review, &response).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let registration = ClusterWide::new(vec![json!({
            "apiVersion": ADMISSION_API, "kind": "MutatingWebhookConfiguration", "metadata": {"name": format!("mutates-{}", namespace.name)},
            "webhooks": [{
                "name": NAME, "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": format!("https://127.0.0.1:{port}/"), "caBundle": base64(include_bytes!("loopback-ca.crt"))},
                "rules": creates_of_pods(), "namespaceSelector": namespace.selector(),
            }],
        })]);
        namespace.try_to_create_pods_until("the webhook", |_| is_asked.try_recv().is_ok());
        Self { _registration: registration }
    }
}

fn tls() -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("ring has them");
    let certificate = CertificateDer::from_pem_slice(include_bytes!("loopback.crt")).expect("it is one");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("loopback.key")).expect("it is one");
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("the key is the certificate's"))
}

type Stream = BufReader<StreamOwned<ServerConnection, TcpStream>>;

/// None where the API server asks no further.
fn read_review(stream: &mut Stream) -> Option<Value> {
    let head: Vec<String> = stream.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn answer(stream: &mut Stream, review: &Value, response: &Value) -> std::io::Result<()> {
    let mut response = response.clone();
    response["uid"] = review["request"]["uid"].clone();
    let body = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all((head + &body).as_bytes())
}

/// As Kubernetes has bytes in JSON.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, index| bits << 8 | usize::from(three.get(index).copied().unwrap_or_default()));
        let digit = move |index: usize| char::from(DIGITS[bits >> (18 - 6 * index) & 63]);
        let used = three.len() + 1;
        (0..4).map(move |index| if index < used { digit(index) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
