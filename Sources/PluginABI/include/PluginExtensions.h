// PluginExtensions.h - what the gateway may lend a plugin beyond gw_host.  A part of PluginABI.h, which includes it.
//
// `gw_host.extension(context, ID)` returns a pointer to the struct that is declared beside the ID, or NULL from a gateway that has none
// such.  It stays valid until `destroy` has returned, and `context` is always `gw_host.context`.  A struct grows only at its end.
#pragma once
#include "PluginABI.h"

/// How many descriptors the instance may hold open at a time, at least 1.  It changes with a reload: who keeps connections asks again.
#define GW_DESCRIPTORS_EXTENSION "gw.descriptors/1"
typedef struct gw_descriptors {
    size_t size;
    uint32_t (*GW_NONNULL share)(void *GW_NULLABLE context) GW_SENDABLE; ///< [any-thread]
} gw_descriptors;

/// The config's strings that were one `${NAME}` each, and count as the number or boolean they spell where one is wanted: a C string of
/// their paths ("a[0].b"), a line each.  Valid during `create`; NULL for none.
#define GW_ENVIRONMENT_EXTENSION "gw.environment/1"

/// What the gateway knows of the instance.
#define GW_INSTANCE_EXTENSION "gw.instance/1"
typedef struct gw_instance {
    size_t size;
    gw_slice receiver, gateway_version;
    gw_slice directory;              ///< A folder of the receiver's own below data_dir, made on demand; empty without data_dir.
    uint32_t max_in_flight;          ///< At the time of `create`; a reload may change it.
    uint64_t delivery_timeout_ns;
} gw_instance;

/// Calls at a later time from the instance's own delivery thread, so that a plugin needs no thread to wait, say, until a batch is old.
#define GW_TIMER_EXTENSION "gw.timer/1"
#define GW_TIMER_OFF UINT64_MAX
enum { GW_TIMERS = 8 }; ///< An instance has the timers 0 to 7.
typedef struct gw_timer {
    size_t size;
    /// Lets `fire(argument)` be called once, as soon as `delay_ns` have passed and no other call is at work; GW_TIMER_OFF takes that back.
    /// Replaces what the timer was set to before, also from inside `fire`.  The call is [exclusive]; none follows once `destroy` has begun.
    /// Returns 0; or 1, and does nothing, when there is no such timer or `fire` is NULL.  [any-thread]
    int32_t (*GW_NONNULL set)(void *GW_NULLABLE context, uint32_t timer, uint64_t delay_ns,
                              void (*GW_NULLABLE fire)(void *GW_NULLABLE argument), void *GW_NULLABLE argument) GW_SENDABLE;
} gw_timer;

/// Descriptors that the instance's own delivery thread watches, so that a plugin with connections needs no thread for them.
#define GW_LOOP_EXTENSION "gw.loop/1"
typedef struct gw_loop {
    size_t size;
    /// Lets `ready(argument, events)` be called as long as one of `events` is there (POLLIN and POLLOUT of poll(2); POLLERR and
    /// POLLHUP always are wanted), until it is called with 0 events, which must come before the descriptor is closed.  Replaces what the
    /// descriptor was watched for before.  The calls are [exclusive], between others, and end with `destroy`.
    /// Returns 0, or the number of an error (EPERM: a file that is always ready).  [exclusive], but not in `create`.
    int32_t (*GW_NONNULL watch)(void *GW_NULLABLE context, int32_t descriptor, uint32_t events,
                                void (*GW_NULLABLE ready)(void *GW_NULLABLE argument, uint32_t events), void *GW_NULLABLE argument) GW_SENDABLE;
    /// Lets `after(argument)` be called when the `ready` calls of one wait have all been made; NULL ends that.  The rest is as with `watch`.
    int32_t (*GW_NONNULL after_ready)(void *GW_NULLABLE context, void (*GW_NULLABLE after)(void *GW_NULLABLE argument),
                                      void *GW_NULLABLE argument) GW_SENDABLE;
} gw_loop;

GW_ENUM(gw_json_kind) { GW_JSON_NULL GW_NAME("null") = 0, GW_JSON_BOOLEAN GW_NAME("boolean") = 1, GW_JSON_NUMBER GW_NAME("number") = 2,
                        GW_JSON_STRING GW_NAME("string") = 3, GW_JSON_ARRAY GW_NAME("array") = 4, GW_JSON_OBJECT GW_NAME("object") = 5 };

/// One value of a JSON text; it never changes.  The values of a text are one array in the order of the text: the first child of an
/// object or array is `value + 1`, and the value after this one, with all that is in it, is `value + value->span`.
typedef struct gw_json_value {
    gw_json_kind kind;
    uint32_t count;                  ///< The children of an object or array; else 0.
    size_t   span;                   ///< How many values of the array this one takes, itself and all that is in it.
    gw_slice name;                   ///< A member's name; empty for what is no member.
    gw_slice text;                   ///< A string without its escapes; a number as it is written; else empty.
    double   number;                 ///< The number, as far as a double can tell; 1 for true; else 0.
} gw_json_value;

/// A reader of JSON that is as strict as the gateway's own: RFC 8259 in UTF-8, no duplicate names, 64 levels at most.
#define GW_JSON_EXTENSION "gw.json/1"
typedef struct gw_json {
    size_t size;
    /// Reads a text.  Returns its first value, to be given to `release`; or NULL with the problems in `error`.  [any-thread]
    const gw_json_value *GW_NULLABLE (*GW_NONNULL parse)(gw_slice text, gw_error *GW_NONNULL error) GW_SENDABLE;
    /// Frees all values of a text.  [any-thread]
    void (*GW_NONNULL release)(const gw_json_value *GW_NULLABLE first) GW_SENDABLE;
    /// The member of an object with that name; NULL when there is none, or `object` is NULL or no object.  [any-thread]
    const gw_json_value *GW_NULLABLE (*GW_NONNULL member)(const gw_json_value *GW_NULLABLE object, const char *GW_NONNULL name) GW_SENDABLE;
    /// The first member that has none of `count` names, to be refused as unknown; NULL when there is none.  [any-thread]
    const gw_json_value *GW_NULLABLE (*GW_NONNULL unknown)(const gw_json_value *GW_NULLABLE object,
                                                           const char *GW_NULLABLE const *GW_NULLABLE names, size_t count) GW_SENDABLE;
} gw_json;
