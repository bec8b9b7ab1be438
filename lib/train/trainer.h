/* The trainer behind blip2_trainer: what trains, its memory, its place in the data. */
#ifndef B2_TRAIN_TRAINER_H
#define B2_TRAIN_TRAINER_H
#include "model/lora.h"
#include "train/feature_cache.h"
#include "train/loader.h"
#include "train/schedule.h"

/* One trained tensor: floats at..at+n-1 of the four flat buffers. */
typedef struct b2_trained {
    char name[144]; /* the checkpoint's; MODULE.lora_A.weight for adapters */
    int64_t at, n;
    int rank;
    int64_t shape[4];
    bool decay;
    int ref;     /* index into net->ref */
    int slot;    /* of net->slots for an adapter's matrix, else -1 */
    char matrix; /* 'A' or 'B' of an adapter, 'W' for a weight itself */
} b2_trained;

/* Flat buffers; every tensor starts on a multiple of 16 floats, and the gaps stay 0. */
typedef struct b2_flat {
    float *w, *g, *m, *v; /* g has one more float behind `total`: the step's tokens */
    int64_t decayed;      /* tensors with weight decay fill 0..decayed-1, the others decayed..total-1 */
    int64_t total;
} b2_flat;

/* host: beside a GPU what stays in the host's memory; elsewhere that is part of state. */
typedef struct b2_trainer_sizes {
    size_t state, save, scratch, loader, mapped, host, pinned;
} b2_trainer_sizes;

/* What the host hands to a step and gets back; copies to and from a GPU go through it. */
typedef struct b2_exchange {
    b2_step step;
    float count; /* tokens of the step */
    double sums[2];
} b2_exchange;

/* What lies where the kernels run besides the flat buffers. On the host micro-batches are used where the
 * loader made them, and `step` is the trainer's own. */
typedef struct b2_trainer_run {
    b2_step *step;
    double *sums; /* of the step so far: loss; squares of the gradient */
    struct b2_inputs {
        uint64_t *sample;
        float *input; /* image tokens or pixels */
        int32_t *enc_ids, *enc_len, *dec_ids, *labels;
    } set[2];              /* the micro-batch that runs, and the next on its way */
    float *mirror;         /* the host's: one flat buffer */
    b2_exchange *exchange; /* the host's */
} b2_trainer_run;

struct blip2_trainer {
    blip2_model *model;
    const blip2_dataset *data;
    blip2_trainer_options o; /* strings are copies */
    blip2_adapter *init;     /* of init_adapter, until its values are copied */
    b2_net *net;
    b2_lora_config lora;
    b2_trained *tensor;
    int tensors;
    b2_flat flat;
    b2_texts texts;
    b2_pictures pictures;
    float *features; /* cached image tokens in the state arena, or NULL */
    b2_feature_file file;
    b2_loader *loader;
    b2_loader_options lo;
    b2_schedule schedule;
    b2_trainer_sizes size;
    b2_arena state, save, scratch, host, pinned;
    b2_exchange own_exchange; /* where the device is the host */
    b2_recordings graphs;
    b2_trainer_run run;
    b2_step step;
    b2_queue q, up;        /* up: micro-batches on their way to a GPU, beside the kernels */
    const b2_micro *ahead; /* fetched, and has not run yet */
    int ahead_set;         /* where it is, or the last one was */
    int64_t done;          /* steps */
    double epoch_loss;     /* sum over the epoch's tokens so far */
    int64_t epoch_tokens;
    int64_t passed[8]; /* steps of damaged checkpoints that resuming passed over, the newest */
    int n_passed;
    _Atomic int cancel;
};

/* BLIP2_ERR_ARGUMENT naming the field. */
blip2_status b2_trainer_options_check(const blip2_trainer_options *o, blip2_error *e);
/* Chooses what trains: fills net, lora, tensor, and the flat sizes. */
blip2_status b2_trainer_select(blip2_trainer *t, blip2_error *e);
/* Takes the flat buffers from the arena (maybe dry) and points the net at them. */
void b2_trainer_bind(blip2_trainer *t, b2_arena *a);
/* First values: the model's, the initial adapter's, or fresh LoRA matrices. */
blip2_status b2_trainer_init_values(blip2_trainer *t, blip2_error *e);
/* A net in the host's memory that views the trained weights w (as b2_trainer_pull gives them) and the
 * model's others. */
blip2_status b2_trainer_host_net(const blip2_trainer *t, const float *w, b2_net **out, blip2_error *e);

/* Takes t->run from the arenas (maybe dry). */
void b2_trainer_run_take(blip2_trainer *t, b2_arena *device, b2_arena *host);
/* Queue q brings a micro-batch to where the kernels run, into set 0 or 1; what it reads must stay until q has
 * finished. */
void b2_trainer_send(blip2_trainer *t, b2_queue *q, int set, const b2_batch *b, const uint64_t *sample);
/* Before the micro-batch of that set runs: t->step and the step's tokens so far are laid out for it. */
void b2_trainer_lay_out(blip2_trainer *t, int set, const uint64_t *sample, int64_t tokens);
/* The step's scalars go to where the kernels run; the micro-batch b of that set as kernels see it. Can be
 * recorded. */
b2_batch b2_trainer_arrived(blip2_trainer *t, int set, const b2_batch *b);
/* The micro-batch to run next, which the loader holds until the one after it is asked for; *set says where
 * it is. */
blip2_status b2_trainer_next(blip2_trainer *t, const b2_micro **out, int *set, blip2_error *e);
/* While micro-batch `micro` runs on a GPU: the one after it is put on its way; what the loader held of the
 * running one is gone. */
void b2_trainer_look_ahead(blip2_trainer *t, int64_t micro);
/* The next one is micro-batch `micro`. */
void b2_trainer_seek(blip2_trainer *t, int64_t micro);
/* Flat buffers from the host: where it reads or writes one; reading it there; what it wrote becomes the
 * buffer. A GPU's buffers share one place: one at a time. */
float *b2_trainer_host(const blip2_trainer *t, float *flat);
blip2_status b2_trainer_pull(const blip2_trainer *t, float *flat, const float **host, blip2_error *e);
blip2_status b2_trainer_push(blip2_trainer *t, float *flat, blip2_error *e);
/* The pass of a step. */
b2_pass b2_trainer_pass(blip2_trainer *t);
/* Entries for b2_adapter_save, viewing the trained matrices in w (of b2_trainer_pull); malloc'ed, *n of
 * them. */
b2_adapter_entry *b2_trainer_entries(const blip2_trainer *t, const float *w, int *n);
/* After a step whose result is not finite: looks at its samples one by one, names the first bad op in e. */
blip2_status b2_trainer_find_nonfinite(blip2_trainer *t, blip2_error *e);
#endif
