/*
 * sort.h
 *	  Stable sort of 64-bit keys, and numbers as such keys.
 */
#ifndef MILLRACE_LEARN_SORT_H
#define MILLRACE_LEARN_SORT_H

#include <stdint.h>
#include <string.h>

#include "core/env.h"
#include "core/status.h"

/* Keys of numbers ascend as the numbers do; -0 is 0.  Not for NaN. */
static inline uint64_t
lrn_key_of(double x)
{
	uint64_t	bits;

	x += 0.0;
	memcpy(&bits, &x, sizeof(bits));
	return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static inline double
lrn_number_of(uint64_t key)
{
	uint64_t	bits = key >> 63 ? key & ~(UINT64_C(1) << 63) : ~key;
	double		x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/*
 * Sort n keys upwards, stably; carry (or NULL) holds a number for each key and
 * goes with it.  Takes n * 8 (or 12) bytes beside them.  MR_NOMEM, MR_CANCELED:
 * the keys are in no order then.
 */
extern mr_code lrn_sort_keys(const mr_env *env, uint64_t *key, uint32_t *carry,
							 size_t n, mr_status *st);

#endif							/* MILLRACE_LEARN_SORT_H */
