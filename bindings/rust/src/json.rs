use crate::abi::*;
use crate::host::Host;
use std::borrow::Cow;
use std::os::raw::c_char;

/// A JSON text that the gateway has read. It is freed with the value.
pub struct Json {
    host: Host,
    table: *const gw_json,
    first: *const gw_json_value,
}

// The values never change, and the reader's functions may be called from any thread.
unsafe impl Send for Json {}
unsafe impl Sync for Json {}

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JsonKind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Json {
    pub(crate) fn parse(host: &Host, text: &str) -> Result<Json, String> {
        let mut room = [0u8; 4096];
        let mut error = gw_error { text: room.as_mut_ptr() as *mut c_char, capacity: room.len(), count: 0 };
        let parse = |_: &gw_host, table: *const gw_json| unsafe { (table, ((*table).parse)(gw_slice::of(text.as_bytes()), &mut error)) };
        match host.0.with_extension(GW_JSON_EXTENSION, parse) {
            None => Err("this gateway is too old: it lends no reader of JSON (gw.json/1)".into()),
            Some((_, first)) if first.is_null() => Err(String::from_utf8_lossy(&room[..error.count.min(room.len())]).into_owned()),
            Some((table, first)) => Ok(Json { host: host.clone(), table, first }),
        }
    }

    /// The value that the text is.
    pub fn root(&self) -> Value<'_> {
        Value { value: unsafe { &*self.first } }
    }
}

impl Drop for Json {
    fn drop(&mut self) {
        self.host.0.with(|_| unsafe { ((*self.table).release)(self.first) });
    }
}

/// One value of a JSON text.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// An element of the text's array of values, all of which are valid for `'a`.
    value: &'a gw_json_value,
}

impl<'a> Value<'a> {
    /// What the value is.
    pub fn kind(self) -> JsonKind {
        match self.value.kind {
            1 => JsonKind::Boolean,
            2 => JsonKind::Number,
            3 => JsonKind::String,
            4 => JsonKind::Array,
            5 => JsonKind::Object,
            _ => JsonKind::Null,
        }
    }

    /// A member's name; empty for what is no member.
    pub fn name(self) -> Cow<'a, str> {
        String::from_utf8_lossy(unsafe { self.value.name.get() })
    }

    /// The text of a string.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        (self.kind() == JsonKind::String).then(|| String::from_utf8_lossy(unsafe { self.value.text.get() }))
    }

    /// A number, as far as a double can tell.
    pub fn as_f64(self) -> Option<f64> {
        (self.kind() == JsonKind::Number).then_some(self.value.number)
    }

    /// A whole number that is not negative and was written as digits alone.
    pub fn as_u64(self) -> Option<u64> {
        (self.kind() == JsonKind::Number).then(|| String::from_utf8_lossy(unsafe { self.value.text.get() }).parse().ok()).flatten()
    }

    /// Whether a boolean is true.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == JsonKind::Boolean).then_some(self.value.number == 1.0)
    }

    /// The elements of an array or the members of an object, in the order of the text.
    pub fn children(self) -> impl Iterator<Item = Value<'a>> {
        let mut left = self.value.count;
        let mut next = self.value as *const gw_json_value;
        let mut step = 1;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            left -= 1;
            // The first child follows its parent, and the next one what is in the one before.
            next = unsafe { next.add(step) };
            let value = unsafe { &*next };
            step = value.span;
            Some(Value { value })
        })
    }

    /// The member of an object with that name.
    pub fn member(self, name: &str) -> Option<Value<'a>> {
        (self.kind() == JsonKind::Object).then(|| self.children().find(|child| child.name() == name)).flatten()
    }

    /// Refuses the members of an object that have none of these names: a problem a line.
    pub fn refuse_unknown(self, names: &[&str]) -> Result<(), String> {
        if self.kind() != JsonKind::Object {
            return Ok(());
        }
        let unknown = self.children().filter(|child| !names.contains(&child.name().as_ref()));
        let problems: Vec<_> = unknown.map(|child| format!("{}: unknown", child.name())).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.join("\n"))
    }
}
