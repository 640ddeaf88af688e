#define _GNU_SOURCE
#include "CrashGuard.h"
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

// MARK: The notes

enum { NAME = 256, STACK = 64 << 10, MAGIC = 0x31475243 };

struct crash_guard_slot {
    atomic_bool is_used;
    atomic_bool is_culprit;
    _Atomic uint32_t call;
    _Atomic uint64_t sequence, alone;
    char receiver[NAME], plugin[NAME];
    _Atomic uint64_t open[CRASH_GUARD_OPEN];
};

struct notes {
    uint32_t magic, slot_size;
    atomic_bool has_ended;
    // 0 is none, EXIT is exit(3), other values are signals.
    _Atomic int32_t cause;
    _Atomic int64_t time;
    crash_guard_slot slots[CRASH_GUARD_SLOTS];
};
enum { EXIT = 1000 };

static struct notes *_Atomic notes;
static atomic_int copy = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
// The executable parts of the plugins' libraries; addresses are of use in this process only.
static struct { _Atomic uintptr_t start, end; } code[CRASH_GUARD_SLOTS];
static atomic_bool has_crashed, has_told;
static pid_t owner;

// What this thread calls now.
static _Thread_local struct { crash_guard_slot *slot; enum crash_guard_call call; uint64_t sequence; } current;
static _Thread_local bool has_stack;
// Where this thread goes on when the bytes that it copies cannot be read.
static _Thread_local sigjmp_buf *volatile unreadable;

static const struct { int number; const char *name; } fatal[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGILL, "SIGILL"}, {SIGFPE, "SIGFPE"}, {SIGABRT, "SIGABRT"}, {SIGTRAP, "SIGTRAP"}, {SIGSYS, "SIGSYS"},
};
enum { FATAL = sizeof fatal / sizeof *fatal };
static struct sigaction previous[FATAL];
static const char *const calls[] = {"none", "load", "create", "deliver", "flush", "abort", "destroy", "start", "drain", "timer", "probe", "ready"};
enum { CALLS = sizeof calls / sizeof *calls };

static const char *name_of(int32_t cause) {
    for (int i = 0; i < FATAL; i++) if (fatal[i].number == cause) return fatal[i].name;
    return cause == EXIT ? "exit" : "";
}

size_t crash_guard_size(void) { return sizeof(struct notes); }

// MARK: Text without allocation

typedef struct { size_t count; char bytes[4096]; } text;

// Writes to standard error, unless nobody reads it: a crash must not wait for a log reader.
static void send(text *t) {
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    for (size_t sent = 0; sent < t->count && poll(&ready, 1, 200) == 1 && ready.revents & POLLOUT;) {
        ssize_t count = write(STDERR_FILENO, t->bytes + sent, t->count - sent);
        if (count > 0) sent += (size_t)count;
        else if (errno != EINTR) break;
    }
    t->count = 0;
}

static void add_byte(text *t, char byte) { if (t->count < sizeof t->bytes) t->bytes[t->count++] = byte; }
static void add(text *t, const char *words) { while (*words) add_byte(t, *words++); }

static void add_number(text *t, uint64_t number) {
    char digits[20];
    int count = 0;
    do digits[count++] = (char)('0' + number % 10); while (number /= 10);
    while (count) add_byte(t, digits[--count]);
}

static void add_quoted(text *t, const char *words) {
    add_byte(t, '"');
    for (; *words; words++) add_byte(t, (unsigned char)*words < 0x20 || *words == '"' || *words == '\\' || *words == 0x7F ? '?' : *words);
    add_byte(t, '"');
}

static uint32_t open_count(const crash_guard_slot *slot) {
    uint32_t count = 0;
    for (int i = 0; i < CRASH_GUARD_OPEN; i++) count += atomic_load_explicit(&slot->open[i], memory_order_relaxed) != 0;
    return count;
}

