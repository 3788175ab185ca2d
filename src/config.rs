//! The environment, and a `.env` file in the working directory, to [`Config`]. Which settings there are is decided here alone.

mod limits;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use log::LevelFilter;

pub use limits::Limits;

use crate::ids::{Shown, SimulatorName};
use crate::secret::Secret;

/// Where the kubelet mounts a pod's own account.
/// <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api>
pub const MOUNTED_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where operators look for it.
const STATUS_PORT: u16 = 8080;

/// Not the empty value, which is everywhere the same as none.
const STATUS_OFF: &str = "off";

/// Who wants more has a cluster to mend.
const MOST_RECREATIONS: usize = 100;
/// A year: longer is for ever, which is 0.
const LONGEST_TIMEOUT_SECONDS: usize = 365 * 24 * 60 * 60;

/// More creates in flight than this only queue up in the API server.
const MAX_DEPLOY_PARALLELISM: usize = 256;

#[derive(Clone, Debug)]
pub struct Config {
    pub simulator: SimulatorName,
    pub kubernetes: KubernetesSettings,
    pub pods: PodSettings,
    pub mqtt: MqttSettings,
    pub log: LogSettings,
    /// How many calls to the API are in flight at once, those that read logs apart.
    pub deploy_parallelism: usize,
    pub rules: Rules,
    /// Where /livez and /readyz are answered, if anywhere.
    pub status: Option<SocketAddr>,
}

#[derive(Clone, Debug)]
pub struct KubernetesSettings {
    /// A name or an address; an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
    pub token: Token,
    pub tls: Tls,
    pub namespace: String,
}

#[derive(Clone, Debug)]
pub enum Token {
    Fixed(Secret),
    /// Read again as it rotates.
    File(PathBuf),
}

#[derive(Clone, Debug)]
pub enum Tls {
    /// The API server's certificate must come from a CA in this file.
    Verified(PathBuf),
    Unverified,
}

/// What all model pods have in common.
#[derive(Clone, Debug)]
pub struct PodSettings {
    /// The value of the mark.
    pub simulator: SimulatorName,
    pub pull_policy: PullPolicy,
    pub pull_secret: Option<String>,
    pub google_secret: Option<String>,
    pub aws_secret: Option<String>,
}

impl PodSettings {
    /// As where nothing else is set.
    pub fn new(simulator: SimulatorName) -> Self {
        Self { simulator, pull_policy: PullPolicy::Always, pull_secret: None, google_secret: None, aws_secret: None }
    }
}

/// When a node pulls a model's image: <https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// Kubernetes' word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

#[derive(Clone, Debug)]
pub struct MqttSettings {
    /// A name or an address; an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
    pub username: String,
    pub password: Secret,
}

#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    pub level: LevelFilter,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What the operator decides of simulations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub limits: Limits,
    pub report_errors: ReportErrors,
    /// How often a pod is made again that its node turned away before its container began.
    pub recreate_never_started: usize,
}

/// When a failed model is also told as `ErrorOccurred`, which makes an SO fail the simulation at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportErrors {
    Never,
    /// While `ModelsReady` is not out, as it never will be. What fails later is the SO's to judge.
    #[default]
    BeforeReady,
    Always,
}

impl ReportErrors {
    const ALL: [Self; 3] = [Self::Never, Self::BeforeReady, Self::Always];

    fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::BeforeReady => "before-ready",
            Self::Always => "always",
        }
    }
}

