//! @NAME@: appends a line per profile to the file that the config's member `path` names.

use gateway_plugin::{export_plugin, Delivery, Host, Outcome, Plugin, Profile};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

struct LineSink {
    path: PathBuf,
}

impl Plugin for LineSink {
    const CONFIG_SCHEMA: &'static str =
        r#"{"type":"object","properties":{"path":{"type":"string","minLength":1}},"required":["path"],"additionalProperties":false}"#;

    fn new(config: &str, host: &Host) -> Result<Self, String> {
        let json = host.parse_json(config)?;
        json.root().refuse_unknown(&["path"])?;
        match json.root().member("path").and_then(|path| path.as_str()) {
            Some(path) if !path.is_empty() => Ok(LineSink { path: path.as_ref().into() }),
            _ => Err("path: must be a string that names a file".into()),
        }
    }

    // Each delivery ends before the call returns, so that flush, drain and abort have nothing to do: their defaults are right.
    fn deliver(&self, profile: Profile, delivery: Delivery) {
        match self.append(&line(&profile)) {
            Ok(()) => delivery.finish(Outcome::Delivered),
            Err(problem) => delivery.finish(Outcome::retry(format!("{}: {}", self.path.display(), problem))),
        }
    }
}

impl LineSink {
    fn append(&self, line: &str) -> io::Result<()> {
        OpenOptions::new().append(true).create(true).open(&self.path)?.write_all(line.as_bytes())
    }
}

/// The profile's labels, samples and bytes. Texts come from the sender: a control character would break the line.
fn line(profile: &Profile) -> String {
    let labels: String = profile.labels().map(|label| format!("{}={} ", label.name, label.value)).collect();
    let labels = labels.replace(char::is_control, "?");
    format!("{}{} samples {} bytes\n", labels, profile.samples().count(), profile.byte_count())
}

export_plugin!(LineSink, "@NAME@", "0.1.0");
