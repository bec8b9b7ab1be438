/* The CUDA runtime on the host: one GPU whose memory the host cannot touch except through copies, and
 * kernels only while they run. EMU_GPUS (0: none), EMU_MEMORY_MB, EMU_CAPABILITY (75: too old), EMU_DRIVER
 * (12080: one for CUDA 12.8), EMU_FAIL_AT (the call to a stream that fails, as when a GPU is lost) and
 * EMU_STREAMS (so many can be opened) shape it. EMU_LATE=1: a stream does all it is given as late as it may,
 * when somebody waits for it; what the host changes before that, copies find changed. */
#include "tests/cuda_host/include/cuda_runtime_api.h"
#include "tests/cuda_host/emu.h"
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { BLOCKS = 4096, UNIT = 4096, GAP = UNIT };
struct CUstream_st {
    int open;
};
struct CUgraph_st {
    std::vector<std::shared_ptr<emu_recorded>> list;
};
struct CUgraphExec_st {
    std::vector<std::shared_ptr<emu_recorded>> list;
};

static struct {
    std::recursive_mutex lock;
    char *base;       /* of all the memory there is */
    size_t size, top; /* top: nothing behind it was ever handed out */
    int open;         /* how many may touch it right now */
    struct {
        size_t at, bytes, room;
        bool used;
    } block[BLOCKS];
    int blocks;
    size_t held;
    long calls;
} gpu;

static long setting(const char *name, long otherwise)
{
    const char *v = getenv(name);
    return v && *v ? strtol(v, nullptr, 10) : otherwise;
}

static bool ready()
{
    if (gpu.base) return true;
    gpu.size = (size_t)setting("EMU_MEMORY_MB", 1024) << 20;
    void *p = mmap(nullptr, gpu.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    gpu.base = (char *)p;
    return true;
}

/* Kernels and copies come in here, and leave again. */
extern "C" void emu_memory_open()
{
    gpu.lock.lock();
    if (gpu.open++ == 0 && gpu.top) mprotect(gpu.base, gpu.top, PROT_READ | PROT_WRITE);
}
extern "C" void emu_memory_close()
{
    if (--gpu.open == 0 && gpu.top) mprotect(gpu.base, gpu.top, PROT_NONE);
    gpu.lock.unlock();
}

/* ---- recording: of one stream at a time, by the thread that began it ---- */
static thread_local CUgraph_st *recording;
static struct {
    long launches, replays, replayed;
} counts;

/* What each stream still has to do (EMU_LATE): nothing makes one stream wait for another. */
static std::map<const void *, std::vector<std::shared_ptr<emu_recorded>>> &late()
{
    static std::map<const void *, std::vector<std::shared_ptr<emu_recorded>>> lists;
    return lists;
}
static bool is_late() { return setting("EMU_LATE", 0) != 0; }
static void catch_up(const void *stream)
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    std::vector<std::shared_ptr<emu_recorded>> list;
    list.swap(late()[stream]);
    for (auto &r : list) r->run();
}
static void catch_up_all()
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    for (auto &l : late()) catch_up(l.first);
}

bool emu_recording() { return recording != nullptr; }
/* What the stand-ins were given: kinds of products (a bit for each type and way to turn the operands),
 * cuDNN's attentions. */
unsigned emu_products;
long emu_attentions;

/* True: `what` is recorded, or waits for its time, and is not the caller's any more. */
bool emu_note(emu_recorded *what, const void *stream)
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    if (recording) {
        recording->list.emplace_back(what);
        return true;
    }
    counts.launches++;
    if (is_late())
        late()[stream].emplace_back(what);
    else
        delete what;
    return is_late();
}

struct noted : emu_recorded {
    std::function<void()> what;
    explicit noted(std::function<void()> f) : what(std::move(f)) {}
    void run() override { what(); }
};
/* Something else than a launch that a stream does: noted, kept for later, or done. */
static void stream_does(const void *stream, std::function<void()> f)
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    if (recording)
        recording->list.push_back(std::make_shared<noted>(f));
    else if (is_late())
        late()[stream].push_back(std::make_shared<noted>(f));
    else
        f();
}

