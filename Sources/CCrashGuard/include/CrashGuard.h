// Notes which plugin is called and which deliveries are open, in memory that outlives the process, and says on standard error which
// plugin a fatal signal or exit(3) came from.
//
// The functions may be called from any thread.  The signal handler calls nothing that is not async-signal-safe.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// The calls into a plugin.
enum crash_guard_call {
    CRASH_GUARD_NO_CALL, CRASH_GUARD_LOAD, CRASH_GUARD_CREATE, CRASH_GUARD_DELIVER, CRASH_GUARD_FLUSH, CRASH_GUARD_ABORT, CRASH_GUARD_DESTROY,
    CRASH_GUARD_START, CRASH_GUARD_DRAIN, CRASH_GUARD_TIMER, CRASH_GUARD_PROBE, CRASH_GUARD_READY
};

/// The most deliveries of an instance that are noted.
enum { CRASH_GUARD_OPEN = 512 };
/// The most instances that are noted.
enum { CRASH_GUARD_SLOTS = 128 };

/// One plugin instance in the notes.
typedef struct crash_guard_slot crash_guard_slot;

/// The size of the notes in bytes.
size_t crash_guard_size(void);
/// Begins new notes in `notes`, which has crash_guard_size() bytes, is shared memory, and stays mapped until the process ends.  Installs
/// the handlers of fatal signals and of exit(3) at the first call.  The handlers also write the notes to the file `copy`; -1 for none.
void crash_guard_begin(void *notes, int copy);
/// Copies bytes that a plugin points to; false when they cannot be read, which needs the handlers of crash_guard_begin.
bool crash_guard_copy(void *to, const void *from, size_t count);
/// Notes that the process ends in order, so that exit(3) is no crash and the notes have nothing to tell.
void crash_guard_end(void);

/// Adds an instance; the receiver's name is copied and cut.  NULL when there is no room, or no notes.
crash_guard_slot *crash_guard_add(const char *receiver);
void crash_guard_remove(crash_guard_slot *slot);
/// Names the plugin; copied and cut.  `inside` is an address in its library, by which a crash on the plugin's own threads is
/// recognized; NULL when it is not loaded yet.
void crash_guard_name(crash_guard_slot *slot, const char *plugin, const void *inside);

/// Notes that this thread calls the plugin, until crash_guard_leave.  `sequence` is the profile's, or 0.
void crash_guard_enter(crash_guard_slot *slot, enum crash_guard_call call, uint64_t sequence);
void crash_guard_leave(void);
/// Notes an open delivery; one whose index is not below CRASH_GUARD_OPEN is not noted.
void crash_guard_opened(crash_guard_slot *slot, size_t index, uint64_t sequence);
void crash_guard_closed(crash_guard_slot *slot, size_t index);
/// Notes the profile that is the only one at the plugin, because it was open at an earlier crash; 0 for none.
void crash_guard_alone(crash_guard_slot *slot, uint64_t sequence);

/// One plugin instance in the notes of an ended process.  The pointers are valid as long as the notes.
typedef struct crash_guard_entry {
    const char *receiver, *plugin;
    enum crash_guard_call call;   ///< The call that had not returned.
    uint64_t sequence;            ///< The profile of that call, or 0.
    uint64_t alone;
    bool is_culprit;              ///< The crash was in this plugin's code.
    const uint64_t *open;         ///< CRASH_GUARD_OPEN sequences, of which 0 is none.
} crash_guard_entry;

/// Whether the notes are those of a process that did not end in order; `cause` is then a signal's name, "exit", or "" when the process
/// could not say it, and `time` is Unix seconds, or 0.
bool crash_guard_has_report(const void *notes, const char **cause, int64_t *time);
/// Reads the instance at an index below CRASH_GUARD_SLOTS; false when there is none.
bool crash_guard_read(void *notes, size_t index, crash_guard_entry *entry);
