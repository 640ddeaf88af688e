// The files that `gateway plugin new` writes.
#pragma once
#include <stddef.h>

/// One file of a project.  In its path and its text, @NAME@ and others stand for what the project is called.
typedef struct plugin_template {
    const char *language;
    const char *path;
    const unsigned char *text; ///< Ends with a NUL.
} plugin_template;

/// A file by its number from 0 on, those of a language one after the other; NULL beyond the last one.
const plugin_template *plugin_template_at(size_t number);
