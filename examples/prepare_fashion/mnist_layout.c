/* Fashion-MNIST (70,000 grey photos of 28x28 pixels, gzip'ed IDX) laid out as a shop's folder. A photo's id
 * is 10000 plus its place in the data set, the 60,000 training photos first, whatever --limit says. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "examples/prepare_fashion/prepare.h"

enum { FIRST_ID = 10000, TRAIN = 60000, TEST = 10000, QUALITY = 95, MNIST_BYTES = 64 << 20 };

static const struct {
    const char *article, *sub_category, *category;
} label_name[10] = {
    {"T-shirt/top", "Topwear", "Apparel"}, {"Trouser", "Bottomwear", "Apparel"},
    {"Pullover", "Topwear", "Apparel"},    {"Dress", "Dress", "Apparel"},
    {"Coat", "Topwear", "Apparel"},        {"Sandal", "Sandal", "Footwear"},
    {"Shirt", "Topwear", "Apparel"},       {"Sneaker", "Shoes", "Footwear"},
    {"Bag", "Bags", "Accessories"},        {"Ankle boot", "Shoes", "Footwear"},
};

typedef struct half {
    blip2_idx photos, labels;
    int64_t count; /* laid out */
} half;
typedef struct layout {
    half side[2];
    const settings *s;
    _Atomic int failed;
    _Atomic int64_t first; /* failing photo */
    int64_t from;          /* of the slice at work */
} layout;

static blip2_status load_file(const settings *s, const char *name, int dims, int64_t count, blip2_idx *x,
                              blip2_error *err)
{
    char *path = format_text("%s/%s.gz", s->fashion_mnist, name);
    FILE *f = path ? fopen(path, "rbe") : NULL;
    if (path && !f) path[strlen(path) - 3] = 0; /* unpacked already? */
    if (f) fclose(f);
    blip2_status status =
        path ? blip2_idx_load(path, MNIST_BYTES, x, err) : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    if (status == BLIP2_OK &&
        (x->dims != dims || x->shape[0] != count || (dims == 3 && (x->shape[1] != 28 || x->shape[2] != 28))))
        status =
            fail_with(err, BLIP2_ERR_DATA, "%s: not %lld entries of Fashion-MNIST", path, (long long)count);
    free(path);
    return status;
}

