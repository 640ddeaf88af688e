// Linked with --wrap into what runs under ThreadSanitizer; a real race is reported as without it.
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

// On a machine of two processors the gateway has one event loop, and nothing to race with; here it has four.
long real_sysconf(int name) __asm__("__real_sysconf");
long wrapped_sysconf(int name) __asm__("__wrap_sysconf");
long wrapped_sysconf(int name) { return name == _SC_NPROCESSORS_ONLN ? 8 : real_sysconf(name); }

// What a Swift Mutex does when two threads meet at it lies in libswiftSynchronization, which is not instrumented, so that
// what it guards would look like a race.  What it does otherwise is inlined into instrumented code.
void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))
#define REAL(method) __asm__("__real_$s15Synchronization12_MutexHandleV" method)
#define WRAPPED(method) __asm__("__wrap_$s15Synchronization12_MutexHandleV" method)

SWIFT void real_lock(uint32_t thread, SELF void *mutex) REAL("9_lockSlowyys6UInt32VF");
SWIFT void wrapped_lock(uint32_t thread, SELF void *mutex) WRAPPED("9_lockSlowyys6UInt32VF");
SWIFT void wrapped_lock(uint32_t thread, SELF void *mutex) {
    real_lock(thread, mutex);
    __tsan_acquire(mutex);
}

SWIFT bool real_try_lock(SELF void *mutex) REAL("12_tryLockSlowSbyF");
SWIFT bool wrapped_try_lock(SELF void *mutex) WRAPPED("12_tryLockSlowSbyF");
SWIFT bool wrapped_try_lock(SELF void *mutex) {
    bool is_locked = real_try_lock(mutex);
    if (is_locked) __tsan_acquire(mutex);
    return is_locked;
}

SWIFT void real_unlock(SELF void *mutex) REAL("11_unlockSlowyyF");
SWIFT void wrapped_unlock(SELF void *mutex) WRAPPED("11_unlockSlowyyF");
SWIFT void wrapped_unlock(SELF void *mutex) {
    __tsan_release(mutex);
    real_unlock(mutex);
}