/* EMU_REPORT: a file that gets the counts when the program ends. */
__attribute__((destructor)) static void report()
{
    const char *path = getenv("EMU_REPORT");
    FILE *f = path ? fopen(path, "w") : nullptr;
    if (!f) return;
    fprintf(f, "launches %ld replays %ld replayed %ld products %d attentions %ld\n", counts.launches,
            counts.replays, counts.replayed, __builtin_popcount(emu_products), emu_attentions);
    fclose(f);
}

struct opened {
    opened() { emu_memory_open(); }
    ~opened() { emu_memory_close(); }
};

/* Bytes from p on that belong to one block of the GPU; 0: not the GPU's. */
static size_t room_at(const void *p)
{
    const size_t at = (size_t)((const char *)p - gpu.base);
    if (!gpu.base || (const char *)p < gpu.base || at >= gpu.top) return 0;
    for (int i = 0; i < gpu.blocks; i++) {
        if (gpu.block[i].used && at >= gpu.block[i].at && at < gpu.block[i].at + gpu.block[i].bytes)
            return gpu.block[i].at + gpu.block[i].bytes - at;
    }
    return 0;
}

size_t emu_gpu_room(const void *p) { return room_at(p); }

/* ---- devices ------------------------------------------------------------------------------------------- */
extern "C" {
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = (int)setting("EMU_GPUS", 1);
    if (setting("EMU_DRIVER", CUDART_VERSION) < CUDART_VERSION) return cudaErrorInsufficientDriver;
    return *count ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int device)
{
    return device < setting("EMU_GPUS", 1) ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    const int capability = (int)setting("EMU_CAPABILITY", 90);
    if (!ready()) return cudaErrorMemoryAllocation;
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated GPU %d", device);
    p->totalGlobalMem = gpu.size;
    p->major = capability / 10;
    p->minor = capability % 10;
    p->multiProcessorCount = 4;
    p->l2CacheSize = 1 << 16;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version)
{
    *version = (int)setting("EMU_DRIVER", CUDART_VERSION);
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorName(cudaError_t code)
{
    return code == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char *cudaGetErrorString(cudaError_t code)
{
    switch (code) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    default: return "invalid value";
    }
}

/* ---- memory -------------------------------------------------------------------------------------------- */
cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    if (!ready()) return cudaErrorMemoryAllocation;
    *total = gpu.size;
    *available = gpu.size - gpu.held;
    return cudaSuccess;
}

/* Whole pages, an unreadable one behind each, so that a block's last bytes end near it. First fit. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    const size_t room = (bytes + UNIT - 1) / UNIT * UNIT + GAP;
    if (recording) return cudaErrorStreamCaptureUnsupported;
    if (!ready()) return cudaErrorMemoryAllocation;
    int i = 0;
    while (i < gpu.blocks && (gpu.block[i].used || gpu.block[i].room < room)) i++;
    if (i == gpu.blocks) {
        if (i == BLOCKS || gpu.top + room > gpu.size) return cudaErrorMemoryAllocation;
        gpu.block[i].at = gpu.top;
        gpu.block[i].room = room;
        gpu.top += room;
        gpu.blocks++;
    }
    gpu.block[i].bytes = bytes;
    gpu.block[i].used = true;
    gpu.held += (bytes + UNIT - 1) / UNIT * UNIT + GAP; /* a larger block taken again holds no more */
    char *at = gpu.base + gpu.block[i].at;
    const opened a;
    ASAN_UNPOISON_MEMORY_REGION(at, gpu.block[i].room);
    /* Nothing in it is zero by chance; of a very large block, its beginning: touched pages cost time
     * later. */
    memset(at, 0xFF, bytes < ((size_t)8 << 20) ? bytes : (size_t)1 << 20);
    ASAN_POISON_MEMORY_REGION(at + bytes, gpu.block[i].room - bytes);
    *p = at;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    catch_up_all(); /* it waits for all work */
    for (int i = 0; p && i < gpu.blocks; i++) {
        if (gpu.base + gpu.block[i].at != p || !gpu.block[i].used) continue;
        gpu.block[i].used = false;
        gpu.held -= (gpu.block[i].bytes + UNIT - 1) / UNIT * UNIT + GAP;
        ASAN_POISON_MEMORY_REGION(p, gpu.block[i].room);
        return cudaSuccess;
    }
    return p ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    *p = malloc(bytes);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void *p)
{
    catch_up_all();
    free(p);
    return cudaSuccess;
}

