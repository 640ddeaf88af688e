// A plugin that ends its process when a profile has the word "poison" in its body, in the way that its config names: {"by":"segv"}.
// A profile with the word "report" has it log what the process may do, and {"by":"telling"} has it warn of that at once.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "PluginABI.h"

#ifndef VERSION
#define VERSION "1.2.3"
#endif
#define TEXT(S) {(const uint8_t *)(S), sizeof(S) - 1}

typedef struct { const gw_host *host; char config[128]; } instance;

static int by(const instance *self, const char *way) { return strstr(self->config, way) != NULL; }

// Ends, as far as the compiler knows, when `left` is 0.
static int deeper(volatile long *left) {
    volatile char frame[4096];
    frame[0] = (char)*left;
    return --*left ? deeper(left) + frame[0] : 0;
}

static void *crash_elsewhere(void *none) {
    raise(SIGSEGV);
    return none;
}

static void *overflow_elsewhere(void *none) {
    volatile long left = -1;
    deeper(&left);
    return none;
}

static void wait_for_ever(void) { for (;;) pause(); }

static void crash(const instance *self) {
    volatile long left = -1;
    pthread_t thread;
    if (by(self, "stay") && fork() == 0) {
        // A child that outlives the gateway, until the test ends it.
        static const char name[] = "child";
        int file = open(name, O_CREAT | O_WRONLY, 0600);
        dprintf(file, "%d\n", (int)getpid());
        close(file);
        wait_for_ever();
    }
    // A child of the plugin's own may crash as it likes.
    if (by(self, "fork")) {
        pid_t child = fork();
        if (child == 0) abort();
        waitpid(child, NULL, 0);
    }
    if (by(self, "quit")) _exit(3);
    if (by(self, "overflow") && pthread_create(&thread, NULL, overflow_elsewhere, NULL) == 0) wait_for_ever();
    if (by(self, "segv")) *(volatile int *)8 = 1;
    if (by(self, "abort")) abort();
    if (by(self, "exit")) exit(3);
    if (by(self, "stack")) deeper(&left);
    if (by(self, "close")) for (int i = 3; i < 1024; i++) close(i);
    if (by(self, "raise")) raise(SIGKILL);
    if (by(self, "hang")) wait_for_ever();
    if (by(self, "hog")) {
        char *memory = mmap(NULL, 1 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t i = 0; i < 1 << 28; i += 4096) memory[i] = 1;
        wait_for_ever();
    }
    if (by(self, "thread") && pthread_create(&thread, NULL, crash_elsewhere, NULL) == 0) wait_for_ever();
}

static void report(const instance *self, uint32_t level) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    int highest = 0;
    for (int i = 0; i < 1024; i++) if (fcntl(i, F_GETFD) >= 0) highest = i;
    char text[256];
    int count = snprintf(
        text, sizeof text, "report " VERSION " pid=%d parent=%d user=%u group=%u privileges=%d files=%lu highest=%d nice=%d", (int)getpid(), (int)getppid(),
        getuid(), getgid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), (unsigned long)files.rlim_cur, highest,
        getpriority(PRIO_PROCESS, 0));
    self->host->log(self->host->context, level, (gw_slice){(const uint8_t *)text, (size_t)count});
}

static void *create(const gw_host *host, gw_slice config, gw_error *error) {
    instance *self = calloc(1, sizeof *self);
    if (!self || config.count >= sizeof self->config) {
        error->count = 0;
        free(self);
        return NULL;
    }
    if (memmem(config.bytes, config.count, "at once", 7) && access("calm", F_OK) != 0) abort();
    self->host = host;
    memcpy(self->config, config.bytes, config.count);
    if (by(self, "telling")) report(self, GW_LEVEL_WARNING);
    return self;
}

static void deliver(void *object, const gw_profile *profile, const gw_delivery *delivery) {
    instance *self = object;
    gw_slice body = profile->samples[0].bytes;
    if (memmem(body.bytes, body.count, "poison", 6)) crash(self);
    if (memmem(body.bytes, body.count, "report", 6)) report(self, GW_LEVEL_INFO);
    gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
    self->host->finish(self->host->context, delivery->token, &outcome);
}

static void flush(void *object, void *token) {
    gw_outcome outcome = {.size = sizeof outcome, .status = GW_STATUS_DELIVERED};
    ((instance *)object)->host->finish(((instance *)object)->host->context, token, &outcome);
}

static void nothing(void *object) { (void)object; }

const gw_plugin *gw_plugin_v1(size_t host_size) {
    static const gw_plugin plugin = {
        .size = sizeof plugin, .name = TEXT("crasher"), .version = TEXT(VERSION),
        .create = create, .deliver = deliver, .flush = flush, .abort = nothing, .destroy = free,
    };
    return host_size < sizeof(gw_host) ? NULL : &plugin;
}
