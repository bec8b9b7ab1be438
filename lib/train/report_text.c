/* An evaluation as a table of text and as evaluation.json. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "train/evaluation.h"

static double share(int64_t right, int64_t n) { return n ? (double)right / (double)n : 0.0; }

static void line(b2_str *s, const char *name, int width, int64_t n, double accuracy, double f1)
{
    int shown = 0; /* characters, not bytes */
    for (const char *p = name; *p; p++) shown += ((unsigned char)*p & 0xC0) != 0x80;
    b2_str_addf(s, "%s%*s  %7" PRId64 "  %8.1f %%", name, shown < width ? width - shown : 0, "", n,
                100.0 * accuracy);
    if (f1 >= 0) b2_str_addf(s, "  %8.3f", f1);
    b2_str_add(s, "\n");
}

blip2_status blip2_evaluation_text(const blip2_evaluation *v, char **out, blip2_error *e)
{
    b2_str s = {0};
    int width = 9;
    if (!v || !out)
        return b2_fail(e, BLIP2_ERR_ARGUMENT,
                       "blip2_evaluation_text: an evaluation and a place for the text are needed");
    for (int i = 0; i < v->attributes; i++) {
        const int n = (int)strnlen(v->attribute[i].name, 60);
        if (n > width) width = n;
    }
    b2_str_addf(&s, "%-*s  %7s  %10s  %8s\n", width, "attribute", "n", "accuracy", "macro-F1");
    for (int i = 0; i < v->attributes; i++) {
        const b2_attribute *a = &v->attribute[i];
        line(&s, a->name, width, a->n, share(a->right, a->n), a->macro_f1);
    }
    line(&s, "overall", width, v->n, share(v->right, v->n), -1);
    *out = s.failed ? NULL : s.p;
    if (*out) return BLIP2_OK;
    b2_str_free(&s);
    return B2_NOMEM(e, "a report");
}

blip2_status blip2_evaluation_json(const blip2_evaluation *v, const char *path, blip2_error *e)
{
    b2_str s = {0};
    if (!v || !path)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_evaluation_json: an evaluation and a path are needed");
    b2_str_addf(&s, "{\"overall\":{\"accuracy\":%.6f,\"n\":%" PRId64 "},\"attributes\":{",
                share(v->right, v->n), v->n);
    for (int i = 0; i < v->attributes; i++) {
        const b2_attribute *a = &v->attribute[i];
        if (i) b2_str_add(&s, ",");
        b2_str_add_json(&s, a->name);
        b2_str_addf(&s, ":{\"accuracy\":%.6f,\"macro_f1\":%.6f,\"n\":%" PRId64 "}", share(a->right, a->n),
                    a->macro_f1, a->n);
    }
    b2_str_add(&s, "}}\n");
    const blip2_status st = s.failed ? B2_NOMEM(e, "a report") : b2_write_file(path, s.p, s.n, e);
    b2_str_free(&s);
    return st;
}
