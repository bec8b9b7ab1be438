/* The scheduler of CUDA on the host: a fiber per CUDA thread, one block at a time, one OS thread. Barriers
 * count arrivals; an operation of a warp waits for all lanes of its mask and is computed by the last.
 * Never built with -fsanitize=thread, and its own memory is no kernel's business: plain arrays, no
 * containers. */
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kernels/args.h"
struct b2_queue;
#include "tests/cuda_host/emu.h"
#include "tests/cuda_host/emu_warp.h"

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

/* With EMU_TSAN a CUDA thread is a fiber of ThreadSanitizer too, and only what orders threads on a GPU orders
 * them here: barriers, __syncwarp, atomics, the launch and its end. Blocks are strangers. */
#ifdef EMU_TSAN
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *at);
void __tsan_release(void *at);
}
enum { NO_ORDER = 1 }; /* a switch alone orders nothing */
enum { WINDOW = 16 };  /* blocks that are strangers to each other: each has stacks and copies of its own */
static void arrive(void *at) { __tsan_release(at); }
static void leave(void *at) { __tsan_acquire(at); }
#else
static void arrive(void *) {}
static void leave(void *) {}
enum { WINDOW = 1 };
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
int emu_watchdog = 60;

enum {
    THREADS = 1024,
    STACK = 256 << 10,
    STATIC_SHARED = 48 << 10,
    DYNAMIC_SHARED = 227 << 10, /* with the static, where a launch asks for it: */
    SHARED_ASKED = 32 << 10,    /* from so many on (K_SHARED_ASKED of common.cuh) */
    RED_ZONE = 32
};
enum state { READY, AT_BARRIER, IN_WARP, DONE };

struct fiber {
    void *sp;
    char *stack[WINDOW];
    uint3 index;
    state at;
    const char *file; /* where it waits */
    int line;
    emu_op *op;
    emu_copies copies[WINDOW];
    bool started;
    void *asan_stack, *tsan;
};

static struct {
    const char *kernel;
    void (*thread)(void *);
    void *arguments;
    fiber f[THREADS];
    int total, live, current; /* threads of the block; not yet returned; running (-1: the scheduler) */
    int ready[2 * THREADS], first, count;
    int waiting; /* at the barrier */
    uint64_t serial;
    unsigned char *fixed, *dynamic; /* shared memory */
    size_t fixed_used, dynamic_bytes;
    void *sp;
    const void *asan_bottom;
    size_t asan_size;
    void *asan_stack;
    int order, greedy, late;
    uint64_t random;
    bool running;
    void *tsan;
    char begun, ended, barrier[2], warp[THREADS / 32][2]; /* places where threads meet, by turns */
    int turn, warp_turn[THREADS / 32];
    int window;
} emu;

/* ---- switching ----------------------------------------------------------------------------------------- */
extern "C" void emu_switch_stack(void **save, void *load);
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl emu_switch_stack\n"
        ".type emu_switch_stack, @function\n"
        "emu_switch_stack:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size emu_switch_stack, .-emu_switch_stack\n"
        ".section .note.GNU-stack,\"\",@progbits\n"
        ".text\n");
#else
#error "emu_switch_stack is written for x86-64 only"
#endif

static void to_scheduler(bool for_good)
{
    fiber *me = &emu.f[emu.current];
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &me->asan_stack, emu.asan_bottom, emu.asan_size);
#endif
    (void)for_good;
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(emu.tsan, NO_ORDER);
#endif
    emu_switch_stack(&me->sp, emu.sp);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(me->asan_stack, &emu.asan_bottom, &emu.asan_size);
#endif
}

static void finished();

static void begin()
{
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &emu.asan_bottom, &emu.asan_size);
#endif
    leave(&emu.begun);
    emu.thread(emu.arguments);
    arrive(&emu.ended);
    finished();
    to_scheduler(true);
    __builtin_unreachable();
}