static void add_plugin(text *t, const crash_guard_slot *slot) {
    add(t, " receiver="), add_quoted(t, slot->receiver);
    add(t, " plugin="), add_quoted(t, slot->plugin);
}

// Says in one line each who was called, or else whose code it was.
static void tell(const struct notes *all, const char *cause) {
    text t = {0};
    bool is_known = false;
    for (int i = 0; i < CRASH_GUARD_SLOTS; i++) {
        const crash_guard_slot *slot = &all->slots[i];
        if (!atomic_load(&slot->is_used) || !atomic_load(&slot->is_culprit)) continue;
        is_known = true;
        add(&t, "level=error msg=\"the process crashed in a plugin\" cause="), add(&t, cause), add_plugin(&t, slot);
        if (slot == current.slot) {
            add(&t, " call="), add(&t, calls[current.call]);
            if (current.sequence) add(&t, " sequence="), add_number(&t, current.sequence);
        } else {
            add(&t, " call=none open="), add_number(&t, open_count(slot));
        }
        add_byte(&t, '\n');
    }
    if (!is_known) add(&t, "level=error msg=\"the process crashed outside of any plugin's code\" cause="), add(&t, cause), add_byte(&t, '\n');
    send(&t);
}

// MARK: Whose code it was

static void blame_code(struct notes *all, uintptr_t address) {
    for (int i = 0; i < CRASH_GUARD_SLOTS; i++) {
        if (address < atomic_load(&code[i].start) || address >= atomic_load(&code[i].end)) continue;
        if (atomic_load(&all->slots[i].is_used)) atomic_store(&all->slots[i].is_culprit, true);
    }
}

static bool is_blamed(const struct notes *all) {
    for (int i = 0; i < CRASH_GUARD_SLOTS; i++) if (atomic_load(&all->slots[i].is_culprit)) return true;
    return false;
}

// Finds the plugin whose code the thread was in, or else the nearest caller of a plugin: the stack has the return addresses.  The stack is
// read by a system call, which fails at its end instead of crashing.
static void blame_stack(struct notes *all, const ucontext_t *context) {
#if defined(__x86_64__)
    uintptr_t place = (uintptr_t)context->uc_mcontext.gregs[REG_RIP], stack = (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    uintptr_t place = context->uc_mcontext.pc, stack = context->uc_mcontext.sp;
    blame_code(all, context->uc_mcontext.regs[30]);
#else
    uintptr_t place = 0, stack = 0;
#endif
    blame_code(all, place);
    uintptr_t words[256];
    stack &= ~(uintptr_t)(sizeof words - 1);
    for (int block = 0; block < 128 && !is_blamed(all); block++, stack += sizeof words) {
        struct iovec here = {words, sizeof words}, there = {(void *)stack, sizeof words};
        if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != (ssize_t)sizeof words) break;
        for (size_t i = 0; i < sizeof words / sizeof *words && !is_blamed(all); i++) blame_code(all, words[i]);
    }
}

// MARK: The end of the process

static void report(int32_t cause, const ucontext_t *context) {
    struct notes *all = atomic_load(&notes);
    if (current.slot) atomic_store(&current.slot->is_culprit, true);
    else if (context) blame_stack(all, context);
    atomic_store(&all->time, (int64_t)time(NULL));
    atomic_store(&all->cause, cause);
    tell(all, name_of(cause));
    // Last, and with a bound: the disk may not answer.
    int file = atomic_load(&copy);
    if (file < 0) return;
    signal(SIGALRM, SIG_DFL);
    alarm(5);
    for (size_t done = 0; done < sizeof *all;) {
        ssize_t count = pwrite(file, (char *)all + done, sizeof *all - done, (off_t)done);
        if (count > 0) done += (size_t)count;
        else if (count == 0 || errno != EINTR) break;
    }
    alarm(0);
}

