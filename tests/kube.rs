//! The Kubernetes client and the threads on it: on either ground, where each test has a namespace of its own; and against a scripted API
//! server, for what the others rarely do.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod support;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Receiver;
use mso::clock::UnixTime;
use mso::config::{KubernetesSettings, PodSettings, Tls, Token};
use mso::deployer::Reading;
use mso::ids::{DeployId, ModelId, PodName, RecordName, SimulationId, SimulatorId, SimulatorName, Uid};
use mso::kube::error::Error;
use mso::kube::pod::{NewPod, Pod, Variable};
use mso::kube::record::{Content, Found, NewRecord, Progress, Record};
use mso::kube::{Client, PodList, WatchEvent};
use mso::orchestrator::event::{Answer, CrashLog, Event, PodCall, PodsEvent, Question, RecordAnswer, RecordCall};
use mso::secret::Secret;
use mso::supervise::Beat;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use support::namespace::Namespace;
use support::{Ground, ground};

const EVENT_TIME: Duration = Duration::from_secs(20);

#[test]
fn a_pod_is_created_seen_labelled_and_deleted() {
    let namespace = Namespace::with_account(ground());
    let client = client_of(&namespace);
    let start = client.list_pods(&Beat::default()).unwrap();
    assert!(start.pods.is_empty() && start.server_time.is_some());

    let created = pod_of(client.call(&PodCall::Create(Arc::new(new_pod("m1")))));
    assert_eq!(created.metadata.labels.mark.as_deref(), Some("test-so"));
    assert_eq!(created.metadata.labels.model_id.as_deref(), Some("m1"));
    assert_eq!(created.metadata.annotations.deploy.as_deref(), Some("0123456789abcdef"));
    let again = client.call(&PodCall::Create(Arc::new(new_pod("m1")))).unwrap_err();
    assert!(again.is_conflict() && again.to_string().contains("AlreadyExists"), "{again}");

    assert_eq!(pod_of(client.call(&get("m1"))).metadata.uid, created.metadata.uid);
    assert!(client.call(&get("m2")).unwrap_err().is_not_found());
    let listed = client.list_pods(&Beat::default()).unwrap();
    assert_eq!(listed.pods.iter().map(|pod| pod.metadata.uid.as_str()).collect::<Vec<_>>(), [created.metadata.uid.as_str()]);

    let (name, uid) = (name("m1"), Uid::new(&created.metadata.uid).unwrap());
    let delete_by = UnixTime(1657273230.082123);
    let labelled = pod_of(client.call(&PodCall::SetDeleteBy { name: name.clone(), uid: uid.clone(), delete_by }));
    assert_eq!(labelled.metadata.labels.delete_by_datetime.as_deref(), Some("1657273230.082123"));
    assert_eq!(labelled.metadata.labels.model_id.as_deref(), Some("m1"), "the other labels stay");
    pod_of(client.call(&PodCall::Stop { name: name.clone(), uid: uid.clone() }));
    assert_eq!(namespace.pod(name.as_str()).unwrap()["spec"]["activeDeadlineSeconds"], 1);
    assert_eq!(client.call(&PodCall::Delete { name: name.clone(), uid: uid.clone() }), Ok(Answer::Done));

    let mut watch = client.watch_pods(&start.resource_version, 30).unwrap();
    assert!(watch.server_time.is_some());
    let Some(Ok(WatchEvent::Changed(added))) = watch.next() else { panic!("nothing was added") };
    assert_eq!(added.metadata.uid, created.metadata.uid);
    let mut labelled = false;
    let last = watch.map(Result::unwrap).find_map(|event| match event {
        WatchEvent::Changed(pod) => {
            labelled |= pod.metadata.labels.delete_by_datetime.is_some();
            None
        }
        WatchEvent::Deleted(pod) => Some(pod),
        WatchEvent::Bookmark(_) => None,
    });
    assert!(labelled, "the watch shows the label");
    assert_eq!(last.expect("the watch shows the end").metadata.uid, created.metadata.uid);
    assert!(client.call(&PodCall::Delete { name, uid }).unwrap_err().is_not_found());
}