static char *new_stack()
{
    char *p = (char *)mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, 4096, PROT_NONE)) emu_fail(EMU_ERROR, "no memory for a stack");
    return p + 4096;
}

/* Stack tops differ in their low bits: equal ones would share cache sets. The first return goes to
 * begin(), which must find the stack as a call leaves it: 8 beyond a multiple of 16. */
static void start(fiber *f, int number)
{
    char *&stack = f->stack[emu.window];
    if (!stack) stack = new_stack();
    ASAN_UNPOISON_MEMORY_REGION(stack, STACK);
    void **top = (void **)(stack + STACK - 64 * (number % 61));
    *--top = nullptr;
    *--top = (void *)begin;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->sp = top;
    f->started = true;
}

static void resume(int number)
{
    fiber *f = &emu.f[number];
    if (!f->started) start(f, number);
    emu.current = number;
    threadIdx = f->index;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&emu.asan_stack, f->stack[0], STACK);
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(f->tsan, NO_ORDER);
#endif
    emu_switch_stack(&emu.sp, f->sp);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(emu.asan_stack, nullptr, nullptr);
#endif
    emu.current = -1;
}

/* ---- faults -------------------------------------------------------------------------------------------- */
extern "C" void emu_fail(int code, const char *fmt, ...)
{
    va_list ap;
    fflush(stdout);
    fprintf(stderr, "cuda on host: kernel %s, block (%u,%u,%u)", emu.kernel ? emu.kernel : "none", blockIdx.x,
            blockIdx.y, blockIdx.z);
    if (emu.current >= 0) fprintf(stderr, ", thread (%u,%u,%u)", threadIdx.x, threadIdx.y, threadIdx.z);
    fputs(": ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    _exit(code);
}

/* Who waits where: threads side by side that wait at the same place are one line. */
static void deadlock()
{
    static const char *const what[] = {"could run", "at a barrier", "in an operation of the warp",
                                       "returned"};
    for (int i = 0; i < emu.total;) {
        const fiber *f = &emu.f[i];
        int n = 1;
        while (i + n < emu.total && emu.f[i + n].at == f->at && emu.f[i + n].line == f->line) n++;
        fprintf(stderr, "  threads %d to %d: %s", i, i + n - 1, what[f->at]);
        if (f->at == AT_BARRIER || f->at == IN_WARP) fprintf(stderr, ", %s:%d", f->file, f->line);
        if (f->at == IN_WARP) fprintf(stderr, ", mask %08x", f->op->mask);
        fputc('\n', stderr);
        i += n;
    }
    emu_fail(EMU_DEADLOCK, "no thread can go on");
}

static void spinning(int)
{
    emu_fail(EMU_SPINNING, "no end after %d s: does it wait for another block?", emu_watchdog);
}

/* ---- the queue of threads that can run ----------------------------------------------------------------- */
static uint64_t next_random()
{
    emu.random = emu.random * 6364136223846793005u + 1442695040888963407u;
    return emu.random >> 33;
}

static void make_ready(int number)
{
    emu.f[number].at = READY;
    emu.ready[(emu.first + emu.count++) % (2 * THREADS)] = number;
}

static int take_ready()
{
    if (emu.order == EMU_RANDOM) { /* any of them: it changes places with the first */
        int *one = &emu.ready[(emu.first + (int)(next_random() % (unsigned)emu.count)) % (2 * THREADS)],
            *head = &emu.ready[emu.first];
        const int t = *one;
        *one = *head;
        *head = t;
    } else if (emu.greedy) {
        return emu.ready[(emu.first + --emu.count) % (2 * THREADS)];
    }
    const int t = emu.ready[emu.first];
    emu.first = (emu.first + 1) % (2 * THREADS);
    emu.count--;
    return t;
}

/* ---- barriers ------------------------------------------------------------------------------------------ */
static void check_barrier()
{
    const fiber *any = nullptr;
    if (emu.waiting == 0 || emu.waiting < emu.live) return;
    for (int i = 0; i < emu.total; i++) {
        const fiber *f = &emu.f[i];
        if (f->at != AT_BARRIER) continue;
        if (!any) any = f;
        if (f->line != any->line || strcmp(f->file, any->file))
            emu_fail(EMU_ERROR, "threads of one block wait at two barriers: %s:%d and %s:%d", any->file,
                     any->line, f->file, f->line);
    }
    if (emu.live < emu.total)
        emu_fail(EMU_ERROR, "barrier %s:%d: %d of %d threads have returned before it", any->file, any->line,
                 emu.total - emu.live, emu.total);
    emu.waiting = 0;
    emu.turn ^= 1;
    for (int i = 0; i < emu.total; i++) {
        const int t = emu.order == EMU_REVERSE ? emu.total - 1 - i : i;
        if (emu.f[t].at == AT_BARRIER && t != emu.current) make_ready(t);
    }
}

extern "C" void emu_sync(const char *file, int line)
{
    fiber *me = &emu.f[emu.current];
    me->file = file;
    me->line = line;
    me->at = AT_BARRIER;
    char *place = &emu.barrier[emu.turn];
    arrive(place);
    emu.waiting++;
    check_barrier();
    if (emu.waiting == 0) make_ready(emu.current); /* the last to arrive is no better than the others */
    to_scheduler(false);
    leave(place);
}

/* ---- warps --------------------------------------------------------------------------------------------- */
/* Are all lanes of this mask there? Then the operation is done, and they go on (`current` is left to its
 * caller). */
static bool check_warp(int warp, unsigned mask)
{
    emu_op *op[32] = {nullptr};
    const emu_op *one = nullptr;
    int there = 0;
    for (int lane = 0; lane < 32; lane++) {
        const int t = 32 * warp + lane;
        if (!(mask >> lane & 1) || t >= emu.total || emu.f[t].at == DONE) continue;
        if (emu.f[t].at != IN_WARP || emu.f[t].op->mask != mask) return false;
        op[lane] = emu.f[t].op;
        if (one && one->kind != op[lane]->kind)
            emu_fail(EMU_ERROR, "lanes of one warp meet in different operations");
        one = op[lane];
        there++;
    }
    if (!one) return false;
    if (one->kind >= EMU_LDMATRIX && there < 32)
        emu_fail(EMU_ERROR, "a matrix operation with %d of 32 lanes", there);
    compute(op);
    for (int i = 0; i < 32; i++) {
        const int lane = emu.order == EMU_REVERSE ? 31 - i : i, t = 32 * warp + lane;
        if (op[lane] && t != emu.current) make_ready(t);
    }
    return true;
}

extern "C" void emu_warp(emu_op *op, const char *file, int line)
{
    fiber *me = &emu.f[emu.current];
    const int lane = emu.current % 32;
    me->file = file;
    me->line = line;
    if (!(op->mask >> lane & 1))
        emu_fail(EMU_ERROR, "%s:%d: lane %d is not in its own mask %08x", file, line, lane, op->mask);
    if (op->width < 1 || op->width > 32 || (op->width & (op->width - 1)))
        emu_fail(EMU_ERROR, "%s:%d: width %d", file, line, op->width);
    me->op = op;
    me->at = IN_WARP;
    const int warp = emu.current / 32;
    char *place = op->kind == EMU_SYNCWARP ? &emu.warp[warp][emu.warp_turn[warp]] : nullptr;
    if (place) arrive(place);
    if (check_warp(warp, op->mask)) {
        make_ready(emu.current);
        if (place) emu.warp_turn[warp] ^= 1;
    }
    to_scheduler(false);
    if (place) leave(place);
}

static void finished()
{
    fiber *me = &emu.f[emu.current];
    const int left = me->copies[emu.window].n;
    if (left) emu_fail(EMU_ERROR, "%d asynchronous copies were never waited for", left);
    me->at = DONE;
    emu.live--;
    check_barrier();
    for (int lane = 0; lane < 32; lane++) { /* whoever waited for this lane */
        const int t = emu.current / 32 * 32 + lane;
        if (t < emu.total && emu.f[t].at == IN_WARP) check_warp(emu.current / 32, emu.f[t].op->mask);
    }
}

extern "C" emu_copies *emu_thread_copies() { return &emu.f[emu.current].copies[emu.window]; }

/* ---- shared memory ------------------------------------------------------------------------------------- */
extern "C" void *emu_shared(emu_site *site, size_t bytes, size_t align)
{
    if (site->block == emu.serial) return site->at;
    const size_t at = (emu.fixed_used + align - 1) / align * align;
    if (at + bytes > STATIC_SHARED)
        emu_fail(EMU_ERROR, "%zu bytes of static shared memory, at most %d", at + bytes, (int)STATIC_SHARED);
    const size_t all = at + bytes + emu.dynamic_bytes;
    const int most = emu.dynamic_bytes > SHARED_ASKED ? DYNAMIC_SHARED : STATIC_SHARED;
    if (all > (size_t)most) emu_fail(EMU_ERROR, "%zu bytes of shared memory in all, at most %d", all, most);
    site->block = emu.serial;
    site->at = emu.fixed + at;
    ASAN_UNPOISON_MEMORY_REGION(site->at, bytes);
    emu.fixed_used = at + bytes + RED_ZONE;
    return site->at;
}

extern "C" void *emu_dynamic_shared() { return emu.dynamic; }

/* Nothing of the block before: new bytes are 0xFF, and what is not taken cannot be touched (under
 * AddressSanitizer). */
#ifdef EMU_TSAN
enum { HELD = 512 };
static void *held[HELD];
static int n_held;

/* A block's shared memory is another place for each block: the next block's threads are not ordered behind
 * it. It is given back when the launch has ended, or when there is too much of it. */
static void hold(void *p)
{
    if (n_held == HELD) {
        leave(&emu.ended);
        while (n_held > 0) free(held[--n_held]);
    }
    held[n_held++] = p;
}

static void new_shared()
{
    emu.fixed = (unsigned char *)emu_malloc(STATIC_SHARED + 4 * RED_ZONE);
    hold(emu.fixed);
    emu.fixed_used = 0;
    emu.serial++;
    if (!emu.dynamic_bytes) return;
    if (posix_memalign((void **)&emu.dynamic, 1024, emu.dynamic_bytes)) emu_fail(EMU_ERROR, "no memory");
    memset(emu.dynamic, 0xFF, emu.dynamic_bytes);
    hold(emu.dynamic);
}
#else
static void new_shared()
{
    ASAN_UNPOISON_MEMORY_REGION(emu.fixed, STATIC_SHARED + 4 * RED_ZONE);
    memset(emu.fixed, 0xFF, STATIC_SHARED + 4 * RED_ZONE);
    ASAN_POISON_MEMORY_REGION(emu.fixed, STATIC_SHARED + 4 * RED_ZONE);
    emu.fixed_used = 0;
    emu.serial++;
    if (emu.dynamic) memset(emu.dynamic, 0xFF, emu.dynamic_bytes);
}
#endif

extern "C" void *emu_malloc(size_t bytes)
{
    void *p = nullptr;
    if (posix_memalign(&p, 256, bytes ? bytes : 1)) return nullptr;
    memset(p, 0xFF, bytes ? bytes : 1);
    return p;
}

/* ---- launches ------------------------------------------------------------------------------------------ */
static void run_block()
{
    emu.total = emu.live = (int)(blockDim.x * blockDim.y * blockDim.z);
    emu.first = emu.count = emu.waiting = 0;
    new_shared();
    emu.window = (emu.window + 1) % WINDOW;
    if (emu.window == 0) leave(&emu.ended);
    for (int i = 0; i < emu.total; i++) {
        fiber *f = &emu.f[i];
        const unsigned n = (unsigned)i;
        f->index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
        f->started = false;
        f->line = 0;
        emu_copies *copies = &f->copies[emu.window];
        copies->n = copies->group = 0;
        copies->late = emu.late;
#ifdef EMU_TSAN
        f->tsan = __tsan_create_fiber(0);
#endif
    }
    arrive(&emu.begun);
    for (int i = 0; i < emu.total; i++)
        make_ready((emu.order == EMU_REVERSE) != (emu.greedy != 0) ? emu.total - 1 - i : i);
    while (emu.live > 0) {
        if (emu.count == 0) deadlock();
        resume(take_ready());
    }
#ifdef EMU_TSAN
    for (int i = 0; i < emu.total; i++) __tsan_destroy_fiber(emu.f[i].tsan);
#endif
}

static void check_launch(const char *kernel, dim3 grid, dim3 block, size_t shared)
{
    emu.kernel = kernel;
    if (emu.running) emu_fail(EMU_ERROR, "a launch inside a kernel");
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads < 1 || threads > THREADS)
        emu_fail(EMU_ERROR, "%llu threads in a block", (unsigned long long)threads);
    if (block.z > 64 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535)
        emu_fail(EMU_ERROR, "grid %u x %u x %u", grid.x, grid.y, grid.z);
    if (shared > DYNAMIC_SHARED)
        emu_fail(EMU_ERROR, "%zu bytes of dynamic shared memory, at most %d", shared, (int)DYNAMIC_SHARED);
}

