// A plugin that breaks one rule of the contract, or uses a rare part of it, as its config says: {"do":"finish twice"}.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "PluginABI.h"

#define TEXT(S) {(const uint8_t *)(S), sizeof(S) - 1}

typedef struct instance {
    const gw_host *host;
    char config[256];
    const gw_profile *kept;
    void *open;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int aborted;
} instance;

static gw_slice slice(const char *text) { return (gw_slice){(const uint8_t *)text, strlen(text)}; }

/// Whether the config says this.
static int does(const instance *self, const char *what) {
    char member[128];
    snprintf(member, sizeof member, "\"do\":\"%s\"", what);
    return strstr(self->config, member) != NULL;
}

static void log_line(instance *self, const char *text) { self->host->log(self->host->context, GW_LEVEL_INFO, slice(text)); }

static void finish(instance *self, void *token, gw_status status, const char *reason) {
    gw_outcome outcome = {.size = sizeof outcome, .status = status, .reason = slice(reason)};
    self->host->finish(self->host->context, token, &outcome);
}

#ifdef TAKE_SIGNALS_AT_LOAD
__attribute__((constructor)) static void take_signals(void) { signal(SIGPIPE, SIG_DFL); }
#endif

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    instance *self = calloc(1, sizeof *self);
    if (!self || config.count >= sizeof self->config) {
        error->count = (size_t)snprintf(error->text, error->capacity, "no room");
        free(self);
        return NULL;
    }
    self->host = host;
    memcpy(self->config, config.bytes, config.count);
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    if (does(self, "take signals")) signal(SIGPIPE, SIG_DFL), signal(SIGXFSZ, SIG_DFL);
    if (does(self, "take signals and wait")) {
        signal(SIGPIPE, SIG_DFL);
        fclose(fopen("taken", "w"));
        while (access("go", F_OK) != 0) usleep(10000);
    }
    if (does(self, "create beside")) while (access("taken", F_OK) != 0) usleep(10000);
    if (does(self, "move in create") && chdir("/") != 0) abort();
    if (does(self, "mask in create")) umask(0);
    if (does(self, "block in create")) for (;;) pause();
    if (does(self, "create slowly")) while (access("go", F_OK) != 0) usleep(10000);
    if (does(self, "begin failed")) host->set_health(host->context, GW_HEALTH_FAILED, slice("not today"));
    return self;
}

typedef struct job { instance *self; void *token; } job;

static void *finish_elsewhere(void *argument) {
    job *job = argument;
    finish(job->self, job->token, GW_STATUS_DELIVERED, "");
    return NULL;
}

static void wait_for_abort(instance *self) {
    pthread_mutex_lock(&self->lock);
    while (!self->aborted) pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
}

static void use_everything(instance *self, const gw_profile *profile) {
    const gw_host *host = self->host;
    host->log(host->context, GW_LEVEL_DEBUG, slice("a line of debug"));
    host->log(host->context, GW_LEVEL_INFO, slice("a line of info"));
    host->log(host->context, GW_LEVEL_WARNING, slice("a line of warning"));
    host->log(host->context, GW_LEVEL_ERROR, slice("a line of error"));
    host->log(host->context, GW_LEVEL_INFO, slice("two\nlines, \x1b[31mred"));
    host->set_health(host->context, GW_HEALTH_DEGRADED, slice("half of it"));
    host->retain(profile);
    host->release(profile);
    const gw_label label = {TEXT("shard"), TEXT("a\"b\\c\nd")};
    uint32_t counter = host->metric(host->context, GW_METRIC_COUNTER, slice("test_seen_total"), slice("Seen."), &label, 1);
    uint32_t again = host->metric(host->context, GW_METRIC_COUNTER, slice("test_seen_total"), slice("Seen."), &label, 1);
    uint32_t other = host->metric(host->context, GW_METRIC_COUNTER, slice("test_seen_total"), slice("Seen."), NULL, 0);
    uint32_t gauge = host->metric(host->context, GW_METRIC_GAUGE, slice("test_level"), slice("A level."), NULL, 0);
    uint32_t seconds = host->metric(host->context, GW_METRIC_SECONDS, slice("test_wait_seconds"), slice("A wait."), NULL, 0);
    host->observe(host->context, counter, 2);
    host->observe(host->context, again, 3);
    host->observe(host->context, gauge, 41);
    host->observe(host->context, gauge, -7);
    host->observe(host->context, seconds, 20000000);
    char line[128];
    snprintf(line, sizeof line, "ids same=%d other=%d zero=%d extension=%s", counter == again, counter != other,
             !counter || !other || !gauge || !seconds, host->extension(host->context, "gw.none/1") ? "there" : "NULL");
    log_line(self, line);
}

