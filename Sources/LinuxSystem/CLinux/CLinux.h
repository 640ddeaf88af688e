// What Glibc's Swift module leaves out.  _GNU_SOURCE is not defined here: it would change fd_set under Swift's own Glibc module.
#pragma once
#include <netinet/in.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

extern int accept4(int, struct sockaddr *, socklen_t *, int);
extern int close_range(unsigned int, unsigned int, int);
extern ssize_t fgetxattr(int, const char *, void *, size_t);
extern ssize_t getxattr(const char *, const char *, void *, size_t);
#define CLINUX_CLOSE_RANGE_CLOEXEC 4
extern int malloc_trim(size_t);
extern int mallopt(int, int);
#define CLINUX_TRIM_THRESHOLD -1
#define CLINUX_MMAP_THRESHOLD -3
extern int memfd_create(const char *, unsigned int);
extern int fallocate(int, int, off_t, off_t);
#define CLINUX_PUNCH_HOLE_KEEP_SIZE 3
extern unsigned long getauxval(unsigned long);
#define CLINUX_AT_EXECFN 31
#define CLINUX_O_PATH 010000000
extern int unshare(int);
#define CLINUX_CLONE_FS 0x200
extern int prctl(int, ...);
/// prctl(2) with one argument, which Swift cannot call by itself.
static inline int clinux_prctl(int option, unsigned long value) { return prctl(option, value, 0UL, 0UL, 0UL); }
#define CLINUX_PDEATHSIG 1
#define CLINUX_NO_NEW_PRIVS 38
extern char **environ;
static inline char **clinux_environment(void) { return environ; }
extern const char *sigabbrev_np(int);
extern int setgroups(size_t, const gid_t *);
#define CLINUX_MADV_DONTDUMP 16
extern int pthread_setname_np(pthread_t, const char *);
#define CLINUX_SCHED_IDLE 5
/// sched_setattr(2) for the calling thread, for which glibc has no function: a nice value, and the slice in nanoseconds.
static inline int clinux_set_nice_and_slice(int32_t nice, uint64_t slice) {
    const struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof attributes, .nice = nice, .runtime = slice};
    return (int)syscall(SYS_sched_setattr, 0, &attributes, 0);
}
#define CLINUX_POLLRDHUP 0x2000
extern int syncfs(int);
/// How many processors the calling thread may run on; 0 when the system does not say.
static inline int clinux_usable_processors(void) {
    unsigned long mask[128];
    long size = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int count = 0;
    for (long i = 0; i < size / (long)sizeof *mask; i++) count += __builtin_popcountl(mask[i]);
    return count;
}

#if defined(__x86_64__)
/// Goes on with a CRC-32C over `count` bytes, by the processor's own instruction; only where ``clinux_has_crc32c`` says so.
__attribute__((target("sse4.2")))
static inline uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count) {
    const unsigned char *next = bytes;
    unsigned long long state = crc;
    for (; count >= 8; count -= 8, next += 8) {
        unsigned long long word;
        __builtin_memcpy(&word, next, 8);
        state = __builtin_ia32_crc32di(state, word);
    }
    for (; count > 0; count--, next++) state = __builtin_ia32_crc32qi((unsigned int)state, *next);
    return (uint32_t)state;
}
static inline int clinux_has_crc32c(void) { return __builtin_cpu_supports("sse4.2") ? 1 : 0; }
#else
static inline uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count) { (void)bytes; (void)count; return crc; }
static inline int clinux_has_crc32c(void) { return 0; }
#endif
