#define _GNU_SOURCE
#include "CCurl.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

struct ccurl_functions ccurl_functions;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char why[256];

static void open_once(void) {
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *words = dlerror();
        snprintf(why, sizeof why, "%s", words ? words : "libcurl.so.4 cannot be opened");
        return;
    }
#define FIND(name) \
    if (!(ccurl_functions.name = (__typeof__(ccurl_functions.name))dlsym(library, "curl_" #name))) \
        return (void)snprintf(why, sizeof why, "libcurl.so.4 has no function curl_" #name);
    CCURL_FUNCTIONS(FIND)
    if (ccurl_functions.global_init(CURL_GLOBAL_ALL) != CURLE_OK) snprintf(why, sizeof why, "libcurl cannot be initialized");
}

const char *ccurl_open(void) {
    pthread_once(&once, open_once);
    return why[0] ? why : NULL;
}
