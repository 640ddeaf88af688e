#include "ForkGuard.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

enum { WORDS = 1024 };
static _Atomic uint64_t noted[WORDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

// Runs in the child, where only this thread exists.
static void close_noted(void) {
    for (int word = 0; word < WORDS; word++)
        for (uint64_t bits = atomic_load_explicit(&noted[word], memory_order_relaxed); bits; bits &= bits - 1)
            close(word * 64 + __builtin_ctzll(bits));
}

static void install(void) { pthread_atfork(NULL, NULL, close_noted); }

void fork_guard_add(int descriptor) {
    pthread_once(&once, install);
    if (descriptor >= 0 && descriptor < WORDS * 64) atomic_fetch_or(&noted[descriptor / 64], UINT64_C(1) << descriptor % 64);
}

void fork_guard_remove(int descriptor) {
    if (descriptor < 0 || descriptor >= WORDS * 64) return;
    uint64_t bit = UINT64_C(1) << descriptor % 64;
    // Most descriptors are not noted.
    if (atomic_load_explicit(&noted[descriptor / 64], memory_order_relaxed) & bit) atomic_fetch_and(&noted[descriptor / 64], ~bit);
}
