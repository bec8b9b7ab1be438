/* Inside checkpoints. Layout of one (docs/training.md): DIR/step-N/ holds trained.safetensors,
 * adam_m.safetensors, adam_v.safetensors (f32, same names) and manifest.json, which names step, loss so far,
 * the run's options, size and CRC-32 of the other files, and its own CRC-32. A folder of that name is whole:
 * it is made under another name. */
#ifndef B2_TRAIN_CHECKPOINT_H
#define B2_TRAIN_CHECKPOINT_H
#include "base/json.h"
#include "train/trainer.h"

enum { B2_CHECKPOINT_FILES = 3, B2_CHECKPOINTS_KEPT = 2 };
extern const char *const b2_checkpoint_file[B2_CHECKPOINT_FILES];

typedef struct b2_checkpoint_sum {
    uint64_t bytes;
    uint32_t crc;
} b2_checkpoint_sum;

/* ---- manifest ---- */
blip2_status b2_manifest_write(const blip2_trainer *t, const char *folder, const b2_checkpoint_sum *sum,
                               blip2_error *e);
/* Reads and checks the manifest itself (free *out with b2_json_free), then the files it names. */
blip2_status b2_manifest_load(b2_json **out, const char *folder, blip2_error *e);
/* BLIP2_ERR_STATE naming the first option or datum in which the checkpoint's run differs from this one. */
blip2_status b2_manifest_compare(const blip2_trainer *t, const b2_json *manifest, const char *folder,
                                 blip2_error *e);
/* Step and loss of the epoch so far; BLIP2_ERR_FORMAT when they cannot be. */
blip2_status b2_manifest_position(const blip2_trainer *t, const b2_json *manifest, int64_t *step,
                                  double *loss, int64_t *tokens, const char *folder, blip2_error *e);
blip2_status b2_file_sum(const char *folder, const char *name, b2_checkpoint_sum *sum, blip2_error *e);

/* ---- folders ---- */
/* Steps of the folders DIR/step-N, newest first; *out is malloc'ed. A folder that does not exist holds none.
 */
blip2_status b2_checkpoints_list(const char *dir, int64_t **out, size_t *n, blip2_error *e);
/* Removes one checkpoint: renamed first, so that no half of it keeps its name. */
void b2_checkpoint_remove(const char *dir, const char *name);
/* Removes what killed runs left behind. */
void b2_checkpoints_sweep(const char *dir);
void b2_sync_folder(const char *path);
#endif
