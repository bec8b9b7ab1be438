/* A tokenizer trained from a text file by Debian's spm_train. */
#ifndef EXAMPLES_SPM_TRAIN_H
#define EXAMPLES_SPM_TRAIN_H

#include "examples/common.h"

/* Makes SCRATCH/spiece.model: unigram, T5's ids (pad 0, </s> 1, unk 2), nmt_nfkc, at most `pieces` pieces
 * (fewer when the text gives fewer). Returns -1 when done, else an exit code, after a message. *path is
 * malloc'ed. */
int tokenizer_train(const program *p, const char *text, int64_t pieces, const char *scratch, char **path);
/* Removes what tokenizer_train left, and the folder. */
void tokenizer_clean(const char *scratch);

#endif
