// Holds threads where a test says, by LD_PRELOAD.
//
// HOLD_NICE     holds the threads that set this nice value
// HOLD_MESSAGE  holds the threads that send a datagram which begins so
// HOLD_SYNC     holds the threads that sync a file, if it is set
// HOLD_FILE     the file that holds them, as long as it is there; another one with `.held` added is made when a thread is held
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void hold(void) {
    const char *file = getenv("HOLD_FILE");
    if (!file || access(file, F_OK) != 0) return;
    char mark[PATH_MAX];
    snprintf(mark, sizeof mark, "%s.held", file);
    close(open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    while (access(file, F_OK) == 0) usleep(10000);
}

int setpriority(__priority_which_t which, id_t who, int value) {
    static int (*real)(__priority_which_t, id_t, int);
    if (!real) real = (int (*)(__priority_which_t, id_t, int))dlsym(RTLD_NEXT, "setpriority");
    const char *held = getenv("HOLD_NICE");
    if (held && value == atoi(held)) hold();
    return real(which, who, value);
}

ssize_t sendto(int socket, const void *bytes, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "sendto");
    const char *held = getenv("HOLD_MESSAGE");
    if (held && size >= strlen(held) && memcmp(bytes, held, strlen(held)) == 0) hold();
    return real(socket, bytes, size, flags, to, length);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (getenv("HOLD_SYNC")) hold();
    return real(file);
}
