use crate::abi::*;
use crate::delivery::Outcome;
use crate::json::Json;
use std::collections::BTreeMap;
use std::os::raw::{c_char, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

/// The services that the gateway lends one instance; from any thread, as often as wanted. After the instance has ended they do nothing.
#[derive(Clone)]
pub struct Host(pub(crate) Arc<HostInner>);

/// An operation, a delivery or a flush, until it is finished.
pub(crate) struct Open {
    number: u64,
    token: *mut c_void,
    finished: AtomicBool,
}

// The token is a value that is never dereferenced.
unsafe impl Send for Open {}
unsafe impl Sync for Open {}

impl Open {
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }
}

/// What the argument of a timer points to.
pub(crate) struct TimerSlot {
    pub(crate) host: AtomicPtr<HostInner>,
    pub(crate) number: u32,
}

/// What all clones of a host, its profiles and its deliveries share.
pub(crate) struct HostInner {
    /// The gateway's table; None once the instance has ended. Every call holds the lock for reading, so that the end waits for it.
    host: RwLock<Option<*const gw_host>>,
    open: Mutex<BTreeMap<u64, Arc<Open>>>,
    next: AtomicU64,
    /// Set while `create` runs, where alone the references to the environment may be read.
    creating: AtomicBool,
    /// The instance, which timers call; NULL before it is made.
    pub(crate) instance: AtomicPtr<c_void>,
    timers: [TimerSlot; GW_TIMERS],
    fire: unsafe extern "C" fn(*mut c_void),
}

// The gateway's functions may be called from any thread.
unsafe impl Send for HostInner {}
unsafe impl Sync for HostInner {}

/// Locks a mutex, also one that a panic has poisoned: what it guards is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl HostInner {
    /// # Safety
    ///
    /// `host` must stay valid until `end` is called.
    pub(crate) unsafe fn new(host: *const gw_host, fire: unsafe extern "C" fn(*mut c_void)) -> Arc<HostInner> {
        let slot = |number| TimerSlot { host: AtomicPtr::default(), number };
        let inner = Arc::new(HostInner {
            host: RwLock::new(Some(host)),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            creating: AtomicBool::new(true),
            instance: AtomicPtr::default(),
            timers: [slot(0), slot(1), slot(2), slot(3), slot(4), slot(5), slot(6), slot(7)],
            fire,
        });
        for slot in &inner.timers {
            slot.host.store(Arc::as_ptr(&inner) as *mut HostInner, Ordering::Release);
        }
        inner
    }

    /// Calls the gateway, unless the instance has ended.
    pub(crate) fn with<R>(&self, body: impl FnOnce(&gw_host) -> R) -> Option<R> {
        let host = self.host.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        host.map(|host| body(unsafe { &*host }))
    }

    /// Lets no call to the gateway begin any more, and waits for those that have begun.
    pub(crate) fn end(&self) {
        *self.host.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    pub(crate) fn created(&self, instance: *mut c_void) {
        self.creating.store(false, Ordering::Release);
        self.instance.store(instance, Ordering::Release);
    }

    pub(crate) fn begin(&self, token: *mut c_void) -> Arc<Open> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Arc::new(Open { number, token, finished: AtomicBool::new(false) });
        lock(&self.open).insert(number, open.clone());
        open
    }

    /// Finishes an operation, unless it is finished.
    pub(crate) fn finish(&self, open: &Open, outcome: &Outcome) {
        if open.finished.swap(true, Ordering::AcqRel) {
            return;
        }
        lock(&self.open).remove(&open.number);
        outcome.with(|raw| self.with(|host| unsafe { (host.finish)(host.context, open.token, raw) }));
    }

    /// Finishes all operations that are open.
    pub(crate) fn finish_all(&self, outcome: &Outcome) {
        let all: Vec<_> = lock(&self.open).values().cloned().collect();
        for open in all {
            self.finish(&open, outcome);
        }
    }

    /// Gives the gateway's struct of an extension to `body`, when it has it and it is large enough to hold `T`, which begins with `size`.
    pub(crate) fn with_extension<T, R>(&self, id: &[u8], body: impl FnOnce(&gw_host, *const T) -> R) -> Option<R> {
        debug_assert_eq!(id.last(), Some(&0));
        self.with(|host| {
            let found = unsafe { (host.extension)(host.context, id.as_ptr() as *const c_char) } as *const T;
            if found.is_null() || unsafe { *(found as *const usize) } < std::mem::size_of::<T>() {
                return None;
            }
            Some(body(host, found))
        })?
    }
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warning = 2,
    Error = 3,
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// A delivery has succeeded.
    Ok = 0,
    /// Deliveries are slow or partial.
    Degraded = 1,
    /// Deliveries cannot succeed without a person.
    Failed = 2,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only rises.
    Counter = 0,
    /// A number that is set.
    Gauge = 1,
    /// A histogram of durations, observed in nanoseconds.
    Seconds = 2,
}

