//! Who else there is: the SO, the models in their containers, and what they publish.

use std::time::Duration;

use devkit::broker::{Input, Output};
use devkit::cluster::ContainerId;
use mso::proto;
use prost::Message as _;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, Publish, Subscribe};

use crate::report::{Asked, Heard, Report, Word};
use crate::workload::{Ends, Request as Wanted, When as Asking};
use crate::world::{IMAGE, Item, SO, World};

const PUBLISHES_AGAIN: Duration = Duration::from_secs(1);
/// A model that has no parameters by then gives up, in good order.
const PARAMETERS_AWAITED: Duration = Duration::from_secs(600);

impl World {
    pub fn people_publish(&mut self) {
        for (topic, payload) in std::mem::take(&mut self.unpublished) {
            self.publish(topic, payload);
        }
    }

    /// At QoS 1, until the broker has it.
    pub fn publish(&mut self, topic: String, payload: Vec<u8>) {
        // A broker that has no session for the service would take it and forget it.
        if !self.broker_is_up || self.broker.subscriptions("mso-so").is_empty() {
            if self.unpublished.is_empty() {
                self.after(PUBLISHES_AGAIN, Item::PeoplePublish);
            }
            return self.unpublished.push((topic, payload));
        }
        let connection = self.new_connection();
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = 1;
        let now = self.now().instant;
        self.broker.handle(connection, Input::Opened, now);
        self.broker.handle(connection, Input::Packet(Packet::Connect(Connect::new(format!("client-{}", connection.0)))), now);
        self.broker.handle(connection, Input::Packet(Packet::Publish(publish)), now);
        self.broker.handle(connection, Input::Packet(Packet::Disconnect), now);
        self.broker_speaks();
    }

    pub fn so_connects(&mut self) {
        let now = self.now().instant;
        let mut connect = Connect::new("so");
        connect.clean_session = false;
        connect.keep_alive = 0;
        self.broker.handle(SO, Input::Opened, now);
        self.broker.handle(SO, Input::Packet(Packet::Connect(connect)), now);
        let mut subscribe = Subscribe::new("/lifecycle/mso/so/#", QoS::AtLeastOnce);
        subscribe.pkid = 1;
        self.broker.handle(SO, Input::Packet(Packet::Subscribe(subscribe)), now);
        self.broker_speaks();
    }

    pub fn so_receives(&mut self, output: Output) {
        let Output::Packet(Packet::Publish(publish)) = output else { return };
        if publish.qos == QoS::AtLeastOnce {
            self.broker.handle(SO, Input::Packet(Packet::PubAck(PubAck::new(publish.pkid))), self.now().instant);
        }
        let parts: Vec<&str> = publish.topic.split('/').collect();
        let (simulation, word) = match parts[..] {
            ["", "lifecycle", "mso", "so", simulation, "ModelsReady"] => (simulation, Word::ModelsReady),
            ["", "lifecycle", "mso", "so", simulation, "AllModelsHaveTerminated"] => (simulation, Word::AllModelsHaveTerminated),
            ["", "lifecycle", "mso", "so", simulation, _, "ErrorOccurred"] => {
                proto::ErrorOccurred::decode(publish.payload.as_ref()).expect("it is one");
                (simulation, Word::ErrorOccurred)
            }
            ["", "lifecycle", "mso", "so", simulation, model, "ModelHasTerminated"] => {
                let message = proto::ModelHasTerminated::decode(publish.payload.as_ref()).expect("it is one");
                let success = message.status == proto::TerminationStatus::Successfull as i32;
                (simulation, Word::ModelHasTerminated { model: model.to_owned(), success, exit_code: message.exit_code })
            }
            _ => panic!("nobody subscribed to {}", publish.topic),
        };
        let simulation = simulation.to_owned();
        self.say(&format!("SO hears {simulation} {word:?}"));
        let is_first_end = word == Word::AllModelsHaveTerminated
            && !self.report.heard.iter().any(|heard| heard.simulation == simulation && heard.word == word);
        self.report.heard.push(Heard { at: self.since, simulation: simulation.clone(), word: word.clone() });
        if word == Word::ModelsReady {
            let of_simulation: Vec<ContainerId> =
                self.containers.iter().filter(|(_, pod)| Report::of_pod(pod).0 == simulation).map(|(id, _)| id.clone()).collect();
            of_simulation.iter().for_each(|id| self.has_its_parameters(id));
        }
        if is_first_end {
            for (index, wanted) in self.workload.requests.clone().iter().enumerate() {
                if let Asking::AfterEndOf(of, wait) = wanted.when
                    && of == simulation
                {
                    self.after(wait, Item::Asks(index));
                }
            }
        }
    }

