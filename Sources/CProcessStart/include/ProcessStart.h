// What a program is started with, as the C library hands it over before `main`.
//
// Swift's own list of arguments comes from /proc, or from what lies before `environ`; it is empty without the one and after a
// setenv(3) in a library that was loaded before.
#pragma once

/// How many words the command line has, the program's name among them.
int process_start_count(void);
/// One word of the command line; NULL beyond the last one.  Valid as long as the process.
const char *process_start_word(int index);
/// The path that the kernel ran (AT_EXECFN), which may be relative to the folder the process was started in; NULL when unknown.
const char *process_start_path(void);
