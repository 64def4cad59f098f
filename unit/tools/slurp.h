/*
 * slurp.h
 *	  A whole file, for the command-line tools: 64-byte aligned, never released;
 *	  exits with 2 when it cannot be read.
 */
#ifndef MILLRACE_TOOLS_SLURP_H
#define MILLRACE_TOOLS_SLURP_H

#include <stdio.h>
#include <stdlib.h>

static unsigned char *
slurp(const char *path, size_t *len)
{
	FILE	   *f = fopen(path, "rb");
	unsigned char *bytes;
	long		size;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0)
	{
		perror(path);
		exit(2);
	}
	rewind(f);
	bytes = aligned_alloc(64, ((size_t) size + 64) / 64 * 64);
	if (bytes == NULL || fread(bytes, 1, (size_t) size, f) != (size_t) size)
	{
		perror(path);
		exit(2);
	}
	fclose(f);
	*len = (size_t) size;
	return bytes;
}

#endif							/* MILLRACE_TOOLS_SLURP_H */
