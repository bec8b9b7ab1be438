/* loss.svg: the learning curve of a run, drawn from its metrics.jsonl. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "blip2/train.h"

enum { WIDTH = 820, HEIGHT = 430, LEFT = 70, RIGHT = 20, TOP = 46, BOTTOM = 52, DRAWN = 1200 };

typedef struct curve {
    double *x, *y, *smooth;
    size_t n, cap;
} curve;

typedef struct axis {
    double lo, hi, step; /* shown from lo to hi with a line every `step` */
} axis;

/* A step made again after a resume takes the place of what was written before. */
static blip2_status add_point(curve *c, double x, double y, blip2_error *e)
{
    while (c->n && c->x[c->n - 1] >= x) c->n--;
    if (c->n == c->cap) {
        const size_t cap = c->cap ? 2 * c->cap : 1024;
        double *gx = realloc(c->x, cap * sizeof *gx), *gy;
        if (gx) c->x = gx;
        gy = gx ? realloc(c->y, cap * sizeof *gy) : NULL;
        if (!gy) return B2_NOMEM(e, "a curve");
        c->y = gy;
        c->cap = cap;
    }
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return BLIP2_OK;
}

/* One line of the file: objects with numbers `step` and `loss` are points, other objects are passed over. */
static blip2_status add_line(curve *c, const char *text, size_t n, const char *name, blip2_error *e)
{
    b2_json *v = NULL;
    if (strspn(text, " \t\r") >= n) return BLIP2_OK;
    B2_TRY(b2_json_parse(&v, text, n, 1000, name, e));
    const b2_json *step = b2_json_get(v, "step"), *loss = b2_json_get(v, "loss");
    const blip2_status s = b2_json_is_number(step) && b2_json_is_number(loss)
                               ? add_point(c, b2_json_number(step, 0), b2_json_number(loss, 0), e)
                               : BLIP2_OK;
    b2_json_free(v);
    return s;
}

static blip2_status read_curve(curve *c, const char *path, blip2_error *e)
{
    char *text = NULL;
    size_t n = 0;
    blip2_status s = b2_read_file(path, (size_t)1 << 30, &text, &n, e);
    for (size_t at = 0; s == BLIP2_OK && at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t len = end ? (size_t)(end - text) - at : n - at;
        s = add_line(c, text + at, len, path, e);
        if (!end && s == BLIP2_ERR_FORMAT) s = BLIP2_OK; /* a run was killed while it wrote this line */
        at += len + 1;
    }
    free(text);
    if (s == BLIP2_OK && c->n == 0)
        s = b2_fail(e, BLIP2_ERR_DATA, "%s: holds no line with step and loss", path);
    return s;
}

/* Exponential mean over about a fiftieth of the run, without the pull of a first value. */
static blip2_status smooth(curve *c, blip2_error *e)
{
    double sum = 0, weight = 0;
    const double keep = 1.0 - 1.0 / fmax(1.0, (double)c->n / 50.0);
    c->smooth = malloc(c->n * sizeof *c->smooth);
    if (!c->smooth) return B2_NOMEM(e, "a curve");
    for (size_t i = 0; i < c->n; i++) {
        sum = keep * sum + c->y[i];
        weight = keep * weight + 1.0;
        c->smooth[i] = sum / weight;
    }
    return BLIP2_OK;
}

