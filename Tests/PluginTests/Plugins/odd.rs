//! A plugin in Rust that does what its config says, for Tests/System/languages: {"deed":"panic"}. odd.go is the same in Go.
use gateway_plugin::{export_plugin, Delivery, Host, Outcome, Plugin, Probe, Profile};
use std::sync::Mutex;
use std::time::Duration;

struct Odd {
    host: Host,
    deed: String,
    kept: Mutex<Vec<Profile>>,
    open: Mutex<Vec<Delivery>>,
}

impl Plugin for Odd {
    const PROBE: Option<Probe<Self>> = Some(|odd| if odd.deed == "away" { Err("nobody is there".into()) } else { Ok(()) });

    fn new(config: &str, host: &Host) -> Result<Self, String> {
        let json = host.parse_json(config)?;
        json.root().refuse_unknown(&["deed"])?;
        let deed = json.root().member("deed").and_then(|deed| deed.as_str()).ok_or("deed: must be a string")?.into_owned();
        assert!(deed != "panic in new", "no {} instance", 1);
        let facts = host.instance().ok_or("no facts")?;
        host.info(&format!("facts receiver={} directory={}", facts.receiver, facts.directory.is_some()));
        Ok(Odd { host: host.clone(), deed, kept: Mutex::default(), open: Mutex::default() })
    }

    fn start(&self) -> Result<(), String> {
        assert!(self.deed != "panic in start", "no start");
        Ok(())
    }

    fn deliver(&self, profile: Profile, delivery: Delivery) {
        match self.deed.as_str() {
            "panic" => panic!("asked to"),
            "forget" => {}
            "panic in a thread" => {
                let _ = std::thread::spawn(move || {
                    let _mine = delivery;
                    panic!("elsewhere");
                })
                .join();
            }
            "thread" => {
                std::thread::spawn(move || {
                    assert_eq!(profile.samples().count(), 1);
                    delivery.finish(Outcome::Delivered);
                });
            }
            "timer" => {
                self.open.lock().unwrap().push(delivery);
                assert!(self.host.set_timer(7, Some(Duration::from_millis(20))));
            }
            "hold" => self.open.lock().unwrap().push(delivery),
            "retain" => {
                // Told with the next profile, when this one's delivery is long finished.
                for kept in self.kept.lock().unwrap().drain(..) {
                    let text: Vec<_> = kept.samples().map(|sample| String::from_utf8_lossy(sample.bytes).trim().to_string()).collect();
                    self.host.info(&format!("kept {} of {}", text.join(","), kept.label("service_name").unwrap_or_default()));
                }
                self.kept.lock().unwrap().push(profile);
                delivery.finish(Outcome::Delivered);
            }
            _ => delivery.finish(Outcome::Rejected { reason: "no such deed".into(), http_status: 418, sender_message: String::new() }),
        }
    }

    fn timer(&self, timer: u32) {
        self.host.info(&format!("timer {}", timer));
        for delivery in self.open.lock().unwrap().drain(..) {
            delivery.finish(Outcome::Delivered);
        }
    }

    fn abort(&self) {
        self.host.info("abort");
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.host.info("the end");
    }
}

export_plugin!(Odd, "odd", "1.0.0");
