/*
 * env.c
 *	  The environment of programs that are not PostgreSQL: unit tests, fuzzers.
 */
#include "core/env.h"

#include <stdlib.h>

static void *
malloc_alloc(void *arg, size_t size)
{
	(void) arg;
	if (size > SIZE_MAX - 64)
		return NULL;
	return aligned_alloc(64, (size + 63) & ~(size_t) 63);
}

static void
malloc_release(void *arg, void *ptr)
{
	(void) arg;
	free(ptr);
}

static bool
never(void *arg)
{
	(void) arg;
	return false;
}

const mr_env mr_env_malloc = {malloc_alloc, malloc_release, never, NULL};