/// Every variable that is read. The last two are Kubernetes' own, in each pod.
pub const NAMES: [&str; 40] = [
    "SIMULATOR_NAME",
    "KUBERNETES_HOST",
    "KUBERNETES_PORT",
    "KUBERNETES_NAMESPACE",
    "KUBERNETES_API_TOKEN",
    "KUBERNETES_API_TOKEN_FILE",
    "KUBERNETES_CA_FILE",
    "KUBERNETES_VERIFY_TLS",
    "KUBERNETES_PULL_IMAGE_SECRET_NAME",
    "KUBERNETES_IMAGE_PULL_POLICY",
    "GOOGLE_APPLICATION_CREDENTIALS_K8S_SECRET",
    "AWS_K8S_SECRET",
    "DEPLOY_PARALLELISM",
    "MQTT_HOST",
    "MQTT_PORT",
    "MQTT_USERNAME",
    "MQTT_PASSWORD",
    "STATUS_ADDRESS",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "UNSCHEDULABLE_TIMEOUT",
    "CONTAINER_CREATING_TIMEOUT",
    "IMAGE_PULL_TIMEOUT",
    "IMAGE_UNUSABLE_TIMEOUT",
    "IMAGE_INSPECT_TIMEOUT",
    "CONTAINER_CONFIG_TIMEOUT",
    "VOLUME_SUBPATH_TIMEOUT",
    "CONTAINER_START_TIMEOUT",
    "API_TIMEOUT",
    "DENIED_TIMEOUT",
    "QUOTA_TIMEOUT",
    "READY_TIMEOUT",
    "TERMINATING_TIMEOUT",
    "NODE_LOST_TIMEOUT",
    "DONE_GRACE",
    "SIMULATION_TIMEOUT",
    "RECREATE_NEVER_STARTED",
    "REPORT_ERRORS",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
];

/// What stands in the environment, by name.
pub type Variables = BTreeMap<String, String>;

/// The process's environment, and below it what `.env` adds.
///
/// # Errors
/// `.env` is there and cannot be read.
pub fn environment() -> Result<Variables, String> {
    let mut variables = Variables::new();
    let file = Path::new(".env");
    if file.exists() {
        let lines = dotenvy::from_path_iter(file).map_err(|error| format!("failed to read .env: {error}"))?;
        let mut last = "its beginning".to_owned();
        for line in lines {
            let (name, value) = line.map_err(|error| match error {
                dotenvy::Error::Io(error) => format!("failed to read .env: {error}"),
                // The error holds the line, and the line may hold a password.
                _ => format!("failed to read .env: the line after {last} is not NAME=value; a value with blanks takes quotes"),
            })?;
            last.clone_from(&name);
            variables.insert(name, value);
        }
    }
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| NAMES.contains(name)) else { continue };
        let value = value.into_string().map_err(|_| format!("Environment variable {name} is not UTF-8"))?;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

impl Config {
    /// `account` is the folder of the mounted account: [`MOUNTED_ACCOUNT`], but for tests.
    ///
    /// # Errors
    /// Every setting that is missing or wrong, each with what would be right.
    pub fn read(variables: &Variables, account: &Path) -> Result<Self, Vec<ConfigError>> {
        let mut settings = Reader { variables, errors: Vec::new() };
        let name = settings.text("SIMULATOR_NAME", "").to_lowercase();
        let simulator = SimulatorName::new(&name);
        let config = Self {
            simulator: simulator.clone().unwrap_or_else(|error| {
                settings.errors.push(ConfigError::Wrong { name: "SIMULATOR_NAME", problem: error.to_string() });
                SimulatorName::new("").expect("the empty name is allowed")
            }),
            kubernetes: settings.kubernetes(account),
            pods: PodSettings {
                simulator: simulator.unwrap_or_else(|_| SimulatorName::new("").expect("the empty name is allowed")),
                pull_policy: settings.pull_policy(),
                pull_secret: settings.optional("KUBERNETES_PULL_IMAGE_SECRET_NAME"),
                google_secret: settings.optional("GOOGLE_APPLICATION_CREDENTIALS_K8S_SECRET"),
                aws_secret: settings.optional("AWS_K8S_SECRET"),
            },
            mqtt: MqttSettings {
                host: settings.text("MQTT_HOST", "localhost"),
                port: settings.port("MQTT_PORT", 1883),
                username: settings.text("MQTT_USERNAME", ""),
                // To the letter: a password may begin or end with a blank.
                password: Secret::new(variables.get("MQTT_PASSWORD").cloned().unwrap_or_default()),
            },
            log: LogSettings { level: settings.log_level(), format: settings.log_format() },
            deploy_parallelism: settings.number("DEPLOY_PARALLELISM", 16, 1, MAX_DEPLOY_PARALLELISM),
            rules: Rules {
                limits: settings.limits(),
                report_errors: settings.report_errors(),
                recreate_never_started: settings.number("RECREATE_NEVER_STARTED", 0, 0, MOST_RECREATIONS),
            },
            status: settings.status_address(),
        };
        if settings.errors.is_empty() { Ok(config) } else { Err(settings.errors) }
    }

