//! A receiver plugin of Profile Gateway as a Rust type.
//!
//! Implement [`Plugin`], name the type in [`export_plugin!`], and build a `cdylib`:
//!
//! ```
//! use gateway_plugin::{export_plugin, Delivery, Host, Outcome, Plugin, Profile};
//!
//! struct Count {
//!     host: Host,
//! }
//!
//! impl Plugin for Count {
//!     fn new(config: &str, host: &Host) -> Result<Self, String> {
//!         host.parse_json(config)?.root().refuse_unknown(&[])?;
//!         Ok(Count { host: host.clone() })
//!     }
//!
//!     fn deliver(&self, profile: Profile, delivery: Delivery) {
//!         self.host.info(&format!("{} bytes", profile.byte_count()));
//!         delivery.finish(Outcome::Delivered);
//!     }
//! }
//!
//! export_plugin!(Count, "count", "1.0.0");
//! # fn main() {}
//! ```
//!
//! What this layer promises, whatever the safe code of a plugin does:
//!
//! - A delivery is finished exactly once: [`Delivery::finish`] takes it by value, one that is dropped is `rejected`, and `abort` ends
//!   those that are still open.
//! - A [`Profile`] holds on to its memory, so that it can be read on any thread and after its delivery is finished.
//! - Nothing reaches the gateway any more once `destroy` has returned: a [`Host`] that a thread has kept then does nothing.
//! - A panic leaves no call: `create` refuses with its text, `start` fails with it, and what `deliver` had in hand is `rejected` with it. This
//!   needs `panic = "unwind"`, which is Rust's default. A panic in a thread of the plugin ends that thread alone.
#![warn(missing_docs)]

pub mod abi;
mod call;
mod delivery;
mod host;
mod json;
mod profile;
#[cfg(test)]
mod tests;

pub use call::{entry, table, Table};
pub use delivery::{Delivery, Outcome};
pub use host::{Health, Host, Instance, Kind, Level, Metric};
pub use json::{Json, JsonKind, Value};
pub use profile::{Api, Label, Profile, Sample};

/// What tries a connection: see [`Plugin::PROBE`].
pub type Probe<P> = fn(&P) -> Result<(), String>;

/// A receiver: one value of the type for each entry of `receivers` in the config that names the plugin.
///
/// All calls but [`abort`](Plugin::abort) come from one thread, one after another. They may block: this receiver alone waits.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// Tries whether a delivery could succeed now, without a profile, for `gateway check --connect`; `None` when there is nothing to try.
    /// `Some(Self::connect)` names a function that connects and says what is wrong. The instance is not started for it.
    const PROBE: Option<Probe<Self>> = None;

    /// A JSON Schema (2020-12) of the config, for people and editors; empty when there is none.
    const CONFIG_SCHEMA: &'static str = "";

    /// Makes an instance from its JSON config, or refuses it: one problem a line, each with its member, `path: must be a string`.
    ///
    /// It starts no thread and no connection, and changes nothing that another process sees but making directories: `gateway check` calls
    /// it beside a running gateway.
    fn new(config: &str, host: &Host) -> Result<Self, String>;

    /// Takes one profile. The outcome follows through `delivery`, now or later, from any thread.
    fn deliver(&self, profile: Profile, delivery: Delivery);

    /// Begins threads and connections, or says why it cannot yet; then it is called again, later and later. By default there is nothing
    /// to begin.
    fn start(&self) -> Result<(), String> {
        Ok(())
    }

    /// The end is near: nothing is to wait for more profiles any longer. By default nothing waits.
    fn drain(&self) {}

    /// Makes durable what was delivered before, then finishes `flush`. The default is right for a plugin that finishes a delivery only
    /// once it is durable.
    fn flush(&self, flush: Delivery) {
        flush.finish(Outcome::Delivered);
    }

    /// Stops what is at work, from another thread than the other calls. What is open when it returns is finished as `aborted` for it, so
    /// that only a plugin whose work should stop, or is nearly done, implements it. It returns within a second. It is called again after a
    /// call that it came during.
    fn abort(&self) {}

    /// A timer that [`Host::set_timer`] has set is due. By default nothing happens.
    fn timer(&self, _timer: u32) {}
}

/// Makes `$type` the plugin of the library: emits its one exported symbol, `gw_plugin_v1`.
///
/// The name is 1 to 64 printable ASCII characters and begins the names of the plugin's metrics; the version likewise.
#[macro_export]
macro_rules! export_plugin {
    ($type:ty, $name:expr, $version:expr) => {
        #[no_mangle]
        pub extern "C" fn gw_plugin_v1(host_size: usize) -> *const $crate::abi::gw_plugin {
            static TABLE: $crate::Table = $crate::table::<$type>($name, $version);
            $crate::entry(&TABLE, host_size)
        }
    };
}
