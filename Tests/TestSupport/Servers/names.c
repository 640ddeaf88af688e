// Resolves names as a test says, by LD_PRELOAD.
//
// NAMES_CONTROL  a file with lines `NAME ADDRESS` or `NAME hang`, read at each lookup and replaced by rename
// NAMES_LOG      a file that gets a line for each lookup of such a name, before the answer
//
// Other names are resolved as usual. A lookup that hangs is answered once the line of its name has changed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool find(const char *name, char address[64]) {
    const char *path = getenv("NAMES_CONTROL");
    FILE *file = path ? fopen(path, "re") : NULL;
    char line[256], known[128];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) found = sscanf(line, "%127s %63s", known, address) == 2 && strcmp(known, name) == 0;
    if (file) fclose(file);
    return found;
}

static void say(const char *name) {
    const char *path = getenv("NAMES_LOG");
    int log = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (log < 0) return;
    dprintf(log, "%s\n", name);
    close(log);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real) real = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64];
    if (!name || !find(name, address)) return real(name, service, hints, result);
    say(name);
    while (strcmp(address, "hang") == 0) {
        usleep(10000);
        if (!find(name, address)) return EAI_NONAME;
    }
    return real(address, service, hints, result);
}
