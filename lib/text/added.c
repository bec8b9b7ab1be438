/* The table of added tokens and the byte trie that finds them in a text. */
#include <stdlib.h>
#include <string.h>
#include "text/added.h"
#include "text/spm_proto.h"

/* Node 0 is the root. 0 as child or sibling: none. */
struct b2_trie_node {
    uint32_t child, sibling;
    int32_t token; /* index into the list, -1 inside a word */
    uint8_t byte;
};

static void drop(b2_added *a, size_t i)
{
    free(a->list[i].text);
    a->list[i] = a->list[--a->count];
}

blip2_status b2_added_put(b2_added *a, const b2_added_token *t, blip2_error *e)
{
    if (t->n == 0 || t->n > B2_SPM_MAX_PIECE)
        return b2_fail(e, BLIP2_ERR_LIMIT, "an added token of %zu bytes, expected 1 to %d", t->n,
                       B2_SPM_MAX_PIECE);
    if (t->id < 0 || t->id > B2_ADDED_MAX_ID)
        return b2_fail(e, BLIP2_ERR_FORMAT, "added token %s has the id %d", t->text, (int)t->id);
    for (size_t i = a->count; i-- > 0;)
        if (a->list[i].id == t->id || (a->list[i].n == t->n && memcmp(a->list[i].text, t->text, t->n) == 0))
            drop(a, i);
    if (a->count == B2_ADDED_MAX)
        return b2_fail(e, BLIP2_ERR_LIMIT, "more than %d added tokens", B2_ADDED_MAX);
    if (a->count == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 128;
        b2_added_token *list = realloc(a->list, cap * sizeof *list);
        if (!list) return B2_NOMEM(e, "added tokens");
        a->list = list;
        a->cap = cap;
    }
    char *text = b2_strndup(t->text, t->n);
    if (!text) return B2_NOMEM(e, "added tokens");
    a->list[a->count] = *t;
    a->list[a->count++].text = text;
    return BLIP2_OK;
}

blip2_status b2_added_put_json(b2_added *a, int64_t id, const b2_json *v, const char *path, blip2_error *e)
{
    const char *text = b2_json_string(b2_json_get(v, "content"));
    if (!text || id < 0 || id > B2_ADDED_MAX_ID)
        return b2_fail(e, BLIP2_ERR_FORMAT, "%s: an added token without content or with a wrong id", path);
    b2_added_token t = {.text = (char *)text,
                        .n = strlen(text),
                        .id = (int32_t)id,
                        .special = b2_json_bool(b2_json_get(v, "special"), false),
                        .lstrip = b2_json_bool(b2_json_get(v, "lstrip"), false),
                        .rstrip = b2_json_bool(b2_json_get(v, "rstrip"), false),
                        .single_word = b2_json_bool(b2_json_get(v, "single_word"), false)};
    return b2_fail_context(e, b2_added_put(a, &t, e), "%s", path);
}

static uint32_t child_of(const struct b2_trie_node *nodes, uint32_t node, uint8_t byte)
{
    uint32_t c = nodes[node].child;
    while (c && nodes[c].byte != byte) c = nodes[c].sibling;
    return c;
}

/* 0 when out of memory. */
static uint32_t add_child(b2_added *a, uint32_t node, uint8_t byte)
{
    if (a->node_count == a->node_cap) {
        size_t cap = a->node_cap ? 2 * a->node_cap : 1024;
        struct b2_trie_node *p = realloc(a->nodes, cap * sizeof *p);
        if (!p) return 0;
        a->nodes = p;
        a->node_cap = cap;
    }
    uint32_t c = (uint32_t)a->node_count++;
    a->nodes[c] = (struct b2_trie_node){.token = -1, .byte = byte};
    if (c) {
        a->nodes[c].sibling = a->nodes[node].child;
        a->nodes[node].child = c;
    }
    return c;
}

static int by_id(const void *x, const void *y)
{
    int32_t a = ((const b2_added_token *)x)->id, b = ((const b2_added_token *)y)->id;
    return (a > b) - (a < b);
}

blip2_status b2_added_finish(b2_added *a, blip2_error *e)
{
    if (a->count) qsort(a->list, a->count, sizeof *a->list, by_id);
    a->node_count = 0;
    add_child(a, 0, 0);
    if (!a->nodes) return B2_NOMEM(e, "added tokens");
    for (size_t i = 0; i < a->count; i++) {
        uint32_t node = 0;
        for (size_t j = 0; j < a->list[i].n; j++) {
            uint8_t byte = (uint8_t)a->list[i].text[j];
            uint32_t next = child_of(a->nodes, node, byte);
            if (!next && !(next = add_child(a, node, byte))) return B2_NOMEM(e, "added tokens");
            node = next;
        }
        a->nodes[node].token = (int32_t)i;
    }
    return BLIP2_OK;
}

static bool word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (c & 0x80);
}

static bool fits(const b2_added_token *t, const char *text, size_t n, size_t at)
{
    if (!t->single_word) return true;
    return (at == 0 || !word_byte(text[at - 1])) && (at + t->n == n || !word_byte(text[at + t->n]));
}

const b2_added_token *b2_added_find(const b2_added *a, const char *text, size_t n, size_t from, size_t *at)
{
    for (size_t i = from; i < n; i++) {
        const b2_added_token *longest = NULL;
        uint32_t node = 0;
        for (size_t j = i; j < n && (node = child_of(a->nodes, node, (uint8_t)text[j])); j++) {
            const b2_added_token *t = a->nodes[node].token < 0 ? NULL : &a->list[a->nodes[node].token];
            if (t && fits(t, text, n, i)) longest = t;
        }
        *at = i;
        if (longest) return longest;
    }
    return NULL;
}

const b2_added_token *b2_added_by_id(const b2_added *a, int32_t id)
{
    const b2_added_token key = {.id = id};
    return a->count ? bsearch(&key, a->list, a->count, sizeof key, by_id) : NULL;
}

void b2_added_free(b2_added *a)
{
    for (size_t i = 0; i < a->count; i++) free(a->list[i].text);
    free(a->list);
    free(a->nodes);
    *a = (b2_added){0};
}
