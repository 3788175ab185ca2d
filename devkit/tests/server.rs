//! The simulated cluster behind HTTPS: its processes, its API server's absence, its faults. mso's own client at it is tests/kube.rs of the
//! service.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use devkit::api::Api;
use devkit::cluster::{Fault, FaultKind, Image, Server, Status};
use devkit::wait;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/dots/pods";

/// What a pod of the image `shell` runs is its arguments, in which Kubernetes reads `$$` as one dollar.
fn server() -> Server {
    let shell = Image { program: "/bin/sh".into(), arguments: vec!["-c".to_owned(), "exit 0".to_owned()] };
    Server::start(BTreeMap::from([("shell".to_owned(), shell)])).unwrap()
}

fn run(api: &Api, name: &str, script: &str) {
    let container = json!({"name": "c", "image": "shell", "args": ["-c", script], "env": [{"name": "A", "value": "1"}]});
    let pod = json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container]}});
    let answer = api.post(PODS, &pod).unwrap();
    assert_eq!(answer.code, 201, "{}", answer.body);
}

fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    const LIMIT: Duration = Duration::from_secs(30);
    wait::until(LIMIT, ask).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// The process of a pod that writes its number first.
fn process_of(api: &Api, name: &str) -> PathBuf {
    let [process] = processes_of(api, name);
    assert!(runs(&process), "it runs");
    process
}

/// Those of a pod that writes their numbers, a line each.
fn processes_of<const COUNT: usize>(api: &Api, name: &str) -> [PathBuf; COUNT] {
    wait_for("the numbers of the processes", || {
        let log = api.get(&format!("{PODS}/{name}/log")).unwrap().body;
        let numbers = log.as_str()?.lines().map_while(|line| line.parse::<u32>().ok());
        let processes: Vec<PathBuf> = numbers.map(|number| Path::new("/proc").join(number.to_string())).collect();
        processes.try_into().ok()
    })
}

/// One that has ended and that its parent has not asked about runs no more. Who is the parent of an orphan, the machine says.
fn runs(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // Its name, which may hold anything, is in brackets before.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn wait_for_phase(api: &Api, name: &str, phase: &str) -> Value {
    wait_for(phase, || Some(api.get(&format!("{PODS}/{name}")).unwrap().body).filter(|pod| pod["status"]["phase"] == phase))
}

#[test]
fn a_process_has_its_containers_environment_and_no_other() {
    let server = server();
    let api = server.api();
    run(&api, "environment", "env");
    wait_for_phase(&api, "environment", "Succeeded");
    let log = api.get(&format!("{PODS}/environment/log")).unwrap().body;
    let mut names: Vec<&str> = log.as_str().unwrap().lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    // The last two are the shell's.
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    assert_eq!(names, ["A", "HOSTNAME", "PATH"]);
    assert!(log.as_str().unwrap().contains("HOSTNAME=environment\n"));
}

#[test]
fn processes_end_with_their_server_also_when_a_test_panics() {
    let result = thread::Builder::new().spawn(|| {
        let server = server();
        run(&server.api(), "stubborn", "trap '' TERM; sleep 1000 & echo $$$$; echo $$!; while true; do sleep 0.1; done");
        let processes: [PathBuf; 2] = processes_of(&server.api(), "stubborn");
        assert!(processes.iter().all(|process| runs(process)), "they run");
        std::panic::panic_any(processes);
    });
    let [first, child] = *result.unwrap().join().unwrap_err().downcast::<[PathBuf; 2]>().unwrap();
    assert!(!first.exists(), "{} is left", first.display());
    wait_for("the end of the child", || (!runs(&child)).then_some(()));
}

#[test]
fn a_container_ends_with_its_first_process_and_takes_the_rest_along() {
    let server = server();
    let api = server.api();
    // The first child holds the output open, the second has let go of it.
    run(&api, "parent", "sleep 1000 & echo $$!; sleep 1000 > /dev/null 2>&1 & echo $$!; echo last; exit 3");
    let pod = wait_for_phase(&api, "parent", "Failed");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    let children: [PathBuf; 2] = processes_of(&api, "parent");
    let log = api.get(&format!("{PODS}/parent/log")).unwrap().body;
    assert!(log.as_str().unwrap().ends_with("\nlast\n"), "the log is whole when the end is told: {log}");
    for child in children {
        wait_for("the end of the child", || (!runs(&child)).then_some(()));
    }
}

#[test]
fn a_pod_deleted_by_force_leaves_no_process() {
    let server = server();
    let api = server.api();
    run(&api, "parent", "trap '' TERM; sleep 1000 & echo $$$$; echo $$!; wait");
    let [first, child]: [PathBuf; 2] = processes_of(&api, "parent");
    assert!(runs(&first) && runs(&child), "they run");
    api.delete(&format!("{PODS}/parent"), &json!({"gracePeriodSeconds": 0})).unwrap();
    wait_for("the end of the child", || (!runs(&child)).then_some(()));
    wait_for("the end of the first process, also as a zombie", || (!first.exists()).then_some(()));
}

