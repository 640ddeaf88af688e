// The files of the admin listener's page.
#pragma once
#include <stddef.h>

/// One file of the page.
typedef struct page_asset {
    const char *name;
    const char *type; ///< Its media type.
    const unsigned char *bytes;
    size_t count;
} page_asset;

/// A file by its number from 0 on; NULL beyond the last one.
const page_asset *page_asset_at(size_t number);