static cudaError_t lost()
{
    return ++gpu.calls == setting("EMU_FAIL_AT", -1) ? cudaErrorLaunchFailure : cudaSuccess;
}

/* Copies between the wrong sides are faults of the library: they end the program. */
static void check_side(const char *what, const void *p, size_t bytes, bool on_gpu)
{
    const size_t room = room_at(p);
    if (on_gpu && room < bytes) emu_fail(EMU_ERROR, "%s: %zu bytes at %p are not the GPU's", what, bytes, p);
    if (!on_gpu && room) emu_fail(EMU_ERROR, "%s: %p is the GPU's, not the host's", what, p);
}

static void fill(void *p, int value, size_t bytes)
{
    const opened a;
    if (bytes) check_side("cudaMemset", p, bytes, true);
    memset(p, value, bytes);
}

/* The default stream's, which no other stream waits for: it happens as late as it may. */
static std::vector<std::function<void()>> &default_stream()
{
    static std::vector<std::function<void()>> list;
    return list;
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    default_stream().push_back([=]() { fill(p, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    const cudaError_t code = lost();
    if (!code) stream_does(s, [=]() { fill(p, value, bytes); });
    return code;
}
static void copy_now(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    const opened a;
    check_side("cudaMemcpyAsync, to", to, bytes, kind != cudaMemcpyDeviceToHost);
    check_side("cudaMemcpyAsync, from", from, bytes, kind != cudaMemcpyHostToDevice);
    memmove(to, from, bytes);
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t s)
{
    const cudaError_t code = lost();
    if (!code) stream_does(s, [=]() { copy_now(to, from, bytes, kind); });
    return code;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    static std::atomic<int> opened;
    (void)flags;
    if (++opened > setting("EMU_STREAMS", 1000000)) return cudaErrorMemoryAllocation;
    *s = (cudaStream_t)calloc(1, sizeof **s);
    return *s ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    catch_up(s);
    free(s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    const std::lock_guard<std::recursive_mutex> hold(gpu.lock);
    if (recording) return cudaErrorStreamCaptureUnsupported;
    if (s) {
        catch_up(s);
        return lost();
    }
    for (auto &f : default_stream()) f();
    default_stream().clear();
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
    (void)s;
    (void)mode;
    if (recording) return cudaErrorStreamCaptureInvalidated;
    recording = new CUgraph_st;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    (void)s;
    *g = recording;
    recording = nullptr;
    return *g ? cudaSuccess : cudaErrorStreamCaptureInvalidated;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags)
{
    (void)flags;
    *e = new CUgraphExec_st{g->list};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    const cudaError_t code = lost();
    if (code) return code;
    counts.replays++;
    counts.replayed += (long)e->list.size();
    const auto list = e->list; /* the graph may be gone by then */
    stream_does(s, [=]() {
        for (auto &r : list) r->run();
    });
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

/* ---- events: everything is done when it is asked for, so the host's clock is the GPU's ----------------- */
struct CUevent_st {
    bool marked;
    std::chrono::steady_clock::time_point when;
};
cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    *e = new CUevent_st{};
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    (void)s;
    if (recording) return cudaErrorStreamCaptureUnsupported; /* it could not be asked for its time */
    e->marked = true;
    e->when = std::chrono::steady_clock::now();
    return lost();
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    catch_up_all();
    return e->marked ? lost() : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    if (!from->marked || !to->marked) return cudaErrorInvalidResourceHandle;
    *ms = std::chrono::duration<float, std::milli>(to->when - from->when).count();
    return cudaSuccess;
}
}
