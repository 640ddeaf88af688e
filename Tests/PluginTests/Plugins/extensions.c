// A plugin that uses the extensions, the later calls and the later fields of the interface.  Its config:
//   "json": TEXT      reads TEXT with gw.json/1; logs what is in it, or refuses with its problems
//   "known": 1        refuses members other than those of this list, the first one by name
//   "early": 1        sets a timer in `create`
//   "hold_ms": N      holds each profile until a timer has run for N milliseconds since the last one came
//   "loop_ms": N      holds each profile until a descriptor that is ready after N milliseconds was
//   "crash": 1        ends the process in the timer's or the descriptor's call
//   "probe": STATUS   what `probe` finishes with; 0 never finishes
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "PluginABI.h"

typedef struct {
    const gw_host *host;
    const gw_timer *timers;
    const gw_loop *loop;
    uint64_t hold_ns, loop_ns;
    int clock;
    int crashes;
    gw_status probe;
    pid_t deliver_thread;
    size_t count;
    void *held[64];
} instance;

static void say(const gw_host *host, const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    int count = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t size = count < 0 ? 0 : (size_t)count < sizeof text ? (size_t)count : sizeof text - 1;
    host->log(host->context, GW_LEVEL_INFO, (gw_slice){(const uint8_t *)text, size});
}

static void finish(const instance *self, void *token, gw_status status) {
    gw_outcome outcome = {.size = sizeof outcome, .status = status, .reason = {(const uint8_t *)"as told", 7}};
    self->host->finish(self->host->context, token, &outcome);
}

// Logs a value and what is in it, each with its depth.
static void show(const gw_host *host, const gw_json_value *value, int depth) {
    static const char *const kinds[] = {"null", "boolean", "number", "string", "array", "object"};
    say(host, "json %d %s name=<%.*s> text=<%.*s> number=%.17g count=%u span=%zu", depth, kinds[value->kind], (int)value->name.count,
        (const char *)value->name.bytes, (int)value->text.count, (const char *)value->text.bytes, value->number, value->count, value->span);
    const gw_json_value *child = value + 1;
    for (uint32_t i = 0; i < value->count; i++, child += child->span) show(host, child, depth + 1);
}

static void early(void *host) { say(host, "timer of create"); }

static int read_config(instance *self, const gw_json *json, const gw_json_value *config, gw_error *error) {
    static const char *const names[] = {"json", "known", "early", "hold_ms", "loop_ms", "crash", "probe"};
    const gw_json_value *stranger = json->unknown(config, names, sizeof names / sizeof *names);
    if (json->member(config, "known") && stranger) {
        error->count = (size_t)snprintf(error->text, error->capacity, "%.*s: unknown", (int)stranger->name.count,
                                        (const char *)stranger->name.bytes);
        return 0;
    }
    const gw_json_value *text = json->member(config, "json");
    if (text) {
        const gw_json_value *inner = json->parse(text->text, error);
        if (!inner) return 0;
        show(self->host, inner, 0);
        say(self->host, "json member of no object %s", json->member(inner + inner->span - 1, "a") ? "found" : "absent");
        json->release(inner);
    }
    const gw_json_value *hold = json->member(config, "hold_ms"), *probe = json->member(config, "probe");
    const gw_json_value *loop = json->member(config, "loop_ms");
    if (loop) self->loop_ns = (uint64_t)(loop->number * 1e6);
    if (hold) self->hold_ns = (uint64_t)(hold->number * 1e6);
    self->probe = probe ? (gw_status)probe->number : GW_STATUS_DELIVERED;
    self->crashes = json->member(config, "crash") != NULL;
    if (json->member(config, "early")) self->timers->set(self->host->context, 0, 0, early, (void *)self->host);
    return 1;
}

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    const gw_json *json = host->extension(host->context, GW_JSON_EXTENSION);
    const gw_timer *timers = host->extension(host->context, GW_TIMER_EXTENSION);
    const gw_loop *loop = host->extension(host->context, GW_LOOP_EXTENSION);
    instance *self = calloc(1, sizeof *self);
    const gw_json_value *value = self && json && timers ? json->parse(config, error) : NULL;
    if (self) *self = (instance){.host = host, .timers = timers, .loop = loop, .clock = -1};
    int is_good = value && read_config(self, json, value, error);
    if (value) json->release(value);
    if (is_good) return self;
    free(self);
    return NULL;
}

