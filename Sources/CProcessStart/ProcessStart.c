#include "ProcessStart.h"

#include <signal.h>
#include <string.h>
#include <sys/auxv.h>

static int count;
static char **words;

// `run` takes these as messages once it is up; until then they wait, for the process would end by them.
static void hold_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
}

// The C library gives constructors what it gives `main`.
__attribute__((constructor)) static void start(int argument_count, char **arguments, char **environment) {
    (void)environment;
    count = argument_count;
    words = arguments;
    if (argument_count > 1 && strcmp(arguments[1], "run") == 0) hold_signals();
}

int process_start_count(void) { return count; }
const char *process_start_word(int index) { return index >= 0 && index < count ? words[index] : NULL; }
const char *process_start_path(void) { return (const char *)getauxval(AT_EXECFN); }
