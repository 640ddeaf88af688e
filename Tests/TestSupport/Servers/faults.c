// Makes file operations fail as a test says, by LD_PRELOAD.
//
// FAULTS_BELOW    the folder with the affected files and folders, as a path without links
// FAULTS_CONTROL  a file with one rule (fault_rules.h) a line, read again when rename has replaced it
// FAULTS_LOG      a file that gets a line for each affected call when it is done: NAME PATH OFFSET COUNT RESULT ERRNO [injected];
//                 a sync also has a line with `begin-` and its name before it begins, and a rename has `rename-from` before it
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "fault_rules.h"

struct file { dev_t device; ino_t inode; off_t from, to; };  // The range that was written and not synced.

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[1024];
static size_t file_count;
static int log_fd = -2;

static bool is_below(const char *path) {
    static const char *below;
    if (!below && !(below = getenv("FAULTS_BELOW"))) return false;
    return strncmp(path, below, strlen(below)) == 0 && (path[strlen(below)] == '/' || path[strlen(below)] == 0);
}

static bool name_fd(int fd, char path[PATH_MAX]) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t count = readlink(link, path, PATH_MAX - 1);
    if (count < 0) return false;
    path[count] = 0;
    // A file without a name is affected no more.
    return is_below(path) && !strstr(path, " (deleted)");
}

// Makes the path absolute and free of links, also if the file is missing; false if it is not affected.
static bool name_path(int folder, const char *given, char path[PATH_MAX]) {
    char joined[PATH_MAX], parent[PATH_MAX];
    if (given[0] == '/') snprintf(joined, sizeof joined, "%s", given);
    else if (folder == AT_FDCWD) snprintf(joined, sizeof joined, "./%s", given);
    else snprintf(joined, sizeof joined, "/proc/self/fd/%d/%s", folder, given);
    char *slash = strrchr(joined, '/');
    if (!slash || slash == joined) return false;
    *slash = 0;
    if (!realpath(joined, parent)) return false;
    return snprintf(path, PATH_MAX, "%s/%s", parent, slash + 1) < PATH_MAX && is_below(path);
}

static void say(const char *call, const char *path, off_t offset, long count, long result, bool injected) {
    int error = errno;
    if (log_fd == -2) {
        const char *name = getenv("FAULTS_LOG");
        log_fd = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    }
    char line[PATH_MAX + 128];
    int length = snprintf(line, sizeof line, "%s %s %ld %ld %ld %d%s\n", call, path, (long)offset, count, result, result < 0 ? error : 0,
                          injected ? " injected" : "");
    if (log_fd >= 0) syscall(SYS_write, log_fd, line, (size_t)length);
    errno = error;
}

static struct file *find_file(int fd) {
    struct stat now;
    if (fstat(fd, &now) != 0) return NULL;
    for (size_t i = 0; i < file_count; i++)
        if (files[i].device == now.st_dev && files[i].inode == now.st_ino) return &files[i];
    if (file_count == sizeof files / sizeof *files) return NULL;
    files[file_count] = (struct file){now.st_dev, now.st_ino, 0, 0};
    return &files[file_count++];
}

static void note_written(int fd, off_t offset, ssize_t count) {
    struct file *file = find_file(fd);
    if (!file || count <= 0) return;
    if (file->from == file->to) file->from = offset, file->to = offset;
    if (offset < file->from) file->from = offset;
    if (offset + count > file->to) file->to = offset + count;
}

static void lose(struct file *file, const char *path) {
    static const char zeros[4096];
    int fd = file ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0) : -1;
    for (off_t at = file ? file->from : 0; fd >= 0 && at < file->to; at += (off_t)sizeof zeros) {
        size_t left = (size_t)(file->to - at);
        syscall(SYS_pwrite64, fd, zeros, left < sizeof zeros ? left : sizeof zeros, at);
    }
    if (fd >= 0) close(fd);
}

