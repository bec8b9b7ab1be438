// The only C++ file: libsentencepiece behind C functions. No exception leaves it.
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>
#include <sentencepiece_processor.h>
extern "C" {
#include "base/err.h"
#include "base/str.h"
}
#include "text/text.h"
#include "text/spm_proto.h"

struct b2_spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace
{
using sentencepiece::util::Status;

blip2_status failed(const Status &status, blip2_error *e)
{
    return b2_fail(e, BLIP2_ERR_FORMAT, "sentencepiece: %s", status.ToString().c_str());
}

// Runs f, which returns a blip2_status, and turns what it throws into one.
template <class F> blip2_status guarded(blip2_error *e, F f)
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return B2_NOMEM(e, "sentencepiece");
    } catch (const std::exception &x) {
        return b2_fail(e, BLIP2_ERR_FORMAT, "sentencepiece: %s", x.what());
    } catch (...) {
        return b2_fail(e, BLIP2_ERR_FORMAT, "sentencepiece: unknown failure");
    }
}

// A malloc'ed copy of n elements with one zero after them.
template <class T> T *copy_of(const T *p, size_t n)
{
    T *out = static_cast<T *>(std::calloc(n + 1, sizeof(T)));
    if (out && n) std::memcpy(out, p, n * sizeof(T));
    return out;
}
} // namespace

blip2_status b2_spm_open(b2_spm **out, const void *model, size_t n, blip2_error *e)
{
    *out = nullptr;
    B2_TRY(b2_spm_check(model, n, e));
    b2_spm *s = nullptr;
    blip2_status st = guarded(e, [&]() -> blip2_status {
        s = new b2_spm;
        Status status = s->processor.LoadFromSerializedProto({static_cast<const char *>(model), n});
        return status.ok() ? BLIP2_OK : failed(status, e);
    });
    if (st == BLIP2_OK)
        *out = s;
    else
        b2_spm_close(s);
    return st;
}

void b2_spm_close(b2_spm *s) { delete s; }

int32_t b2_spm_size(const b2_spm *s) { return s->processor.GetPieceSize(); }

blip2_status b2_spm_encode(const b2_spm *s, const char *text, size_t n, int32_t **ids, size_t *count,
                           blip2_error *e)
{
    *ids = nullptr;
    *count = 0;
    return guarded(e, [&]() -> blip2_status {
        std::vector<int> v;
        Status status = s->processor.Encode({text, n}, &v);
        if (!status.ok()) return failed(status, e);
        if (v.empty()) return BLIP2_OK;
        *ids = copy_of<int32_t>(v.data(), v.size());
        if (!*ids) return B2_NOMEM(e, "token ids");
        *count = v.size();
        return BLIP2_OK;
    });
}

blip2_status b2_spm_decode(const b2_spm *s, const int32_t *ids, size_t count, char **text, size_t *n,
                           blip2_error *e)
{
    *text = nullptr;
    *n = 0;
    return guarded(e, [&]() -> blip2_status {
        std::string out;
        Status status = s->processor.Decode(std::vector<int>(ids, ids + count), &out);
        if (!status.ok()) return failed(status, e);
        *text = copy_of(out.data(), out.size());
        if (!*text) return B2_NOMEM(e, "a text");
        *n = out.size();
        return BLIP2_OK;
    });
}

int32_t b2_spm_id(const b2_spm *s, const char *piece)
{
    int32_t id = -1;
    guarded(nullptr, [&]() -> blip2_status {
        int found = s->processor.PieceToId(piece);
        if (found >= 0 && found < s->processor.GetPieceSize() && s->processor.IdToPiece(found) == piece)
            id = found;
        return BLIP2_OK;
    });
    return id;
}

bool b2_spm_is_text(const b2_spm *s, int32_t id)
{
    return id >= 0 && id < s->processor.GetPieceSize() && !s->processor.IsUnknown(id) &&
           !s->processor.IsControl(id);
}