static void ring(void *object) {
    instance *self = object;
    if (self->crashes) abort();
    say(self->host, "timer rings for %zu on %s", self->count, gettid() == self->deliver_thread ? "the thread of deliver" : "another thread");
    while (self->count) finish(self, self->held[--self->count], GW_STATUS_DELIVERED);
}

static void never(void *object) { say(((instance *)object)->host, "timer that was taken back"); }

static void after_ready(void *object) {
    instance *self = object;
    say(self->host, "after the calls on %s", gettid() == self->deliver_thread ? "the thread of deliver" : "another thread");
    self->loop->after_ready(self->host->context, NULL, NULL);
}

// Holds profiles until a clock has run, and looks at what `watch` refuses.
static void ready(void *object, uint32_t events) {
    instance *self = object;
    if (self->crashes) abort();
    say(self->host, "descriptor is ready for %zu with %u on %s", self->count, events,
        gettid() == self->deliver_thread ? "the thread of deliver" : "another thread");
    int stopped = self->loop->watch(self->host->context, self->clock, 0, NULL, NULL);
    close(self->clock);
    self->clock = -1;
    int again = self->loop->watch(self->host->context, 1000, 0, NULL, NULL);
    say(self->host, "loop ends %d %d", stopped, again);
    while (self->count) finish(self, self->held[--self->count], GW_STATUS_DELIVERED);
}

static void hold(instance *self) {
    if (self->clock >= 0) return;
    void *context = self->host->context;
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), closed = self->loop->watch(context, 1000, POLLIN, ready, self);
    say(self->host, "loop refuses %d %d %d", self->loop->watch(context, file, POLLIN, ready, self), closed,
        self->loop->watch(context, file, POLLIN, NULL, NULL));
    close(file);
    self->clock = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec when = {.it_value = {(time_t)(self->loop_ns / 1000000000), (long)(self->loop_ns % 1000000000)}};
    timerfd_settime(self->clock, 0, &when, NULL);
    self->loop->watch(context, self->clock, POLLOUT, ready, self);
    self->loop->watch(context, self->clock, POLLIN, ready, self);
    if (self->loop->after_ready(context, after_ready, self)) say(self->host, "after_ready failed");
}

static void deliver(void *object, const gw_profile *profile, const gw_delivery *delivery) {
    instance *self = object;
    void *context = self->host->context;
    self->deliver_thread = gettid();
    int has_peer = GW_HAS(profile, peer);
    say(self->host, "peer=<%.*s> headers=%zu", has_peer ? (int)profile->peer.count : 0, (const char *)profile->peer.bytes, profile->header_count);
    if (self->loop_ns) {
        self->held[self->count++] = delivery->token;
        return hold(self);
    }
    if (!self->hold_ns) return finish(self, delivery->token, GW_STATUS_DELIVERED);
    self->held[self->count++] = delivery->token;
    int last = self->timers->set(context, GW_TIMERS - 1, 0, never, self);
    int off = self->timers->set(context, GW_TIMERS - 1, GW_TIMER_OFF, NULL, NULL);
    int beyond = self->timers->set(context, GW_TIMERS, 0, never, self), none = self->timers->set(context, 1, 0, NULL, NULL);
    say(self->host, "timer results %d %d %d %d", last, off, beyond, none);
    self->timers->set(context, 2, self->hold_ns, ring, self);
}

static void flush(void *object, void *token) { finish(object, token, GW_STATUS_DELIVERED); }

static void abort_all(void *object) {
    instance *self = object;
    while (self->count) finish(self, self->held[--self->count], GW_STATUS_ABORTED);
}

static void destroy(void *object) { free(object); }

static void probe(void *object, void *token) {
    instance *self = object;
    if (self->probe) finish(self, token, self->probe);
}

#ifndef SCHEMA
#  define SCHEMA "{\"type\": \"object\"}"
#endif
static const gw_plugin plugin = {
    .size = sizeof plugin, .name = {(const uint8_t *)"extensions", 10}, .version = {(const uint8_t *)"1.0.0", 5},
    .create = create, .deliver = deliver, .flush = flush, .abort = abort_all, .destroy = destroy, .probe = probe,
    .config_schema = {(const uint8_t *)SCHEMA, sizeof SCHEMA - 1},
};
GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < sizeof(gw_host) ? NULL : &plugin; }
