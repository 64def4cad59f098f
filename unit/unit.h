/*
 * unit.h
 *	  TAP helpers of the server-less tests: ok(), skip(), done_testing().
 *
 * Each unit/test_<room>_<topic>.c is a program that prints TAP and exits 1 if
 * an assertion failed.  Real data is looked for under $MILLRACE_DATA, else
 * ../shared/data; where it is absent the test says so and skips.
 */
#ifndef MILLRACE_UNIT_H
#define MILLRACE_UNIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int	unit_count;
static int	unit_failed;

/* Assert cond under a printf-style name. */
static __attribute__((format(printf, 2, 3), unused)) bool
ok(bool cond, const char *name,...)
{
	va_list		args;

	unit_count++;
	unit_failed += !cond;
	printf("%s %d - ", cond ? "ok" : "not ok", unit_count);
	va_start(args, name);
	vprintf(name, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	return cond;
}

/* A test that cannot run here, with the reason. */
static __attribute__((unused)) void
skip(const char *reason)
{
	printf("ok %d # SKIP %s\n", ++unit_count, reason);
}

static __attribute__((unused)) int
done_testing(void)
{
	printf("1..%d\n", unit_count);
	return unit_failed ? 1 : 0;
}

/* Path of a file or folder of the real data, in a static buffer. */
static __attribute__((unused)) const char *
data_path(const char *relative)
{
	static char path[4][1024];
	static int	turn;
	const char *root = getenv("MILLRACE_DATA");

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", root ? root : "../shared/data", relative);
	return path[turn];
}

/* A whole file in malloc'ed memory, NULL if it cannot be read. */
static __attribute__((unused)) unsigned char *
read_file(const char *path, size_t *len)
{
	FILE	   *f = fopen(path, "rb");
	unsigned char *bytes = NULL;
	long		size;

	if (f == NULL)
		return NULL;
	if (fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0 &&
		(bytes = malloc(size ? (size_t) size : 1)) != NULL)
	{
		*len = fread(bytes, 1, (size_t) size, f);
		if (*len != (size_t) size)
		{
			free(bytes);
			bytes = NULL;
		}
	}
	fclose(f);
	return bytes;
}

#endif							/* MILLRACE_UNIT_H */