static blip2_status load_half(const settings *s, int side, half *h, blip2_error *err)
{
    static const char *const name[2][2] = {{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
                                           {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};
    int64_t count = side ? TEST : TRAIN;
    blip2_status status = load_file(s, name[side][0], 3, count, &h->photos, err);
    if (status == BLIP2_OK) status = load_file(s, name[side][1], 1, count, &h->labels, err);
    for (int64_t i = 0; status == BLIP2_OK && i < count; i++)
        if (h->labels.data[i] > 9)
            status = fail_with(err, BLIP2_ERR_DATA, "%s/%s: label %lld is %d, not 0..9", s->fashion_mnist,
                               name[side][1], (long long)i, h->labels.data[i]);
    return status;
}

/* Item i of the layout: which half, which entry, which id. */
static int64_t id_of(const layout *l, int64_t i, const half **h, int64_t *entry)
{
    bool test = i >= l->side[0].count;
    *h = &l->side[test];
    *entry = test ? i - l->side[0].count : i;
    return FIRST_ID + (test ? TRAIN : 0) + *entry;
}

static bool write_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = path ? fopen(path, "wbe") : NULL;
    bool ok = f && fwrite(bytes, 1, n, f) == n;
    return f && fclose(f) == 0 && ok;
}

static bool write_photo(const layout *l, const half *h, int64_t entry, int64_t id)
{
    enum { SIDE = 28, PIXELS = SIDE * SIDE };
    uint8_t rgb[PIXELS * 3];
    const uint8_t *grey = h->photos.data + entry * PIXELS;
    for (int i = 0; i < PIXELS; i++) rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = grey[i];
    blip2_image image = {SIDE, SIDE, SIDE * 3, rgb};
    unsigned char *jpeg = NULL;
    size_t n = 0;
    if (blip2_image_encode_jpeg(&image, QUALITY, &jpeg, &n, NULL) != BLIP2_OK) return false;
    char *path = format_text("%s/images/%lld.jpg", l->s->data, (long long)id);
    bool ok = write_bytes(path, jpeg, n);
    free(path);
    free(jpeg);
    return ok;
}

static bool write_style(const layout *l, int label, int64_t id)
{
    char *path = format_text("%s/styles/%lld.json", l->s->data, (long long)id);
    char *text = format_text(
        "{\"notification\":{},\"meta\":{\"code\":200},\"data\":{\"id\":%lld,\"masterCategory\":{"
        "\"typeName\":\"%s\"},\"subCategory\":{\"typeName\":\"%s\"},\"articleType\":{\"typeName\":\"%s"
        "\"},\"articleAttributes\":[],\"productDescriptors\":{}}}\n",
        (long long)id, label_name[label].category, label_name[label].sub_category, label_name[label].article);
    bool ok = text && write_bytes(path, text, strlen(text));
    free(path);
    free(text);
    return ok;
}

static void lay_out_one(void *user, int64_t i)
{
    layout *l = user;
    const half *h;
    int64_t entry, id = id_of(l, l->from + i, &h, &entry);
    if (atomic_load(&l->failed)) return;
    errno = 0;
    if (write_photo(l, h, entry, id) && write_style(l, h->labels.data[entry], id)) return;
    if (!atomic_exchange(&l->failed, errno ? errno : EIO)) atomic_store(&l->first, id);
}

static blip2_status write_files(layout *l, blip2_error *err)
{
    enum { SLICE = 1000 };
    int64_t n = l->side[0].count + l->side[1].count;
    progress bar;
    progress_begin(&bar, "laying out photos", 0, n);
    for (l->from = 0; l->from < n && !l->failed; l->from += SLICE) {
        int64_t left = n - l->from;
        parallel(left < SLICE ? left : SLICE, thread_count(l->s->threads), lay_out_one, l);
        progress_show(&bar, l->from + (left < SLICE ? left : SLICE), NULL);
    }
    progress_end(&bar);
    if (!l->failed) return BLIP2_OK;
    return fail_with(err, BLIP2_ERR_IO, "%s: photo or JSON of %lld cannot be written: %s", l->s->data,
                     (long long)l->first, strerror(l->failed));
}

/* The three tables, side by side. */
typedef struct tables {
    blip2_csv_writer *styles, *images, *split;
} tables;

static blip2_status table_rows(const layout *l, tables *t, int64_t i, blip2_error *err)
{
    const half *h;
    int64_t entry, number = id_of(l, i, &h, &entry);
    int label = h->labels.data[entry];
    bool test = h == &l->side[1];
    char id[24], file[32], link[64];
    snprintf(id, sizeof id, "%lld", (long long)number);
    snprintf(file, sizeof file, "%s.jpg", id);
    snprintf(link, sizeof link, "fashion-mnist:%s/%lld", test ? "t10k" : "train", (long long)entry);
    const char *style[] = {id,
                           "",
                           label_name[label].category,
                           label_name[label].sub_category,
                           label_name[label].article,
                           "",
                           "",
                           "",
                           "",
                           ""};
    const char *image[] = {file, link}, *side[] = {id, test ? "test" : "train"};
    blip2_status s = blip2_csv_write(t->styles, style, 10, err);
    if (s == BLIP2_OK) s = blip2_csv_write(t->images, image, 2, err);
    return s == BLIP2_OK ? blip2_csv_write(t->split, side, 2, err) : s;
}

static blip2_status open_table(const settings *s, const char *name, const char *const *header, size_t n,
                               blip2_csv_writer **w, blip2_error *err)
{
    char *path = format_text("%s/%s", s->data, name);
    blip2_status status =
        path ? blip2_csv_create(path, w, err) : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    free(path);
    return status == BLIP2_OK ? blip2_csv_write(*w, header, n, err) : status;
}

static blip2_status finish(blip2_csv_writer *w, blip2_status s, blip2_error *err)
{
    if (s == BLIP2_OK) return blip2_csv_commit(w, err);
    blip2_csv_abort(w);
    return s;
}

static blip2_status write_tables(const layout *l, blip2_error *err)
{
    static const char *const styles[] = {
        "id",         "gender", "masterCategory", "subCategory", "articleType",
        "baseColour", "season", "year",           "usage",       "productDisplayName"};
    static const char *const images[] = {"filename", "link"}, *const split[] = {"id", "split"};
    tables t = {0};
    blip2_status s = open_table(l->s, "styles.csv", styles, 10, &t.styles, err);
    if (s == BLIP2_OK) s = open_table(l->s, "images.csv", images, 2, &t.images, err);
    if (s == BLIP2_OK) s = open_table(l->s, "split.csv", split, 2, &t.split, err);
    for (int64_t i = 0; s == BLIP2_OK && i < l->side[0].count + l->side[1].count; i++)
        s = table_rows(l, &t, i, err);
    s = finish(t.split, s, err);
    s = finish(t.images, s, err);
    return finish(t.styles, s, err);
}

blip2_status mnist_lay_out(const settings *s, blip2_error *err)
{
    layout l = {.s = s};
    char *images = format_text("%s/images", s->data), *styles = format_text("%s/styles", s->data);
    blip2_status status = images && styles ? BLIP2_OK : fail_with(err, BLIP2_ERR_MEMORY, "out of memory");
    for (int side = 0; status == BLIP2_OK && side < 2; side++)
        status = load_half(s, side, &l.side[side], err);
    if (status == BLIP2_OK) status = folder_prepare(images, err);
    if (status == BLIP2_OK) status = folder_prepare(styles, err);
    int64_t all = s->limit > 0 && s->limit < TRAIN + TEST ? s->limit : TRAIN + TEST;
    l.side[1].count = all / (TRAIN / TEST + 1);
    l.side[0].count = all - l.side[1].count;
    if (status == BLIP2_OK) status = write_files(&l, err);
    if (status == BLIP2_OK) status = write_tables(&l, err);
    for (int side = 0; side < 2; side++) {
        blip2_idx_free(&l.side[side].photos);
        blip2_idx_free(&l.side[side].labels);
    }
    free(images);
    free(styles);
    return status;
}
