// Wrappers that are linked with --wrap into programs under ThreadSanitizer; real races are still reported.
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

// With two processors the gateway has only one event loop; with eight it has four, which can race.
long real_sysconf(int name) __asm__("__real_sysconf");
long wrapped_sysconf(int name) __asm__("__wrap_sysconf");
long wrapped_sysconf(int name) { return name == _SC_NPROCESSORS_ONLN ? 8 : real_sysconf(name); }

// The slow path of a Swift Mutex is in libswiftSynchronization, which is not instrumented, so that guarded accesses would look
// like races. The fast path is inlined into instrumented code.
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
