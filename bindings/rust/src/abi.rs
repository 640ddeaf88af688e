//! The declarations of PluginABI.h and PluginExtensions.h, interface 1.1, under their C names. The headers say what each means.
#![allow(non_camel_case_types, missing_docs)]

use std::mem::{align_of, size_of};
use std::os::raw::{c_char, c_void};

/// Declares a struct of the header, and lets the compiler prove its size and the offset of each field.
macro_rules! c_struct {
    ($name:ident: $size:literal { $($offset:literal $field:ident: $type:ty,)* }) => {
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $(pub $field: $type,)* }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            let mut end = 0;
            $(
                // C puts a field at the next multiple of its alignment.
                let start = (end + align_of::<$type>() - 1) / align_of::<$type>() * align_of::<$type>();
                assert!(start == $offset);
                end = start + size_of::<$type>();
            )*
            assert!(end <= $size);
        };
    };
}

pub const GW_STATUS_DELIVERED: u32 = 1;
pub const GW_STATUS_RETRY: u32 = 2;
pub const GW_STATUS_REJECTED: u32 = 3;
pub const GW_STATUS_ABORTED: u32 = 4;
pub const GW_V1_0_PROFILE: usize = 192;
pub const GW_V1_0_HOST: usize = 80;
pub const GW_TIMERS: usize = 8;
pub const GW_TIMER_OFF: u64 = u64::MAX;
pub const GW_DESCRIPTORS_EXTENSION: &[u8] = b"gw.descriptors/1\0";
pub const GW_ENVIRONMENT_EXTENSION: &[u8] = b"gw.environment/1\0";
pub const GW_INSTANCE_EXTENSION: &[u8] = b"gw.instance/1\0";
pub const GW_TIMER_EXTENSION: &[u8] = b"gw.timer/1\0";
pub const GW_LOOP_EXTENSION: &[u8] = b"gw.loop/1\0";
pub const GW_JSON_EXTENSION: &[u8] = b"gw.json/1\0";

c_struct! { gw_slice: 16 {
    0 bytes: *const u8,
    8 count: usize,
} }

c_struct! { gw_label: 32 {
    0 name: gw_slice,
    16 value: gw_slice,
} }

c_struct! { gw_sample: 32 {
    0 id: gw_slice,
    16 bytes: gw_slice,
} }

c_struct! { gw_profile: 208 {
    0 size: usize,
    8 sequence: u64,
    16 api: u32,
    24 received_ns: i64,
    32 from_ns: i64,
    40 until_ns: i64,
    48 tenant: gw_slice,
    64 labels: *const gw_label,
    72 label_count: usize,
    80 path: gw_slice,
    96 query: gw_slice,
    112 format: gw_slice,
    128 content_type: gw_slice,
    144 content_encoding: gw_slice,
    160 headers: *const gw_label,
    168 header_count: usize,
    176 samples: *const gw_sample,
    184 sample_count: usize,
    192 peer: gw_slice,
} }

c_struct! { gw_delivery: 32 {
    0 size: usize,
    8 token: *mut c_void,
    16 attempt: u32,
    24 progress: u64,
} }

c_struct! { gw_outcome: 72 {
    0 size: usize,
    8 status: u32,
    16 retry_after_ns: u64,
    24 progress: u64,
    32 http_status: u32,
    40 reason: gw_slice,
    56 sender_message: gw_slice,
} }

c_struct! { gw_host: 80 {
    0 size: usize,
    8 context: *mut c_void,
    16 finish: unsafe extern "C" fn(*mut c_void, *mut c_void, *const gw_outcome),
    24 retain: unsafe extern "C" fn(*const gw_profile),
    32 release: unsafe extern "C" fn(*const gw_profile),
    40 log: unsafe extern "C" fn(*mut c_void, u32, gw_slice),
    48 set_health: unsafe extern "C" fn(*mut c_void, u32, gw_slice),
    56 metric: unsafe extern "C" fn(*mut c_void, u32, gw_slice, gw_slice, *const gw_label, usize) -> u32,
    64 observe: unsafe extern "C" fn(*mut c_void, u32, i64),
    72 extension: unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_void,
} }

c_struct! { gw_error: 24 {
    0 text: *mut c_char,
    8 capacity: usize,
    16 count: usize,
} }

c_struct! { gw_plugin: 128 {
    0 size: usize,
    8 flags: u32,
    16 name: gw_slice,
    32 version: gw_slice,
    48 create: unsafe extern "C" fn(*const gw_host, gw_slice, *mut gw_error) -> *mut c_void,
    56 deliver: unsafe extern "C" fn(*mut c_void, *const gw_profile, *const gw_delivery),
    64 flush: unsafe extern "C" fn(*mut c_void, *mut c_void),
    72 abort: unsafe extern "C" fn(*mut c_void),
    80 destroy: unsafe extern "C" fn(*mut c_void),
    88 start: Option<unsafe extern "C" fn(*mut c_void, *mut gw_error) -> i32>,
    96 drain: Option<unsafe extern "C" fn(*mut c_void)>,
    104 probe: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
    112 config_schema: gw_slice,
} }

c_struct! { gw_descriptors: 16 {
    0 size: usize,
    8 share: unsafe extern "C" fn(*mut c_void) -> u32,
} }

c_struct! { gw_instance: 72 {
    0 size: usize,
    8 receiver: gw_slice,
    24 gateway_version: gw_slice,
    40 directory: gw_slice,
    56 max_in_flight: u32,
    64 delivery_timeout_ns: u64,
} }

c_struct! { gw_timer: 16 {
    0 size: usize,
    8 set: unsafe extern "C" fn(*mut c_void, u32, u64, Option<unsafe extern "C" fn(*mut c_void)>, *mut c_void) -> i32,
} }

c_struct! { gw_loop: 24 {
    0 size: usize,
    8 watch: unsafe extern "C" fn(*mut c_void, i32, u32, Option<unsafe extern "C" fn(*mut c_void, u32)>, *mut c_void) -> i32,
    16 after_ready: unsafe extern "C" fn(*mut c_void, Option<unsafe extern "C" fn(*mut c_void)>, *mut c_void) -> i32,
} }

c_struct! { gw_json_value: 56 {
    0 kind: u32,
    4 count: u32,
    8 span: usize,
    16 name: gw_slice,
    32 text: gw_slice,
    48 number: f64,
} }

c_struct! { gw_json: 40 {
    0 size: usize,
    8 parse: unsafe extern "C" fn(gw_slice, *mut gw_error) -> *const gw_json_value,
    16 release: unsafe extern "C" fn(*const gw_json_value),
    24 member: unsafe extern "C" fn(*const gw_json_value, *const c_char) -> *const gw_json_value,
    32 unknown: unsafe extern "C" fn(*const gw_json_value, *const *const c_char, usize) -> *const gw_json_value,
} }

impl gw_slice {
    /// The slice of bytes that outlive every use of it.
    pub const fn of(bytes: &[u8]) -> gw_slice {
        gw_slice { bytes: bytes.as_ptr(), count: bytes.len() }
    }

    /// The bytes of a slice of the gateway.
    ///
    /// # Safety
    ///
    /// The bytes must stay valid and unchanged for `'a`.
    pub unsafe fn get<'a>(self) -> &'a [u8] {
        if self.count == 0 || self.bytes.is_null() {
            return &[];
        }
        std::slice::from_raw_parts(self.bytes, self.count)
    }
}