static void crashed(int number, siginfo_t *info, void *context) {
    if (unreadable && info->si_code > 0 && (number == SIGSEGV || number == SIGBUS)) siglongjmp(*unreadable, 1);
    int place = 0;
    while (place < FATAL - 1 && fatal[place].number != number) place++;
    struct sigaction before = previous[place];
    bool has_handler = before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN;
    // Neither a child that a plugin has forked, nor a signal that somebody else has sent, is a crash of a plugin.
    bool is_crash = getpid() == owner && (info->si_code > 0 || info->si_pid == owner);
    if (is_crash && !atomic_exchange(&has_crashed, true)) {
        report(number, context);
        atomic_store(&has_told, true);
    } else if (is_crash) {
        // Another thread is telling of its own crash, and must not be cut off.
        for (int i = 0; i < 600 && !atomic_load(&has_told); i++) poll(NULL, 0, 10);
    }
    if (has_handler) {
        // Most likely the one that prints a stack trace; who and where come below it once more.
        if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(number, info, context);
        else before.sa_handler(number);
        if (is_crash) tell(atomic_load(&notes), fatal[place].name);
    }
    signal(number, SIG_DFL);
    // On return a faulting instruction faults again, which ends the process; what was sent, or traps behind its instruction, does not.
    if (info->si_code <= 0 || number == SIGTRAP || number == SIGSYS) raise(number);
}

static void exited(void) {
    struct notes *all = atomic_load(&notes);
    if (!all || getpid() != owner || atomic_load(&all->has_ended) || atomic_exchange(&has_crashed, true)) return;
    report(EXIT, NULL);
}

void crash_guard_begin(void *memory, int descriptor) {
    struct notes *fresh = memory;
    // Bytes that the system is asked to forget are zero, and take no memory before they are written.
    if (madvise(fresh, sizeof *fresh, MADV_REMOVE)) memset(fresh, 0, sizeof *fresh);
    fresh->magic = MAGIC, fresh->slot_size = sizeof *fresh->slots;
    atomic_store(&copy, descriptor);
    atomic_store(&notes, fresh);
    if (owner) return;
    owner = getpid();
    struct sigaction action = {.sa_sigaction = crashed, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < FATAL; i++) sigaction(fatal[i].number, &action, &previous[i]);
    atexit(exited);
}

void crash_guard_end(void) {
    struct notes *all = atomic_load(&notes);
    if (all) atomic_store(&all->has_ended, true);
}

bool crash_guard_copy(void *to, const void *from, size_t count) {
    sigjmp_buf here;
    // The handler runs with the thread's own signal mask, so that there is none to bring back.
    bool is_readable = sigsetjmp(here, 0) == 0;
    if (is_readable) {
        unreadable = &here;
        atomic_signal_fence(memory_order_seq_cst);
        memcpy(to, from, count);
        atomic_signal_fence(memory_order_seq_cst);
    }
    unreadable = NULL;
    return is_readable;
}

// MARK: Slots

crash_guard_slot *crash_guard_add(const char *receiver) {
    struct notes *all = atomic_load(&notes);
    crash_guard_slot *slot = NULL;
    pthread_mutex_lock(&lock);
    for (int i = 0; all && i < CRASH_GUARD_SLOTS && !slot; i++) {
        if (atomic_load(&all->slots[i].is_used)) continue;
        slot = &all->slots[i];
        atomic_store(&code[i].end, 0);
        memset(slot, 0, sizeof *slot);
        strncpy(slot->receiver, receiver, NAME - 1);
        atomic_store(&slot->is_used, true);
    }
    pthread_mutex_unlock(&lock);
    return slot;
}

void crash_guard_remove(crash_guard_slot *slot) { atomic_store(&slot->is_used, false); }

struct search { uintptr_t inside, start, end; };

static int find_library(struct dl_phdr_info *info, size_t size, void *context) {
    struct search *search = context;
    uintptr_t start = UINTPTR_MAX, end = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, to = from + info->dlpi_phdr[i].p_memsz;
        if (from < start) start = from;
        if (to > end) end = to;
    }
    if (search->inside < start || search->inside >= end) return 0;
    search->start = start, search->end = end;
    return 1;
}

