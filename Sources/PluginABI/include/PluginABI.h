// PluginABI.h - the whole contract between the gateway and a receiver plugin.  C11, also valid C++17.
//
// Trust     A plugin runs with the gateway's rights in its address space; the gateway checks shapes and counts, not intent.
//           A plugin never exits the process, installs signal handlers, changes directory, umask, locale or environment, nor lets an
//           exception or longjmp cross a call.  Its descriptors are close-on-exec.  The gateway ignores SIGPIPE and SIGXFSZ for the whole process.
//           A library is loaded once and never unloaded; several instances of one plugin share its globals.
// Values    Text is UTF-8 without NUL, times are Unix nanoseconds, sizes are bytes.
// Growth    `gw_plugin_v1` names the major version; what is not an append gets a new symbol.  Structs that begin with `size` grow only at
//           their end: ask GW_HAS before reading a field later than v1.0, an absent field is zero, and the smallest valid size is v1.0's.
//           gw_slice, gw_label, gw_sample and gw_error never change.  An outcome shorter than v1.0 is misbehaviour and settles as retry.
//           Unknown enum values: a status (0 too) counts as rejected, a level as error, a health as failed.
//           Extension ids are "name/revision" ("reverse.domain.name/revision" for outsiders); a published id never changes meaning.
// Lifetime  gw_host and its context are valid from the start of `create` until `destroy` returns; after a NULL `create` nothing is called.
//           A profile is valid until `finish` is called for its token, after that only while retained; it is never modified.  After
//           `finish` neither token nor unretained profile may be touched.  What a plugin returns a pointer to lives as long as the library.
// Threads   [exclusive]   Comes from the instance's own delivery thread, `create` and `destroy` too, never inside `finish`; no two such calls
//                         into one instance overlap, different instances are called at once.  A call may block: this receiver alone waits,
//                         and past `delivery_timeout` it is failed and named.  A plugin in Swift may block here, never inside a Task.
//           [any-thread]  Callable from any thread at any time, also from inside an [exclusive] call and with a plugin's lock held.
// Delivery  Each `deliver` and `flush` is finished exactly once; a second `finish` is reported as misbehaviour and ignored.  At most
//           `max_in_flight` deliveries are open, so a plugin needs no queue.  It makes one attempt per `deliver`: retrying, spooling and
//           dropping are the gateway's work.  Delivery is at least once and may be out of order; `sequence` tells duplicates.
//           `delivered` means what the plugin's README says (HTTP: a 2xx read; file: data and directory entry synced; stdout: written).
// End       `drain` -> no more `deliver` -> open tokens finish -> `flush` finishes -> `destroy`.  Past the deadline: `abort` -> tokens finish ->
//           `destroy`.  Tokens open a second after `abort`: the gateway logs the plugin, keeps its memory and exits non-zero.
//           A reload that changes plugin or config makes a new instance first; the old one ends so while the new one is at work.
// Config    One strict RFC 8259 object, members in file order, {} when absent.  A plugin refuses unknown members, names the member in the
//           error ("retry.max: must be 1 to 100, is 0"; several problems a line each), and never logs what may be a secret.
#pragma once
#include <stddef.h>
#include <stdint.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#if defined(__clang__)
#  define GW_ENUM(N) enum __attribute__((enum_extensibility(open))) N : uint32_t; typedef enum N N; enum N : uint32_t
#  define GW_NAME(S) __attribute__((swift_name(S)))
#  define GW_SENDABLE __attribute__((swift_attr("@Sendable")))
#  define GW_NONNULL _Nonnull
#  define GW_NULLABLE _Nullable
#else
#  define GW_ENUM(N) typedef uint32_t N; enum
#  define GW_NAME(S)
#  define GW_SENDABLE
#  define GW_NONNULL
#  define GW_NULLABLE
#endif
#ifdef __cplusplus
#  define GW_EXPORT extern "C" __attribute__((visibility("default")))
#else
#  define GW_EXPORT __attribute__((visibility("default")))
#endif
/// True when `object` was built against a header that already had `field`.
#define GW_HAS(object, field) \
    (offsetof(__typeof__(*(object)), field) + sizeof((object)->field) <= (object)->size)

/// Borrowed bytes, not NUL-terminated.  `bytes` may be NULL only when `count` is 0.
typedef struct gw_slice { const uint8_t *GW_NULLABLE bytes; size_t count; } gw_slice;

/// What became of one delivery attempt.  0 is no status: a forgotten one never reads as delivered.
GW_ENUM(gw_status) {
    GW_STATUS_DELIVERED GW_NAME("delivered") = 1, ///< Stored or accepted by the destination.
    GW_STATUS_RETRY     GW_NAME("retry")     = 2, ///< Transient; the gateway may deliver the same profile again.
    GW_STATUS_REJECTED  GW_NAME("rejected")  = 3, ///< Permanent for this profile; dead-lettered or dropped, and counted.
    GW_STATUS_ABORTED   GW_NAME("aborted")   = 4, ///< Given up because of `abort`; kept if the queue is durable.
};
GW_ENUM(gw_level)  { GW_LEVEL_DEBUG GW_NAME("debug") = 0, GW_LEVEL_INFO GW_NAME("info") = 1,
                     GW_LEVEL_WARNING GW_NAME("warning") = 2, GW_LEVEL_ERROR GW_NAME("error") = 3 };
