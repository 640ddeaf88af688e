use crate::abi::*;
use crate::*;
use std::os::raw::{c_char, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{mpsc, Mutex};
use std::time::Duration;

/// Number, delay, function and argument.
type SetTimer = (u32, u64, Option<unsafe extern "C" fn(*mut c_void)>, usize);

/// A gateway for one instance, which notes what it is told.
struct Fake {
    table: gw_host,
    finished: Mutex<Vec<(usize, u32, String)>>,
    lines: Mutex<Vec<String>>,
    timer: Mutex<Option<SetTimer>>,
    old: bool,
}

fn fake(context: *mut c_void) -> &'static Fake {
    unsafe { &*(context as *const Fake) }
}

fn text(slice: gw_slice) -> String {
    String::from_utf8_lossy(unsafe { slice.get() }).into_owned()
}

unsafe extern "C" fn finish(context: *mut c_void, token: *mut c_void, outcome: *const gw_outcome) {
    let outcome = &*outcome;
    assert_eq!(outcome.size, 72);
    fake(context).finished.lock().unwrap().push((token as usize, outcome.status, text(outcome.reason)));
}

/// A profile of the fake gateway, which counts its holders.
#[repr(C)]
struct Counted {
    raw: gw_profile,
    holders: AtomicUsize,
}

unsafe extern "C" fn retain(profile: *const gw_profile) {
    (*(profile as *const Counted)).holders.fetch_add(1, SeqCst);
}

unsafe extern "C" fn release(profile: *const gw_profile) {
    (*(profile as *const Counted)).holders.fetch_sub(1, SeqCst);
}

unsafe extern "C" fn log(context: *mut c_void, level: u32, message: gw_slice) {
    fake(context).lines.lock().unwrap().push(format!("{} {}", level, text(message)));
}

unsafe extern "C" fn metric(_: *mut c_void, _: u32, name: gw_slice, _: gw_slice, _: *const gw_label, count: usize) -> u32 {
    (name.count * 10 + count) as u32
}

unsafe extern "C" fn observe(context: *mut c_void, metric: u32, value: i64) {
    fake(context).lines.lock().unwrap().push(format!("metric {} {}", metric, value));
}

static JSON: gw_json = gw_json { size: 40, parse, release: release_json, member, unknown };
static TIMER: gw_timer = gw_timer { size: 16, set };

struct Shared<T>(T);
unsafe impl<T> Sync for Shared<T> {}

const NONE: gw_slice = gw_slice::of(b"");
const fn value(kind: u32, count: u32, span: usize, name: &'static str, text: &'static str, number: f64) -> gw_json_value {
    gw_json_value { kind, count, span, name: gw_slice::of(name.as_bytes()), text: gw_slice::of(text.as_bytes()), number }
}
/// `{"path":"a/b","list":[1,true],"n":null}`, whatever the text says.
static VALUES: Shared<[gw_json_value; 6]> = Shared([
    value(5, 3, 6, "", "", 0.0),
    value(3, 0, 1, "path", "a/b", 0.0),
    value(4, 2, 3, "list", "", 0.0),
    value(2, 0, 1, "", "1", 1.0),
    value(1, 0, 1, "", "", 1.0),
    value(0, 0, 1, "n", "", 0.0),
]);
unsafe extern "C" fn parse(text: gw_slice, error: *mut gw_error) -> *const gw_json_value {
    if text.get().starts_with(b"{") {
        return VALUES.0.as_ptr();
    }
    std::ptr::copy_nonoverlapping(b"line 1".as_ptr(), (*error).text as *mut u8, 6);
    (*error).count = 6;
    std::ptr::null()
}
unsafe extern "C" fn release_json(_: *const gw_json_value) {}
unsafe extern "C" fn member(_: *const gw_json_value, _: *const c_char) -> *const gw_json_value {
    std::ptr::null()
}
unsafe extern "C" fn unknown(_: *const gw_json_value, _: *const *const c_char, _: usize) -> *const gw_json_value {
    std::ptr::null()
}
unsafe extern "C" fn set(
    context: *mut c_void,
    timer: u32,
    delay: u64,
    fire: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> i32 {
    *fake(context).timer.lock().unwrap() = Some((timer, delay, fire, argument as usize));
    0
}

unsafe extern "C" fn extension(context: *mut c_void, id: *const c_char) -> *const c_void {
    let id = std::ffi::CStr::from_ptr(id).to_bytes_with_nul();
    match id {
        _ if fake(context).old => std::ptr::null(),
        _ if id == GW_JSON_EXTENSION => &JSON as *const _ as *const c_void,
        _ if id == GW_TIMER_EXTENSION => &TIMER as *const _ as *const c_void,
        _ if id == GW_ENVIRONMENT_EXTENSION => b"a\nb[0]\0".as_ptr() as *const c_void,
        _ => std::ptr::null(),
    }
}

/// Makes a gateway that lives as long as the process, since threads may outlive a test.
fn gateway(old: bool) -> &'static Fake {
    let context = std::ptr::null_mut();
    let table = gw_host { size: 80, context, finish, retain, release, log, set_health: log, metric, observe, extension };
    let fake = Box::leak(Box::new(Fake { table, finished: Mutex::default(), lines: Mutex::default(), timer: Mutex::default(), old }));
    fake.table.context = fake as *mut Fake as *mut c_void;
    fake
}

