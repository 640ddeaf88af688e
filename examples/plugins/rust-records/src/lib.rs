//! Keeps the profiles whose label has a certain value as records in one file, and counts them by service.

use gateway_plugin::{export_plugin, Delivery, Health, Host, Kind, Metric, Outcome, Plugin, Profile};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Mutex;

/// A service beyond these is counted as "other", because senders choose the names and each is a time series.
const MOST_SERVICES: usize = 100;

struct Records {
    host: Host,
    path: String,
    label: String,
    value: String,
    /// Calls that use it come from one thread; the lock is for the compiler.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Opened by `start`.
    file: Option<File>,
    counters: HashMap<String, Metric>,
}

impl Plugin for Records {
    fn new(config: &str, host: &Host) -> Result<Self, String> {
        let json = host.parse_json(config)?;
        json.root().refuse_unknown(&["path", "label", "value"])?;
        let text = |name: &str| match json.root().member(name).and_then(|member| member.as_str()) {
            Some(text) if !text.is_empty() => Ok(text.into_owned()),
            _ => Err(format!("{}: must be a string that is not empty", name)),
        };
        Ok(Records { host: host.clone(), path: text("path")?, label: text("label")?, value: text("value")?, state: Mutex::default() })
    }

    // A file that cannot be opened is no mistake of the config: the gateway calls again, and shows the reason meanwhile.
    fn start(&self) -> Result<(), String> {
        let file =
            OpenOptions::new().append(true).create(true).open(&self.path).map_err(|problem| format!("{}: {}", self.path, problem))?;
        self.state.lock().unwrap().file = Some(file);
        Ok(())
    }

    fn deliver(&self, profile: Profile, delivery: Delivery) {
        if profile.label(&self.label).as_deref() != Some(self.value.as_str()) {
            // Left out on purpose: delivered, not rejected, which would make it a dead letter.
            return delivery.finish(Outcome::Delivered);
        }
        let mut state = self.state.lock().unwrap();
        match append(state.file.as_mut(), &record(&profile)) {
            Ok(()) => {
                self.host.set_health(Health::Ok, "");
                self.counter(&mut state, &profile).observe(1);
                delivery.finish(Outcome::Delivered);
            }
            Err(problem) => {
                let reason = format!("{}: {}", self.path, problem);
                self.host.set_health(Health::Failed, &reason);
                delivery.finish(Outcome::retry(reason));
            }
        }
    }
}

impl Records {
    fn counter(&self, state: &mut State, profile: &Profile) -> Metric {
        let service = profile.label("service_name").unwrap_or_default();
        let is_known = state.counters.contains_key(service.as_ref());
        let service = if is_known || state.counters.len() < MOST_SERVICES { service.as_ref() } else { "other" };
        let declare = || self.host.metric(Kind::Counter, "example_records_total", "Records written.", &[("service", service)]);
        state.counters.entry(service.to_string()).or_insert_with(declare).clone()
    }
}

/// A record: its length, the profile's sequence, and for each sample its length and its bytes; all numbers have 8 bytes, little-endian.
fn record(profile: &Profile) -> Vec<u8> {
    let mut record = vec![0; 8];
    record.extend_from_slice(&profile.sequence().to_le_bytes());
    for sample in profile.samples() {
        record.extend_from_slice(&(sample.bytes.len() as u64).to_le_bytes());
        record.extend_from_slice(sample.bytes);
    }
    let length = record.len() as u64 - 8;
    record[..8].copy_from_slice(&length.to_le_bytes());
    record
}

/// Adds a whole record, or nothing: what a full disk has taken of it is cut off again.
fn append(file: Option<&mut File>, record: &[u8]) -> io::Result<()> {
    let file = file.ok_or(io::ErrorKind::NotFound)?;
    let end = file.seek(SeekFrom::End(0))?;
    let result = file.write_all(record).and_then(|()| file.sync_data());
    if result.is_err() {
        file.set_len(end)?;
    }
    result
}

export_plugin!(Records, "example.records", "1.0.0");
