use crate::abi::*;
use crate::host::HostInner;
use std::borrow::Cow;
use std::sync::Arc;

/// One received profile. It never changes, and lives until the last clone is dropped, also past its delivery.
///
/// The gateway's text is UTF-8 and borrowed; were a byte not, it would read as U+FFFD.
pub struct Profile {
    host: Arc<HostInner>,
    raw: *const gw_profile,
}

// The gateway's profile is immutable and counts its holders atomically.
unsafe impl Send for Profile {}
unsafe impl Sync for Profile {}

/// Which API a profile came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/ingest`.
    Ingest,
    /// `push.v1` Push.
    Push,
}

/// A label, or a header of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The name; of a header in lower case.
    pub name: Cow<'a, str>,
    /// The value.
    pub value: Cow<'a, str>,
}

/// One payload. `/ingest` gives exactly one, with an empty id; a Push one for each of its samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// The sender's id; empty when there is none.
    pub id: Cow<'a, str>,
    /// The bytes as they came.
    pub bytes: &'a [u8],
}

/// The elements of a C array, which may be NULL when it is empty.
unsafe fn elements<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if count == 0 || first.is_null() {
        return &[];
    }
    std::slice::from_raw_parts(first, count)
}

fn text<'a>(slice: gw_slice) -> Cow<'a, str> {
    String::from_utf8_lossy(unsafe { slice.get() })
}

impl Profile {
    /// # Safety
    ///
    /// `raw` must be valid now; from here on it is retained.
    pub(crate) unsafe fn retain(host: &Arc<HostInner>, raw: *const gw_profile) -> Profile {
        host.with(|table| (table.retain)(raw));
        Profile { host: host.clone(), raw }
    }

    fn raw(&self) -> &gw_profile {
        unsafe { &*self.raw }
    }

    /// Unique and rising, with gaps; the same on every attempt, also after a restart: it tells duplicates.
    pub fn sequence(&self) -> u64 {
        self.raw().sequence
    }

    /// Which API it came in by.
    pub fn api(&self) -> Api {
        if self.raw().api == 1 {
            Api::Push
        } else {
            Api::Ingest
        }
    }

    /// When it was received, in Unix nanoseconds.
    pub fn received_ns(&self) -> i64 {
        self.raw().received_ns
    }

    /// When its time begins, in Unix nanoseconds; 0 when the sender did not say.
    pub fn from_ns(&self) -> i64 {
        self.raw().from_ns
    }

    /// When its time ends, in Unix nanoseconds; 0 when the sender did not say.
    pub fn until_ns(&self) -> i64 {
        self.raw().until_ns
    }

    /// `X-Scope-OrgID`, as the listener maps it; empty when there is none.
    pub fn tenant(&self) -> Cow<'_, str> {
        text(self.raw().tenant)
    }

    /// The labels, sorted by name, with `__name__` and `service_name`.
    pub fn labels(&self) -> impl Iterator<Item = Label<'_>> {
        let all = unsafe { elements(self.raw().labels, self.raw().label_count) };
        all.iter().map(|label| Label { name: text(label.name), value: text(label.value) })
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        self.labels().find(|label| label.name == name).map(|label| label.value)
    }

    /// The request's path.
    pub fn path(&self) -> Cow<'_, str> {
        text(self.raw().path)
    }

    /// The request's query string, with its percent-encoding.
    pub fn query(&self) -> Cow<'_, str> {
        text(self.raw().query)
    }

    /// `pprof`, `jfr`, `folded` and so on.
    pub fn format(&self) -> Cow<'_, str> {
        text(self.raw().format)
    }

    /// The request's `Content-Type`.
    pub fn content_type(&self) -> Cow<'_, str> {
        text(self.raw().content_type)
    }

    /// The request's `Content-Encoding`.
    pub fn content_encoding(&self) -> Cow<'_, str> {
        text(self.raw().content_encoding)
    }

    /// Further headers of the request that the listener keeps.
    pub fn headers(&self) -> impl Iterator<Item = Label<'_>> {
        let all = unsafe { elements(self.raw().headers, self.raw().header_count) };
        all.iter().map(|label| Label { name: text(label.name), value: text(label.value) })
    }

    /// The payloads, exactly the bytes received.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        let all = unsafe { elements(self.raw().samples, self.raw().sample_count) };
        all.iter().map(|sample| Sample { id: text(sample.id), bytes: unsafe { sample.bytes.get() } })
    }

    /// How many bytes all payloads have.
    pub fn byte_count(&self) -> usize {
        self.samples().map(|sample| sample.bytes.len()).sum()
    }

    /// The sender's IP address; empty when it is not known, or from a gateway that does not tell.
    pub fn peer(&self) -> Cow<'_, str> {
        // A profile of interface 1.0 ends before the field.
        let size = self.raw().size;
        if size < std::mem::size_of::<gw_profile>() {
            return Cow::Borrowed("");
        }
        text(self.raw().peer)
    }
}

impl Clone for Profile {
    fn clone(&self) -> Profile {
        unsafe { Profile::retain(&self.host, self.raw) }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // After the end of the instance its memory stays: nothing may be given back any more.
        self.host.with(|table| unsafe { (table.release)(self.raw) });
    }
}
