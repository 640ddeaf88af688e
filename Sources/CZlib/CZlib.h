// zlib, and its initialisers, which are macros that Swift does not see.
#pragma once
#include <zlib.h>

/// Begins inflating gzip (not zlib, not raw).
static inline int czlib_inflate_gzip_init(z_stream *stream) { return inflateInit2(stream, 15 + 16); }
/// Begins deflating to gzip.
static inline int czlib_deflate_gzip_init(z_stream *stream) { return deflateInit2(stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY); }
