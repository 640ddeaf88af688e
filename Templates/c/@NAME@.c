// @NAME@: appends a line per profile to the file that the config's member "path" names.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "PluginABI.h"

#define TEXT(literal) {(const uint8_t *)literal, sizeof literal - 1}

typedef struct {
    const gw_host *host;
    char path[];
} line_sink;

static void refuse(gw_error *error, gw_slice member, const char *problem) {
    int count = snprintf(error->text, error->capacity, "%.*s: %s", (int)member.count, (const char *)member.bytes, problem);
    error->count = (size_t)count < error->capacity ? (size_t)count : error->capacity;
}

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    const gw_json *json = host->extension(host->context, GW_JSON_EXTENSION);
    if (json == NULL) return refuse(error, (gw_slice)TEXT(GW_JSON_EXTENSION), "this gateway is too old to have it"), NULL;
    const gw_json_value *object = json->parse(config, error);
    if (object == NULL) return NULL;

    const gw_json_value *unknown = json->unknown(object, (const char *const[]){"path"}, 1);
    const gw_json_value *path = json->member(object, "path");
    line_sink *sink = NULL;
    if (unknown != NULL) {
        refuse(error, unknown->name, "unknown");
    } else if (path == NULL || path->kind != GW_JSON_STRING || path->text.count == 0) {
        refuse(error, (gw_slice)TEXT("path"), "must be a string that names a file");
    } else if ((sink = calloc(1, sizeof *sink + path->text.count + 1)) == NULL) {
        refuse(error, (gw_slice)TEXT("path"), strerror(errno));
    } else {
        sink->host = host;
        memcpy(sink->path, path->text.bytes, path->text.count);
    }
    json->release(object);
    return sink;
}

// Texts come from the sender and end without a NUL; a control character would break the line.
static void print(FILE *file, gw_slice text) {
    for (size_t i = 0; i < text.count; i++) fputc(text.bytes[i] < ' ' ? '?' : text.bytes[i], file);
}

// Returns 0 once the system has taken the line, else an errno.
static int append(const char *path, const gw_profile *profile) {
    FILE *file = fopen(path, "ae"); // "e": close-on-exec.
    if (file == NULL) return errno;
    size_t bytes = 0;
    for (size_t i = 0; i < profile->sample_count; i++) bytes += profile->samples[i].bytes.count;
    for (size_t i = 0; i < profile->label_count; i++)
        print(file, profile->labels[i].name), fputc('=', file), print(file, profile->labels[i].value), fputc(' ', file);
    fprintf(file, "%zu bytes\n", bytes);
    int problem = fflush(file) != 0 || ferror(file) ? errno : 0;
    fclose(file);
    return problem;
}

static void finish(const gw_host *host, void *token, gw_status status, gw_slice reason) {
    host->finish(host->context, token, &(gw_outcome){.size = sizeof(gw_outcome), .status = status, .reason = reason});
}

static void deliver(void *instance, const gw_profile *profile, const gw_delivery *delivery) {
    const line_sink *sink = instance;
    int problem = append(sink->path, profile);
    const char *text = problem ? strerror(problem) : "";
    gw_slice reason = {(const uint8_t *)text, strlen(text)};
    sink->host->set_health(sink->host->context, problem ? GW_HEALTH_FAILED : GW_HEALTH_OK, reason);
    finish(sink->host, delivery->token, problem ? GW_STATUS_RETRY : GW_STATUS_DELIVERED, reason);
}

// Nothing is held back, and each delivery ends before `deliver` returns.
static void flush(void *instance, void *token) {
    finish(((const line_sink *)instance)->host, token, GW_STATUS_DELIVERED, (gw_slice){0});
}
static void nothing_is_open(void *instance) { (void)instance; }

static const gw_plugin plugin = {
    .size = sizeof plugin, .name = TEXT("@NAME@"), .version = TEXT("0.1.0"),
    .create = create, .deliver = deliver, .flush = flush, .abort = nothing_is_open, .destroy = free,
    .config_schema = TEXT("{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"}},\"required\":[\"path\"],"
                          "\"additionalProperties\":false}"),
};

GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < GW_V1_0_HOST ? NULL : &plugin; }
