// What Glibc's Swift module leaves out.  _GNU_SOURCE is not defined here: it would change fd_set under Swift's own Glibc module.
#pragma once
#include <netinet/in.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

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
extern int pthread_setname_np(pthread_t, const char *);
#define CLINUX_SCHED_IDLE 5
#define CLINUX_POLLRDHUP 0x2000
extern int syncfs(int);

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
