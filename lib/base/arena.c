/* Counted memory and arenas. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/arena.h"

/* Blocks from this size on come from mmap: zeroed by the kernel, page by page as they are used. Under
 * AddressSanitizer all of them come from the heap, so that it can see their ends. */
#if defined(__SANITIZE_ADDRESS__)
#define MMAP_FROM SIZE_MAX
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MMAP_FROM SIZE_MAX
#endif
#endif
#ifndef MMAP_FROM
#define MMAP_FROM ((size_t)1 << 20)
#endif

void b2_account_add(b2_account *acc, size_t bytes)
{
    if (!acc) return;
    size_t now = atomic_fetch_add_explicit(&acc->bytes, bytes, memory_order_relaxed) + bytes;
    size_t peak = atomic_load_explicit(&acc->peak, memory_order_relaxed);
    while (peak < now && !atomic_compare_exchange_weak_explicit(&acc->peak, &peak, now, memory_order_relaxed,
                                                                memory_order_relaxed)) {
    }
}

void b2_account_sub(b2_account *acc, size_t bytes)
{
    if (acc) atomic_fetch_sub_explicit(&acc->bytes, bytes, memory_order_relaxed);
}

static void *heap_block(size_t bytes)
{
    size_t whole = (bytes + B2_ALIGN - 1) / B2_ALIGN * B2_ALIGN;
    if (whole == 0) whole = B2_ALIGN;
    void *p = aligned_alloc(B2_ALIGN, whole);
    if (p) memset(p, 0, whole);
    return p;
}

static void *mapped_block(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_HUGEPAGE); /* a hint: fewer TLB misses */
    return p;
}

void *b2_account_alloc(b2_account *acc, size_t bytes)
{
    if (bytes > (size_t)PTRDIFF_MAX - B2_ALIGN) return NULL;
    void *p;
    if (acc && acc->take)
        p = acc->take(acc->owner, bytes);
    else
        p = bytes >= MMAP_FROM ? mapped_block(bytes) : heap_block(bytes);
    if (p) b2_account_add(acc, bytes);
    return p;
}

void b2_account_free(b2_account *acc, void *p, size_t bytes)
{
    if (!p) return;
    b2_account_sub(acc, bytes);
    if (acc && acc->take)
        acc->give(acc->owner, p);
    else if (bytes >= MMAP_FROM)
        munmap(p, bytes);
    else
        free(p);
}

void b2_arena_dry(b2_arena *a) { *a = (b2_arena){.dry = true}; }

blip2_status b2_arena_init(b2_arena *a, size_t cap, b2_account *acc, blip2_error *e)
{
    *a = (b2_arena){.cap = cap, .account = acc};
    a->base = b2_account_alloc(acc, cap);
    if (a->base) return BLIP2_OK;
    a->cap = 0;
    return b2_fail(e, BLIP2_ERR_MEMORY, "out of memory: an arena of %zu bytes was wanted", cap);
}

/* Dry addresses start here: not NULL, aligned, and in a page that is never mapped. */
#define DRY_BASE ((uintptr_t)B2_ALIGN)

void *b2_arena_at(const b2_arena *a, size_t offset)
{
    return a->dry ? (void *)(DRY_BASE + offset) : a->base + offset; /* NOLINT: never dereferenced */
}

size_t b2_arena_offset(const b2_arena *a, const void *p)
{
    return (uintptr_t)p - (a->dry ? DRY_BASE : (uintptr_t)a->base);
}

void *b2_arena_take(b2_arena *a, size_t bytes)
{
    size_t room = (a->dry ? (size_t)PTRDIFF_MAX / B2_ALIGN * B2_ALIGN : a->cap) - a->used;
    if (bytes > room || !(a->dry || a->base)) {
        a->failed = true;
        return a->dry ? b2_arena_at(a, a->used) : NULL;
    }
    void *p = b2_arena_at(a, a->used);
    size_t whole = (bytes + B2_ALIGN - 1) / B2_ALIGN * B2_ALIGN;
    a->used += whole < room ? whole : room; /* the last take may end short of a full line */
    if (a->used > a->peak) a->peak = a->used;
    return p;
}

size_t b2_arena_mark(const b2_arena *a) { return a->used; }

void b2_arena_release(b2_arena *a, size_t mark)
{
    if (mark <= a->used) a->used = mark;
}

void b2_arena_free(b2_arena *a)
{
    if (a->base) b2_account_free(a->account, a->base, a->cap);
    *a = (b2_arena){0};
}
