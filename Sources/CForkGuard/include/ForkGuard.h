// Closes descriptors in children that a plugin forks without running another program: they would keep the gateway's ports and locks
// taken after it has ended.
//
// The functions may be called from any thread.
#pragma once

/// Has a descriptor closed in forked children; one of 65536 or more is not noted.
void fork_guard_add(int descriptor);
/// Forgets a descriptor; must be called before it is closed.
void fork_guard_remove(int descriptor);