GW_ENUM(gw_health) { GW_HEALTH_OK GW_NAME("ok") = 0, GW_HEALTH_DEGRADED GW_NAME("degraded") = 1,
                     GW_HEALTH_FAILED GW_NAME("failed") = 2 };
GW_ENUM(gw_metric_kind) { GW_METRIC_COUNTER GW_NAME("counter") = 0, GW_METRIC_GAUGE GW_NAME("gauge") = 1,
                          GW_METRIC_SECONDS GW_NAME("seconds") = 2 }; ///< Histogram of durations, observed in nanoseconds.
/// Which API the profile came in by.
GW_ENUM(gw_api)    { GW_API_INGEST GW_NAME("ingest") = 0, GW_API_PUSH GW_NAME("push") = 1 };

typedef struct gw_label  { gw_slice name, value; } gw_label;
/// One payload.  /ingest gives exactly one, with an empty id; a Push series gives one per RawSample.
typedef struct gw_sample { gw_slice id, bytes; } gw_sample;

/// One received profile.  Immutable; every pointer in it lives exactly as long as the profile.
typedef struct gw_profile {
    size_t   size;
    uint64_t sequence;               ///< Unique and rising, with gaps; the same on every attempt, also after a restart.
    gw_api   api;
    int64_t  received_ns, from_ns, until_ns; ///< Unix time, nanoseconds; 0 when the client sent none.
    gw_slice tenant;                 ///< X-Scope-OrgID as received or as the listener maps it; empty when none.
    const gw_label *GW_NULLABLE labels; size_t label_count; ///< Sorted by name, names unique; `__name__` and `service_name` included.
    gw_slice path, query;            ///< The request's path and query string, percent-encoding untouched.
    gw_slice format, content_type, content_encoding; ///< "pprof", "jfr", "folded", ...; the request's own headers.
    const gw_label *GW_NULLABLE headers; size_t header_count; ///< Further request headers that the listener keeps, names in lower case.
    const gw_sample *GW_NULLABLE samples; size_t sample_count; ///< Exactly the bytes received.
    gw_slice peer;                   ///< Since v1.1: the sender's IP address, "192.0.2.7" or "2001:db8::7"; empty when it is not known.
} gw_profile;

/// One attempt at handing one profile over.  Valid until `deliver` returns.
typedef struct gw_delivery {
    size_t   size;
    void    *GW_NULLABLE token;      ///< Names the operation to `finish`; a value, never dereferenced.
    uint32_t attempt;                ///< 1 on the first attempt.
    uint64_t progress;               ///< What the last attempt left in gw_outcome.progress; 0 at first, or after a change of plugin or config.
} gw_delivery;

/// How an operation ended.
typedef struct gw_outcome {
    size_t    size;
    gw_status status;
    uint64_t  retry_after_ns;        ///< With `retry`: a delay from this call on; no earlier attempt; 0 leaves it to the gateway.
    uint64_t  progress;              ///< With `retry`: handed back at the next attempt (say, a bit per endpoint that has it already).
    uint32_t  http_status;           ///< The destination's own status, where it speaks HTTP; else 0.
    gw_slice  reason;                ///< For people; copied before `finish` returns.
    gw_slice  sender_message;        ///< Since v1.1, with `rejected`: the destination's word to the sender, without secrets, up to 256 bytes; copied.
} gw_outcome;

/// Services the gateway lends one instance, from `create` until `destroy` has returned.
typedef struct gw_host {
    size_t size;
    void  *GW_NULLABLE context;      ///< First argument of every function below but `retain` and `release`.
    /// Ends the operation `token` stands for, also before `deliver` has returned.  Never calls back into the plugin.  [any-thread]
    void (*GW_NONNULL finish)(void *GW_NULLABLE context, void *GW_NULLABLE token, const gw_outcome *GW_NONNULL outcome) GW_SENDABLE;
    /// Keeps a profile alive past its delivery; one `release` per `retain`.  [any-thread]
    void (*GW_NONNULL retain)(const gw_profile *GW_NONNULL profile) GW_SENDABLE;
    void (*GW_NONNULL release)(const gw_profile *GW_NONNULL profile) GW_SENDABLE;
    /// Writes one line to the gateway's log, tagged with the instance: no newline, timestamp or plugin name in it.  [any-thread]
    void (*GW_NONNULL log)(void *GW_NULLABLE context, gw_level level, gw_slice message) GW_SENDABLE;
    /// States the instance's health, replacing the last; the gateway never asks.  It starts `ok`; `failed` when deliveries cannot
    /// succeed without a person, `degraded` when they are slow or partial, `ok` again when one succeeds.  [any-thread]
    void (*GW_NONNULL set_health)(void *GW_NULLABLE context, gw_health health, gw_slice reason) GW_SENDABLE;
    /// Declares a metric and returns its id; the same name and labels return the same id.  Names begin with the plugin's name, other
    /// characters as `_` ("pyroscope_write_..."); the gateway adds the label `receiver`.  [any-thread]
    uint32_t (*GW_NONNULL metric)(void *GW_NULLABLE context, gw_metric_kind kind, gw_slice name, gw_slice help,
                                  const gw_label *GW_NULLABLE labels, size_t label_count) GW_SENDABLE;
    /// Adds to a counter, sets a gauge, or observes a duration.  Lock-free.  [any-thread]
    void (*GW_NONNULL observe)(void *GW_NULLABLE context, uint32_t metric, int64_t value) GW_SENDABLE;
    /// A further service by id, or NULL when the gateway has none such: see PluginExtensions.h.  [any-thread]
    const void *GW_NULLABLE (*GW_NONNULL extension)(void *GW_NULLABLE context, const char *GW_NONNULL id) GW_SENDABLE;
} gw_host;

