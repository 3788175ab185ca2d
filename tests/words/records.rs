//! The ConfigMaps that the core keeps, as the API server would.

use std::collections::BTreeMap;

use mso::ids::{RecordName, Uid};
use mso::kube::error::Error;
use mso::kube::record::{Content, Found, Record};
use mso::orchestrator::event::{RecordAnswer, RecordCall};

use super::refused;

#[derive(Default)]
pub struct Records {
    by_name: BTreeMap<RecordName, Record>,
    changes: u32,
    /// The Role does not allow ConfigMaps.
    pub are_forbidden: bool,
    /// By a quota.
    pub is_full: bool,
    /// The quota is full by the time that a progress is created.
    pub has_room_for_pieces_only: bool,
    pub refuses_pieces: bool,
    pub deletes_are_away: bool,
    pub updates_are_away: bool,
    pub answers_are_lost: bool,
    /// Something on the way sends it twice, and gives the second answer.
    pub repeats_the_next_update: bool,
}

impl Records {
    pub fn all(&self) -> Vec<Record> {
        self.by_name.values().cloned().collect()
    }

    /// As a process that begins reads them.
    pub fn found(&self) -> Found {
        let mut found = Found::default();
        self.all().into_iter().for_each(|record| found.add(record));
        found
    }

    pub fn loses_its_pieces(&mut self) {
        self.by_name.retain(|_, record| matches!(record.content, Content::Progress { .. }));
    }

    pub fn loses_the_pieces_of(&mut self, request: u8) {
        let id = format!("{request:016x}");
        self.by_name.retain(|_, record| !matches!(&record.content, Content::Piece { deploy, .. } if deploy.as_str() == id));
    }

    pub fn loses_its_progress(&mut self) {
        self.by_name.retain(|_, record| matches!(record.content, Content::Piece { .. }));
    }

    pub fn is_damaged(&mut self) {
        for record in self.by_name.values_mut() {
            if let Content::Progress { text } = &mut record.content {
                text.truncate(text.len() / 2);
            }
        }
    }

    pub fn is_changed_by_another_service(&mut self) {
        for record in self.by_name.values_mut() {
            if let Content::Progress { text } = &mut record.content {
                record.version += "0";
                *text = text.replace("\"ready\":\"\"", "\"ready\":\"8\"");
            }
        }
    }

    pub fn carry_out(&mut self, call: &RecordCall) -> Result<RecordAnswer, Error> {
        let result = self.answer_to(call);
        if self.answers_are_lost { Err(Error::Lost("no answer".to_owned())) } else { result }
    }

    fn answer_to(&mut self, call: &RecordCall) -> Result<RecordAnswer, Error> {
        if self.are_forbidden {
            return Err(refused(403, "User \"u\" cannot patch resource \"configmaps\""));
        }
        if self.is_full && matches!(call, RecordCall::Create(_)) {
            return Err(refused(403, "exceeded quota: q"));
        }
        if self.has_room_for_pieces_only && matches!(call, RecordCall::Create(new) if matches!(new.content, Content::Progress { .. })) {
            return Err(refused(403, "exceeded quota: q"));
        }
        if self.refuses_pieces && matches!(call, RecordCall::Create(new) if matches!(new.content, Content::Piece { .. })) {
            return Err(refused(422, "invalid"));
        }
        if self.deletes_are_away && matches!(call, RecordCall::Delete { .. }) {
            return Err(Error::Lost("no answer".to_owned()));
        }
        if self.updates_are_away && matches!(call, RecordCall::Update { .. }) {
            return Err(Error::Lost("no answer".to_owned()));
        }
        if self.repeats_the_next_update && matches!(call, RecordCall::Update { .. }) {
            self.repeats_the_next_update = false;
            let _ = self.answer_to(call);
        }
        self.changes += 1;
        let version = self.changes.to_string();
        match call {
            RecordCall::Create(new) if self.by_name.contains_key(&new.name) => Err(refused(409, "already exists")),
            RecordCall::Create(new) => {
                let uid = Uid::new(&format!("r{version}")).unwrap();
                let (name, simulation, content) = (new.name.clone(), new.simulation.clone(), new.content.clone());
                self.by_name.insert(name.clone(), Record { name: name.clone(), uid, version, simulation, content });
                Ok(self.answer(&name))
            }
            RecordCall::Get(name) | RecordCall::Update { name, .. } | RecordCall::Delete { name, .. }
                if !self.by_name.contains_key(name) =>
            {
                Err(refused(404, "not found"))
            }
            RecordCall::Get(name) => Ok(self.answer(name)),
            RecordCall::Update { name, version: known, text } => {
                let record = self.by_name.get_mut(name).unwrap();
                if record.version != *known {
                    return Err(refused(409, "the object has been modified"));
                }
                record.version = version;
                record.content = Content::Progress { text: text.clone() };
                Ok(self.answer(name))
            }
            RecordCall::Delete { name, uid } => {
                if self.by_name[name].uid != *uid {
                    return Err(refused(409, "another uid"));
                }
                self.by_name.remove(name);
                Ok(RecordAnswer::Done)
            }
        }
    }

    fn answer(&self, name: &RecordName) -> RecordAnswer {
        RecordAnswer::Record(Box::new(self.by_name[name].clone()))
    }
}