fn profile() -> &'static Counted {
    let labels = Box::leak(Box::new([gw_label { name: gw_slice::of(b"service_name"), value: gw_slice::of(b"caf\xc3\xa9") }]));
    let samples = Box::leak(Box::new([gw_sample { id: NONE, bytes: gw_slice::of(b"main 1\n") }]));
    let raw = gw_profile {
        size: 208,
        sequence: 7,
        api: 0,
        received_ns: 1,
        from_ns: 2,
        until_ns: 3,
        tenant: NONE,
        labels: labels.as_ptr(),
        label_count: 1,
        path: gw_slice::of(b"/ingest"),
        query: NONE,
        format: gw_slice::of(b"folded"),
        content_type: NONE,
        content_encoding: NONE,
        headers: std::ptr::null(),
        header_count: 0,
        samples: samples.as_ptr(),
        sample_count: 1,
        peer: gw_slice::of(b"192.0.2.7"),
    };
    Box::leak(Box::new(Counted { raw, holders: AtomicUsize::new(1) }))
}

/// A plugin that does what its config says.
struct Odd {
    host: Host,
    kept: Mutex<Vec<(Profile, Delivery)>>,
    deed: String,
}

impl Plugin for Odd {
    const PROBE: Option<Probe<Self>> = Some(|odd| Err(format!("nobody is at {}", odd.deed)));
    const CONFIG_SCHEMA: &'static str = "{}";

    fn new(config: &str, host: &Host) -> Result<Self, String> {
        match config {
            "refuse" => Err("colour: unknown here".into()),
            "refuse in silence" => Err(String::new()),
            "panic in new" => panic!("asked to, {}", 7),
            "environment" => Err(host.environment().join(" ")),
            _ => Ok(Odd { host: host.clone(), kept: Mutex::default(), deed: config.into() }),
        }
    }

    fn start(&self) -> Result<(), String> {
        match self.deed.as_str() {
            "panic in start" => panic!("no start"),
            "fail" => Err("away".into()),
            _ => Ok(()),
        }
    }

    fn deliver(&self, profile: Profile, delivery: Delivery) {
        match self.deed.as_str() {
            "panic" => panic!("in deliver"),
            "drop" => {}
            "keep" => self.kept.lock().unwrap().push((profile, delivery)),
            "keep and panic" => {
                self.kept.lock().unwrap().push((profile, delivery));
                panic!("too late");
            }
            "swallow" => {
                let moved = std::panic::AssertUnwindSafe(delivery);
                let _ = std::panic::catch_unwind(|| {
                    let _moved = moved;
                    panic!("swallowed");
                });
            }
            _ => delivery.finish(Outcome::Delivered),
        }
    }

