/* An evaluation as one self-contained HTML page: scores, confusions, pictures of misses. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "blip2/data.h"
#include "train/evaluation.h"

enum { MISSES = 60, WIDEST_TABLE = 24, SMALL_FILE = 64 * 1024, THUMB = 224 };

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width, initial-scale=1\">\n"
    "<title>Evaluation</title>\n<style>\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:#1c2430;background:#fff;max-width:1080px;margin:2rem "
    "auto;padding:0 1rem}\n"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}\n"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid "
    "#dde3ea;text-align:right}th:first-child,td:first-child{text-align:left}\n"
    "td.hit{background:#e3f4e8;font-weight:600}td.miss{background:#fbe6e3}td.none{color:#b6c0cc}\n"
    ".wide{overflow-x:auto}.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:"
    "1rem}\n"
    "figure{margin:0;border:1px solid #dde3ea;border-radius:6px;padding:.6rem}\n"
    "figure img{width:100%;aspect-ratio:1;object-fit:contain;image-rendering:auto;background:#f4f6f8}\n"
    "figcaption{font-size:.82rem;overflow-wrap:anywhere}.t{color:#17703a}.p{color:#b3361f}.q{color:#5b6776}\n"
    "</style></head><body>\n";

static double percent(int64_t right, int64_t n) { return n ? 100.0 * (double)right / (double)n : 0.0; }

static void scores(b2_str *s, const blip2_evaluation *v)
{
    b2_str_addf(s, "<h1>%.1f %% of %" PRId64 " answers right</h1>\n", percent(v->right, v->n), v->n);
    b2_str_add(s, "<table><tr><th>attribute</th><th>n</th><th>accuracy</th><th>macro-F1</th></tr>\n");
    for (int i = 0; i < v->attributes; i++) {
        const b2_attribute *a = &v->attribute[i];
        b2_str_add(s, "<tr><td>");
        b2_str_add_xml(s, a->name);
        b2_str_addf(s, "</td><td>%" PRId64 "</td><td>%.1f %%</td><td>%.3f</td></tr>\n", a->n,
                    percent(a->right, a->n), a->macro_f1);
    }
    b2_str_add(s, "</table>\n");
}

/* The value without the attribute's own name before it. */
static const char *short_value(const b2_attribute *a, const char *text)
{
    const size_t n = strlen(a->name);
    return strncmp(text, a->name, n) == 0 && text[n] == ':' && text[n + 1] == ' ' ? text + n + 2 : text;
}

static void confusion(b2_str *s, const b2_attribute *a)
{
    if (a->values < 2 || a->values > WIDEST_TABLE) return;
    b2_str_add(s, "<h2>");
    b2_str_add_xml(s, a->name);
    b2_str_add(s, ": truths down, answers across</h2>\n<div class=\"wide\"><table><tr><th></th>");
    for (int j = 0; j < a->values; j++) {
        b2_str_add(s, "<th>");
        b2_str_add_xml(s, short_value(a, a->value[j]));
        b2_str_add(s, "</th>");
    }
    b2_str_add(s, "<th>other</th></tr>\n");
    for (int i = 0; i < a->values; i++) {
        b2_str_add(s, "<tr><td>");
        b2_str_add_xml(s, short_value(a, a->value[i]));
        b2_str_add(s, "</td>");
        for (int j = 0; j <= a->values; j++) {
            const int64_t n = a->count[(size_t)i * ((size_t)a->values + 1) + (size_t)j];
            b2_str_addf(s, "<td class=\"%s\">%" PRId64 "</td>", i == j ? "hit" : n ? "miss" : "none", n);
        }
        b2_str_add(s, "</tr>\n");
    }
    b2_str_add(s, "</table></div>\n");
}

static void base64(b2_str *s, const unsigned char *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t v =
            (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        const char four[4] = {digit[v >> 18], digit[v >> 12 & 63], left > 1 ? digit[v >> 6 & 63] : '=',
                              left > 2 ? digit[v & 63] : '='};
        b2_str_addn(s, four, 4);
    }
}