#[test]
fn a_process_is_asked_to_end_and_then_killed() {
    let server = server();
    let api = server.api();
    // A shell looks at its traps when what it waits for has ended: that is asked, too.
    run(&api, "polite", "trap 'exit 7' TERM; echo $$$$; sleep 1000; true");
    run(&api, "stubborn", "trap '' TERM; echo $$$$; while true; do sleep 0.05; done");
    let processes = [process_of(&api, "polite"), process_of(&api, "stubborn")];
    let version = api.get(PODS).unwrap().body["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for name in ["polite", "stubborn"] {
        api.delete(&format!("{PODS}/{name}"), &json!({"gracePeriodSeconds": 1})).unwrap();
    }
    let mut codes = BTreeMap::new();
    let watch = api.watch(&format!("{PODS}?watch=true&resourceVersion={version}")).unwrap();
    for event in watch.map(Result::unwrap).filter(|event| event["type"] == "DELETED") {
        let pod = &event["object"];
        let code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64().unwrap();
        codes.insert(pod["metadata"]["name"].as_str().unwrap().to_owned(), code);
        if codes.len() == 2 {
            break;
        }
    }
    assert_eq!(codes, BTreeMap::from([("polite".to_owned(), 7), ("stubborn".to_owned(), 137)]));
    assert!(processes.iter().all(|process| !process.exists()));
}

#[test]
fn while_the_api_is_stopped_nobody_listens_and_pods_run_on() {
    let server = server();
    let api = server.api();
    run(&api, "runs", "echo $$$$; while true; do sleep 0.05; done");
    let process = process_of(&api, "runs");
    run(&api, "ends", "sleep 0.2; exit 3");
    let mut watch = api.watch(&format!("{PODS}?watch=true&resourceVersion=999999")).unwrap();
    server.stop();
    assert!(watch.next().is_none_or(|event| event.is_err()), "the watch is cut");
    assert!(api.get(PODS).is_err() && std::net::TcpStream::connect((server.host(), server.port())).is_err());
    assert!(process.exists());
    server.restart().unwrap();
    assert_eq!(wait_for_phase(&api, "ends", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    assert_eq!(api.get(&format!("{PODS}/runs")).unwrap().body["status"]["phase"], "Running");
}

#[test]
fn an_answer_is_lost_although_the_request_was_done() {
    let server = server();
    let api = server.api();
    let fault = Fault { method: "POST", target: PODS.to_owned(), times: 1, kind: FaultKind::LoseAnswer };
    server.misbehave(fault);
    assert_eq!(server.faults_left(), 1);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "shell"}]}});
    assert!(api.post(PODS, &pod).is_err());
    assert_eq!(server.faults_left(), 0);
    assert_eq!(api.post(PODS, &pod).unwrap().code, 409);
    let busy = Fault { method: "GET", target: PODS.to_owned(), times: 2, kind: FaultKind::Refuse(Status::too_many_requests(7)) };
    server.misbehave(busy);
    let answer = api.get(PODS).unwrap();
    assert_eq!((answer.code, answer.header("Retry-After")), (429, "7"));
    assert_eq!(server.faults_left(), 1, "it would refuse once more");
    server.behave();
    assert_eq!(api.get(PODS).unwrap().code, 200);
}

#[test]
fn the_log_tells_requests_and_what_became_of_processes_and_no_token() {
    let server = server();
    let token = server.token();
    let api = server.api().with_token(&token);
    run(&api, "fails", "echo $$$$; exit 3");
    wait_for_phase(&api, "fails", "Failed");
    let no_program = json!({"name": "c", "image": "shell", "command": ["/no-such-program"]});
    api.post(PODS, &json!({"metadata": {"name": "no-program"}, "spec": {"restartPolicy": "Never", "containers": [no_program]}})).unwrap();
    wait_for_phase(&api, "no-program", "Failed");
    run(&api, "runs", "echo $$$$; sleep 1000");
    process_of(&api, "runs");
    api.delete(&format!("{PODS}/runs"), &json!({"gracePeriodSeconds": 0})).unwrap();
    server.misbehave(Fault { method: "GET", target: "/lost".to_owned(), times: 1, kind: FaultKind::Drop });
    api.get(&format!("{PODS}/lost")).unwrap_err();
    let log = wait_for("the end of the last process", || {
        let log = server.log().join("\n");
        log.contains("has ended with 137").then_some(log)
    });
    for line in [
        "Z POST /api/v1/namespaces/dots/pods 201\n",
        "Z GET /api/v1/namespaces/dots/pods/fails 200\n",
        "Z GET /api/v1/namespaces/dots/pods/lost has no answer, as asked",
        "Z container c of pod fails is process group ",
        " has ended with 3\n",
        "Z container c of pod no-program cannot start: ",
        " gets SIGKILL\n",
    ] {
        assert!(log.contains(line), "{line:?} is not in\n{log}");
    }
    assert!(!log.contains(&token), "{log}");
}

#[test]
fn a_token_that_is_revoked_is_refused() {
    let server = server();
    let token = server.token();
    let api = server.api().with_token(&token);
    assert_eq!(api.get(PODS).unwrap().code, 200);
    server.revoke(&token);
    assert_eq!(api.get(PODS).unwrap().code, 401);
    assert_ne!(server.token(), token);
    assert_eq!(server.api().get(PODS).unwrap().code, 200);
}