static void use_bad_metrics(instance *self) {
    const gw_host *host = self->host;
    const gw_label bad = {TEXT("le-gal"), TEXT("x")};
    uint32_t ids[] = {
        host->metric(host->context, GW_METRIC_COUNTER, slice("1 bad name"), slice(""), NULL, 0),
        host->metric(host->context, GW_METRIC_COUNTER, slice(""), slice(""), NULL, 0),
        host->metric(host->context, GW_METRIC_COUNTER, slice("test_bad_label"), slice(""), &bad, 1),
        host->metric(host->context, (gw_metric_kind)9, slice("test_bad_kind"), slice(""), NULL, 0),
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) host->observe(host->context, ids[i], 1);
    host->observe(host->context, 4000000000u, 1);
    char line[128];
    snprintf(line, sizeof line, "bad ids %u %u %u %u", ids[0], ids[1], ids[2], ids[3]);
    log_line(self, line);
}

/// Logs the profile that an earlier delivery retained, and releases it.
static void read_kept(instance *self) {
    char line[256];
    gw_slice body = self->kept->samples[0].bytes, service = self->kept->labels[self->kept->label_count - 1].value;
    snprintf(line, sizeof line, "kept %.*s of %.*s", (int)body.count, (const char *)body.bytes, (int)service.count, (const char *)service.bytes);
    log_line(self, line);
    self->host->release(self->kept);
    self->kept = NULL;
}

static void deliver(void *object, const gw_profile *profile, const gw_delivery *delivery) {
    instance *self = object;
    void *token = delivery->token;
    if (does(self, "take signals in deliver")) {
        signal(SIGPIPE, SIG_DFL);
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "finish twice")) {
        finish(self, token, GW_STATUS_DELIVERED, "");
        finish(self, token, GW_STATUS_REJECTED, "the second finish");
    } else if (does(self, "finish made-up tokens")) {
        finish(self, (void *)(uintptr_t)0x123456789abcdefu, GW_STATUS_REJECTED, "made up");
        finish(self, NULL, GW_STATUS_REJECTED, "made up");
        finish(self, (void *)((uintptr_t)token + 1), GW_STATUS_REJECTED, "made up");
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "finish elsewhere")) {
        job job = {self, token};
        pthread_t thread;
        pthread_create(&thread, NULL, finish_elsewhere, &job);
        pthread_join(thread, NULL);
        log_line(self, "finished before deliver returns");
    } else if (does(self, "short outcome")) {
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
        if (delivery->attempt == 1) outcome.size = offsetof(gw_outcome, reason);
        self->host->finish(self->host->context, token, &outcome);
    } else if (does(self, "long outcome")) {
        struct { gw_outcome outcome; char later[64]; } longer = {.outcome = {.size = sizeof longer, .status = GW_STATUS_DELIVERED}};
        self->host->finish(self->host->context, token, &longer.outcome);
    } else if (does(self, "status 0")) {
        finish(self, token, (gw_status)0, "a forgotten status");
    } else if (does(self, "status 99")) {
        finish(self, token, (gw_status)99, "a later status");
    } else if (does(self, "no outcome")) {
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
        // Volatile, so that the compiler does not see the NULL that the header forbids.
        const gw_outcome *volatile none = NULL;
        self->host->finish(self->host->context, token, delivery->attempt == 1 ? none : &outcome);
    } else if (does(self, "unreadable outcome")) {
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
        const gw_outcome *volatile wild = (const gw_outcome *)4096;
        self->host->finish(self->host->context, token, delivery->attempt == 1 ? wild : &outcome);
    } else if (does(self, "half an outcome")) {
        // The second half is on a page that cannot be read.
        char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(pages + 4096, 4096, PROT_NONE);
        size_t *half = (size_t *)(pages + 4096 - 32);
        half[0] = sizeof(gw_outcome), half[1] = GW_STATUS_DELIVERED;
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
        self->host->finish(self->host->context, token, delivery->attempt == 1 ? (const gw_outcome *)(void *)half : &outcome);
    } else if (does(self, "unreadable texts")) {
        const uint8_t *volatile wild = (const uint8_t *)4096;
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_REJECTED, .reason = {wild, 5}, .sender_message = {wild, 6}};
        self->host->log(self->host->context, GW_LEVEL_INFO, (gw_slice){wild, 9});
        self->host->set_health(self->host->context, GW_HEALTH_DEGRADED, (gw_slice){wild, 1000});
        self->host->metric(self->host->context, GW_METRIC_COUNTER, slice("test_labels_total"), slice(""), (const gw_label *)wild, 2);
        self->host->finish(self->host->context, token, &outcome);
    } else if (does(self, "texts without bytes")) {
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_REJECTED, .reason = {NULL, 5}, .sender_message = {NULL, SIZE_MAX}};
        self->host->log(self->host->context, GW_LEVEL_INFO, (gw_slice){NULL, 9});
        self->host->set_health(self->host->context, GW_HEALTH_DEGRADED, (gw_slice){(const uint8_t *)"x", SIZE_MAX});
        self->host->metric(self->host->context, GW_METRIC_COUNTER, slice("test_no_labels_total"), (gw_slice){NULL, 3}, NULL, 7);
        self->host->finish(self->host->context, token, &outcome);
    } else if (does(self, "long texts")) {
        static char text[10000];
        memset(text, 'a', sizeof text);
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_REJECTED, .reason = {(const uint8_t *)text, sizeof text}};
        self->host->finish(self->host->context, token, &outcome);
    } else if (does(self, "log much")) {
        for (int i = 0; i < 5000; i++) log_line(self, "again and again");
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "health 99")) {
        self->host->set_health(self->host->context, (gw_health)99, slice("a later health"));
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "level 99")) {
        self->host->log(self->host->context, (gw_level)99, slice("a later level"));
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "never finish") || does(self, "finish after all") || does(self, "block in abort") || does(self, "finish in abort") || does(self, "linger in abort")) {
        self->open = token;
    } else if (does(self, "block until abort")) {
        wait_for_abort(self);
        finish(self, token, GW_STATUS_ABORTED, "");
    } else if (does(self, "keep after abort")) {
        wait_for_abort(self);
        self->open = token;
    } else if (does(self, "block without end")) {
        for (;;) wait_for_abort(self), self->aborted = 0;
    } else if (does(self, "retain")) {
        if (self->kept) read_kept(self);
        self->host->retain(profile);
        self->kept = profile;
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "use everything")) {
        use_everything(self, profile);
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "bad metrics")) {
        use_bad_metrics(self);
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "metrics of others")) {
        for (const char *const *name = (const char *const[]){"other_total", "gateway_profiles_total", "testing", NULL}; *name; name++)
            self->host->metric(self->host->context, GW_METRIC_COUNTER, slice(*name), slice("a"), NULL, 0);
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "another help")) {
        self->host->metric(self->host->context, GW_METRIC_COUNTER, slice("test_help_total"), slice("one"), NULL, 0);
        self->host->metric(self->host->context, GW_METRIC_COUNTER, slice("test_help_total"), slice("two"), NULL, 0);
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "move in deliver")) {
        if (chdir("/") != 0) abort();
        umask(0);
        finish(self, token, GW_STATUS_DELIVERED, "");
    } else if (does(self, "count attempts")) {
        char line[128];
        snprintf(line, sizeof line, "attempt %u progress %llu", delivery->attempt, (unsigned long long)delivery->progress);
        log_line(self, line);
        gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
        if (delivery->attempt < 3) outcome.status = GW_STATUS_RETRY, outcome.progress = delivery->attempt * 5;
        self->host->finish(self->host->context, token, &outcome);
    } else {
        log_line(self, "delivered");
        finish(self, token, GW_STATUS_DELIVERED, "");
    }
}

