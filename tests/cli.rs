//! The program as one starts it: arguments, settings, signals. Needs neither a broker nor a cluster.

mod support;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use support::service::{API_AWAY, BROKER_AWAY, Service, Settings};

/// Nothing listens there.
const CLOSED_PORT: &str = "1";
const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/another-ca.crt");

/// With these it starts, and goes on trying.
fn enough() -> Settings {
    settings(&[
        ("SIMULATOR_NAME", "Test-SO"),
        ("KUBERNETES_HOST", "127.0.0.1"),
        ("KUBERNETES_PORT", CLOSED_PORT),
        ("KUBERNETES_API_TOKEN", "a-secret-token"),
        ("KUBERNETES_CA_FILE", CA_FILE),
        ("MQTT_HOST", "127.0.0.1"),
        ("MQTT_PORT", CLOSED_PORT),
        ("MQTT_USERNAME", "someone"),
        ("MQTT_PASSWORD", "a-secret-password"),
        ("STATUS_ADDRESS", "off"),
    ])
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn run(arguments: &[&str], settings: &Settings) -> Output {
    run_in(&std::env::temp_dir(), arguments, settings)
}

fn run_in(folder: &std::path::Path, arguments: &[&str], settings: &Settings) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mso"))
        .args(arguments)
        .env_clear()
        .envs(settings)
        .current_dir(folder)
        .output()
        .expect("the program can be started")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes text")
}

#[test]
fn help_names_every_setting_and_version_the_version() {
    let help = run(&["--help"], &Settings::new());
    assert!(help.status.success() && help.stderr.is_empty());
    let names = mso::config::NAMES.iter().filter(|name| !name.starts_with("KUBERNETES_SERVICE_"));
    for name in names {
        assert!(text(&help.stdout).contains(name), "{name}");
    }
    let version = run(&["--version"], &Settings::new());
    assert!(version.status.success());
    assert_eq!(text(&version.stdout), concat!("mso ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn an_unknown_argument_is_refused() {
    for argument in ["--halp", "run", "-x"] {
        let output = run(&[argument], &enough());
        assert_eq!(output.status.code(), Some(2), "{argument}");
        assert!(text(&output.stderr).contains(argument), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_missing_setting_is_named() {
    let mut settings = enough();
    settings.remove("KUBERNETES_API_TOKEN");
    let output = run(&[], &settings);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("Missing environment variable KUBERNETES_API_TOKEN"), "{}", text(&output.stderr));
}

#[test]
fn every_wrong_setting_is_named_at_once_with_what_would_be_right() {
    let wrong = [
        ("SIMULATOR_NAME", "dots/so", "letters"),
        ("KUBERNETES_PORT", "udp://1.2.3.4:5", "tcp://ADDRESS:PORT"),
        ("KUBERNETES_CA_FILE", "/not/there", "no such file"),
        ("MQTT_PORT", "65536", "from 1 to 65535"),
        ("KUBERNETES_IMAGE_PULL_POLICY", "sometimes", "IfNotPresent"),
        ("DEPLOY_PARALLELISM", "0", "from 1 to"),
        ("STATUS_ADDRESS", "localhost:80", "0.0.0.0:8080"),
        ("LOG_LEVEL", "LOUD", "WARNING"),
        ("LOG_FORMAT", "xml", "text or json"),
    ];
    let mut settings = enough();
    settings.extend(wrong.map(|(name, value, _)| (name.to_owned(), value.to_owned())));
    let output = run(&[], &settings);
    assert_eq!(output.status.code(), Some(1));
    for (name, value, right) in wrong {
        let line = text(&output.stderr).lines().find(|line| line.contains(&format!("variable {name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not named: {}", text(&output.stderr)));
        assert!(line.contains(value) && line.contains(right), "{line}");
    }
}

#[test]
fn an_address_that_another_program_has_is_refused_at_start() {
    let other = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = other.local_addr().expect("it is bound").to_string();
    let mut settings = enough();
    settings.insert("STATUS_ADDRESS".to_owned(), address.clone());
    let output = run(&[], &settings);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains(&format!("STATUS_ADDRESS={address}: ")) && said.contains("in use"), "{said}");
}

#[test]
fn a_dotenv_file_is_read_below_the_environment() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("with-dotenv");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(".env"), "LOG_LEVEL=LOUD\nLOG_FORMAT=xml\n").unwrap();
    let mut settings = enough();
    settings.insert("LOG_FORMAT".to_owned(), "text".to_owned());
    let output = run_in(&folder, &[], &settings);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("LOUD") && !text(&output.stderr).contains("xml"), "{}", text(&output.stderr));
}

#[test]
fn a_broken_dotenv_file_is_said_without_what_it_holds() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("broken-dotenv");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(folder.join(".env"), "MQTT_HOST=broker\nMQTT_PASSWORD=\"a-secret-password\n").expect("the file can be written");
    let output = run_in(&folder, &[], &Settings::new());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(".env: the line after MQTT_HOST") && !said.contains("a-secret"), "{said}");
}

#[test]
fn without_broker_and_cluster_it_goes_on_trying_until_a_signal_comes() {
    for signal in ["TERM", "INT"] {
        let mut mso = Service::launch(&enough());
        mso.line(API_AWAY);
        mso.line(BROKER_AWAY);
        assert!(!mso.has_ended());
        mso.stops_in_time_on(signal);
    }
}

#[test]
fn every_setting_is_logged_and_no_secret() {
    let mut settings = enough();
    settings.insert("LOG_LEVEL".to_owned(), "debug".to_owned());
    let mso = Service::launch(&settings);
    mso.line("SIMULATOR_NAME=test-so");
    mso.line("KUBERNETES_NAMESPACE=dots");
    mso.line("KUBERNETES_API_TOKEN=<hidden>");
    mso.line("MQTT_PASSWORD=<hidden>");
    mso.line(API_AWAY);
    assert_eq!(mso.lines_with("a-secret"), [""; 0]);
}

#[test]
fn json_is_one_object_a_line() {
    let mut settings = enough();
    settings.insert("LOG_FORMAT".to_owned(), "json".to_owned());
    let mso = Service::launch(&settings);
    mso.line(API_AWAY);
    for line in mso.log() {
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for name in ["time", "level", "thread", "message"] {
            assert!(fields[name].is_string(), "{name}: {line}");
        }
    }
}

#[test]
fn a_thread_that_cannot_go_on_ends_the_process_and_is_named() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_mso"))
        .env_clear()
        .envs(enough())
        .current_dir(std::env::temp_dir())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program can be started");
    // Nobody takes the log: the next line panics, in whatever thread it is.
    drop(process.stdout.take());
    let output = process.wait_with_output().expect("it is our child");
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{}", output.status);
    assert!(said.starts_with("thread ") && said.contains("failed printing to stdout"), "{said}");
}
