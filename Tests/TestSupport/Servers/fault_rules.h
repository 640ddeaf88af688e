// The rules of faults.c, which say which calls fail.
//
// A rule is `call=NAME [path=TEXT] [skip=N] [count=N] error=ERRNO` or `… short=1`, separated by spaces. Of the calls of that name on
// a path that contains that text, the first `skip` succeed, and then `count` (by default all) fail or write half of their bytes. A
// name is write, pwrite, writev, pwritev, fsync, fdatasync, rename, link, ftruncate, fallocate, create, open (of an existing file),
// read, pread or readdir, or one of the groups writes, syncs, renames and reads (with open).
// With `lose=1` a failing sync acts like a disk: all that was written since the last successful sync becomes zeros.
#pragma once
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct rule { char call[24], path[64]; long skip, count, seen; int error; bool is_short, loses; };

static struct rule rules[16];
static size_t rule_count;
static struct stat control;

static int error_number(const char *name) {
    static const struct { const char *name; int number; } known[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EACCES", EACCES}, {"EROFS", EROFS}, {"EMFILE", EMFILE},
        {"ENFILE", ENFILE}, {"ENOMEM", ENOMEM}, {"ESTALE", ESTALE}, {"ENOTCONN", ENOTCONN}, {"ENOENT", ENOENT}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) return known[i].number;
    fprintf(stderr, "faults: no such error: %s\n", name);
    abort();
}

static void read_rule(char *line) {
    struct rule rule = {.count = LONG_MAX};
    for (char *save, *word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char *value = strchr(word, '=');
        if (!value) continue;
        *value++ = 0;
        if (strcmp(word, "call") == 0) snprintf(rule.call, sizeof rule.call, "%s", value);
        else if (strcmp(word, "path") == 0) snprintf(rule.path, sizeof rule.path, "%s", value);
        else if (strcmp(word, "skip") == 0) rule.skip = atol(value);
        else if (strcmp(word, "count") == 0) rule.count = atol(value);
        else if (strcmp(word, "error") == 0) rule.error = error_number(value);
        else if (strcmp(word, "short") == 0) rule.is_short = true;
        else if (strcmp(word, "lose") == 0) rule.loses = true;
    }
    if (rule.call[0] && rule_count < sizeof rules / sizeof *rules) rules[rule_count++] = rule;
}

static void read_rules(void) {
    const char *path = getenv("FAULTS_CONTROL");
    struct stat now;
    if (!path || stat(path, &now) != 0) return;
    if (now.st_ino == control.st_ino && now.st_mtim.tv_sec == control.st_mtim.tv_sec && now.st_mtim.tv_nsec == control.st_mtim.tv_nsec) return;
    control = now;
    rule_count = 0;
    FILE *file = fopen(path, "re");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        read_rule(line);
    }
    if (file) fclose(file);
}

static bool is_family(const char *family, const char *call) {
    if (strcmp(family, "writes") == 0) return strstr(call, "write") != NULL;
    if (strcmp(family, "syncs") == 0) return strstr(call, "sync") != NULL;
    if (strcmp(family, "renames") == 0) return strstr(call, "rename") != NULL;
    if (strcmp(family, "reads") == 0) return strcmp(call, "open") == 0 || strcmp(call, "read") == 0 || strcmp(call, "pread") == 0;
    return strcmp(family, call) == 0;
}

// Whether a rule applies to this call now; stores that rule.
static bool applies(const char *call, const char *path, struct rule *found) {
    read_rules();
    for (size_t i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if (!is_family(rule->call, call) || !strstr(path, rule->path)) continue;
        long turn = rule->seen++;
        if (turn < rule->skip || turn - rule->skip >= rule->count) continue;
        *found = *rule;
        return true;
    }
    return false;
}