    fn abort(&self) {
        if self.deed == "panic in abort" {
            panic!("in abort");
        }
    }

    fn timer(&self, timer: u32) {
        self.host.info(&format!("timer {}", timer));
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        if self.deed == "panic in drop" {
            panic!("in drop");
        }
    }
}

static TABLE: Table = table::<Odd>("odd", "1.0.0");

struct Instance {
    plugin: &'static gw_plugin,
    raw: *mut c_void,
    fake: &'static Fake,
}

fn refusal(config: &'static str) -> Result<Instance, String> {
    let fake = gateway(false);
    let plugin = unsafe { &*entry(&TABLE, 80) };
    let mut room = [0u8; 16];
    let mut error = gw_error { text: room.as_mut_ptr() as *mut c_char, capacity: room.len(), count: 0 };
    let raw = unsafe { (plugin.create)(&fake.table, gw_slice::of(config.as_bytes()), &mut error) };
    if raw.is_null() {
        return Err(String::from_utf8_lossy(&room[..error.count]).into_owned());
    }
    Ok(Instance { plugin, raw, fake })
}

fn instance(config: &'static str) -> Instance {
    refusal(config).unwrap_or_else(|text| panic!("refused: {}", text))
}

impl Instance {
    fn deliver(&self, profile: &'static Counted, token: usize) {
        let delivery = gw_delivery { size: 32, token: token as *mut c_void, attempt: 2, progress: 5 };
        unsafe { (self.plugin.deliver)(self.raw, &profile.raw, &delivery) }
    }

    fn outcomes(&self) -> Vec<(usize, u32, String)> {
        self.fake.finished.lock().unwrap().clone()
    }

    fn odd(&self) -> &Odd {
        unsafe { crate::call::plugin::<Odd>(self.raw) }
    }

    fn destroy(&self) {
        unsafe { (self.plugin.destroy)(self.raw) }
    }
}

#[test]
fn the_entry_declines_a_gateway_before_1_0() {
    assert!(entry(&TABLE, 79).is_null());
    assert!(!entry(&TABLE, 80).is_null());
}

#[test]
fn a_config_is_refused_with_the_text_cut_to_its_room() {
    assert_eq!(refusal("refuse").err().unwrap(), "colour: unknown ");
    assert_eq!(refusal("refuse in silence").err().unwrap(), "refused without ");
    assert_eq!(refusal("panic in new").err().unwrap(), "panic: asked to,");
    assert_eq!(refusal("environment").err().unwrap(), "a b[0]");
}

#[test]
fn a_delivery_is_finished_once_whatever_deliver_does() {
    for (deed, status, reason) in [
        ("deliver", GW_STATUS_DELIVERED, ""),
        ("drop", GW_STATUS_REJECTED, "the plugin dropped the delivery without an outcome"),
        ("panic", GW_STATUS_REJECTED, "panic: in deliver"),
        ("keep and panic", GW_STATUS_REJECTED, "panic: too late"),
        ("swallow", GW_STATUS_REJECTED, "a panic of the plugin dropped the delivery"),
    ] {
        let (instance, profile) = (instance(deed), profile());
        instance.deliver(profile, 3);
        instance.destroy();
        assert_eq!(instance.outcomes(), [(3, status, reason.to_string())], "{}", deed);
        assert_eq!(profile.holders.load(SeqCst), 1, "{}", deed);
    }
}