    pub fn asks(&mut self, index: usize) {
        let Wanted { simulation, models, keep_logs_hours, .. } = self.workload.requests[index].clone();
        let configuration = |model: &&str| proto::ModelConfiguration {
            model_id: (*model).to_owned(),
            image_url: IMAGE.to_owned(),
            environment_variables: vec![proto::EnvironmentVariable { name: "A".to_owned(), value: "b".to_owned() }],
        };
        let message = proto::DeployModels {
            simulator_id: "so".to_owned(),
            model_configurations: models.iter().map(configuration).collect(),
            keep_logs_hours,
        };
        self.say(&format!("SO asks for {simulation}: {models:?}"));
        self.report.asked.push(Asked {
            at: self.since,
            simulation: simulation.to_owned(),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            keep_logs_hours,
        });
        self.publish(format!("/lifecycle/so/mso/{simulation}/DeployModels"), message.encode_to_vec());
    }

    pub fn says_done(&mut self, index: usize) {
        let (_, simulation, model) = self.workload.dones[index];
        self.say(&format!("SO says that {simulation} is done, to {}", model.unwrap_or("us")));
        self.report.done.push((self.since, simulation.to_owned()));
        let about = model.map_or_else(|| format!("mso/{simulation}"), |model| format!("model/{simulation}/{model}"));
        self.publish(format!("/lifecycle/so/{about}/SimulationDone"), Vec::new());
    }

    pub fn container_starts(&mut self, id: ContainerId) {
        self.cluster.container_started(&id, self.unix());
        let Some(pod) = self.containers.get(&id).cloned() else { return };
        self.say(&format!("container of {pod} starts"));
        let behaviour = self.workload.behaviours[&pod];
        if let Some(wait) = behaviour.says_ready {
            self.after(wait, Item::SaysReady(id.clone()));
        }
        if let Ends::AfterStart(wait, code) = behaviour.ends {
            self.after(wait, Item::ContainerEnds { id, code, is_signalled: false });
        }
        self.cluster_changed();
    }

    pub fn says_ready(&mut self, id: &ContainerId) {
        let Some(pod) = self.containers.get(id).cloned() else { return };
        let (simulation, model) = Report::of_pod(&pod);
        self.say(&format!("{pod} says ready"));
        if let Some(life) = self.report.pods.get_mut(&id.uid) {
            life.said_ready_at = Some(self.since);
        }
        self.publish(format!("/lifecycle/model/mso/{simulation}/{model}/ReadyForProcessing"), Vec::new());
        let asked_at = self.report.asked.iter().rev().find(|asked| asked.simulation == simulation).map_or(Duration::ZERO, |asked| asked.at);
        let is_running =
            self.report.heard.iter().any(|heard| heard.simulation == simulation && heard.word == Word::ModelsReady && heard.at >= asked_at);
        if is_running {
            self.has_its_parameters(id);
        } else if let Ends::AfterModelsReady(..) = self.workload.behaviours[&pod].ends {
            self.after(PARAMETERS_AWAITED, Item::ContainerEnds { id: id.clone(), code: 0, is_signalled: false });
        }
    }

    pub fn has_its_parameters(&mut self, id: &ContainerId) {
        let Some(pod) = self.containers.get(id) else { return };
        if let Ends::AfterModelsReady(wait, code) = self.workload.behaviours[pod].ends {
            self.after(wait, Item::ContainerEnds { id: id.clone(), code, is_signalled: false });
        }
    }

    pub fn container_ends(&mut self, id: &ContainerId, code: i32, is_signalled: bool) {
        let Some(pod) = self.containers.remove(id) else { return };
        self.say(&format!("container of {pod} ends with {code}"));
        if let Some(life) = self.report.pods.get_mut(&id.uid)
            && !is_signalled
        {
            life.ended = Some((self.since, code));
        }
        self.cluster.container_ended(id, code, self.unix());
        self.cluster_changed();
    }
}
