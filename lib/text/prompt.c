/* Prompt templates: text with exactly one {} where the question goes. */
#include <string.h>
#include "text/text.h"

#define MAX_TEMPLATE 65536

blip2_status b2_prompt_check(const char *tmpl, blip2_error *e)
{
    const size_t n = strlen(tmpl);
    if (n > MAX_TEMPLATE)
        return b2_fail(e, BLIP2_ERR_LIMIT, "prompt template: %zu bytes, the limit is %d", n, MAX_TEMPLATE);
    if (!b2_utf8_valid(tmpl, n)) return b2_fail(e, BLIP2_ERR_ARGUMENT, "prompt template: not UTF-8");
    const char *at = strstr(tmpl, "{}");
    if (!at) return b2_fail(e, BLIP2_ERR_ARGUMENT, "prompt template \"%s\": no {} for the question", tmpl);
    if (strstr(at + 2, "{}"))
        return b2_fail(e, BLIP2_ERR_ARGUMENT, "prompt template \"%s\": more than one {}", tmpl);
    return BLIP2_OK;
}

blip2_status b2_prompt_format(b2_str *out, const char *tmpl, const char *question, blip2_error *e)
{
    B2_TRY(b2_prompt_check(tmpl, e));
    const char *at = strstr(tmpl, "{}");
    b2_str_addn(out, tmpl, (size_t)(at - tmpl));
    b2_str_add(out, question);
    b2_str_add(out, at + 2);
    return out->failed ? B2_NOMEM(e, "a prompt") : BLIP2_OK;
}