#[test]
fn a_watch_ends_in_order_when_its_time_is_over() {
    let namespace = Namespace::with_account(ground());
    let client = client_of(&namespace);
    let version = client.list_pods(&Beat::default()).unwrap().resource_version;
    let events: Vec<_> = client.watch_pods(&version, 2).unwrap().collect();
    assert!(events.iter().all(|event| matches!(event, Ok(WatchEvent::Bookmark(_)))), "{events:?}");
}

#[test]
fn another_pod_of_the_same_name_is_not_touched() {
    let namespace = Namespace::with_account(ground());
    let client = client_of(&namespace);
    pod_of(client.call(&PodCall::Create(Arc::new(new_pod("m1")))));
    let (name, uid) = (name("m1"), Uid::new("00000000-0000-0000-0000-000000000000").unwrap());
    let calls = [
        PodCall::SetDeleteBy { name: name.clone(), uid: uid.clone(), delete_by: UnixTime(1.0) },
        PodCall::Stop { name: name.clone(), uid: uid.clone() },
        PodCall::Delete { name: name.clone(), uid },
    ];
    for call in calls {
        let error = client.call(&call).unwrap_err();
        assert!(error.is_conflict(), "{call:?}: {error}");
    }
    let pod = namespace.pod(name.as_str()).unwrap();
    assert_eq!(pod["metadata"]["labels"]["delete_by_datetime"], Value::Null);
    assert_eq!(pod["spec"]["activeDeadlineSeconds"], Value::Null);
    assert_eq!(pod["metadata"]["deletionTimestamp"], Value::Null);
}

#[test]
fn a_pod_that_is_refused_names_the_field() {
    let namespace = Namespace::with_account(ground());
    let error = client_of(&namespace).call(&PodCall::Create(Arc::new(NewPod { image: String::new(), ..new_pod("m1") }))).unwrap_err();
    let Error::Refused(status) = error else { panic!("{error}") };
    assert_eq!(status.code, 422);
    assert!(status.details.causes.iter().any(|cause| cause.field == "spec.containers[0].image"), "{status:?}");
}

#[test]
#[ignore = "only on the real ground: devkit's cluster knows no roles"]
fn what_the_role_does_not_allow_is_forbidden() {
    let namespace = Namespace::with_account(Ground::Real);
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]});
    namespace.kubectl(&["patch", "role", "mso", "--type=merge", "--patch", &rules.to_string()]);
    let client = client_of(&namespace);
    assert!(client.list_pods(&Beat::default()).is_ok());
    let error = client.call(&PodCall::Create(Arc::new(new_pod("m1")))).unwrap_err();
    assert_eq!(error.code(), Some(403));
    assert!(error.to_string().contains(r#"cannot create resource "pods""#), "{error}");
}

#[test]
fn a_refused_token_is_replaced_by_the_files_new_one_at_once() {
    let namespace = Namespace::with_account(ground());
    let fixed = KubernetesSettings { token: Token::Fixed(Secret::new("wrong")), ..settings_of(&namespace) };
    assert_eq!(client(&fixed).list_pods(&Beat::default()).unwrap_err().code(), Some(401));

    let file = namespace.file("token", "wrong\n");
    let client = client(&KubernetesSettings { token: Token::File(file.clone()), ..settings_of(&namespace) });
    assert_eq!(client.list_pods(&Beat::default()).unwrap_err().code(), Some(401));
    let Token::Fixed(token) = settings_of(&namespace).token else { unreachable!("the settings of a namespace have a token") };
    std::fs::write(file, format!("{}\n", token.reveal())).unwrap();
    let version = client.list_pods(&Beat::default()).unwrap().resource_version;
    assert!(client.watch_pods(&version, 1).is_ok());
}

#[test]
fn a_certificate_that_is_not_trusted_is_said_so() {
    let namespace = Namespace::with_account(ground());
    let file = namespace.file("another-ca.crt", ANOTHER_CA);
    let verified = KubernetesSettings { tls: Tls::Verified(file), ..settings_of(&namespace) };
    let error = client(&verified).list_pods(&Beat::default()).unwrap_err();
    assert!(matches!(error, Error::Lost(_)));
    assert!(error.to_string().contains("certificate is not trusted") && error.to_string().contains("KUBERNETES_CA_FILE"), "{error}");
    assert!(client(&KubernetesSettings { tls: Tls::Unverified, ..settings_of(&namespace) }).list_pods(&Beat::default()).is_ok());
}

#[test]
fn another_ca_in_the_file_is_trusted_without_a_restart() {
    let ca = RotatingCa::new();
    assert!(ca.list().is_ok());
    let list = answer("200 OK", &json!({"metadata": {"resourceVersion": "4"}, "items": []}).to_string());
    let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "6"}}});
    let server = Script::of(vec![list, answer("200 OK", &format!("{bookmark}\n"))]);
    ca.wire.lead_to(server.address());
    for phrase in ["the first call", "the second, with the same file"] {
        let error = ca.list().unwrap_err().to_string();
        assert!(error.contains("certificate is not trusted") && error.contains("KUBERNETES_CA_FILE"), "{phrase}: {error}");
    }
    std::fs::write(&ca.file, LOOPBACK_CA).unwrap();
    assert_eq!(ca.list().unwrap().resource_version, "4");
    let mut watch = ca.client.watch_pods("4", 1).unwrap();
    assert_eq!(watch.next(), Some(Ok(WatchEvent::Bookmark("6".to_owned()))), "a watch trusts it too");
}

