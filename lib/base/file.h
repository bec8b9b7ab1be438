/* Files: mmap, whole reads, atomic writes. Messages name the path. */
#ifndef B2_BASE_FILE_H
#define B2_BASE_FILE_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/arena.h"

typedef struct b2_map {
    const uint8_t *p;
    size_t size; /* an empty file maps to p = NULL, size 0 */
} b2_map;
/* Read-only, private; follows symlinks. A file that shrinks while it is mapped kills its reader (SIGBUS). */
blip2_status b2_map_open(b2_map *m, const char *path, blip2_error *e);
void b2_map_close(b2_map *m);

/* Whole file into malloc'ed memory with a NUL after it; refuses files over `limit` bytes. */
blip2_status b2_read_file(const char *path, size_t limit, char **out, size_t *size, blip2_error *e);
bool b2_file_exists(const char *path);
bool b2_same_folder(const char *a, const char *b);           /* both exist, and are one */
blip2_status b2_make_dirs(const char *path, blip2_error *e); /* mkdir -p */

/* Atomic replacement: written to PATH.tmp.<pid>, fsync'ed, renamed over PATH on commit; abort removes it. */
typedef struct b2_writer {
    FILE *f;
    char *path, *tmp;
    uint64_t crc_bytes; /* bytes written so far */
    uint32_t crc;       /* CRC-32 (zlib polynomial) of all bytes written */
} b2_writer;
blip2_status b2_writer_open(b2_writer *w, const char *path, blip2_error *e);
blip2_status b2_writer_put(b2_writer *w, const void *p, size_t n, blip2_error *e);
blip2_status b2_writer_printf(b2_writer *w, blip2_error *e, const char *fmt, ...) B2_PRINTF(3, 4);
/* Closes; on failure the old file is untouched. */
blip2_status b2_writer_commit(b2_writer *w, blip2_error *e);
void b2_writer_abort(b2_writer *w); /* safe on a zeroed or committed writer */
blip2_status b2_write_file(const char *path, const void *p, size_t n, blip2_error *e); /* open, put, commit */
blip2_status b2_copy_file(const char *from, const char *to, blip2_error *e);
/* Removes what killed processes left of files half written in DIR (NAME.tmp.PROCESS): of NAME, or of all
 * when NULL. Those of processes that still run stay. */
void b2_sweep_leftovers(const char *dir, const char *name);

uint32_t b2_crc32(uint32_t crc, const void *p, size_t n);   /* start with 0 */
uint64_t b2_hash64(uint64_t seed, const void *p, size_t n); /* fast non-cryptographic content hash */
#endif
