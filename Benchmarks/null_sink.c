// A receiver that delivers every profile at once and does nothing else, so that only the gateway is measured.
#include "PluginABI.h"

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    (void)config, (void)error;
    return (void *)host;
}
static void finish(const gw_host *host, void *token) {
    host->finish(host->context, token, &(gw_outcome){.size = sizeof(gw_outcome), .status = GW_STATUS_DELIVERED});
}
static void deliver(void *host, const gw_profile *profile, const gw_delivery *delivery) {
    (void)profile;
    finish(host, delivery->token);
}
static void flush(void *host, void *token) { finish(host, token); }
static void nothing(void *host) { (void)host; }
static const gw_plugin plugin = {
    .size = sizeof plugin, .name = {(const uint8_t *)"bench.null", 10}, .version = {(const uint8_t *)"1.0.0", 5},
    .create = create, .deliver = deliver, .flush = flush, .abort = nothing, .destroy = nothing,
};
GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < sizeof(gw_host) ? NULL : &plugin; }