/* Round numbers: 1, 2 or 5 times a power of ten, about `lines` of them. */
static axis axis_for(double lo, double hi, int lines)
{
    if (!(hi > lo)) hi = lo + (lo != 0 ? fabs(lo) * 0.1 : 1.0);
    const double raw = (hi - lo) / lines, ten = pow(10.0, floor(log10(raw))), f = raw / ten;
    const double step = ten * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
    return (axis){floor(lo / step + 1e-9) * step, ceil(hi / step - 1e-9) * step, step};
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The highest loss shown: a few early or stray points may lie above the picture, the smooth line may not. */
static double shown_top(const curve *c)
{
    double top = 0, *sorted = malloc(c->n * sizeof *sorted);
    for (size_t i = 0; i < c->n; i++) top = fmax(top, c->smooth[i]);
    if (!sorted) return top;
    memcpy(sorted, c->y, c->n * sizeof *sorted);
    qsort(sorted, c->n, sizeof *sorted, by_value);
    top = fmax(top, sorted[(size_t)((double)(c->n - 1) * 0.995)]);
    free(sorted);
    return top;
}

static double place(double v, const axis *a, double from, double to)
{
    return from + (to - from) * (v - a->lo) / (a->hi - a->lo);
}
static double place_x(double v, const axis *a) { return place(v, a, LEFT, WIDTH - RIGHT); }
static double place_y(double v, const axis *a) { return fmax(TOP, place(v, a, HEIGHT - BOTTOM, TOP)); }

static void grid(b2_str *s, const axis *x, const axis *y)
{
    for (int i = 0; y->lo + i * y->step <= y->hi + y->step / 2; i++) {
        const double v = y->lo + i * y->step, at = place_y(v, y);
        b2_str_addf(s, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#e3e8ee\"/>", LEFT, at,
                    WIDTH - RIGHT, at);
        b2_str_addf(s, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 8, at + 4.5,
                    fabs(v) < y->step / 1e6 ? 0.0 : v);
    }
    for (int i = 0; x->lo + i * x->step <= x->hi + x->step / 2; i++) {
        const double v = x->lo + i * x->step, at = place_x(v, x);
        b2_str_addf(s, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#8b96a5\"/>", at,
                    HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5);
        b2_str_addf(s, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.10g</text>\n", at,
                    HEIGHT - BOTTOM + 21, v);
    }
    b2_str_addf(s, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#8b96a5\"/>\n", LEFT, TOP,
                HEIGHT - BOTTOM, WIDTH - RIGHT);
}

static void polyline(b2_str *s, const curve *c, const double *y, const axis *ax, const axis *ay,
                     const char *style)
{
    const size_t every = (c->n + DRAWN - 1) / DRAWN;
    b2_str_addf(s, "<polyline fill=\"none\" stroke-linejoin=\"round\" %s points=\"", style);
    for (size_t i = 0; i < c->n; i++) {
        if (i % every != 0 && i + 1 != c->n) continue;
        b2_str_addf(s, "%.1f,%.1f ", place_x(c->x[i], ax), place_y(y[i], ay));
    }
    b2_str_add(s, "\"/>\n");
}

static void draw(b2_str *s, const curve *c)
{
    const axis x = axis_for(0, c->x[c->n - 1], 8), y = axis_for(0, shown_top(c), 6);
    b2_str_addf(s,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
                "font-family=\"system-ui, sans-serif\" "
                "font-size=\"13\" fill=\"#3c4856\">\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
                WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    grid(s, &x, &y);
    polyline(s, c, c->y, &x, &y, "stroke=\"#9cc3e6\" stroke-width=\"1\"");
    polyline(s, c, c->smooth, &x, &y, "stroke=\"#0b5fa5\" stroke-width=\"2.2\"");
    b2_str_addf(s,
                "<text x=\"%d\" y=\"26\" font-size=\"16\" font-weight=\"600\" fill=\"#1c2430\">Training "
                "loss</text>\n",
                LEFT);
    b2_str_addf(s,
                "<text x=\"%d\" y=\"26\" text-anchor=\"end\">a step (light), smoothed (dark): %.4f at step "
                "%.0f</text>\n",
                WIDTH - RIGHT, c->smooth[c->n - 1], c->x[c->n - 1]);
    b2_str_addf(s, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n", (LEFT + WIDTH - RIGHT) / 2,
                HEIGHT - 10);
    b2_str_addf(s,
                "<text transform=\"translate(20 %d) rotate(-90)\" text-anchor=\"middle\">loss a token "
                "(nats)</text>\n</svg>\n",
                (TOP + HEIGHT - BOTTOM) / 2);
}

blip2_status blip2_plot_loss(const char *metrics_jsonl, const char *svg, blip2_error *e)
{
    curve c = {0};
    b2_str s = {0};
    if (!metrics_jsonl || !svg)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_plot_loss: two paths are needed");
    blip2_status st = read_curve(&c, metrics_jsonl, e);
    if (st == BLIP2_OK) st = smooth(&c, e);
    if (st == BLIP2_OK) {
        draw(&s, &c);
        st = s.failed ? B2_NOMEM(e, "a picture") : b2_write_file(svg, s.p, s.n, e);
    }
    b2_str_free(&s);
    free(c.x);
    free(c.y);
    free(c.smooth);
    return st;
}
