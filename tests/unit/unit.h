/* What the unit tests share: cmocka with its includes, and a temporary folder. */
#ifndef B2_TESTS_UNIT_H
#define B2_TESTS_UNIT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* A new empty folder below $TMPDIR or /tmp; ends the test program when there is none. Free with unit_remove.
 */
char *unit_folder(void);
void unit_remove(char *folder); /* with all that is in it; frees the string */
/* DIR/NAME in a buffer that the next 63 calls leave alone. */
const char *unit_path(const char *dir, const char *name);
void unit_write(const char *path, const void *p, size_t n); /* fails the test when it cannot */
/* BLIP2_TEST_DEVICE: where to run, "cpu" unless set. */
const char *unit_device(void);
#endif
