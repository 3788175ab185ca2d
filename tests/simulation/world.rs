//! The cluster, the broker and the people around the service, on one thread and in simulated time. What one sends to another arrives after
//! a latency; nothing else happens in between than what the plan says. Here are the time and the order of things.
//!
//! The same workload and plan give the same trace, byte for byte.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use devkit::broker::{Broker, ConnectionId, Input, Output};
use devkit::cluster::{Answer, Cluster, ContainerId, Content, Reply, Request, Watch};
use mso::clock::{Now, UnixTime};
use mso::kube::error::Error;
use mso::kube::request as kube;
use serde_json::{Value, json};

use crate::plan::{Fault, Moment, Plan, Strike, When};
use crate::report::Report;
use crate::service::{Call, Process};
use crate::workload::{Request as Wanted, When as Asking, Workload};

pub const START: f64 = 1_700_000_000.0;
pub const NAMESPACE: &str = "dots";
pub const PODS: &str = "/api/v1/namespaces/dots/pods";
/// For whoever looks from outside: faults strike what goes to the namespace.
pub const ALL_PODS: &str = "/api/v1/pods";
pub const ALL_CONFIG_MAPS: &str = "/api/v1/configmaps";
pub const TOKEN: &str = "token";
pub const IMAGE: &str = "model:1";
pub const SO: ConnectionId = ConnectionId(1);
/// A pod of somebody else's service.
pub const THEIRS: &str = "so-sim-a-theirs";

pub const TO_API: Duration = Duration::from_millis(2);
pub const TO_BROKER: Duration = Duration::from_millis(1);
/// A run that takes more steps goes round in circles.
const STEPS_MAX: u32 = 200_000;

pub struct World {
    pub plan: Plan,
    pub workload: Workload,
    pub start: Instant,
    pub since: Duration,
    pub random: fastrand::Rng,
    pub queue: BTreeMap<(Duration, u64), Item>,
    pub queued: u64,
    pub cluster: Cluster,
    /// Shows every change, as it happens.
    pub changes: Watch,
    pub api_is_away_until: Duration,
    pub records_are_forbidden: bool,
    /// The service's, and when it has something to say at the latest.
    pub watch: Option<(u64, Watch)>,
    pub watch_speaks_at: Option<UnixTime>,
    pub watch_due: Duration,
    pub watches: u64,
    /// Uids of the pods that watches showed, in order; empty for a bookmark.
    pub watch_events: Vec<String>,
    /// When there was a change, and what a list answered after it.
    pub old_lists: Vec<(Duration, Vec<u8>)>,
    pub broker: Broker,
    pub broker_is_up: bool,
    pub broker_is_unreachable_until: Duration,
    pub connections: u64,
    /// What people publish while the broker is away.
    pub unpublished: Vec<(String, Vec<u8>)>,
    pub containers: BTreeMap<ContainerId, String>,
    pub process: Option<Process>,
    pub incarnation: u32,
    /// In words, in the order in which they were sent.
    pub effects: Vec<String>,
    pub report: Report,
    pub trace: Vec<String>,
}

pub enum Item {
    Asks(usize),
    SaysDone(usize),
    Strikes(Fault),
    Begins,
    /// A request of the service at the API server.
    Arrives(InFlight),
    Answered(InFlight, Result<Vec<u8>, Error>),
    /// The service's thread `pods` goes on.
    FollowsPods {
        incarnation: u32,
    },
    WatchSays {
        watch: u64,
        event: Option<Value>,
        /// The number of this event, which is not shown where there was a later one of its pod.
        unless_covered: Option<usize>,
    },
    Connects {
        incarnation: u32,
    },
    ToBroker {
        connection: ConnectionId,
        input: Input,
        effect: Option<usize>,
    },
    FromBroker {
        connection: ConnectionId,
        output: Output,
    },
    ApiBehaves,
    BrokerIsUp,
    PeoplePublish,
    ContainerStarts(ContainerId),
    SaysReady(ContainerId),
    ContainerEnds {
        id: ContainerId,
        code: i32,
        is_signalled: bool,
    },
}

pub struct InFlight {
    pub incarnation: u32,
    pub effect: usize,
    pub call: Call,
    pub request: kube::Request,
}

