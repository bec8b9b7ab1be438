/* Arenas: sized by running the same code dry, allocated once, never grown.
 *
 *   b2_arena a;  b2_arena_dry(&a);   ...take/mark/release...   size_t need = a.peak;
 *   b2_arena_init(&a, need, account, err);  ...the same takes...  b2_arena_free(&a);
 *
 * In dry mode takes return addresses that must not be touched, only passed on. Not thread-safe. */
#ifndef B2_BASE_ARENA_H
#define B2_BASE_ARENA_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

#define B2_ALIGN 64

/* Bytes that one owner holds: counted where malloc and mmap are called, or what a device has instead. */
typedef struct b2_account {
    _Atomic size_t bytes, peak;
    void *(*take)(void *owner, size_t bytes); /* 64-aligned, zeroed, NULL: there is no more */
    void (*give)(void *owner, void *p);
    void *owner; /* take NULL: the host's own memory */
} b2_account;
/* 64-aligned, zeroed; NULL when out of memory; acc may be NULL. */
void *b2_account_alloc(b2_account *acc, size_t bytes);
void b2_account_free(b2_account *acc, void *p, size_t bytes);
void b2_account_add(b2_account *acc, size_t bytes); /* for mmap */
void b2_account_sub(b2_account *acc, size_t bytes);

typedef struct b2_arena {
    char *base;
    size_t cap, used, peak;
    bool dry, failed; /* failed: a take did not fit (a planning bug, reported by the op layer) */
    b2_account *account;
} b2_arena;
void b2_arena_dry(b2_arena *a);
blip2_status b2_arena_init(b2_arena *a, size_t cap, b2_account *acc, blip2_error *e);
/* 64-aligned; never NULL in dry mode; NULL and failed=true when full. */
void *b2_arena_take(b2_arena *a, size_t bytes);
/* Between addresses and places from the arena's start. */
void *b2_arena_at(const b2_arena *a, size_t offset);
size_t b2_arena_offset(const b2_arena *a, const void *p);
size_t b2_arena_mark(const b2_arena *a);
void b2_arena_release(b2_arena *a, size_t mark);
void b2_arena_free(b2_arena *a);
#endif