#[test]
fn a_kept_profile_is_read_after_its_delivery_on_another_thread() {
    let (instance, counted) = (instance("keep"), profile());
    instance.deliver(counted, 4);
    let (profile, delivery) = instance.odd().kept.lock().unwrap().pop().unwrap();
    assert_eq!((delivery.attempt(), delivery.progress()), (2, 5));
    delivery.finish(Outcome::Retry { reason: "later".into(), after: Duration::MAX, progress: 1, http_status: 503 });
    let clone = profile.clone();
    assert_eq!(counted.holders.load(SeqCst), 3);
    let seen = std::thread::spawn(move || {
        let labels: Vec<_> = clone.labels().map(|label| format!("{}={}", label.name, label.value)).collect();
        (labels, clone.byte_count(), clone.sequence(), clone.peer().into_owned(), clone.headers().count())
    });
    assert_eq!(seen.join().unwrap(), (vec!["service_name=café".to_string()], 7, 7, "192.0.2.7".to_string(), 0));
    drop(profile);
    assert_eq!(counted.holders.load(SeqCst), 1);
    assert_eq!(instance.outcomes(), [(4, GW_STATUS_RETRY, "later".to_string())]);
    instance.destroy();
}

#[test]
fn abort_ends_what_is_open_and_later_outcomes_are_ignored() {
    for deed in ["keep", "panic in abort"] {
        let instance = instance(deed);
        instance.deliver(profile(), 1);
        unsafe { (instance.plugin.abort)(instance.raw) };
        for (_, delivery) in instance.odd().kept.lock().unwrap().drain(..) {
            assert!(delivery.is_over());
            delivery.finish(Outcome::Delivered);
        }
        let status = if deed == "keep" { GW_STATUS_ABORTED } else { GW_STATUS_DELIVERED };
        assert_eq!(instance.outcomes(), [(1, status, String::new())]);
        instance.destroy();
    }
}

#[test]
fn a_panic_of_another_thread_rejects_what_it_has() {
    let instance = instance("keep");
    instance.deliver(profile(), 1);
    let (_, delivery) = instance.odd().kept.lock().unwrap().pop().unwrap();
    let ended = std::thread::spawn(move || {
        let _mine = delivery;
        panic!("a worker");
    });
    assert!(ended.join().is_err());
    assert_eq!(instance.outcomes(), [(1, GW_STATUS_REJECTED, "a panic of the plugin dropped the delivery".to_string())]);
    instance.destroy();
}

#[test]
fn nothing_reaches_the_gateway_after_the_end() {
    let (instance, counted) = (instance("keep"), profile());
    instance.deliver(counted, 1);
    let kept = instance.odd().kept.lock().unwrap().pop().unwrap();
    let (host, metric) = (instance.odd().host.clone(), instance.odd().host.metric(Kind::Gauge, "odd", "", &[("a", "b")]));
    unsafe { (instance.plugin.abort)(instance.raw) };
    metric.observe(4);
    instance.destroy();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        host.info("too late");
        metric.observe(5);
        assert!(!host.set_timer(0, None) && host.parse_json("{}").is_err() && host.instance().is_none());
        assert_eq!(kept.0.clone().byte_count(), 7);
        drop(kept);
        send.send(()).unwrap();
    });
    receive.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(*instance.fake.lines.lock().unwrap(), ["metric 31 4"]);
    assert_eq!(instance.outcomes().len(), 1);
    assert_eq!(counted.holders.load(SeqCst), 2);
}

#[test]
fn a_timer_calls_the_instance_with_its_number() {
    let instance = instance("deliver");
    assert!(!instance.odd().host.set_timer(8, None));
    assert!(instance.odd().host.set_timer(3, Some(Duration::MAX)));
    let (timer, delay, fire, argument) = instance.fake.timer.lock().unwrap().unwrap();
    assert_eq!((timer, delay), (3, GW_TIMER_OFF - 1));
    unsafe { fire.unwrap()(argument as *mut c_void) };
    assert_eq!(*instance.fake.lines.lock().unwrap(), ["1 timer 3"]);
    assert!(instance.odd().host.set_timer(3, None));
    assert_eq!(instance.fake.timer.lock().unwrap().unwrap().1, GW_TIMER_OFF);
    instance.destroy();
}

