/* Training or test: by product (whole photos are held out) or by question (the seed's way). Choices come from
 * the seed and the id alone, so a catalogue that grows by a product does not reshuffle the others' keys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

/* splitmix64's finaliser (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t key_of(const char *id, const settings *s, uint64_t extra)
{
    return mix(mix((uint64_t)s->seed) ^ blip2_hash(id, strlen(id)) ^ mix(extra));
}

typedef struct draw {
    uint64_t key;
    size_t index;
} draw;

static int by_key(const void *a, const void *b)
{
    const draw *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* Products that share a photo go together: the first of them decides. */
static void draw_sides(catalogue *c, const settings *s)
{
    draw *pot = malloc((c->count + 1) * sizeof *pot);
    size_t n = 0;
    for (size_t i = 0; pot && i < c->count; i++)
        if (product_kept(&c->at[i]) && c->at[i].twin == i) pot[n++] = (draw){key_of(c->at[i].id, s, 0), i};
    if (pot) qsort(pot, n, sizeof *pot, by_key);
    size_t held_out = (size_t)llround(s->test_fraction * (double)n);
    for (size_t i = 0; pot && i < n; i++) c->at[pot[i].index].side = i < held_out;
    for (size_t i = 0; i < c->count; i++)
        if (product_kept(&c->at[i])) c->at[i].side = c->at[c->at[i].twin].side;
    free(pot);
}

/* Where a file gives the sides, the same photo may stand on both: then the test side keeps it. */
static void keep_apart(catalogue *c)
{
    bool *tested = calloc(c->count + 1, sizeof *tested);
    if (!tested) return;
    for (size_t i = 0; i < c->count; i++) {
        product *p = &c->at[i];
        if (product_kept(p) && p->side < 0) p->dropped = "not in split.csv";
        if (product_kept(p) && p->side == 1) tested[p->twin] = true;
    }
    for (size_t i = 0; i < c->count; i++) {
        product *p = &c->at[i];
        if (product_kept(p) && p->side == 0 && tested[p->twin]) p->dropped = "photo also in the test file";
    }
    free(tested);
}

void division_by_product(catalogue *c, const settings *s)
{
    if (c->has_split)
        keep_apart(c);
    else
        draw_sides(c, s);
}

void division_by_question(const product *p, const settings *s, size_t n, bool *held_out)
{
    draw *pot = malloc((n + 1) * sizeof *pot);
    /* Half to even, as Python's round(), which pandas' sample(frac=...) uses. */
    size_t train = (size_t)nearbyint((1 - s->test_fraction) * (double)n);
    for (size_t i = 0; i < n; i++) {
        held_out[i] = false;
        if (pot) pot[i] = (draw){key_of(p->id, s, i + 1), i};
    }
    if (!pot) return;
    qsort(pot, n, sizeof *pot, by_key);
    for (size_t i = train; i < n; i++) held_out[pot[i].index] = true;
    free(pot);
}
