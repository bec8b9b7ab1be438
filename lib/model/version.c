/* The version of the library in use. */
#include "blip2.h"

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const char *blip2_version(void)
{
    return TEXT(BLIP2_VERSION_MAJOR) "." TEXT(BLIP2_VERSION_MINOR) "." TEXT(BLIP2_VERSION_PATCH);
}
