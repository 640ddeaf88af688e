// A receiver that holds descriptors, as the name of a profile says:
//   share    logs how many it may hold according to the extension gw.descriptors/1
//   hoard    opens as many as the process can, which no plugin should do
//   release  closes them
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "PluginABI.h"

static int held[1 << 16];
static size_t count;

static void say(const gw_host *host, const char *what, long number) {
    char text[64];
    int length = snprintf(text, sizeof text, "%s %ld", what, number);
    host->log(host->context, GW_LEVEL_INFO, (gw_slice){(const uint8_t *)text, (size_t)length});
}
static long share(const gw_host *host) {
    const gw_descriptors *descriptors = host->extension(host->context, GW_DESCRIPTORS_EXTENSION);
    return descriptors && GW_HAS(descriptors, share) ? (long)descriptors->share(host->context) : -1;
}
static void finish(const gw_host *host, void *token) {
    host->finish(host->context, token, &(gw_outcome){.size = sizeof(gw_outcome), .status = GW_STATUS_DELIVERED});
}
static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    (void)config, (void)error;
    say(host, host->extension(host->context, "gw.descriptors/2") ? "knows what is not there" : "begins", share(host));
    return (void *)host;
}
static int is_named(const gw_profile *profile, const char *name) {
    for (size_t i = 0; i < profile->label_count; i++) {
        gw_slice value = profile->labels[i].value;
        if (value.count == strlen(name) && memcmp(value.bytes, name, value.count) == 0) return 1;
    }
    return 0;
}
static void deliver(void *host, const gw_profile *profile, const gw_delivery *delivery) {
    if (is_named(profile, "share")) say(host, "share", share(host));
    if (is_named(profile, "hoard")) {
        for (int file; count < sizeof held / sizeof *held && (file = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) held[count++] = file;
        say(host, "hoards", (long)count);
    }
    if (is_named(profile, "release")) {
        while (count) close(held[--count]);
        say(host, "releases", 0);
    }
    finish(host, delivery->token);
}
static void flush(void *host, void *token) { finish(host, token); }
static void nothing(void *host) { (void)host; }
static const gw_plugin plugin = {
    .size = sizeof plugin, .name = {(const uint8_t *)"test.hoarder", 12}, .version = {(const uint8_t *)"1.0.0", 5},
    .create = create, .deliver = deliver, .flush = flush, .abort = nothing, .destroy = nothing,
};
GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < sizeof(gw_host) ? NULL : &plugin; }