void crash_guard_name(crash_guard_slot *slot, const char *plugin, const void *inside) {
    struct search search = {.inside = (uintptr_t)inside};
    if (inside) dl_iterate_phdr(find_library, &search);
    pthread_mutex_lock(&lock);
    strncpy(slot->plugin, plugin, NAME - 1);
    size_t index = (size_t)(slot - atomic_load(&notes)->slots);
    atomic_store(&code[index].start, search.start);
    atomic_store(&code[index].end, search.end);
    pthread_mutex_unlock(&lock);
}

static pthread_key_t stacks;
static pthread_once_t stacks_once = PTHREAD_ONCE_INIT;

static void free_stack(void *memory) {
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    free(memory);
}

static void make_key(void) { pthread_key_create(&stacks, free_stack); }

// The handler needs another stack where a thread's own has overflown.  It is freed with the thread.
static void make_stack(void) {
    has_stack = true;
    stack_t present;
    if (sigaltstack(NULL, &present) == 0 && !(present.ss_flags & SS_DISABLE)) return;
    pthread_once(&stacks_once, make_key);
    stack_t stack = {.ss_sp = malloc(STACK), .ss_size = STACK};
    if (!stack.ss_sp) return;
    pthread_setspecific(stacks, stack.ss_sp);
    sigaltstack(&stack, NULL);
}

// The other threads may go on while a crash is told, and must not change what the notes say of it.
static bool is_frozen(void) { return atomic_load_explicit(&has_crashed, memory_order_relaxed); }

void crash_guard_enter(crash_guard_slot *slot, enum crash_guard_call call, uint64_t sequence) {
    if (!has_stack) make_stack();
    current.slot = slot, current.call = call, current.sequence = sequence;
    // Another thread than the instance's calls `abort`, beside a call that has not returned.
    if (call == CRASH_GUARD_ABORT || is_frozen()) return;
    atomic_store_explicit(&slot->sequence, sequence, memory_order_relaxed);
    atomic_store_explicit(&slot->call, call, memory_order_relaxed);
}

void crash_guard_leave(void) {
    if (current.call != CRASH_GUARD_ABORT && !is_frozen()) atomic_store_explicit(&current.slot->call, CRASH_GUARD_NO_CALL, memory_order_relaxed);
    current.slot = NULL;
}

void crash_guard_opened(crash_guard_slot *slot, size_t index, uint64_t sequence) {
    if (index < CRASH_GUARD_OPEN && !is_frozen()) atomic_store_explicit(&slot->open[index], sequence, memory_order_relaxed);
}

void crash_guard_closed(crash_guard_slot *slot, size_t index) { crash_guard_opened(slot, index, 0); }

void crash_guard_alone(crash_guard_slot *slot, uint64_t sequence) { atomic_store_explicit(&slot->alone, sequence, memory_order_relaxed); }

// MARK: Reading

bool crash_guard_has_report(const void *memory, const char **cause, int64_t *when) {
    const struct notes *all = memory;
    if (all->magic != MAGIC || all->slot_size != sizeof *all->slots || atomic_load(&all->has_ended)) return false;
    *cause = name_of(atomic_load(&all->cause));
    *when = atomic_load(&all->time);
    return true;
}

bool crash_guard_read(void *memory, size_t index, crash_guard_entry *entry) {
    struct notes *all = memory;
    crash_guard_slot *slot = &all->slots[index];
    if (!atomic_load(&slot->is_used)) return false;
    slot->receiver[NAME - 1] = slot->plugin[NAME - 1] = 0;
    uint32_t call = atomic_load(&slot->call);
    *entry = (crash_guard_entry){
        slot->receiver, slot->plugin, call < CALLS ? call : CRASH_GUARD_NO_CALL, atomic_load(&slot->sequence), atomic_load(&slot->alone),
        atomic_load(&slot->is_culprit), (const uint64_t *)slot->open,
    };
    return true;
}
