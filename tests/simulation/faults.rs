//! What goes wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use devkit::broker::{Input, Output};
use devkit::cluster::{Fault as ClusterFault, FaultKind, Status};
use rumqttc::mqttbytes::v4::Publish;
use serde_json::Value;

use crate::plan::Fault;
use crate::report::ProcessLife;
use crate::service::Process;
use crate::world::{ALL_CONFIG_MAPS, Item, PODS, TO_BROKER, World, text};

/// Faults strike what goes to the namespace, and spare whoever looks from outside.
const OF_NAMESPACE: &str = "/namespaces/dots/";
/// What should happen to requests that have not come by then does not happen.
const MISBEHAVES: Duration = Duration::from_secs(30);
/// Shorter than the service waits for them, also where this strikes twice.
const ROLES_ARE_LOADED: Duration = Duration::from_secs(4);
/// How long a client waits on a connection that says nothing.
const SILENCE: Duration = Duration::from_secs(30);

impl World {
    pub fn strikes(&mut self, fault: Fault) {
        self.say(&format!("!!! {fault:?}"));
        match fault {
            Fault::Kill { down } => {
                self.service_is_killed();
                self.after(down, Item::Begins);
            }
            Fault::BrokerIsKilled { .. } if !self.broker_is_up => {}
            Fault::BrokerIsKilled { down } => {
                self.broker.kill();
                self.broker_is_up = false;
                self.connection_breaks();
                self.after(down, Item::BrokerIsUp);
            }
            Fault::BrokerForgetsUs => {
                self.note_window();
                self.broker.forget_session("mso-so", self.now().instant);
                self.broker_speaks();
                self.connection_breaks();
            }
            Fault::ConnectionBreaks => self.connection_breaks(),
            Fault::BrokerIsUnreachable { time } => {
                // The kernel would send again what was lost, for longer than anybody waits.
                let time = time.max(SILENCE);
                self.broker_is_unreachable_until = self.since + time;
                self.report.told_again_after.push(self.since);
                if let Some(connection) = self.process.as_ref().and_then(|process| process.connection) {
                    self.after(time, Item::FromBroker { connection, output: Output::Close });
                }
            }
            Fault::ApiIsAway { time } => {
                self.api_is_away_until = self.since + time;
                self.watch_breaks();
            }
            Fault::ApiThrottles { requests } => self.api_refuses(429, requests, MISBEHAVES),
            Fault::ApiIsOverloaded { time } => self.api_refuses(429, u32::MAX, time),
            Fault::ApiFails { requests } => self.api_refuses(500, requests, MISBEHAVES),
            Fault::RolesAreUnknown { requests } => self.api_refuses(403, requests, ROLES_ARE_LOADED),
            Fault::RecordsAreForbidden => {
                self.records_are_forbidden = true;
                self.report.records_were_forbidden = true;
            }
            Fault::RecordsAreAllowed => self.records_are_forbidden = false,
            Fault::AnswersAreLost { requests } => {
                for method in ["POST", "PATCH", "DELETE"] {
                    self.cluster.misbehave(ClusterFault {
                        method,
                        target: OF_NAMESPACE.to_owned(),
                        times: requests,
                        kind: FaultKind::LoseAnswer,
                    });
                }
            }
            Fault::WatchBreaks => self.watch_breaks(),
            Fault::HistoryIsForgotten => {
                self.cluster_changed();
                self.cluster.compact();
            }
            Fault::PodIsDeleted => self.a_pod_is_deleted(),
        }
    }

    fn api_refuses(&mut self, code: u16, times: u32, lasts: Duration) {
        self.after(lasts, Item::ApiBehaves);
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            let status = match code {
                403 => Status::new(code, "Forbidden", "User \"mso\" cannot touch resource \"any\" as asked"),
                429 => Status::new(code, "TooManyRequests", "as asked"),
                _ => Status::new(code, "InternalError", "as asked"),
            };
            self.cluster.misbehave(ClusterFault { method, target: OF_NAMESPACE.to_owned(), times, kind: FaultKind::Refuse(status) });
        }
    }

    pub fn watch_breaks(&mut self) {
        if let Some((number, _)) = self.watch.take() {
            self.watch_speaks_at = None;
            self.at(self.watch_due.max(self.since), Item::WatchSays { watch: number, event: None, unless_covered: None });
        }
    }

    pub fn connection_breaks(&mut self) {
        self.report.told_again_after.push(self.since);
        let Some(process) = &mut self.process else { return };
        if let Some(connection) = process.connection {
            self.after(TO_BROKER, Item::FromBroker { connection, output: Output::Close });
            if self.broker_is_up {
                self.broker.handle(connection, Input::Closed, self.now().instant);
                self.broker_speaks();
            }
        }
    }

    pub fn a_pod_is_deleted(&mut self) {
        let running: BTreeSet<(String, String)> = self.containers.iter().map(|(id, pod)| (pod.clone(), id.uid.clone())).collect();
        let running: Vec<(String, String)> = running.into_iter().collect();
        let Some((pod, uid)) = self.random.choice(running) else { return };
        let answer = self.administer("DELETE", &format!("{PODS}/{pod}"), &Value::Null);
        if answer["kind"] == "Status" {
            return;
        }
        self.say(&format!("somebody deletes {pod}"));
        if let Some(life) = self.report.pods.get_mut(&uid) {
            life.deleted_by_hand_at = Some(self.since);
        }
        self.cluster_changed();
    }

    pub fn service_is_killed(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.incarnation += 1;
        self.watch = None;
        self.watch_speaks_at = None;
        self.report.goes_blind(self.since);
        if let Some(life) = self.report.processes.last_mut() {
            life.killed_at = self.since;
        }
        self.report.told_again_after.push(self.since);
        if let Some(connection) = process.connection {
            // Behind what is on its way there.
            self.at(process.to_broker_due.max(self.since), Item::ToBroker { connection, input: Input::Closed, effect: None });
        }
    }

    pub fn service_begins(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.note_window();
        self.report.processes.push(ProcessLife {
            began_at: self.since,
            killed_at: Duration::MAX,
            reads_records: !self.records_are_forbidden,
            refused_at: None,
        });
        self.incarnation += 1;
        let seed = self.random.u64(..);
        self.process = Some(Process::new(seed));
        self.say(&format!("process {} begins", self.incarnation));
        self.service_connects();
        self.service_follows_pods();
    }

    pub fn note_redelivery(&mut self, publish: &Publish) {
        if let Some(simulation) = publish.topic.strip_suffix("/DeployModels").and_then(|rest| rest.rsplit('/').next())
            && publish.dup
        {
            self.report.redelivered.push((self.since, simulation.to_owned()));
        }
    }

    /// Of whom nobody can know now whether their `ModelsReady` went out.
    pub fn note_window(&mut self) {
        if self.records_are_forbidden {
            return;
        }
        let records = self.administer("GET", ALL_CONFIG_MAPS, &Value::Null);
        for record in records["items"].as_array().into_iter().flatten() {
            if text(&record["data"]["progress"]).contains("\"modelsReady\":\"sending\"") {
                let simulation = text(&record["metadata"]["labels"]["simulation_id"]).to_owned();
                self.report.in_window.push((self.since, simulation));
            }
        }
    }
}
