/* Checkpoints: written whole or not at all, and taken up again. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/str.h"
#include "io/safetensors.h"
#include "train/checkpoint.h"

static float *buffer_of(const blip2_trainer *t, int i)
{
    return i == 0 ? t->flat.w : i == 1 ? t->flat.m : t->flat.v;
}

static blip2_status write_tensors(b2_st_writer *w, const blip2_trainer *t, const float *from, blip2_error *e)
{
    for (int i = 0; i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[i];
        B2_TRY(b2_st_writer_declare(w, x->name, B2_ST_F32, x->rank, x->shape, e));
    }
    B2_TRY(b2_st_writer_begin(w, e));
    for (int i = 0; i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[b2_st_writer_order(w, (size_t)i)];
        B2_TRY(b2_st_writer_data(w, from + x->at, (size_t)x->n * sizeof *from, e));
    }
    return BLIP2_OK;
}

static blip2_status write_buffer(const blip2_trainer *t, const char *folder, int which,
                                 b2_checkpoint_sum *sum, blip2_error *e)
{
    b2_st_writer *w = NULL;
    char *path = b2_path_join(folder, b2_checkpoint_file[which]);
    blip2_status s = path ? b2_st_writer_open(&w, path, e) : B2_NOMEM(e, "a file name");
    free(path);
    if (s != BLIP2_OK) return s;
    const float *from = NULL;
    s = b2_trainer_pull(t, buffer_of(t, which), &from, e);
    if (s == BLIP2_OK) s = write_tensors(w, t, from, e);
    if (s != BLIP2_OK) {
        b2_st_writer_abort(w);
        return s;
    }
    B2_TRY(b2_st_writer_commit(w, e));
    return b2_file_sum(folder, b2_checkpoint_file[which], sum, e);
}

static blip2_status write_folder(const blip2_trainer *t, const char *folder, blip2_error *e)
{
    b2_checkpoint_sum sum[B2_CHECKPOINT_FILES];
    if (mkdir(folder, 0777) != 0) return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be made", folder);
    for (int i = 0; i < B2_CHECKPOINT_FILES; i++) B2_TRY(write_buffer(t, folder, i, &sum[i], e));
    B2_TRY(b2_manifest_write(t, folder, sum, e));
    b2_sync_folder(folder);
    return BLIP2_OK;
}

/* Was the checkpoint of this step damaged when the run was resumed? */
static bool damaged(const blip2_trainer *t, int64_t step)
{
    for (int i = 0; i < t->n_passed; i++) {
        if (t->passed[i] == step) return true;
    }
    return false;
}

/* The damaged checkpoint of this step has been written anew. No trainer is a constant, only this view is. */
static void mended(const blip2_trainer *t, int64_t step)
{
    blip2_trainer *own = (blip2_trainer *)(uintptr_t)t;
    for (int i = 0; i < own->n_passed; i++) {
        if (own->passed[i] == step) own->passed[i] = -1;
    }
}

/* Keeps the newest two of this run's past, whole ones. What is ahead of it belongs to a run that was given
 * up, or is damaged. */
static void tidy(const blip2_trainer *t, const char *dir)
{
    int64_t *step = NULL;
    size_t n = 0, kept = 0;
    char name[40];
    if (b2_checkpoints_list(dir, &step, &n, NULL) != BLIP2_OK) return;
    for (size_t i = 0; i < n; i++) {
        const bool ahead = step[i] > t->done, bad = damaged(t, step[i]);
        if (!ahead && !bad && kept++ < B2_CHECKPOINTS_KEPT) continue;
        snprintf(name, sizeof name, "step-%" PRId64, step[i]);
        if (ahead || bad)
            b2_logf(&t->model->device->log, B2_LOG_WARN, "%s/%s is removed: it is %s", dir, name,
                    ahead ? "ahead of this run" : "damaged");
        b2_checkpoint_remove(dir, name);
    }
    free(step);
}

static blip2_status publish(const char *dir, const char *tmp, const char *final, const char *name,
                            blip2_error *e)
{
    if (rename(tmp, final) != 0) {
        if (errno != ENOTEMPTY && errno != EEXIST)
            return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be renamed to %s", tmp, final);
        b2_checkpoint_remove(dir, name); /* the same step again */
        if (rename(tmp, final) != 0)
            return b2_fail_errno(e, BLIP2_ERR_IO, "%s: cannot be renamed to %s", tmp, final);
    }
    b2_sync_folder(dir);
    return BLIP2_OK;
}

static blip2_status write_checkpoint(const blip2_trainer *t, const char *dir, blip2_error *e)
{
    char name[40];
    b2_str tmp = {0};
    snprintf(name, sizeof name, "step-%" PRId64, t->done);
    b2_str_addf(&tmp, "%s/.tmp-%s.%ld", dir, name, (long)getpid());
    char *final = b2_path_join(dir, name);
    blip2_status s = tmp.failed || !final ? B2_NOMEM(e, "a file name") : b2_make_dirs(dir, e);
    if (s == BLIP2_OK) {
        b2_checkpoints_sweep(dir);
        s = write_folder(t, tmp.p, e);
        if (s == BLIP2_OK) s = publish(dir, tmp.p, final, name, e);
        if (s != BLIP2_OK) b2_checkpoints_sweep(dir);
    }
    free(final);
    b2_str_free(&tmp);
    return s;
}

