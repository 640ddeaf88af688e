// A plugin that the gateway must refuse, for a reason that is chosen by a macro at compile time.
#include <string.h>
#include "PluginABI.h"

#ifndef NAME
#define NAME "test.refused"
#endif
#ifndef VERSION
#define VERSION "1.0.0"
#endif
#define TEXT(S) {(const uint8_t *)(S), sizeof(S) - 1}

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
#ifdef CREATE_REFUSES
    static const char text[] = CREATE_REFUSES;
    (void)host, (void)config;
    memcpy(error->text, text, sizeof text - 1);
    error->count = sizeof text - 1;
    return NULL;
#elif defined(CREATE_REFUSES_SILENTLY)
    (void)host, (void)config, (void)error;
    return NULL;
#elif defined(CREATE_OVERSTATES)
    (void)host, (void)config;
    memset(error->text, 'x', error->capacity);
    error->count = error->capacity + 1000000;
    return NULL;
#else
    (void)config, (void)error;
    return (void *)host;
#endif
}
static void finish(const gw_host *host, void *token) {
    gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
    host->finish(host->context, token, &outcome);
}
static void deliver(void *instance, const gw_profile *profile, const gw_delivery *delivery) {
    (void)profile;
    finish(instance, delivery->token);
}
static void flush(void *instance, void *token) { finish(instance, token); }
static void nothing(void *instance) { (void)instance; }

#ifndef TABLE_SIZE
#define TABLE_SIZE sizeof(gw_plugin)
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
static const gw_plugin plugin = {
    .size = TABLE_SIZE, .flags = FLAGS, .name = TEXT(NAME), .version = TEXT(VERSION),
    .create = create, .deliver = deliver, .flush = flush, .abort = nothing, .destroy = nothing,
};

#ifdef NO_ENTRY
GW_EXPORT const gw_plugin *gw_plugin_v0(size_t host_size) {
#else
GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) {
#endif
#ifdef ENTRY_ANSWERS_NULL
    (void)host_size, (void)plugin;
    return NULL;
#else
    return host_size < sizeof(gw_host) ? NULL : &plugin;
#endif
}