#[test]
fn a_ca_file_that_breaks_leaves_the_last_ca() {
    let ca = RotatingCa::new();
    let list = answer("200 OK", &json!({"metadata": {"resourceVersion": "4"}, "items": []}).to_string());
    let server = Script::of(vec![list]);
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (phrase, text) in [("an empty file", Some("")), ("no certificate", Some(no_certificate)), ("no file", None)] {
        match text {
            Some(text) => std::fs::write(&ca.file, text).unwrap(),
            None => std::fs::remove_file(&ca.file).unwrap(),
        }
        ca.wire.lead_to(server.address());
        for _ in 0..2 {
            let error = ca.list().unwrap_err().to_string();
            assert!(error.contains("certificate is not trusted"), "{phrase}, of which there is none now: {error}");
        }
        ca.wire.lead_to(ca.namespace.api_address());
        assert!(ca.list().is_ok(), "{phrase}");
    }
    std::fs::write(&ca.file, LOOPBACK_CA).unwrap();
    ca.wire.lead_to(server.address());
    assert!(ca.list().is_err(), "a minute has not gone by, and all was well");
    assert_eq!(ca.list().unwrap().resource_version, "4", "but then it is looked at again");
}

/// A client that trusts the CA in `file`: at first that of devkit's cluster, which is where the wire leads.
struct RotatingCa {
    namespace: Namespace,
    wire: Wire,
    file: PathBuf,
    client: Client,
}

impl RotatingCa {
    fn new() -> Self {
        // Its certificate is also for this end of the wire.
        let namespace = Namespace::with_account(Ground::Devkit);
        let wire = Wire::to(&namespace);
        let file = namespace.file("rotating-ca.crt", &std::fs::read_to_string(namespace.ca_file()).unwrap());
        let client = client(&KubernetesSettings { tls: Tls::Verified(file.clone()), ..wire.settings(&namespace) });
        Self { namespace, wire, file, client }
    }

    fn list(&self) -> Result<PodList, Error> {
        self.client.list_pods(&Beat::default())
    }
}

#[test]
fn nobody_at_that_address_is_said_so() {
    let namespace = Namespace::with_account(ground());
    let error = |host: &str, port| {
        client(&KubernetesSettings { host: host.to_owned(), port, ..settings_of(&namespace) }).list_pods(&Beat::default()).unwrap_err()
    };
    let refused = error("127.0.0.1", 1).to_string();
    assert!(refused.contains("https://127.0.0.1:1") && refused.to_lowercase().contains("refused"), "{refused}");
    let unknown = error("no-such-host.invalid", 443);
    assert!(matches!(&unknown, Error::Lost(why) if why.contains("no-such-host.invalid")), "{unknown}");
}