impl World {
    /// Plays it to its end.
    pub fn play(workload: &Workload, plan: &Plan) -> Self {
        let mut cluster = Cluster::new([IMAGE.to_owned()]);
        cluster.accept(TOKEN);
        let list = Request { target: PODS, ..ask(&[]) };
        let Reply::Answer(Answer { body: Content::Json(list), .. }) = cluster.handle(&list, UnixTime(START)) else {
            panic!("pods are listed")
        };
        let from = text(&list["metadata"]["resourceVersion"]);
        let target = format!("{PODS}?watch=true&resourceVersion={from}&timeoutSeconds=9999999");
        let Reply::Watch(changes) = cluster.handle(&Request { target: &target, ..ask(&[]) }, UnixTime(START)) else {
            panic!("pods are watched")
        };
        let mut world = Self {
            plan: plan.clone(),
            workload: workload.clone(),
            start: mso::clock::now().instant,
            since: Duration::ZERO,
            random: fastrand::Rng::with_seed(plan.seed),
            queue: BTreeMap::new(),
            queued: 0,
            cluster,
            changes: *changes,
            api_is_away_until: Duration::ZERO,
            records_are_forbidden: false,
            watch: None,
            watch_speaks_at: None,
            watch_due: Duration::ZERO,
            watches: 0,
            watch_events: Vec::new(),
            old_lists: Vec::new(),
            broker: Broker::default(),
            broker_is_up: true,
            broker_is_unreachable_until: Duration::ZERO,
            connections: SO.0,
            unpublished: Vec::new(),
            containers: BTreeMap::new(),
            process: None,
            incarnation: 0,
            effects: Vec::new(),
            report: Report::default(),
            trace: Vec::new(),
        };
        world.begin();
        world.run();
        world.look_at_what_is_left();
        world
    }

