/*
 * sha256.h
 *	  SHA-256 (FIPS 180-4) for the cores; the glue uses it too, so that both
 *	  name the same bytes alike.
 */
#ifndef MILLRACE_SHA256_H
#define MILLRACE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct mr_sha256
{
	uint32_t	state[8];
	uint64_t	bytes;
	uint8_t		block[64];
} mr_sha256;

extern void mr_sha256_init(mr_sha256 *h);
extern void mr_sha256_add(mr_sha256 *h, const void *data, size_t len);
extern void mr_sha256_end(mr_sha256 *h, uint8_t digest[32]);

/* All at once. */
extern void mr_sha256_of(const void *data, size_t len, uint8_t digest[32]);

#endif							/* MILLRACE_SHA256_H */