#[test]
fn a_list_of_two_pages_is_complete_and_holds_no_pod_with_another_mark() {
    let namespace = Namespace::with_account(ground());
    let pod = |number: usize, mark: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("p{number}"), "labels": {"mso.dots/simulator": mark}},
            "spec": {"nodeSelector": {"mso.dots/no-such": "node"}, "containers": [{"name": "c", "image": "none"}]},
        })
    };
    for number in 0..501 {
        namespace.create(&pod(number, "test-so"));
    }
    namespace.create(&pod(501, "another-so"));

    let client = client_of(&namespace);
    let list = client.list_pods(&Beat::default()).unwrap();
    let mut names: Vec<&str> = list.pods.iter().map(|pod| pod.metadata.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 501);
    assert!(!names.contains(&"p501"), "a pod with another mark is not ours");
}

#[test]
fn sixteen_threads_make_sixteen_connections() {
    let namespace = Namespace::with_account(ground());
    // Each create is refused, so that nothing runs, and its answer is an error, whose body must be read as well.
    namespace.refuse_pods();
    let wire = Wire::to(&namespace);
    let client = client(&wire.settings(&namespace));
    let round = Barrier::new(16);
    thread::scope(|scope| {
        for worker in 0..16 {
            let (client, round) = (&client, &round);
            scope.spawn(move || {
                for number in 0..40 {
                    // All connections are idle for a moment: none may be closed for that.
                    round.wait();
                    let error = client.call(&PodCall::Create(Arc::new(new_pod(&format!("m-{worker}-{number}"))))).unwrap_err();
                    assert_eq!(error.code(), Some(403), "{error}");
                }
            });
        }
    });
    let connections = wire.connections.load(Ordering::SeqCst);
    assert!(connections <= 16, "{connections} connections");
}

#[test]
fn a_watch_that_is_cut_goes_on_where_it_was() {
    let namespace = Namespace::with_account(ground());
    let wire = Wire::to(&namespace);
    let watching = client(&wire.settings(&namespace));
    let (sender, events) = crossbeam_channel::bounded(16);
    let thread = thread::Builder::new().spawn(move || mso::pods::run(&watching, None, &sender, &Beat::default())).unwrap();
    assert!(matches!(next(&events), PodsEvent::Records(found) if found.records.is_empty()));
    assert!(matches!(next(&events), PodsEvent::ServerTime(_)));
    assert!(matches!(next(&events), PodsEvent::Listed(pods) if pods.is_empty()));
    assert!(matches!(next(&events), PodsEvent::ServerTime(_)), "the watch began");

    let calling = client_of(&namespace);
    let first = pod_of(calling.call(&PodCall::Create(Arc::new(new_pod("m1")))));
    assert!(matches!(next(&events), PodsEvent::Changed(pod) if pod.metadata.uid == first.metadata.uid));
    wire.cut();
    let second = pod_of(calling.call(&PodCall::Create(Arc::new(new_pod("m2")))));
    let mut failures = 0;
    loop {
        match next(&events) {
            PodsEvent::Changed(pod) if pod.metadata.uid == second.metadata.uid => break,
            PodsEvent::Failed(error) => {
                assert!(matches!(error, Error::Lost(_)), "{error}");
                failures += 1;
            }
            PodsEvent::Listed(_) => panic!("no list is needed"),
            _ => {}
        }
    }
    assert_eq!(failures, 1);

    drop(events);
    pod_of(calling.call(&PodCall::Create(Arc::new(new_pod("m3")))));
    thread.join().expect("the thread ends when nobody listens");
}