/* Block number n of the grid, in the order of the schedule: a random one is a walk with an odd stride. */
static uint64_t block_at(uint64_t n, uint64_t total, uint64_t stride)
{
    if (emu.order == EMU_REVERSE) return total - 1 - n;
    return emu.order == EMU_RANDOM ? n * stride % total : n;
}

static uint64_t coprime(uint64_t total)
{
    for (uint64_t s = next_random() % (total + 1) + 1;; s++) {
        uint64_t a = s, b = total;
        while (b) {
            const uint64_t r = a % b;
            a = b;
            b = r;
        }
        if (a == 1) return s;
    }
}

extern "C" void emu_run(const char *kernel, dim3 grid, dim3 block, size_t shared, void (*thread)(void *),
                        void *arguments)
{
    if (emu_memory_open) emu_memory_open();
    check_launch(kernel, grid, block, shared);
    emu.thread = thread;
    emu.arguments = arguments;
    emu.running = true;
    emu.current = -1;
    blockDim = block;
    gridDim = grid;
    emu.dynamic_bytes = shared;
#ifdef EMU_TSAN
    emu.tsan = __tsan_get_current_fiber();
#else
    if (!emu.fixed) emu.fixed = (unsigned char *)emu_malloc(STATIC_SHARED + 4 * RED_ZONE);
    if (shared && posix_memalign((void **)&emu.dynamic, 1024, shared)) emu_fail(EMU_ERROR, "no memory");
#endif
    signal(SIGALRM, spinning);
    alarm((unsigned)emu_watchdog);
    const uint64_t total = (uint64_t)grid.x * grid.y * grid.z, stride = coprime(total);
    for (uint64_t n = 0; n < total; n++) {
        const uint64_t b = block_at(n, total, stride);
        blockIdx = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
        run_block();
    }
    alarm(0);
#ifdef EMU_TSAN
    leave(&emu.ended);
    while (n_held > 0) free(held[--n_held]);
    emu.fixed = nullptr;
#else
    free(emu.dynamic);
#endif
    emu.dynamic = nullptr;
    emu.running = false;
    if (emu_memory_close) emu_memory_close();
}

extern "C" void emu_schedule(int order, unsigned seed, int greedy, int late_copies)
{
    emu.order = order;
    emu.random = seed * 2654435761u + 12345;
    emu.greedy = greedy;
    emu.late = late_copies;
}