// Does all kinds of writes; an offset below 0 stands for the current position or the end.
static ssize_t write_all(const char *call, int fd, const struct iovec *parts, int count, off_t offset) {
    char path[PATH_MAX];
    struct rule rule;
    bool is_meant = name_fd(fd, path), appends = offset < 0;
    if (!is_meant) return appends ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0L);
    long wanted = 0;
    int most = 0;  // The first part that is not empty, plus 1.
    for (int i = 0; i < count; i++) wanted += (long)parts[i].iov_len, most = parts[i].iov_len && !most ? i + 1 : most;
    pthread_mutex_lock(&lock);
    bool hit = applies(call, path, &rule);
    if (appends) {
        struct stat now;
        offset = fcntl(fd, F_GETFL) & O_APPEND && fstat(fd, &now) == 0 ? now.st_size : lseek(fd, 0, SEEK_CUR);
    }
    ssize_t result;
    if (hit && !rule.is_short) {
        errno = rule.error;
        result = -1;
    } else {
        struct iovec half = most ? parts[most - 1] : (struct iovec){NULL, 0};
        if (hit && (long)half.iov_len > wanted / 2 && wanted > 1) half.iov_len = (size_t)(wanted / 2);
        const struct iovec *given = hit ? &half : parts;
        int given_count = hit ? 1 : count;
        result = appends ? syscall(SYS_writev, fd, given, given_count) : syscall(SYS_pwritev, fd, given, given_count, offset, 0L);
        note_written(fd, offset, result);
    }
    say(call, path, offset, wanted, result, hit);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t count) { return write_all("write", fd, &(struct iovec){(void *)bytes, count}, 1, -1); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return write_all("writev", fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return write_all("pwrite", fd, &(struct iovec){(void *)bytes, count}, 1, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) __attribute__((alias("pwrite")));
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return offset < 0 ? (errno = EINVAL, -1) : write_all("pwritev", fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) __attribute__((alias("pwritev")));
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return flags ? (errno = EOPNOTSUPP, -1) : write_all("pwritev", fd, parts, count, offset);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) __attribute__((alias("pwritev2")));

static int sync_file(const char *call, long number, int fd) {
    char path[PATH_MAX];
    struct rule rule;
    if (!name_fd(fd, path)) return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    bool hit = applies(call, path, &rule);
    struct file *file = find_file(fd);
    off_t end = file ? file->to : 0;
    char begin[32];
    snprintf(begin, sizeof begin, "begin-%s", call);
    say(begin, path, 0, 0, 0, false);
    int result = -1;
    if (hit) {
        if (rule.loses) lose(file, path);
        errno = rule.error;
    } else {
        // Other threads may write during the sync.
        pthread_mutex_unlock(&lock);
        result = (int)syscall(number, fd);
        pthread_mutex_lock(&lock);
    }
    // A lost page is clean, so no later sync writes it.
    if (file && (result == 0 || (hit && rule.loses))) file->from = file->to > end ? end : file->to;
    say(call, path, 0, 0, result, hit);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_file("fsync", SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file("fdatasync", SYS_fdatasync, fd); }

// Whether a call on this path fails; if not, `say_done` must follow.
static bool fails(const char *call, const char *path) {
    struct rule rule;
    pthread_mutex_lock(&lock);
    bool hit = applies(call, path, &rule);
    if (hit) {
        errno = rule.error;
        say(call, path, 0, 0, -1, true);
    }
    pthread_mutex_unlock(&lock);
    return hit;
}

static int say_done(const char *call, const char *path, int result) {
    pthread_mutex_lock(&lock);
    say(call, path, 0, 0, result, false);
    pthread_mutex_unlock(&lock);
    return result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char path[PATH_MAX];
    if (!name_path(to_folder, to, path)) return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (fails("rename", path)) return -1;
    char source[PATH_MAX];
    bool is_known = name_path(from_folder, from, source);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (is_known) say("rename-from", source, 0, 0, result, false);
    say("rename", path, 0, 0, result, false);
    pthread_mutex_unlock(&lock);
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) { return renameat2(from_folder, from, to_folder, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char path[PATH_MAX];
    if (!name_path(to_folder, to, path)) return (int)syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    if (fails("link", path)) return -1;
    return say_done("link", path, (int)syscall(SYS_linkat, from_folder, from, to_folder, to, flags));
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    if (!name_fd(fd, path)) return (int)syscall(SYS_ftruncate, fd, size);
    if (fails("ftruncate", path)) return -1;
    return say_done("ftruncate", path, (int)syscall(SYS_ftruncate, fd, size));
}
int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));

int fallocate(int fd, int mode, off_t offset, off_t count) {
    char path[PATH_MAX];
    if (!name_fd(fd, path)) return (int)syscall(SYS_fallocate, fd, mode, offset, count);
    if (fails("fallocate", path)) return -1;
    return say_done("fallocate", path, (int)syscall(SYS_fallocate, fd, mode, offset, count));
}
int fallocate64(int fd, int mode, off_t offset, off_t count) __attribute__((alias("fallocate")));
int posix_fallocate(int fd, off_t offset, off_t count) { return fallocate(fd, 0, offset, count) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off_t offset, off_t count) __attribute__((alias("posix_fallocate")));

// Opens a file; opening a new one is a `create`.
static int open_file(int folder, const char *given, int flags, unsigned mode) {
    char path[PATH_MAX];
    struct stat there;
    if (!name_path(folder, given, path)) return (int)syscall(SYS_openat, folder, given, flags, mode);
    if (!(flags & O_CREAT) || fstatat(folder, given, &there, 0) == 0)
        return fails("open", path) ? -1 : (int)syscall(SYS_openat, folder, given, flags, mode);
    if (fails("create", path)) return -1;
    return say_done("create", path, (int)syscall(SYS_openat, folder, given, flags, mode));
}

#define OPEN_MODE(flags, mode)             \
    unsigned mode = 0;                     \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest;                      \
        va_start(rest, flags);             \
        mode = va_arg(rest, unsigned);     \
        va_end(rest);                      \
    }

int open(const char *path, int flags, ...) {
    OPEN_MODE(flags, mode)
    return open_file(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    OPEN_MODE(flags, mode)
    return open_file(folder, path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int folder, const char *path, int flags, ...) __attribute__((alias("openat")));

// Reads and listings can fail, but successful ones are not logged.
ssize_t pread(int fd, void *bytes, size_t count, off_t offset) {
    char path[PATH_MAX];
    return name_fd(fd, path) && fails("pread", path) ? -1 : syscall(SYS_pread64, fd, bytes, count, offset);
}
ssize_t pread64(int fd, void *bytes, size_t count, off_t offset) __attribute__((alias("pread")));
ssize_t read(int fd, void *bytes, size_t count) {
    char path[PATH_MAX];
    return name_fd(fd, path) && fails("read", path) ? -1 : syscall(SYS_read, fd, bytes, count);
}

struct dirent *readdir(DIR *folder) {
    static struct dirent *(*next)(DIR *);
    char path[PATH_MAX];
    if (!next) next = (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir");
    return name_fd(dirfd(folder), path) && fails("readdir", path) ? NULL : next(folder);
}
struct dirent64 *readdir64(DIR *folder) {
    static struct dirent64 *(*next)(DIR *);
    char path[PATH_MAX];
    if (!next) next = (struct dirent64 * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir64");
    return name_fd(dirfd(folder), path) && fails("readdir", path) ? NULL : next(folder);
}