#[test]
fn a_deployer_gives_back_each_call_with_its_outcome() {
    let namespace = Namespace::with_account(ground());
    let client = client_of(&namespace);
    let (calls, to_do) = crossbeam_channel::unbounded();
    let (sender, events) = crossbeam_channel::bounded(16);
    calls.send((get("m1"), 7)).unwrap();
    drop(calls);
    mso::deployer::run(&client, &to_do, &sender, &Beat::default());
    let Ok(Event::Call(outcome)) = events.try_recv() else { panic!("no outcome") };
    assert_eq!((outcome.call, outcome.attempt), (get("m1"), 7));
    assert!(outcome.result.unwrap_err().is_not_found());

    let (readings, to_read) = crossbeam_channel::unbounded();
    let log = CrashLog { pod: name("m1"), container: "c".to_owned(), crash: "m1 crashed".into(), last_word: "".into(), attempt: 3 };
    readings.send(Reading::Log(log.clone())).unwrap();
    let PodCall::Get(question) = get("m1") else { panic!("it asks") };
    readings.send(Reading::Events(question.clone())).unwrap();
    drop(readings);
    mso::deployer::read(&client, &to_read, &sender, &Beat::default());
    let Ok(Event::LogRead { log: read, result }) = events.try_recv() else { panic!("no log") };
    assert_eq!(read, log);
    assert!(result.unwrap_err().is_not_found());
    let Ok(Event::EventsRead { question: read, result }) = events.try_recv() else { panic!("no events") };
    assert_eq!(read, question);
    assert!(result.as_ref().map_or(true, Vec::is_empty), "of a pod that never was: {result:?}");
}

#[test]
fn a_list_whose_later_pages_have_expired_is_asked_for_at_once() {
    let page = |version: &str, next: &str, pod: &str| {
        let metadata = json!({"resourceVersion": version, "continue": next});
        answer("200 OK", &json!({"metadata": metadata, "items": [{"metadata": {"name": pod, "uid": pod}}]}).to_string())
    };
    let expired = answer("410 Gone", &json!({"kind": "Status", "reason": "Expired", "code": 410}).to_string());
    let server = Script::of(vec![page("5", "more", "old"), expired, page("7", "", "new")]);
    let list = client(&server.settings()).list_pods(&Beat::default()).unwrap();
    assert_eq!(list.resource_version, "7");
    assert_eq!(list.pods.iter().map(|pod| pod.metadata.name.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(list.server_time, Some(UnixTime(784111777.0)));
    let selector = "GET /api/v1/namespaces/dots/pods?labelSelector=mso.dots%2Fsimulator%3Dtest-so";
    assert_eq!(server.requests(), [format!("{selector}&limit=500"), format!("{selector}&limit=500&continue=more"), selector.to_owned()]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "the connection is used again");
}

#[test]
fn what_a_proxy_refuses_is_kept_with_its_code_and_its_wait() {
    let busy = answer("503 Service Unavailable\r\nRetry-After: 7", "<html>no upstream</html>");
    let moved = answer("302 Found\r\nLocation: https://elsewhere/", "");
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"metadata\":".to_owned();
    let server = Script::of(vec![busy, moved, answer("200 OK", "<html>please log in</html>"), answer("200 OK", "{}"), cut]);
    let client = client(&server.settings());
    let error = client.call(&get("m1")).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.retry_after()), ("503: <html>no upstream</html>", Some(Duration::from_secs(7))));
    assert_eq!(client.call(&get("m1")).unwrap_err().code(), Some(302), "a redirect would take the token along");
    for phrase in ["not JSON", "not a pod"] {
        assert!(matches!(client.call(&get("m1")), Err(Error::Unreadable(_))), "{phrase}");
    }
    assert!(matches!(client.call(&get("m1")), Err(Error::Lost(_))), "cut off");
}

