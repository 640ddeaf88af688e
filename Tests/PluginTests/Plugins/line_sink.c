// A whole receiver plugin: appends one line per profile, with its labels, to ./profiles.txt.
#include <stdio.h>
#include "PluginABI.h"
static void print(FILE *file, gw_slice text) { // Not NUL-terminated; a control character that came in becomes '?'.
    for (size_t i = 0; i < text.count; i++) fputc(text.bytes[i] < ' ' ? '?' : text.bytes[i], file);
}
static void *create(const gw_host *host, gw_slice config, gw_error *error) { // The host is all the state it needs.
    if (config.count > 2) error->count = (size_t)snprintf(error->text, error->capacity, "takes no config");
    return config.count > 2 ? NULL : (void *)host;
}
static void finish(const gw_host *host, void *token, gw_status status) {
    host->finish(host->context, token, &(gw_outcome){.size = sizeof(gw_outcome), .status = status});
}
static void deliver(void *host, const gw_profile *profile, const gw_delivery *delivery) {
    FILE *file = fopen("profiles.txt", "ae"); // "e": close-on-exec.
    for (size_t i = 0; file && i < profile->label_count; i++)
        print(file, profile->labels[i].name), fputc('=', file), print(file, profile->labels[i].value), fputc(' ', file);
    if (file) fprintf(file, "%zu sample\n", profile->sample_count);
    finish(host, delivery->token, file && fclose(file) == 0 ? GW_STATUS_DELIVERED : GW_STATUS_RETRY);
}
static void flush(void *host, void *token) { finish(host, token, GW_STATUS_DELIVERED); }
static void nothing(void *host) { (void)host; } // No thread, no open delivery: abort and destroy have nothing to do.
static const gw_plugin plugin = {.size = sizeof plugin, .name = {(const uint8_t *)"example.lines", 13}, .create = create,
    .version = {(const uint8_t *)"1.0.0", 5}, .deliver = deliver, .flush = flush, .abort = nothing, .destroy = nothing};
GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < sizeof(gw_host) ? NULL : &plugin; }
