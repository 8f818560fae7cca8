//! Quality-of-service specs: limits that are told to hosts, or to the storage, with the volumes of a type.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::statuses::words;

/// Who obeys the specs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosConsumer {
    /// The hypervisor: they are part of the connection info.
    FrontEnd,
    /// The storage.
    BackEnd,
    /// Both.
    Both,
}

words!(QosConsumer { FrontEnd => "front-end", BackEnd => "back-end", Both => "both" });

/// One set of specs.
#[derive(Clone, Debug, PartialEq)]
pub struct QosSpecs {
    /// Its id.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// Who obeys it.
    pub consumer: QosConsumer,
    /// Such as `total_iops_sec`, as text.
    pub specs: BTreeMap<String, String>,
}

impl QosSpecs {
    /// What hosts are told: nothing where the storage alone obeys.
    pub fn for_hosts(&self) -> Value {
        match self.consumer {
            QosConsumer::FrontEnd | QosConsumer::Both => json!(self.specs),
            QosConsumer::BackEnd => Value::Null,
        }
    }
}
