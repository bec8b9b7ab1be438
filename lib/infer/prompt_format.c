/* blip2_prompt_format: the public face of text/prompt.c. */
#include <string.h>
#include "blip2/session.h"
#include "text/text.h"

blip2_status blip2_prompt_format(const char *prompt_template, const char *question, char *buffer,
                                 size_t capacity, size_t *size, blip2_error *err)
{
    b2_str s = {0};
    if (!question || !size)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "prompt: question and size must not be NULL");
    blip2_status st =
        b2_prompt_format(&s, prompt_template ? prompt_template : BLIP2_PROMPT_TEMPLATE, question, err);
    if (st == BLIP2_OK) {
        *size = s.n;
        if (buffer && capacity <= s.n)
            st = b2_fail(err, BLIP2_ERR_LIMIT, "prompt: %zu bytes, the buffer holds %zu", s.n + 1, capacity);
        else if (buffer)
            memcpy(buffer, s.p ? s.p : "", s.n + 1);
    }
    b2_str_free(&s);
    return st;
}