static void flush(void *object, void *token) {
    instance *self = object;
    log_line(self, "flush called");
    if (self->kept) read_kept(self);
    if (does(self, "never finish flush")) {
        self->open = token;
        return;
    }
    finish(self, token, GW_STATUS_DELIVERED, "");
    if (does(self, "linger in flush")) usleep(50000);
    if (does(self, "finish flush twice")) finish(self, token, GW_STATUS_DELIVERED, "");
}

static void *finish_after_all(void *object) {
    instance *self = object;
    while (access("go", F_OK) != 0) usleep(10000);
    finish(self, self->open, GW_STATUS_DELIVERED, "");
    return NULL;
}

static void abort_all(void *object) {
    instance *self = object;
    pthread_t thread;
    log_line(self, "abort called");
    if (does(self, "finish after all") && pthread_create(&thread, NULL, finish_after_all, self) == 0) pthread_detach(thread);
    if (does(self, "block in abort")) for (;;) pause();
    if (self->open && (does(self, "finish in abort") || does(self, "keep after abort"))) finish(self, self->open, GW_STATUS_ABORTED, "");
    if (self->open && does(self, "linger in abort")) {
        finish(self, self->open, GW_STATUS_ABORTED, "");
        usleep(50000);
        log_line(self, "abort returns");
    }
    pthread_mutex_lock(&self->lock);
    self->aborted = 1;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static void destroy(void *object) {
    instance *self = object;
    log_line(self, "destroy called");
    if (does(self, "block in destroy")) for (;;) pause();
    if (does(self, "crash in destroy")) raise(SIGKILL);
    if (does(self, "linger in abort")) return; // The memory is kept, so that a later call is logged and does not crash.
    free(self);
}

static const gw_plugin plugin = {
    .size = sizeof plugin, .name = TEXT("test"), .version = TEXT("1.0.0"),
    .create = create, .deliver = deliver, .flush = flush, .abort = abort_all, .destroy = destroy,
};
GW_EXPORT const gw_plugin *gw_plugin_v1(size_t host_size) { return host_size < sizeof(gw_host) ? NULL : &plugin; }
