/* What an evaluation found: answers row by row, scores attribute by attribute. */
#ifndef B2_TRAIN_EVALUATION_H
#define B2_TRAIN_EVALUATION_H
#include <stdbool.h>
#include "base/str.h"
#include "blip2/train.h"

typedef struct b2_result { /* one row; all texts are owned */
    char *id, *image_path, *question, *truth, *answer;
    double logprob;
    int attribute;
    bool right; /* equal but for blanks */
} b2_result;

typedef struct b2_attribute {
    char *name;
    int64_t n, right;
    double macro_f1;
    char **value; /* [values] the truths, sorted; they belong to results */
    int values;
    int64_t *count; /* [values][values+1]: rows of truth i answered j; column `values`: anything else */
} b2_attribute;

struct blip2_evaluation {
    b2_result *result;
    int64_t n, right;
    b2_attribute *attribute; /* sorted by name */
    int attributes;
};

/* Answers of all rows into e->result. */
blip2_status b2_evaluation_ask(blip2_evaluation *e, blip2_session *s, const blip2_dataset *d,
                               const blip2_evaluate_options *o, blip2_error *err);
/* Attributes and scores from the results. */
blip2_status b2_evaluation_score(blip2_evaluation *e, blip2_error *err);
#endif