#[test]
fn a_watch_goes_on_from_its_last_event_and_lists_again_where_it_cannot() {
    let list = |version: &str| answer("200 OK", &json!({"metadata": {"resourceVersion": version}, "items": []}).to_string());
    let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "6"}}}).to_string();
    let unknown = json!({"type": "MOVED", "object": {}}).to_string();
    let expired = json!({"type": "ERROR", "object": {"kind": "Status", "reason": "Expired", "code": 410}}).to_string();
    let line = |line: &str| answer("200 OK", &format!("{line}\n"));
    let server = Script::of(vec![list("4"), list("5"), line(&bookmark), line(&unknown), list("8"), line(&expired), list("9")]);
    let watching = client(&server.settings());
    let (sender, events) = crossbeam_channel::bounded(16);
    spawn(move || mso::pods::run(&watching, None, &sender, &Beat::default()));
    let mut seen = Vec::new();
    while seen.iter().filter(|&&event| event == "listed").count() < 3 {
        match next(&events) {
            PodsEvent::ServerTime(_) => {}
            PodsEvent::Records(_) => seen.push("records"),
            PodsEvent::Listed(_) => seen.push("listed"),
            PodsEvent::Bookmark => seen.push("bookmark"),
            PodsEvent::Failed(Error::Unreadable(_)) => seen.push("failed"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["records", "listed", "bookmark", "failed", "listed", "listed"], "an old version is no failure");
    let version = |request: &String| request.split_once("&resourceVersion=").map(|(_, rest)| rest.split('&').next().unwrap().to_owned());
    let versions: Vec<_> = server.requests().iter().take(7).map(version).collect();
    let watched = |version: &str| Some(version.to_owned());
    assert_eq!(versions, [None, None, watched("5"), watched("6"), None, watched("8"), None]);
}

/// An API server that has just begun does not know all Roles yet.
#[test]
fn records_that_are_forbidden_for_a_moment_are_read() {
    let forbidden = answer("403 Forbidden", r#"{"kind": "Status", "reason": "Forbidden", "code": 403}"#);
    let list = answer("200 OK", &json!({"metadata": {"resourceVersion": "4"}, "items": []}).to_string());
    let server = Script::of(vec![forbidden, list.clone(), list]);
    let client = client(&server.settings());
    let (sender, events) = crossbeam_channel::bounded(16);
    spawn(move || mso::pods::run(&client, None, &sender, &Beat::default()));
    let events = [next(&events), next(&events), next(&events)];
    assert!(matches!(&events, [PodsEvent::Records(_), PodsEvent::ServerTime(_), PodsEvent::Listed(_)]), "{events:?}");
}

#[test]
fn a_record_is_kept_and_changed_only_by_who_has_seen_its_last_version() {
    let namespace = Namespace::with_account(ground());
    let client = client_of(&namespace);
    let simulator = SimulatorName::new("test-so").unwrap();
    let simulation = SimulationId::new("Sim").unwrap();
    let name = RecordName::of_progress(&simulator, &simulation);
    let text = |ready: usize| Progress { ready: [ready].into_iter().collect(), ..Progress::default() }.to_text();
    let new = NewRecord { name: name.clone(), simulation, content: Content::Progress { text: text(1) } };
    let create = RecordCall::Create(Arc::new(new));
    let first = record_of(client.call_record(&create));
    assert_eq!(client.call_record(&create).unwrap_err().code(), Some(409), "the name is taken");
    let update = |version: &str, ready| RecordCall::Update { name: name.clone(), version: version.to_owned(), text: text(ready) };
    let second = record_of(client.call_record(&update(&first.version, 2)));
    assert!(client.call_record(&update(&first.version, 3)).unwrap_err().is_conflict(), "the version is old");
    assert_eq!(client.list_records(&Beat::default()).unwrap().records, std::slice::from_ref(&second));
    assert_eq!(record_of(client.call_record(&RecordCall::Get(name.clone()))), second);
    assert_eq!(second.content, Content::Progress { text: text(2) });
    client.call_record(&RecordCall::Delete { name: name.clone(), uid: first.uid }).unwrap();
    assert!(client.call_record(&RecordCall::Get(name)).unwrap_err().is_not_found());
}

#[test]
fn records_go_on_where_their_list_has_expired() {
    let page = |version: &str, next: &str, record: &str| {
        let config_map = json!({
            "metadata": {
                "name": record, "uid": "u", "resourceVersion": "1",
                "labels": {"mso.dots/simulator": "test-so", "simulation_id": record},
                "annotations": {"mso.dots/format": "1"},
            },
            "data": {"progress": "{}"},
        });
        answer("200 OK", &json!({"metadata": {"resourceVersion": version, "continue": next}, "items": [config_map]}).to_string())
    };
    let expired = |rest: &str| {
        let status = json!({"kind": "Status", "reason": "Expired", "code": 410, "metadata": {"continue": rest}});
        answer("410 Gone", &status.to_string())
    };
    let asked = |server: &Script| -> Vec<String> {
        server.requests().iter().map(|request| request.split_once("continue=").unwrap().1.to_owned()).collect()
    };
    let server =
        Script::of(vec![page("5", "b", "mso-1"), expired("b-now"), page("7", "c", "mso-2"), expired("c-now"), page("9", "", "mso-3")]);
    let found = client(&server.settings()).list_records(&Beat::default()).unwrap();
    assert_eq!(found.records.iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["mso-1", "mso-2", "mso-3"]);
    assert_eq!(asked(&server), ["", "b", "b-now", "c", "c-now"]);

    let server = Script::of(vec![page("5", "b", "mso-1"), expired("b-now"), expired("b-now")]);
    let error = client(&server.settings()).list_records(&Beat::default()).unwrap_err();
    assert!(error.is_expired(), "{error}: it is not asked again and again");

    let server = Script::of(vec![page("5", "b", "mso-1"), expired("")]);
    let error = client(&server.settings()).list_records(&Beat::default()).unwrap_err();
    assert!(error.is_expired(), "{error}: it says nothing of the rest");
}

#[test]
fn records_past_the_limit_are_left_alone_and_the_others_are_read() {
    const LIMIT: usize = 50_000;
    let config_map = |number: usize| {
        // The last three are of one simulation, which goes as a whole.
        let simulation = format!("sim-{}", number.min(LIMIT - 1));
        json!({
            "metadata": {
                "name": format!("mso-{number}"), "uid": "u", "resourceVersion": "1",
                "labels": {"mso.dots/simulator": "test-so", "simulation_id": simulation},
                "annotations": {"mso.dots/format": "1"},
            },
            "data": {"progress": "{}"},
        })
    };
    let page = |numbers: std::ops::RangeInclusive<usize>, next: &str| {
        let items: Vec<_> = numbers.map(config_map).collect();
        answer("200 OK", &json!({"metadata": {"resourceVersion": "4", "continue": next}, "items": items}).to_string())
    };
    let server = Script::of(vec![page(1..=LIMIT, "more"), page(LIMIT + 1..=LIMIT + 1, "and more")]);
    let Found { records, left_out_from, .. } = client(&server.settings()).list_records(&Beat::default()).unwrap();
    assert_eq!(left_out_from.unwrap().as_str(), format!("mso-{}", LIMIT + 1));
    assert_eq!(records.len(), LIMIT - 2);
    assert_eq!(records.last().unwrap().simulation.as_str(), format!("sim-{}", LIMIT - 2));
}

fn record_of(result: Result<RecordAnswer, Error>) -> Record {
    match result {
        Ok(RecordAnswer::Record(record)) => *record,
        other => panic!("{other:?}"),
    }
}

fn next(events: &Receiver<Event>) -> PodsEvent {
    match events.recv_timeout(EVENT_TIME) {
        Ok(Event::Pods(event)) => event,
        other => panic!("{other:?}"),
    }
}

fn name(model: &str) -> PodName {
    PodName::new(&format!("so-sim-{model}")).unwrap()
}

fn get(model: &str) -> PodCall {
    let (simulation, id) = (SimulationId::new("sim").unwrap(), ModelId::new(model).unwrap());
    PodCall::Get(Question { name: name(model), simulation, model: id, uid: None })
}

/// Its image is nowhere, so that it never runs.
fn new_pod(model: &str) -> NewPod {
    NewPod {
        name: name(model),
        simulator: SimulatorId::new("so").unwrap(),
        simulation: SimulationId::new("sim").unwrap(),
        model: ModelId::new(model).unwrap(),
        number: 0,
        deploy: DeployId::new("0123456789abcdef").unwrap(),
        models: 1,
        keep_logs_hours: 0.01,
        is_recorded: true,
        image: "127.0.0.1:1/none:1".to_owned(),
        variables: vec![Variable { name: "A".to_owned(), value: Secret::new("1") }],
    }
}

#[track_caller]
fn pod_of(result: Result<Answer, Error>) -> Pod {
    match result {
        Ok(Answer::Pod(pod)) => *pod,
        other => panic!("no pod: {other:?}"),
    }
}

fn client(settings: &KubernetesSettings) -> Client {
    let simulator = SimulatorName::new("test-so").unwrap();
    Client::new(settings, &PodSettings::new(simulator), 16).unwrap()
}

fn settings_of(namespace: &Namespace) -> KubernetesSettings {
    let (host, port) = namespace.api_address();
    KubernetesSettings {
        host,
        port,
        token: Token::Fixed(Secret::new(namespace.token())),
        tls: Tls::Verified(namespace.ca_file()),
        namespace: namespace.name.clone(),
    }
}

fn client_of(namespace: &Namespace) -> Client {
    client(&settings_of(namespace))
}

/// A stretch of wire to the API server that counts connections and can be cut.
struct Wire {
    port: u16,
    far: Arc<Mutex<(String, u16)>>,
    connections: Arc<AtomicUsize>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(namespace: &Namespace) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            far: Arc::new(Mutex::new(namespace.api_address())),
            connections: Arc::default(),
            ends: Arc::default(),
        };
        let (far, connections, ends) = (wire.far.clone(), wire.connections.clone(), wire.ends.clone());
        spawn(move || {
            for near in listener.incoming() {
                let (host, port) = far.lock().unwrap().clone();
                let (near, far) = (near.unwrap(), TcpStream::connect((host.as_str(), port)).unwrap());
                connections.fetch_add(1, Ordering::SeqCst);
                ends.lock().unwrap().push(near.try_clone().unwrap());
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        wire
    }

    /// The certificate need not be for this end of the wire.
    fn settings(&self, namespace: &Namespace) -> KubernetesSettings {
        KubernetesSettings { host: "127.0.0.1".to_owned(), port: self.port, tls: Tls::Unverified, ..settings_of(namespace) }
    }

    fn lead_to(&self, far: (String, u16)) {
        *self.far.lock().unwrap() = far;
        self.cut();
    }

    fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// An API server on loopback that gives its answers in order, whatever is asked, and then closes.
struct Script {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn of(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = Self { port: listener.local_addr().unwrap().port(), connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (script.connections.clone(), script.requests.clone());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_slice(LOOPBACK_CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(LOOPBACK_KEY.as_bytes()).unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                let (answers, requests) = (answers.clone(), requests.clone());
                spawn(move || {
                    let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream.unwrap()));
                    while let Some(request) = read_head(&mut stream) {
                        let Some(answer) = answers.lock().unwrap().next() else { return };
                        requests.lock().unwrap().push(request);
                        if stream.get_mut().write_all(answer.as_bytes()).is_err() || answer.contains("Content-Length: 1000\r") {
                            return;
                        }
                    }
                });
            }
        });
        script
    }

    fn address(&self) -> (String, u16) {
        ("127.0.0.1".to_owned(), self.port)
    }

    fn settings(&self) -> KubernetesSettings {
        let (host, port) = self.address();
        KubernetesSettings { host, port, token: Token::Fixed(Secret::new("a token")), tls: Tls::Unverified, namespace: "dots".to_owned() }
    }

    /// Method and path of each.
    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Method and path of a request without a body; none where there is no further one.
fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut lines = stream.lines().map_while(Result::ok);
    let first = lines.next()?;
    lines.find(String::is_empty)?;
    Some(first.trim_end_matches(" HTTP/1.1").to_owned())
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn spawn(body: impl FnOnce() + Send + 'static) {
    thread::Builder::new().spawn(body).unwrap();
}

/// A CA that has signed nothing. Its key was thrown away.
const ANOTHER_CA: &str = include_str!("support/another-ca.crt");

/// For `localhost` and 127.0.0.1, from a CA whose own key was thrown away: made as those of devkit's cluster are.
const LOOPBACK_CA: &str = include_str!("support/loopback-ca.crt");
const LOOPBACK_CERTIFICATE: &str = include_str!("support/loopback.crt");

/// Opens nothing: the scripted server alone has it.
const LOOPBACK_KEY: &str = include_str!("support/loopback.key");