blip2_status blip2_trainer_checkpoint(const blip2_trainer *t, const char *dir, blip2_error *e)
{
    if (!t || !dir)
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "blip2_trainer_checkpoint: a trainer and a folder are needed");
    B2_TRY(write_checkpoint(t, dir, e));
    mended(t, t->done);
    tidy(t, dir);
    return BLIP2_OK;
}

/* ---- resuming ---- */

static blip2_status check_tensors(const b2_st_set *set, const blip2_trainer *t, const char *folder,
                                  blip2_error *e)
{
    for (int i = 0; i < t->tensors; i++) {
        const b2_trained *x = &t->tensor[i];
        const b2_st_tensor *f = b2_st_find(set, x->name);
        if (!f || f->dtype != B2_ST_F32 || f->bytes != (size_t)x->n * sizeof(float))
            return b2_fail(e, BLIP2_ERR_STATE,
                           "%s: tensor \"%s\" with %" PRId64 " values of F32 was expected, found %s", folder,
                           x->name, x->n, f ? f->dtype_name : "none");
    }
    return BLIP2_OK;
}

static blip2_status read_tensors(blip2_trainer *t, const char *folder, blip2_error *e)
{
    b2_st_set *set[B2_CHECKPOINT_FILES] = {NULL};
    blip2_status s = BLIP2_OK;
    for (int i = 0; s == BLIP2_OK && i < B2_CHECKPOINT_FILES; i++) {
        char *path = b2_path_join(folder, b2_checkpoint_file[i]);
        s = path ? b2_st_open_file(&set[i], path, e) : B2_NOMEM(e, "a file name");
        if (s == BLIP2_OK) s = check_tensors(set[i], t, path, e);
        free(path);
    }
    for (int i = 0; i < B2_CHECKPOINT_FILES; i++) {
        float *to = b2_trainer_host(t, buffer_of(t, i));
        for (int k = 0; s == BLIP2_OK && k < t->tensors; k++) {
            const b2_trained *x = &t->tensor[k];
            memcpy(to + x->at, b2_st_find(set[i], x->name)->data, (size_t)x->n * sizeof *to);
        }
        if (s == BLIP2_OK) s = b2_trainer_push(t, buffer_of(t, i), e);
        b2_st_close(set[i]);
    }
    return s;
}

/* BLIP2_OK: taken up; BLIP2_ERR_STATE: of another run; anything else: damaged. */
static blip2_status take_up(blip2_trainer *t, const char *folder, blip2_error *e)
{
    b2_json *m = NULL;
    double loss = 0;
    int64_t step = 0, tokens = 0;
    B2_TRY(b2_manifest_load(&m, folder, e));
    blip2_status s = b2_manifest_compare(t, m, folder, e);
    if (s == BLIP2_OK) s = b2_manifest_position(t, m, &step, &loss, &tokens, folder, e);
    b2_json_free(m);
    if (s == BLIP2_OK) s = read_tensors(t, folder, e);
    if (s != BLIP2_OK) return s;
    t->done = step;
    t->epoch_loss = loss;
    t->epoch_tokens = tokens;
    b2_trainer_seek(t, step * t->o.accumulate);
    return BLIP2_OK;
}

static blip2_status resume_newest(blip2_trainer *t, const char *dir, const int64_t *step, size_t n,
                                  blip2_error *e)
{
    t->n_passed = 0;
    for (size_t i = 0; i < n; i++) {
        b2_str folder = {0};
        blip2_error why = BLIP2_ERROR_INIT;
        b2_str_addf(&folder, "%s/step-%" PRId64, dir, step[i]);
        const blip2_status s = folder.failed ? B2_NOMEM(&why, "a file name") : take_up(t, folder.p, &why);
        if (s == BLIP2_OK || s == BLIP2_ERR_STATE || s == BLIP2_ERR_MEMORY) {
            b2_str_free(&folder);
            return s == BLIP2_OK ? s : b2_fail(e, s, "%s", why.text);
        }
        b2_logf(&t->model->device->log, B2_LOG_WARN, "%s is passed over: %s", folder.p, why.text);
        if (t->n_passed < (int)(sizeof t->passed / sizeof t->passed[0])) t->passed[t->n_passed++] = step[i];
        b2_str_free(&folder);
    }
    return BLIP2_OK;
}

blip2_status blip2_trainer_resume(blip2_trainer *t, const char *dir, int64_t *step, blip2_error *e)
{
    int64_t *found = NULL;
    size_t n = 0;
    if (!t || !dir || !step)
        return b2_fail(e, BLIP2_ERR_ARGUMENT,
                       "blip2_trainer_resume: a trainer, a folder and a place for the step are needed");
    if (t->done)
        return b2_fail(e, BLIP2_ERR_STATE,
                       "blip2_trainer_resume: this trainer has already made %" PRId64 " steps", t->done);
    *step = 0;
    B2_TRY(b2_checkpoints_list(dir, &found, &n, e));
    const blip2_status s = resume_newest(t, dir, found, n, e);
    free(found);
    *step = t->done;
    return s;
}