    fn begin(&mut self) {
        let theirs = json!({
            "metadata": {"name": THEIRS, "labels": {"simulation_id": "sim-a", "model_id": "theirs"}},
            "spec": {"containers": [{"name": "c", "image": "elsewhere:1"}]},
        });
        self.administer("POST", PODS, &theirs);
        self.so_connects();
        for (index, Wanted { when, .. }) in self.workload.requests.clone().iter().enumerate() {
            if let Asking::At(at) = when {
                self.at(*at, Item::Asks(index));
            }
        }
        for (index, (at, ..)) in self.workload.dones.clone().into_iter().enumerate() {
            self.at(at, Item::SaysDone(index));
        }
        for strike in self.plan.strikes.clone() {
            if let When::At(at) = strike.when {
                self.at(at, Item::Strikes(strike.fault));
            }
        }
        self.at(Duration::ZERO, Item::Begins);
    }

    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            let Some(next) = self.next_time().filter(|next| *next <= self.workload.horizon) else { return };
            self.since = self.since.max(next);
            self.step();
        }
        panic!("it goes round in circles\n{}", self.trace.join("\n"));
    }

    fn next_time(&self) -> Option<Duration> {
        let queued = self.queue.keys().next().map(|(due, _)| *due);
        let of_cluster = [self.cluster.poll_timeout(), self.watch_speaks_at].into_iter().flatten().map(since_start);
        let of_instant = |at: Instant| at.saturating_duration_since(self.start);
        let of_broker = self.broker.poll_timeout().map(of_instant);
        let of_service = self.process.as_ref().and_then(|process| process.core.poll_timeout(self.now())).map(of_instant);
        queued.into_iter().chain(of_cluster).chain(of_broker).chain(of_service).min()
    }

    /// All that is due now, one thing first.
    fn step(&mut self) {
        if self.queue.keys().next().is_some_and(|(due, _)| *due <= self.since) {
            let (_, item) = self.queue.pop_first().expect("there is one");
            return self.happens(item);
        }
        self.cluster.handle_timeout(self.unix());
        self.cluster_changed();
        self.broker.handle_timeout(self.now().instant);
        self.broker_speaks();
        let now = self.now();
        let is_due = |process: &Process| process.core.poll_timeout(now).is_some_and(|at| at <= now.instant);
        if self.process.as_ref().is_some_and(is_due) {
            self.service_wakes();
        }
    }

    fn happens(&mut self, item: Item) {
        match item {
            Item::Asks(index) => self.asks(index),
            Item::SaysDone(index) => self.says_done(index),
            Item::Strikes(fault) => self.strikes(fault),
            Item::Begins => self.service_begins(),
            Item::Arrives(in_flight) => self.arrives(in_flight),
            Item::Answered(in_flight, result) => {
                if in_flight.incarnation == self.incarnation && self.process.is_some() {
                    let effect = in_flight.effect;
                    self.service_is_answered(in_flight.call, result);
                    self.cut(effect, Moment::After);
                }
            }
            Item::FollowsPods { incarnation } => {
                if incarnation == self.incarnation && self.process.is_some() {
                    self.service_follows_pods();
                }
            }
            Item::WatchSays { watch, event, unless_covered } => {
                let is_covered = |number: usize| self.watch_events[number + 1..].contains(&self.watch_events[number]);
                if !unless_covered.is_some_and(is_covered) {
                    self.service_watches(watch, event);
                }
            }
            Item::Connects { incarnation } => {
                if incarnation == self.incarnation && self.process.is_some() {
                    self.service_connects();
                }
            }
            Item::ToBroker { connection, input, effect } => self.reaches_broker(connection, input, effect),
            Item::FromBroker { connection, output } => self.service_hears(connection, output),
            Item::ApiBehaves => self.cluster.behave(),
            Item::BrokerIsUp => self.broker_is_back(),
            Item::PeoplePublish => self.people_publish(),
            Item::ContainerStarts(id) => self.container_starts(id),
            Item::SaysReady(id) => self.says_ready(&id),
            Item::ContainerEnds { id, code, is_signalled } => self.container_ends(&id, code, is_signalled),
        }
    }

    pub fn now(&self) -> Now {
        Now { instant: self.start + self.since, unix: self.unix() }
    }

    pub fn unix(&self) -> UnixTime {
        UnixTime(START + self.since.as_secs_f64())
    }

    pub fn say(&mut self, text: &str) {
        self.trace.push(format!("{:10.3} {text}", self.since.as_secs_f64()));
    }

    pub fn at(&mut self, due: Duration, item: Item) {
        self.queued += 1;
        self.queue.insert((due, self.queued), item);
    }

    pub fn after(&mut self, wait: Duration, item: Item) {
        self.at(self.since + wait, item);
    }

    pub fn latency(&mut self, usual: Duration) -> Duration {
        if !self.plan.is_jittery {
            return usual;
        }
        match self.random.u8(0..20) {
            0 => usual * self.random.u32(1..500),
            _ => usual * self.random.u32(1..8),
        }
    }

    // What the service sends.

    /// The number of an effect that goes out; `None` where the plan ends the process before it.
    pub fn effect(&mut self, words: String) -> Option<usize> {
        self.process.as_ref()?;
        let number = self.effects.len();
        self.say(&format!("    #{number} {words}"));
        self.effects.push(words);
        self.cut(number, Moment::Before);
        self.process.is_some().then_some(number)
    }

    pub fn cut(&mut self, effect: usize, moment: Moment) {
        let wanted = |strike: &&Strike| match strike.when {
            When::Effect(number, of) => number == effect && of == moment,
            When::First(words) => {
                moment == Moment::Between
                    && self.effects[effect].starts_with(words)
                    && self.effects[..effect].iter().all(|before| !before.starts_with(words))
            }
            When::At(_) => false,
        };
        let faults: Vec<Fault> = self.plan.strikes.iter().filter(wanted).map(|strike| strike.fault).collect();
        for fault in faults {
            self.strikes(fault);
        }
    }

    pub fn send_to_api(&mut self, effect: usize, call: Call, request: kube::Request) {
        let in_flight = InFlight { incarnation: self.incarnation, effect, call, request };
        let latency = self.latency(TO_API);
        self.after(latency, Item::Arrives(in_flight));
    }

    pub fn send_to_broker(&mut self, connection: ConnectionId, input: Input, effect: Option<usize>) {
        let latency = self.latency(TO_BROKER);
        let Some(process) = &mut self.process else { return };
        process.to_broker_due = process.to_broker_due.max(self.since + latency);
        let due = process.to_broker_due;
        self.at(due, Item::ToBroker { connection, input, effect });
    }

    pub fn look_at_what_is_left(&mut self) {
        for target in [ALL_PODS, ALL_CONFIG_MAPS] {
            let list = self.administer("GET", target, &Value::Null);
            let names = list["items"].as_array().into_iter().flatten().map(|object| text(&object["metadata"]["name"]).to_owned());
            let names: Vec<String> = names.collect();
            if target == ALL_PODS && !names.contains(&THEIRS.to_owned()) {
                self.report.left.push("somebody else's pod is gone".to_owned());
            }
            let may_stay = target == ALL_CONFIG_MAPS && self.records_are_forbidden;
            self.report.left.extend(names.into_iter().filter(|name| name != THEIRS && !may_stay));
        }
        self.report.lists_are_old = self.plan.list_age > 0;
        self.report.only_killed = self.plan.strikes.iter().all(|strike| matches!(strike.fault, Fault::Kill { .. }));
        let sees_all = |strike: &Strike| matches!(strike.fault, Fault::Kill { .. } | Fault::PodIsDeleted);
        self.report.sees_all = self.plan.list_age == 0 && self.plan.strikes.iter().all(sees_all);
        let is_idle = self.process.as_ref().is_some_and(|process| process.core.is_idle());
        self.report.unanswered = usize::from(!is_idle) + self.broker.kept_for("mso-so");
    }
}

pub fn ask(body: &[u8]) -> Request<'_> {
    Request { method: "GET", target: "", content_type: "application/json", token: TOKEN, body }
}

pub fn lost(why: &str) -> Error {
    Error::Lost(why.to_owned())
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Not before it: dates have less precision than timers.
fn since_start(UnixTime(at): UnixTime) -> Duration {
    Duration::from_secs_f64((at - START).max(0.0)) + Duration::from_micros(1)
}
