//! The C functions of the plugin's table. Each catches the panics of what it calls.
use crate::abi::*;
use crate::delivery::{collecting_dropped, Delivery, Outcome};
use crate::host::{Host, HostInner, Level, TimerSlot};
use crate::profile::Profile;
use crate::Plugin;
use std::any::Any;
use std::os::raw::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// The table of a plugin, for [`export_plugin!`](crate::export_plugin).
pub struct Table(gw_plugin);

// It is constant.
unsafe impl Sync for Table {}

/// Answers the gateway's call of the entry: NULL for a gateway older than the interface.
#[doc(hidden)]
pub fn entry(table: &'static Table, host_size: usize) -> *const gw_plugin {
    if host_size < GW_V1_0_HOST {
        return std::ptr::null();
    }
    &table.0
}

/// The table of a plugin's type.
#[doc(hidden)]
pub const fn table<P: Plugin>(name: &'static str, version: &'static str) -> Table {
    Table(gw_plugin {
        size: std::mem::size_of::<gw_plugin>(),
        flags: 0,
        name: gw_slice::of(name.as_bytes()),
        version: gw_slice::of(version.as_bytes()),
        create: create::<P>,
        deliver: deliver::<P>,
        flush: flush::<P>,
        abort: abort::<P>,
        destroy: destroy::<P>,
        start: Some(start::<P>),
        drain: Some(drain::<P>),
        probe: if P::PROBE.is_some() { Some(probe::<P>) } else { None },
        config_schema: gw_slice::of(P::CONFIG_SCHEMA.as_bytes()),
    })
}

/// What the gateway's pointer to an instance points to.
struct Cell<P> {
    plugin: P,
    host: Arc<HostInner>,
}

unsafe fn cell<'a, P: Plugin>(instance: *mut c_void) -> &'a Cell<P> {
    &*(instance as *const Cell<P>)
}

/// The plugin behind the gateway's pointer, for tests.
#[cfg(test)]
pub(crate) unsafe fn plugin<'a, P: Plugin>(instance: *mut c_void) -> &'a P {
    &cell::<P>(instance).plugin
}

fn text_of(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    // The payload may panic itself when it is dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    format!("panic: {}", text.unwrap_or_else(|| "without a text".into()))
}

/// Runs code of the plugin; a panic becomes its text, and rejects what it has dropped.
fn guarded<R>(host: &Arc<HostInner>, body: impl FnOnce() -> R) -> Result<R, String> {
    let (result, dropped) = collecting_dropped(|| catch_unwind(AssertUnwindSafe(body)));
    let result = result.map_err(text_of);
    let reason = match &result {
        Err(text) => text.clone(),
        Ok(_) => "a panic of the plugin dropped the delivery".into(),
    };
    for open in dropped {
        host.finish(&open, &Outcome::rejected(reason.clone()));
    }
    if let Err(text) = &result {
        Host(host.clone()).log(Level::Error, text);
    }
    result
}

unsafe fn write(message: &str, error: *mut gw_error) {
    let error = &mut *error;
    let mut count = message.len().min(error.capacity);
    while !message.is_char_boundary(count) {
        count -= 1;
    }
    std::ptr::copy_nonoverlapping(message.as_ptr(), error.text as *mut u8, count);
    error.count = count;
}

unsafe extern "C" fn create<P: Plugin>(host: *const gw_host, config: gw_slice, error: *mut gw_error) -> *mut c_void {
    let inner = HostInner::new(host, fire::<P>);
    let made = guarded(&inner, || {
        let config = std::str::from_utf8(config.get()).map_err(|problem| format!("the config is not UTF-8: {}", problem))?;
        P::new(config, &Host(inner.clone()))
    });
    match made.and_then(|made| made) {
        Ok(plugin) => {
            let instance = Box::into_raw(Box::new(Cell { plugin, host: inner.clone() })) as *mut c_void;
            inner.created(instance);
            instance
        }
        Err(problem) => {
            inner.end();
            write(if problem.is_empty() { "refused without a reason" } else { &problem }, error);
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn deliver<P: Plugin>(instance: *mut c_void, profile: *const gw_profile, delivery: *const gw_delivery) {
    let cell = cell::<P>(instance);
    let delivery = &*delivery;
    let open = cell.host.begin(delivery.token);
    let profile = Profile::retain(&cell.host, profile);
    let given = Delivery::new(&cell.host, &open, delivery.attempt, delivery.progress);
    if let Err(text) = guarded(&cell.host, || cell.plugin.deliver(profile, given)) {
        // Also one that was put aside before the panic: what it was put into may be half done.
        cell.host.finish(&open, &Outcome::rejected(text));
    }
}

unsafe extern "C" fn flush<P: Plugin>(instance: *mut c_void, token: *mut c_void) {
    let cell = cell::<P>(instance);
    let open = cell.host.begin(token);
    let given = Delivery::new(&cell.host, &open, 0, 0);
    if let Err(text) = guarded(&cell.host, || cell.plugin.flush(given)) {
        cell.host.finish(&open, &Outcome::rejected(text));
    }
}

unsafe extern "C" fn abort<P: Plugin>(instance: *mut c_void) {
    let cell = cell::<P>(instance);
    let _ = guarded(&cell.host, || cell.plugin.abort());
    cell.host.finish_all(&Outcome::Aborted);
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut c_void) {
    let cell = Box::from_raw(instance as *mut Cell<P>);
    let Cell { plugin, host } = *cell;
    let _ = guarded(&host, || drop(plugin));
    // A thread of the plugin that goes on against the rule finds no gateway any more.
    host.end();
}

unsafe extern "C" fn start<P: Plugin>(instance: *mut c_void, error: *mut gw_error) -> i32 {
    let cell = cell::<P>(instance);
    match guarded(&cell.host, || cell.plugin.start()).and_then(|result| result) {
        Ok(()) => 0,
        Err(problem) => {
            write(&problem, error);
            1
        }
    }
}

unsafe extern "C" fn drain<P: Plugin>(instance: *mut c_void) {
    let cell = cell::<P>(instance);
    let _ = guarded(&cell.host, || cell.plugin.drain());
}

unsafe extern "C" fn probe<P: Plugin>(instance: *mut c_void, token: *mut c_void) {
    let cell = cell::<P>(instance);
    let open = cell.host.begin(token);
    let result = guarded(&cell.host, || P::PROBE.map_or(Ok(()), |probe| probe(&cell.plugin)));
    let outcome = match result.and_then(|result| result) {
        Ok(()) => Outcome::Delivered,
        Err(problem) => Outcome::rejected(problem),
    };
    cell.host.finish(&open, &outcome);
}

/// A timer that was set in `new` may only be due once there is an instance, because both calls come from one thread.
unsafe extern "C" fn fire<P: Plugin>(argument: *mut c_void) {
    let slot = &*(argument as *const TimerSlot);
    let host = &*slot.host.load(Ordering::Acquire);
    let instance = host.instance.load(Ordering::Acquire);
    if instance.is_null() {
        return;
    }
    let cell = cell::<P>(instance);
    let _ = guarded(&cell.host, || cell.plugin.timer(slot.number));
}