    /// Every setting with its value in force, secrets hidden.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let optional = |value: &Option<String>| value.clone().unwrap_or_default();
        let (token, token_file) = match &self.kubernetes.token {
            Token::Fixed(secret) => (secret.to_string(), String::new()),
            Token::File(path) => (String::new(), path.display().to_string()),
        };
        let (verify, ca_file) = match &self.kubernetes.tls {
            Tls::Verified(path) => ("true", path.display().to_string()),
            Tls::Unverified => ("false", String::new()),
        };
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let mut settings = vec![
            ("SIMULATOR_NAME", self.simulator.to_string()),
            ("KUBERNETES_HOST", self.kubernetes.host.clone()),
            ("KUBERNETES_PORT", self.kubernetes.port.to_string()),
            ("KUBERNETES_NAMESPACE", self.kubernetes.namespace.clone()),
            ("KUBERNETES_API_TOKEN", token),
            ("KUBERNETES_API_TOKEN_FILE", token_file),
            ("KUBERNETES_CA_FILE", ca_file),
            ("KUBERNETES_VERIFY_TLS", verify.to_owned()),
            ("KUBERNETES_PULL_IMAGE_SECRET_NAME", optional(&self.pods.pull_secret)),
            ("KUBERNETES_IMAGE_PULL_POLICY", self.pods.pull_policy.as_str().to_owned()),
            ("GOOGLE_APPLICATION_CREDENTIALS_K8S_SECRET", optional(&self.pods.google_secret)),
            ("AWS_K8S_SECRET", optional(&self.pods.aws_secret)),
            ("DEPLOY_PARALLELISM", self.deploy_parallelism.to_string()),
            ("MQTT_HOST", self.mqtt.host.clone()),
            ("MQTT_PORT", self.mqtt.port.to_string()),
            ("MQTT_USERNAME", self.mqtt.username.clone()),
            ("MQTT_PASSWORD", if self.mqtt.password.reveal().is_empty() { String::new() } else { self.mqtt.password.to_string() }),
            ("STATUS_ADDRESS", self.status.map_or_else(|| STATUS_OFF.to_owned(), |address| address.to_string())),
            ("LOG_LEVEL", self.log.level.to_string()),
            ("LOG_FORMAT", format.to_owned()),
        ];
        settings.extend(self.rules.limits.settings());
        settings.push(("RECREATE_NEVER_STARTED", self.rules.recreate_never_started.to_string()));
        settings.push(("REPORT_ERRORS", self.rules.report_errors.as_str().to_owned()));
        settings
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    Missing(&'static str),
    /// What is wrong, and what would be right.
    Wrong {
        name: &'static str,
        problem: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "Missing environment variable {name}"),
            Self::Wrong { name, problem } => write!(f, "Environment variable {name} {problem}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Takes one setting after another and gathers what is wrong, so that a person mends all of it at once.
struct Reader<'a> {
    variables: &'a Variables,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    /// Set to nothing is the same as not set: deployments template their variables.
    fn optional(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    fn wrong(&mut self, name: &'static str, value: &str, right: &str) {
        self.errors.push(ConfigError::Wrong { name, problem: format!("is {}: {right}", Shown::of(value)) });
    }

    fn number(&mut self, name: &'static str, default: usize, least: usize, most: usize) -> usize {
        let Some(value) = self.optional(name) else { return default };
        match value.parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.wrong(name, &value, &format!("it takes a whole number from {least} to {most}"));
                default
            }
        }
    }

    fn limits(&mut self) -> Limits {
        let mut limits = Limits::default();
        for setting in &limits::SETTINGS {
            let seconds = self.number(setting.name, setting.seconds, 0, LONGEST_TIMEOUT_SECONDS);
            limits.set(setting, seconds);
        }
        limits
    }

    fn report_errors(&mut self) -> ReportErrors {
        const NAME: &str = "REPORT_ERRORS";
        let text = self.text(NAME, ReportErrors::default().as_str());
        ReportErrors::ALL.into_iter().find(|choice| choice.as_str() == text.to_ascii_lowercase()).unwrap_or_else(|| {
            self.wrong(NAME, &text, &format!("it takes {}", ReportErrors::ALL.map(ReportErrors::as_str).join(", ")));
            ReportErrors::default()
        })
    }

    fn port(&mut self, name: &'static str, default: u16) -> u16 {
        let port = self.number(name, default.into(), 1, u16::MAX.into());
        u16::try_from(port).expect("the number is within its range")
    }

    fn kubernetes(&mut self, account: &Path) -> KubernetesSettings {
        let in_cluster_host = self.optional("KUBERNETES_SERVICE_HOST");
        let (host, port) = match &in_cluster_host {
            Some(host) => (host.as_str(), self.port("KUBERNETES_SERVICE_PORT", 443)),
            None => ("localhost", 6443),
        };
        let host = self.text("KUBERNETES_HOST", host);
        // A host that someone chose has the port that someone chose, not that of the cluster's own service.
        let port = if self.optional("KUBERNETES_HOST").is_some() { 6443 } else { port };
        KubernetesSettings {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: self.kubernetes_port(port),
            token: self.token(account),
            tls: self.tls(account),
            namespace: self.namespace(),
        }
    }

    /// The kubelet itself sets `KUBERNETES_PORT=tcp://10.96.0.1:443` in every pod.
    fn kubernetes_port(&mut self, default: u16) -> u16 {
        const NAME: &str = "KUBERNETES_PORT";
        let Some(value) = self.optional(NAME) else { return default };
        let digits = match value.strip_prefix("tcp://") {
            Some(address) => address.rsplit_once(':').map_or("", |(_, port)| port),
            None => value.as_str(),
        };
        match digits.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                self.wrong(NAME, &value, "it takes a port from 1 to 65535, or tcp://ADDRESS:PORT");
                default
            }
        }
    }

    fn namespace(&mut self) -> String {
        const NAME: &str = "KUBERNETES_NAMESPACE";
        let value = self.text(NAME, "dots");
        let is_inner = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
        if value.len() > 63 || !value.chars().all(is_inner) || value.starts_with('-') || value.ends_with('-') {
            self.wrong(NAME, &value, "it takes 1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends");
        }
        value
    }

    fn token(&mut self, account: &Path) -> Token {
        if let Some(token) = self.optional("KUBERNETES_API_TOKEN") {
            return Token::Fixed(Secret::new(token));
        }
        if let Some(path) = self.optional("KUBERNETES_API_TOKEN_FILE") {
            return Token::File(path.into());
        }
        let mounted = account.join("token");
        if !mounted.exists() {
            self.errors.push(ConfigError::Missing("KUBERNETES_API_TOKEN"));
        }
        Token::File(mounted)
    }

    fn tls(&mut self, account: &Path) -> Tls {
        const VERIFY: &str = "KUBERNETES_VERIFY_TLS";
        const CA_FILE: &str = "KUBERNETES_CA_FILE";
        match self.text(VERIFY, "true").to_ascii_lowercase().as_str() {
            "true" => {}
            "false" => return Tls::Unverified,
            other => self.wrong(VERIFY, other, "it takes true or false"),
        }
        let mounted = account.join("ca.crt");
        let named = self.optional(CA_FILE).map(PathBuf::from);
        let file = named.clone().unwrap_or_else(|| mounted.clone());
        if !file.exists() {
            let problem = match named {
                Some(_) => format!("is {}: there is no such file", Shown::of(&file.display().to_string())),
                None => format!("is not set, and {} is not there", mounted.display()),
            };
            let right = "name the file with the CA of the API server, or give up verification with KUBERNETES_VERIFY_TLS=false";
            self.errors.push(ConfigError::Wrong { name: CA_FILE, problem: format!("{problem}; {right}") });
        }
        Tls::Verified(file)
    }

    fn pull_policy(&mut self) -> PullPolicy {
        const NAME: &str = "KUBERNETES_IMAGE_PULL_POLICY";
        let value = self.text(NAME, PullPolicy::Always.as_str());
        let all = [PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never];
        all.into_iter().find(|policy| policy.as_str().eq_ignore_ascii_case(&value)).unwrap_or_else(|| {
            self.wrong(NAME, &value, "it takes Always, IfNotPresent or Never");
            PullPolicy::Always
        })
    }

    /// No names: which of a name's addresses to listen at would be a guess.
    fn status_address(&mut self) -> Option<SocketAddr> {
        const NAME: &str = "STATUS_ADDRESS";
        let default = SocketAddr::from((Ipv6Addr::UNSPECIFIED, STATUS_PORT));
        let Some(value) = self.optional(NAME) else { return Some(default) };
        if value.eq_ignore_ascii_case(STATUS_OFF) {
            return None;
        }
        let address = value.parse().ok();
        if address.is_none() {
            self.wrong(NAME, &value, "it takes a numeric address with a port, as 0.0.0.0:8080 or [::]:8080, or off");
        }
        address
    }

    /// Python's names, as deployments have them.
    fn log_level(&mut self) -> LevelFilter {
        const NAME: &str = "LOG_LEVEL";
        let value = self.text(NAME, "INFO");
        match value.to_ascii_uppercase().as_str() {
            "DEBUG" => LevelFilter::Debug,
            "INFO" => LevelFilter::Info,
            "WARNING" | "WARN" => LevelFilter::Warn,
            "ERROR" | "CRITICAL" => LevelFilter::Error,
            _ => {
                self.wrong(NAME, &value, "it takes DEBUG, INFO, WARNING, ERROR or CRITICAL");
                LevelFilter::Info
            }
        }
    }

    fn log_format(&mut self) -> LogFormat {
        const NAME: &str = "LOG_FORMAT";
        let value = self.text(NAME, "text");
        match value.to_ascii_lowercase().as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => {
                self.wrong(NAME, &value, "it takes text or json");
                LogFormat::Text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a mounted account, and one without.
    struct Accounts(PathBuf);

    impl Accounts {
        fn new(test: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("mso-config-{test}-{}", std::process::id()));
            std::fs::create_dir_all(folder.join("mounted")).unwrap();
            std::fs::write(folder.join("mounted/token"), "t").unwrap();
            std::fs::write(folder.join("mounted/ca.crt"), "c").unwrap();
            Self(folder)
        }

        fn mounted(&self) -> PathBuf {
            self.0.join("mounted")
        }

        fn none(&self) -> PathBuf {
            self.0.join("none")
        }
    }

    impl Drop for Accounts {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn address(pairs: &[(&str, &str)], account: &Path) -> (String, u16) {
        let kubernetes = Config::read(&variables(pairs), account).unwrap().kubernetes;
        (kubernetes.host, kubernetes.port)
    }

    #[test]
    fn the_api_servers_address_is_found_in_each_way_that_deployments_have() {
        let accounts = Accounts::new("address");
        let kubelet =
            [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443"), ("KUBERNETES_PORT", "tcp://10.96.0.1:443")];
        let in_pod = |more: &[(&str, &str)]| address(&[&kubelet, more].concat(), &accounts.mounted());
        let outside = |more: &[(&str, &str)]| address(more, &accounts.mounted());
        let cases = [
            ("outside of a cluster", outside(&[]), "localhost", 6443),
            ("outside, both given", outside(&[("KUBERNETES_HOST", "api.example"), ("KUBERNETES_PORT", "443")]), "api.example", 443),
            ("in a pod, nothing given", in_pod(&[]), "10.96.0.1", 443),
            ("in a pod, the host given", in_pod(&[("KUBERNETES_HOST", "kubernetes")]), "kubernetes", 443),
            ("in a pod, the port given", in_pod(&[("KUBERNETES_HOST", "kubernetes"), ("KUBERNETES_PORT", "8443")]), "kubernetes", 8443),
            ("IPv6 in brackets", outside(&[("KUBERNETES_HOST", "[fd00::1]")]), "fd00::1", 6443),
            ("IPv6 of the kubelet", outside(&[("KUBERNETES_PORT", "tcp://[fd00::1]:443")]), "localhost", 443),
            ("set to nothing is not set", outside(&[("KUBERNETES_HOST", ""), ("KUBERNETES_PORT", " ")]), "localhost", 6443),
        ];
        for (phrase, found, host, port) in cases {
            assert_eq!(found, (host.to_owned(), port), "{phrase}");
        }
    }

    #[test]
    fn each_wrong_value_is_refused_with_its_name_and_what_would_be_right() {
        let accounts = Accounts::new("wrong");
        let cases = [
            ("MQTT_PORT", "0", "is \"0\": it takes a whole number from 1 to 65535"),
            ("MQTT_PORT", "broker", "is \"broker\": it takes a whole number"),
            ("KUBERNETES_PORT", "tcp://10.0.0.1", "it takes a port from 1 to 65535, or tcp://ADDRESS:PORT"),
            ("KUBERNETES_PORT", "70000", "it takes a port"),
            ("KUBERNETES_VERIFY_TLS", "no", "is \"no\": it takes true or false"),
            ("KUBERNETES_CA_FILE", "/does/not/exist", "there is no such file"),
            ("KUBERNETES_NAMESPACE", "Bad Name", "is \"Bad Name\": it takes 1 to 63 lower-case letters"),
            ("DEPLOY_PARALLELISM", "0", "it takes a whole number from 1 to 256"),
            ("DEPLOY_PARALLELISM", "257", "it takes a whole number from 1 to 256"),
            ("STATUS_ADDRESS", "8080", "it takes a numeric address with a port"),
            ("STATUS_ADDRESS", "localhost:8080", "as 0.0.0.0:8080 or [::]:8080, or off"),
            ("LOG_LEVEL", "LOUD", "it takes DEBUG, INFO, WARNING, ERROR or CRITICAL"),
            ("LOG_FORMAT", "xml", "it takes text or json"),
            ("RECREATE_NEVER_STARTED", "-1", "is \"-1\": it takes a whole number from 0 to 100"),
            ("REPORT_ERRORS", "sometimes", "is \"sometimes\": it takes never, before-ready, always"),
            ("SIMULATOR_NAME", "dots/so", "has '/'"),
            ("SIMULATOR_NAME", "-so", "has '-' at an end"),
        ];
        for (name, value, expected) in cases {
            let errors = Config::read(&variables(&[(name, value)]), &accounts.mounted()).unwrap_err();
            assert_eq!(errors.len(), 1, "{name}={value}: {errors:?}");
            let error = errors[0].to_string();
            assert!(error.contains(name) && error.contains(expected), "{name}={value}: {error}");
        }
        let errors = Config::read(&variables(&[("MQTT_PORT", "x"), ("LOG_LEVEL", "x")]), &accounts.none()).unwrap_err();
        assert_eq!(errors.len(), 4, "all are said at once: {errors:?}");
    }

    #[test]
    fn without_a_token_or_a_ca_it_says_what_is_missing() {
        let accounts = Accounts::new("missing");
        let errors = Config::read(&variables(&[("KUBERNETES_VERIFY_TLS", "false")]), &accounts.none()).unwrap_err();
        assert_eq!(errors[0].to_string(), "Missing environment variable KUBERNETES_API_TOKEN");
        let errors = Config::read(&variables(&[("KUBERNETES_API_TOKEN", "t")]), &accounts.none()).unwrap_err();
        let error = errors[0].to_string();
        assert!(error.contains("KUBERNETES_CA_FILE") && error.contains("KUBERNETES_VERIFY_TLS=false"), "{error}");
    }

    #[test]
    fn the_token_given_goes_before_the_one_that_is_mounted() {
        let accounts = Accounts::new("token");
        let token = |pairs: &[(&str, &str)]| Config::read(&variables(pairs), &accounts.mounted()).unwrap().kubernetes.token;
        assert!(matches!(token(&[("KUBERNETES_API_TOKEN", " given \n")]), Token::Fixed(given) if given.reveal() == "given"));
        assert!(matches!(token(&[("KUBERNETES_API_TOKEN_FILE", "/a/file")]), Token::File(path) if path == Path::new("/a/file")));
        assert!(matches!(token(&[]), Token::File(path) if path == accounts.mounted().join("token")));
    }

    #[test]
    fn every_setting_is_shown_and_no_secret_is() {
        let accounts = Accounts::new("shown");
        let given =
            [("KUBERNETES_API_TOKEN", "t0ken"), ("MQTT_USERNAME", "us3r"), ("MQTT_PASSWORD", "passw0rd"), ("SIMULATOR_NAME", "DOTS-SO")];
        let config = Config::read(&variables(&given), &accounts.mounted()).unwrap();
        let settings = config.settings();
        let value = |name: &str| settings.iter().find(|(setting, _)| *setting == name).unwrap().1.clone();
        assert_eq!(value("SIMULATOR_NAME"), "dots-so");
        assert_eq!(value("MQTT_USERNAME"), "us3r");
        assert_eq!((value("KUBERNETES_API_TOKEN").as_str(), value("MQTT_PASSWORD").as_str()), ("<hidden>", "<hidden>"));
        let names: Vec<&str> = settings.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, NAMES[..NAMES.len() - 2]);
        let everything = format!("{settings:?} {config:?}");
        assert!(!everything.contains("t0ken") && !everything.contains("passw0rd"), "{everything}");
    }

    #[test]
    fn the_status_is_at_port_8080_unless_it_is_said_otherwise() {
        let accounts = Accounts::new("status");
        let status = |value: &str| {
            let config = Config::read(&variables(&[("STATUS_ADDRESS", value)]), &accounts.mounted()).unwrap();
            (config.status.map(|address| address.to_string()), config.settings())
        };
        for (value, expected) in [("", Some("[::]:8080")), ("[::]:9", Some("[::]:9")), ("127.0.0.1:0", Some("127.0.0.1:0")), ("OFF", None)]
        {
            let (address, settings) = status(value);
            assert_eq!(address.as_deref(), expected, "{value:?}");
            assert!(settings.contains(&("STATUS_ADDRESS", expected.unwrap_or("off").to_owned())), "{value:?}: {settings:?}");
        }
    }

    #[test]
    fn log_levels_are_pythons_in_any_case() {
        let accounts = Accounts::new("level");
        let level = |value: &str| Config::read(&variables(&[("LOG_LEVEL", value)]), &accounts.mounted()).unwrap().log.level;
        assert_eq!(level("debug"), LevelFilter::Debug);
        assert_eq!(level("WARNING"), LevelFilter::Warn);
        assert_eq!(level("Critical"), LevelFilter::Error);
        assert_eq!(level(""), LevelFilter::Info);
    }
}
