/* Inside a data set: rows of a CSV and the photos they speak of. */
#ifndef B2_TRAIN_DATASET_H
#define B2_TRAIN_DATASET_H
#include "blip2/train.h"
#include "io/csv.h"

struct blip2_dataset {
    b2_csv csv;
    char *name;     /* of the CSV, for messages */
    blip2_row *row; /* [rows]; texts point into csv and path */
    int64_t rows;
    char **path;    /* [images] */
    int64_t *first; /* [images] first row that shows the photo */
    int64_t images;
    uint64_t hash; /* of every row's texts and every photo's size */
};
#endif