/// What the gateway knows of the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The receiver's name in the config.
    pub receiver: String,
    /// The gateway's version.
    pub gateway_version: String,
    /// A folder of the receiver's own below `data_dir`, made when it is asked for; None without `data_dir`.
    pub directory: Option<PathBuf>,
    /// How many deliveries may be open, at the time of `new`; a reload may change it.
    pub max_in_flight: u32,
    /// After which a delivery is overdue.
    pub delivery_timeout: Duration,
}

impl Host {
    /// Writes one line to the gateway's log, tagged with the receiver: no newline, time or name in it.
    pub fn log(&self, level: Level, message: &str) {
        self.0.with(|host| unsafe { (host.log)(host.context, level as u32, gw_slice::of(message.as_bytes())) });
    }

    /// Writes one line of level info to the log.
    pub fn info(&self, message: &str) {
        self.log(Level::Info, message);
    }

    /// States the instance's health, replacing the last statement; the gateway never asks.
    pub fn set_health(&self, health: Health, reason: &str) {
        self.0.with(|host| unsafe { (host.set_health)(host.context, health as u32, gw_slice::of(reason.as_bytes())) });
    }

    /// Declares a metric; the same name and labels give the same metric. The name begins with the plugin's name, other characters as `_`.
    /// The gateway adds the label `receiver`.
    pub fn metric(&self, kind: Kind, name: &str, help: &str, labels: &[(&str, &str)]) -> Metric {
        let raw: Vec<_> = labels
            .iter()
            .map(|(name, value)| gw_label { name: gw_slice::of(name.as_bytes()), value: gw_slice::of(value.as_bytes()) })
            .collect();
        let (name, help) = (gw_slice::of(name.as_bytes()), gw_slice::of(help.as_bytes()));
        let id = self.0.with(|host| unsafe { (host.metric)(host.context, kind as u32, name, help, raw.as_ptr(), raw.len()) });
        Metric { host: self.clone(), id: id.unwrap_or(0) }
    }

    /// What the gateway knows of the instance; None from a gateway that does not tell.
    pub fn instance(&self) -> Option<Instance> {
        let text = |slice: gw_slice| String::from_utf8_lossy(unsafe { slice.get() }).into_owned();
        self.0.with_extension(GW_INSTANCE_EXTENSION, |_, facts: *const gw_instance| {
            let facts = unsafe { &*facts };
            Instance {
                receiver: text(facts.receiver),
                gateway_version: text(facts.gateway_version),
                directory: Some(text(facts.directory)).filter(|path| !path.is_empty()).map(PathBuf::from),
                max_in_flight: facts.max_in_flight,
                delivery_timeout: Duration::from_nanos(facts.delivery_timeout_ns),
            }
        })
    }

    /// How many descriptors the instance may hold open now, at least 1; None from a gateway that does not divide them. A reload changes it.
    pub fn descriptors(&self) -> Option<u32> {
        let share = |host: &gw_host, found: *const gw_descriptors| unsafe { ((*found).share)(host.context) };
        self.0.with_extension(GW_DESCRIPTORS_EXTENSION, share)
    }

    /// During `new`, the paths of the config's strings that were one `${NAME}` each, and count as the number or boolean that they spell.
    pub fn environment(&self) -> Vec<String> {
        if !self.0.creating.load(Ordering::Acquire) {
            return Vec::new();
        }
        let id = GW_ENVIRONMENT_EXTENSION.as_ptr() as *const c_char;
        let paths = self.0.with(|host| {
            let text = unsafe { (host.extension)(host.context, id) } as *const c_char;
            if text.is_null() {
                return Vec::new();
            }
            unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().lines().map(String::from).collect()
        });
        paths.unwrap_or_default()
    }

    /// Lets [`Plugin::timer`](crate::Plugin::timer) be called once, after `delay`, from the instance's own thread; `None` takes that back.
    /// There are the timers 0 to 7. Returns whether it is set: a gateway older than `gw.timer/1` has no timers.
    pub fn set_timer(&self, timer: u32, delay: Option<Duration>) -> bool {
        let slot = match self.0.timers.get(timer as usize) {
            Some(slot) => slot as *const TimerSlot as *mut c_void,
            None => return false,
        };
        let longest = GW_TIMER_OFF - 1;
        let delay = delay.map_or(GW_TIMER_OFF, |delay| u64::try_from(delay.as_nanos()).unwrap_or(longest).min(longest));
        let set = |host: &gw_host, timers: *const gw_timer| unsafe { ((*timers).set)(host.context, timer, delay, Some(self.0.fire), slot) };
        self.0.with_extension(GW_TIMER_EXTENSION, set) == Some(0)
    }

    /// Reads a JSON text with the gateway's own strict reader; the error says where it is wrong.
    pub fn parse_json(&self, text: &str) -> Result<Json, String> {
        Json::parse(self, text)
    }
}

/// A counter, gauge or histogram of the gateway; from any thread, and cheap.
#[derive(Clone)]
pub struct Metric {
    host: Host,
    id: u32,
}

impl Metric {
    /// Adds to a counter, sets a gauge, or observes a duration in nanoseconds.
    pub fn observe(&self, value: i64) {
        self.host.0.with(|host| unsafe { (host.observe)(host.context, self.id, value) });
    }
}
