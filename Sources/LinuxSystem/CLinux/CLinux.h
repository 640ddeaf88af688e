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
/// The bytes of one of the three parts of a block whose checksums are computed at the same time.
#define CLINUX_CRC32C_PART 512

__attribute__((target("sse4.2")))
static inline unsigned long long clinux_crc32c_word(unsigned long long crc, const unsigned char *bytes) {
    unsigned long long word;
    __builtin_memcpy(&word, bytes, 8);
    return __builtin_ia32_crc32di(crc, word);
}

/// The CRC-32C of the same bytes followed by others that are zero; `power` is x^(8 * their number - 33) modulo the polynomial, reflected.
__attribute__((target("sse4.2,pclmul")))
static inline unsigned long long clinux_crc32c_shift(unsigned long long crc, long long power) {
    typedef long long pair __attribute__((vector_size(16)));
    pair product = __builtin_ia32_pclmulqdq128((pair){(long long)crc, 0}, (pair){power, 0}, 0);
    return __builtin_ia32_crc32di(0, (unsigned long long)product[0]);
}

/// Goes on with a CRC-32C over `count` bytes, by the processor's own instructions; only where ``clinux_has_crc32c`` says so.
///
/// The instruction gives its result after three cycles, but one can begin in each cycle, so that large blocks are divided into three parts.
__attribute__((target("sse4.2,pclmul")))
static inline uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count) {
    const unsigned char *next = bytes;
    unsigned long long state = crc;
    for (; count >= 3 * CLINUX_CRC32C_PART; count -= 3 * CLINUX_CRC32C_PART, next += 3 * CLINUX_CRC32C_PART) {
        unsigned long long second = 0, third = 0;
        for (const unsigned char *end = next + CLINUX_CRC32C_PART, *at = next; at < end; at += 8) {
            state = clinux_crc32c_word(state, at);
            second = clinux_crc32c_word(second, at + CLINUX_CRC32C_PART);
            third = clinux_crc32c_word(third, at + 2 * CLINUX_CRC32C_PART);
        }
        state = clinux_crc32c_shift(state, 0x170076fa) ^ clinux_crc32c_shift(second, 0xdd7e3b0c) ^ third;
    }
    for (; count >= 8; count -= 8, next += 8) state = clinux_crc32c_word(state, next);
    for (; count > 0; count--, next++) state = __builtin_ia32_crc32qi((unsigned int)state, *next);
    return (uint32_t)state;
}
static inline int clinux_has_crc32c(void) {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") ? 1 : 0;
}
#else
static inline uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count) { (void)bytes; (void)count; return crc; }
static inline int clinux_has_crc32c(void) { return 0; }
#endif
