/*
 * sort.c
 *	  Least significant digit radix sort of 64-bit keys, 11 bits a pass.
 *
 * qsort() of ten million scores takes seconds that nobody can interrupt; this
 * takes a fraction of them and asks every 64 k keys.  Passes in which all keys
 * have the same digit are left out, so that probabilities, which share their
 * upper bits, and integers need few.
 */
#include "learn/sort.h"

#include "learn/learn_int.h"

#define BITS	11
#define DIGITS	(1 << BITS)
#define PASSES	6				/* of 11 bits: 66 */
#define FEW		48				/* so many are sorted by insertion */
#define SLICE	65536			/* keys between two interrupt checks */

static void
insertion_sort(uint64_t *key, uint32_t *carry, size_t n)
{
	for (size_t i = 1; i < n; i++)
	{
		uint64_t	k = key[i];
		uint32_t	c = carry ? carry[i] : 0;
		size_t		j = i;

		for (; j > 0 && key[j - 1] > k; j--)
		{
			key[j] = key[j - 1];
			if (carry)
				carry[j] = carry[j - 1];
		}
		key[j] = k;
		if (carry)
			carry[j] = c;
	}
}

static inline size_t
digit(uint64_t key, int pass)
{
	return (size_t) (key >> (pass * BITS)) & (DIGITS - 1);
}

/* One pass; next[] is where the next key of each digit goes. */
static mr_code
scatter(const mr_env *env, const uint64_t *key, const uint32_t *carry, uint64_t *to, uint32_t *carry_to,
		size_t n, int pass, size_t *next, mr_status *st)
{
	for (size_t first = 0; first < n; first += SLICE)
	{
		size_t		end = n - first < SLICE ? n : first + SLICE;

		for (size_t i = first; i < end; i++)
		{
			size_t		at = next[digit(key[i], pass)]++;

			to[at] = key[i];
			if (carry)
				carry_to[at] = carry[i];
		}
		if (mr_interrupted(env))
			return lrn_canceled(st);
	}
	return MR_OK;
}

mr_code
lrn_sort_keys(const mr_env *env, uint64_t *key, uint32_t *carry, size_t n, mr_status *st)
{
	size_t	   *count;			/* PASSES x DIGITS */
	uint64_t   *from = key,
			   *to;
	uint32_t   *carry_from = carry,
			   *carry_to = NULL;
	mr_code		code = MR_OK;

	if (n < FEW)
	{
		insertion_sort(key, carry, n);
		return MR_OK;
	}
	count = mr_alloc(env, PASSES * DIGITS * sizeof(*count));
	to = mr_alloc(env, n * sizeof(*to));
	if (carry)
		carry_to = mr_alloc(env, n * sizeof(*carry_to));
	if (count == NULL || to == NULL || (carry && carry_to == NULL))
		code = lrn_out_of_memory(st);
	else
	{
		memset(count, 0, PASSES * DIGITS * sizeof(*count));
		for (size_t i = 0; i < n && code == MR_OK; i++)
		{
			for (int pass = 0; pass < PASSES; pass++)
				count[(size_t) pass * DIGITS + digit(key[i], pass)]++;
			if (i % SLICE == 0 && mr_interrupted(env))
				code = lrn_canceled(st);
		}
	}
	for (int pass = 0; pass < PASSES && code == MR_OK; pass++)
	{
		size_t	   *next = count + (size_t) pass * DIGITS;
		size_t		sum = 0;

		if (next[digit(from[0], pass)] == n)
			continue;
		for (size_t d = 0; d < DIGITS; d++)
		{
			size_t		c = next[d];

			next[d] = sum;
			sum += c;
		}
		code = scatter(env, from, carry_from, to, carry_to, n, pass, next, st);
		{
			uint64_t   *k = from;
			uint32_t   *c = carry_from;

			from = to;
			carry_from = carry_to;
			to = k;
			carry_to = c;
		}
	}
	if (code == MR_OK && from != key)
	{
		memcpy(key, from, n * sizeof(*key));
		if (carry)
			memcpy(carry, carry_from, n * sizeof(*carry));
	}
	mr_free(env, from != key ? from : to);
	mr_free(env, carry_from != carry ? carry_from : carry_to);
	mr_free(env, count);
	return code;
}
