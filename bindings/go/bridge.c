#include "bridge.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include "_cgo_export.h"

static gw_slice slice(const char *text, size_t count) { return (gw_slice){count ? (const uint8_t *)text : NULL, count}; }

// MARK: What Go calls

void gwgo_finish(const gw_host *host, void *token, uint32_t status, uint64_t after, uint64_t progress, uint32_t http_status,
                 const char *reason, size_t reason_count, const char *message, size_t message_count) {
    gw_outcome outcome = {
        .size = sizeof outcome, .status = status, .retry_after_ns = after, .progress = progress, .http_status = http_status,
        .reason = slice(reason, reason_count), .sender_message = slice(message, message_count),
    };
    host->finish(host->context, token, &outcome);
}

void gwgo_retain(const gw_host *host, const gw_profile *profile) { host->retain(profile); }
void gwgo_release(const gw_host *host, const gw_profile *profile) { host->release(profile); }
void gwgo_log(const gw_host *host, uint32_t level, const char *text, size_t count) { host->log(host->context, level, slice(text, count)); }

void gwgo_set_health(const gw_host *host, uint32_t health, const char *text, size_t count) {
    host->set_health(host->context, health, slice(text, count));
}

uint32_t gwgo_metric(const gw_host *host, uint32_t kind, const char *name, size_t name_count, const char *help, size_t help_count,
                     const char *texts, const size_t *counts, size_t label_count) {
    gw_label *labels = calloc(label_count + 1, sizeof *labels);
    if (!labels) abort(); // As Go's own runtime does without memory.
    for (size_t i = 0; i < label_count; i++) {
        labels[i].name = slice(texts, counts[2 * i]);
        texts += counts[2 * i];
        labels[i].value = slice(texts, counts[2 * i + 1]);
        texts += counts[2 * i + 1];
    }
    uint32_t id = host->metric(host->context, kind, slice(name, name_count), slice(help, help_count), labels, label_count);
    free(labels);
    return id;
}

void gwgo_observe(const gw_host *host, uint32_t metric, int64_t value) { host->observe(host->context, metric, value); }

const void *gwgo_extension(const gw_host *host, const char *id, size_t size) {
    const void *found = host->extension(host->context, id);
    // Each extension but the text of the environment begins with its size.
    return found && size && *(const size_t *)found < size ? NULL : found;
}

uint32_t gwgo_descriptors(const gw_host *host, const gw_descriptors *extension) { return extension->share(host->context); }

static void fire(void *argument) {
    gwgo_timer *timer = argument;
    gwgoTimer(timer->instance->handle, timer->number);
}

int32_t gwgo_set_timer(gwgo_instance *instance, const gw_timer *extension, uint32_t number, uint64_t delay) {
    if (number >= GW_TIMERS) return 1;
    return extension->set(instance->host->context, number, delay, fire, &instance->timers[number]);
}

const gw_json_value *gwgo_parse(const gw_json *extension, const char *text, size_t count, char *error, size_t capacity, size_t *error_count) {
    gw_error problem = {.text = error, .capacity = capacity};
    const gw_json_value *first = extension->parse(slice(text, count), &problem);
    *error_count = problem.count < capacity ? problem.count : capacity;
    return first;
}

void gwgo_release_json(const gw_json *extension, const gw_json_value *first) { extension->release(first); }
gw_slice gwgo_peer(const gw_profile *profile) { return GW_HAS(profile, peer) ? profile->peer : (gw_slice){0}; }

// MARK: What the gateway calls

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    gwgo_instance *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->host = host;
    for (uint32_t i = 0; i < GW_TIMERS; i++) self->timers[i] = (gwgo_timer){self, i};
    if (gwgoCreate(self, (void *)config.bytes, config.count, error) == 0) return self;
    free(self);
    return NULL;
}

static void deliver(void *instance, const gw_profile *profile, const gw_delivery *delivery) {
    gwgo_instance *self = instance;
    gwgoDeliver(self->handle, (gw_profile *)profile, delivery->token, delivery->attempt, delivery->progress);
}

static void flush(void *instance, void *token) { gwgoFlush(((gwgo_instance *)instance)->handle, token); }
static void probe(void *instance, void *token) { gwgoProbe(((gwgo_instance *)instance)->handle, token); }
static void abort_all(void *instance) { gwgoAbort(((gwgo_instance *)instance)->handle); }
static void drain(void *instance) { gwgoDrain(((gwgo_instance *)instance)->handle); }
static int32_t start(void *instance, gw_error *error) { return gwgoStart(((gwgo_instance *)instance)->handle, error); }

static void destroy(void *instance) {
    gwgoDestroy(((gwgo_instance *)instance)->handle);
    free(instance);
}

static gw_plugin plugin = {
    .size = sizeof plugin, .create = create, .deliver = deliver, .flush = flush, .abort = abort_all, .destroy = destroy,
    .start = start, .drain = drain, .probe = probe,
};
static bool is_whole;

static void fill(void) {
    // Waits until Go's runtime has started, and with it the init functions that name the plugin.
    uint32_t has_probe = 0;
    is_whole = gwgoDescribe(&plugin.name, &plugin.version, &plugin.config_schema, &has_probe) == 0;
    if (!has_probe) plugin.probe = NULL;
}

GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    return is_whole && host_size >= GW_V1_0_HOST ? &plugin : NULL;
}
