// The C side of the Go bindings: what Go cannot do itself, calling a function pointer and making the plugin's constant table.
#pragma once
#include "PluginABI.h"

/// An instance: the handle of its Go value, and an argument for each timer. Made by C, so that C may keep pointers to it.
typedef struct gwgo_instance gwgo_instance;
typedef struct gwgo_timer { gwgo_instance *instance; uint32_t number; } gwgo_timer;
struct gwgo_instance {
    uintptr_t handle;
    const gw_host *host;
    gwgo_timer timers[GW_TIMERS];
};

void gwgo_finish(const gw_host *host, void *token, uint32_t status, uint64_t after, uint64_t progress, uint32_t http_status,
                 const char *reason, size_t reason_count, const char *message, size_t message_count);
void gwgo_retain(const gw_host *host, const gw_profile *profile);
void gwgo_release(const gw_host *host, const gw_profile *profile);
void gwgo_log(const gw_host *host, uint32_t level, const char *text, size_t count);
void gwgo_set_health(const gw_host *host, uint32_t health, const char *text, size_t count);
/// The texts of the labels are one after the other in `texts`: name, value, name, value; `counts` has their lengths.
uint32_t gwgo_metric(const gw_host *host, uint32_t kind, const char *name, size_t name_count, const char *help, size_t help_count,
                     const char *texts, const size_t *counts, size_t label_count);
void gwgo_observe(const gw_host *host, uint32_t metric, int64_t value);
/// NULL when the gateway has none such, or one that is shorter than `size`.
const void *gwgo_extension(const gw_host *host, const char *id, size_t size);
uint32_t gwgo_descriptors(const gw_host *host, const gw_descriptors *extension);
int32_t gwgo_set_timer(gwgo_instance *instance, const gw_timer *extension, uint32_t number, uint64_t delay);
const gw_json_value *gwgo_parse(const gw_json *extension, const char *text, size_t count, char *error, size_t capacity, size_t *error_count);
void gwgo_release_json(const gw_json *extension, const gw_json_value *first);
gw_slice gwgo_peer(const gw_profile *profile);