/// Room the gateway lends for one error text.  Write at most `capacity` bytes, then set `count`.
typedef struct gw_error { char *GW_NONNULL text; size_t capacity, count; } gw_error;

/// A plugin: constant, never freed, the same pointer on every call of the entry.
typedef struct gw_plugin {
    size_t size;
    uint32_t flags;                  ///< 0; a gateway refuses a bit that it does not know.
    gw_slice name, version;          ///< "pyroscope.write", "1.2.0".
    /// Makes an instance from its JSON object; `config` and `error` are valid during the call.  Returns NULL and fills `error` when it
    /// will not.  No effect that another process can see but making directories (`check` calls it beside a running gateway): threads
    /// and connections begin with `start` or the first `deliver`.  [exclusive]
    void *GW_NULLABLE (*GW_NONNULL create)(const gw_host *GW_NONNULL host, gw_slice config, gw_error *GW_NONNULL error) GW_SENDABLE;
    /// Takes one profile.  The outcome follows through `finish`, now or later.  [exclusive]
    void (*GW_NONNULL deliver)(void *GW_NONNULL instance, const gw_profile *GW_NONNULL profile, const gw_delivery *GW_NONNULL delivery) GW_SENDABLE;
    /// Makes what was handed over before it durable, then finishes `token`; it does not wait for later deliveries.  [exclusive]
    void (*GW_NONNULL flush)(void *GW_NONNULL instance, void *GW_NULLABLE token) GW_SENDABLE;
    /// Finishes every open token within a second, with `aborted` where the work is not done.  No `deliver`, `flush` or `probe` begins after
    /// it; where it comes during one, it is called again once that has returned.  Calls of it never overlap.  [any-thread]
    void (*GW_NONNULL abort)(void *GW_NONNULL instance) GW_SENDABLE;
    /// Frees the instance; returns when no thread of it can call the host.  No token is open, and no call follows.  [exclusive]
    void (*GW_NONNULL destroy)(void *GW_NONNULL instance) GW_SENDABLE;
    // Since v1.1; each may be NULL.
    /// Before the first `deliver`, not in `check`: threads and connections may begin.  Returns 0; or another number with a reason in
    /// `error` when it cannot work yet: the receiver is failed, its profiles wait, and `start` is called again, later and later.  [exclusive]
    int32_t (*GW_NULLABLE start)(void *GW_NONNULL instance, gw_error *GW_NONNULL error) GW_SENDABLE;
    /// The end is near: nothing is to wait for more profiles any longer, because few or none follow.  Called once.  [exclusive]
    void (*GW_NULLABLE drain)(void *GW_NONNULL instance) GW_SENDABLE;
    /// Connects and authenticates without a profile, then finishes `token`: `delivered` when a delivery could succeed now, else with a
    /// reason.  For `check --connect`, which neither starts the instance nor delivers to it, beside a running gateway.  [exclusive]
    void (*GW_NULLABLE probe)(void *GW_NONNULL instance, void *GW_NULLABLE token) GW_SENDABLE;
    gw_slice config_schema;          ///< A JSON Schema (2020-12) of the config, for people and editors; empty when there is none.
} gw_plugin;

/// The sizes of v1.0, below which a struct is not valid.
enum { GW_V1_0_PROFILE = 192, GW_V1_0_DELIVERY = 32, GW_V1_0_OUTCOME = 56, GW_V1_0_HOST = 80, GW_V1_0_PLUGIN = 88 };

/// The one symbol a plugin exports.  The major version is in its name; NULL means "not with this gateway".
#define GW_PLUGIN_ENTRY "gw_plugin_v1"
typedef const gw_plugin *GW_NULLABLE (*gw_plugin_entry)(size_t host_size) GW_SENDABLE;

#include "PluginExtensions.h"
#pragma GCC diagnostic pop
