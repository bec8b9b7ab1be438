/* The protobuf side of sentencepiece's model files (sentencepiece_model.proto): writing, and checks before
 * reading. */
#ifndef B2_TEXT_SPM_PROTO_H
#define B2_TEXT_SPM_PROTO_H
#include "base/str.h"

#define B2_SPM_MAX_BYTES  ((size_t)16 << 20)
#define B2_SPM_MAX_PIECES (1 << 20)
#define B2_SPM_MAX_PIECE  256 /* bytes; sentencepiece recurses once a byte when it builds its trie */

/* ModelProto.SentencePiece.Type */
enum { B2_SPM_NORMAL = 1, B2_SPM_UNKNOWN, B2_SPM_CONTROL, B2_SPM_USER, B2_SPM_UNUSED, B2_SPM_BYTE };

/* Fields appended to s: wire types 0, 2 and 5. */
void b2_pb_int(b2_str *s, int field, int64_t v);
void b2_pb_bytes(b2_str *s, int field, const void *p, size_t n);
void b2_pb_float(b2_str *s, int field, float v);

#ifdef __cplusplus
extern "C" {
#endif
/* A unigram model within the limits above, with pieces that are UTF-8 without NUL and finite scores, and a
 * character map (Darts double array) whose every step stays inside it. What sentencepiece itself refuses is
 * left to it. */
blip2_status b2_spm_check(const void *model, size_t n, blip2_error *e);
#ifdef __cplusplus
}
#endif
#endif