static void picture(b2_str *s, const char *mime, const void *p, size_t n)
{
    b2_str_addf(s, "<img alt=\"\" src=\"data:image/%s;base64,", mime);
    base64(s, p, n);
    b2_str_add(s, "\">");
}

/* A large photo as a small JPEG. False when that cannot be done; the page then has no picture there. */
static bool thumbnail(b2_str *s, const char *path)
{
    blip2_image img = {0}, small = {0};
    unsigned char *jpeg = NULL;
    size_t n = 0;
    if (blip2_image_load(&img, path, NULL) != BLIP2_OK) return false;
    const int most = img.width > img.height ? img.width : img.height, t = most < THUMB ? most : THUMB;
    const int w = img.width * t / most, h = img.height * t / most;
    bool ok = blip2_image_resize(&small, &img, w > 0 ? w : 1, h > 0 ? h : 1, NULL) == BLIP2_OK;
    ok = ok && blip2_image_encode_jpeg(&small, 85, &jpeg, &n, NULL) == BLIP2_OK;
    if (ok) picture(s, "jpeg", jpeg, n);
    free(jpeg);
    blip2_image_free(&small);
    blip2_image_free(&img);
    return ok;
}

static void photo(b2_str *s, const char *path)
{
    b2_map m;
    if (b2_map_open(&m, path, NULL) != BLIP2_OK) return;
    const bool fits = m.size > 12 && m.size <= SMALL_FILE;
    const char *mime = !fits                         ? NULL
                       : m.p[0] == 0xFF              ? "jpeg"
                       : m.p[0] == 0x89              ? "png"
                       : memcmp(m.p, "RIFF", 4) == 0 ? "webp"
                                                     : NULL;
    if (mime)
        picture(s, mime, m.p, m.size);
    else if (m.size)
        thumbnail(s, path);
    b2_map_close(&m);
}

static void field(b2_str *s, const char *class, const char *label, const char *text)
{
    b2_str_addf(s, "<div class=\"%s\">%s", class, label);
    b2_str_add_xml(s, text[0] ? text : "(nothing)");
    b2_str_add(s, "</div>");
}

static void misses(b2_str *s, const blip2_evaluation *v)
{
    const int64_t all = v->n - v->right, shown = all < MISSES ? all : MISSES;
    int64_t seen = 0, put = 0;
    if (!all) return;
    b2_str_addf(s, "<h2>Misses (%" PRId64 " of %" PRId64 ")</h2>\n<div class=\"grid\">\n", shown, all);
    for (int64_t i = 0; i < v->n; i++) {
        const b2_result *r = &v->result[i];
        if (r->right) continue;
        if (seen++ * shown / all < put) continue; /* evenly from the whole set */
        put++;
        b2_str_add(s, "<figure>");
        photo(s, r->image_path);
        b2_str_add(s, "<figcaption>");
        if (r->question[0]) field(s, "q", "", r->question);
        field(s, "t", "truth: ", r->truth);
        field(s, "p", "answer: ", r->answer);
        field(s, "q", "", r->id);
        b2_str_add(s, "</figcaption></figure>\n");
    }
    b2_str_add(s, "</div>\n");
}

blip2_status blip2_evaluation_html(const blip2_evaluation *v, const char *path, blip2_error *e)
{
    b2_str s = {0};
    if (!v || !path)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_evaluation_html: an evaluation and a path are needed");
    b2_str_add(&s, head);
    scores(&s, v);
    for (int i = 0; i < v->attributes; i++) confusion(&s, &v->attribute[i]);
    misses(&s, v);
    b2_str_add(&s, "</body></html>\n");
    const blip2_status st = s.failed ? B2_NOMEM(e, "a report") : b2_write_file(path, s.p, s.n, e);
    b2_str_free(&s);
    return st;
}
