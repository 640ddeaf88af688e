// A plugin that logs each call, and holds profiles back until it has as many as its config says: {"batch":10}.  With "late" in the
// config, `start` fails until the file "go" exists; with "hang", it does not return until then.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "PluginABI.h"

typedef struct {
    const gw_host *host;
    char config[256];
    size_t batch, count;
    void *held[64];
} instance;

static void say(const instance *self, const char *text) {
    self->host->log(self->host->context, GW_LEVEL_INFO, (gw_slice){(const uint8_t *)text, strlen(text)});
}

static void finish(const instance *self, void *token, gw_status status) {
    gw_outcome outcome = {.size = sizeof outcome, .status = status};
    self->host->finish(self->host->context, token, &outcome);
}

static void send_held(instance *self) {
    while (self->count) finish(self, self->held[--self->count], GW_STATUS_DELIVERED);
}

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    instance *self = calloc(1, sizeof *self);
    if (!self || config.count >= sizeof self->config) {
        error->count = 0;
        free(self);
        return NULL;
    }
    self->host = host;
    memcpy(self->config, config.bytes, config.count);
    const char *batch = strstr(self->config, "\"batch\":");
    self->batch = batch ? strtoul(batch + 8, NULL, 10) : 1;
#ifdef GW_INSTANCE_EXTENSION
    const gw_instance *facts = host->extension(host->context, GW_INSTANCE_EXTENSION);
    if (facts && strstr(self->config, "facts")) {
        char text[1024], path[512];
        snprintf(
            text, sizeof text, "facts receiver=%.*s version=%.*s directory=%.*s in_flight=%u timeout=%llu", (int)facts->receiver.count,
            (const char *)facts->receiver.bytes, (int)facts->gateway_version.count, (const char *)facts->gateway_version.bytes,
            (int)facts->directory.count, (const char *)facts->directory.bytes, facts->max_in_flight,
            (unsigned long long)facts->delivery_timeout_ns);
        say(self, text);
        snprintf(path, sizeof path, "%.*s/kept", (int)facts->directory.count, (const char *)facts->directory.bytes);
        FILE *file = facts->directory.count ? fopen(path, "we") : NULL;
        if (file) fclose(file);
    }
#endif
    say(self, "stage create");
    return self;
}

static void deliver(void *object, const gw_profile *profile, const gw_delivery *delivery) {
    instance *self = object;
    (void)profile;
    say(self, "stage deliver");
    self->held[self->count++] = delivery->token;
    if (self->count >= self->batch) send_held(self);
}

static void flush(void *object, void *token) {
    say(object, "stage flush");
    finish(object, token, GW_STATUS_DELIVERED);
}

static void abort_all(void *object) {
    instance *self = object;
    say(self, "stage abort");
    while (self->count) finish(self, self->held[--self->count], GW_STATUS_ABORTED);
}

static void destroy(void *object) {
    say(object, "stage destroy");
    free(object);
}

#ifdef GW_INSTANCE_EXTENSION
static int32_t start(void *object, gw_error *error) {
    instance *self = object;
    say(self, "stage start");
    while (strstr(self->config, "hang") && access("go", F_OK) != 0) usleep(10000);
    if (!strstr(self->config, "late") || access("go", F_OK) == 0) return 0;
    error->count = (size_t)snprintf(error->text, error->capacity, "nobody is there");
    return 1;
}

static void drain(void *object) {
    instance *self = object;
    say(self, "stage drain");
    self->batch = 1;
    send_held(self);
}
#endif

static const gw_plugin plugin = {
    .size = sizeof plugin, .name = {(const uint8_t *)"stages", 6}, .version = {(const uint8_t *)"1.0.0", 5},
    .create = create, .deliver = deliver, .flush = flush, .abort = abort_all, .destroy = destroy,
#ifdef GW_INSTANCE_EXTENSION
    .start = start, .drain = drain,
#endif
};
GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < 80 ? NULL : &plugin; }