#[test]
fn start_probe_and_flush_tell_what_happened() {
    for (deed, code, text) in [("deliver", 0, ""), ("fail", 1, "away"), ("panic in start", 1, "panic: no start")] {
        let instance = instance(deed);
        let mut room = [0u8; 64];
        let mut error = gw_error { text: room.as_mut_ptr() as *mut c_char, capacity: room.len(), count: 0 };
        assert_eq!(unsafe { instance.plugin.start.unwrap()(instance.raw, &mut error) }, code);
        assert_eq!(&room[..error.count], text.as_bytes());
        unsafe { instance.plugin.probe.unwrap()(instance.raw, 8 as *mut c_void) };
        unsafe { (instance.plugin.flush)(instance.raw, 9 as *mut c_void) };
        unsafe { instance.plugin.drain.unwrap()(instance.raw) };
        let probed = (8, GW_STATUS_REJECTED, format!("nobody is at {}", deed));
        assert_eq!(instance.outcomes(), [probed, (9, GW_STATUS_DELIVERED, String::new())]);
        instance.destroy();
    }
}

#[test]
fn a_panic_at_the_end_stays_inside() {
    let instance = instance("panic in drop");
    instance.destroy();
    assert_eq!(*instance.fake.lines.lock().unwrap(), ["3 panic: in drop"]);
}

#[test]
fn json_is_read_value_by_value() {
    let instance = instance("deliver");
    let host = &instance.odd().host;
    assert_eq!(host.parse_json("[").err().unwrap(), "line 1");
    let json = host.parse_json("{}").unwrap();
    let root = json.root();
    assert_eq!(root.children().map(|child| child.name().into_owned()).collect::<Vec<_>>(), ["path", "list", "n"]);
    assert_eq!(root.member("path").and_then(Value::as_str).unwrap(), "a/b");
    assert_eq!(root.member("path").and_then(Value::as_u64), None);
    let list: Vec<_> = root.member("list").unwrap().children().collect();
    assert_eq!((list[0].as_u64(), list[0].as_f64(), list[1].as_bool(), list[1].as_str()), (Some(1), Some(1.0), Some(true), None));
    assert_eq!(root.member("n").unwrap().kind(), JsonKind::Null);
    assert!(root.member("path").unwrap().member("path").is_none() && root.member("x").is_none());
    assert_eq!(root.refuse_unknown(&["path", "list", "n"]), Ok(()));
    assert_eq!(root.refuse_unknown(&["list"]).unwrap_err(), "path: unknown\nn: unknown");
    drop(json);
    instance.destroy();
}

#[test]
fn an_old_gateway_lends_nothing_more() {
    let fake = gateway(true);
    let plugin = unsafe { &*entry(&TABLE, 80) };
    let mut error = gw_error { text: std::ptr::null_mut(), capacity: 0, count: 0 };
    let raw = unsafe { (plugin.create)(&fake.table, gw_slice::of(b"deliver"), &mut error) };
    let instance = Instance { plugin, raw, fake };
    let host = &instance.odd().host;
    assert!(host.instance().is_none() && host.descriptors().is_none() && !host.set_timer(0, Some(Duration::ZERO)));
    assert!(host.parse_json("{}").err().unwrap().contains("gw.json/1"));
    assert!(host.environment().is_empty());
    instance.destroy();
}

#[test]
fn a_library_of_the_macro_has_the_table() {
    mod library {
        use crate as gateway_plugin;
        gateway_plugin::export_plugin!(super::Odd, "odd", "1.0.0");
    }
    let plugin = unsafe { &*library::gw_plugin_v1(80) };
    assert_eq!(text(plugin.name) + &text(plugin.version) + &text(plugin.config_schema), "odd1.0.0{}");
    assert_eq!((plugin.size, plugin.flags, library::gw_plugin_v1(80) as *const _), (128, 0, plugin as *const _));
}
