/*
 * pairs_values.c
 *	  Hashes sorted, equal ones together: a big group of equal items is one value to compare.
 *
 * Memory: 16 bytes an entry while sorting, then 8 and 8 for each value.
 */
#include "quality/pairs_int.h"

#include <string.h>

typedef struct keyed
{
	uint64_t	value;
	uint32_t	entry;
} __attribute__((packed, aligned(4))) keyed;

/* By value, entries of equal ones in order; the bytes that all have in common are skipped. */
static mr_code
sort_keyed(const mr_env *env, keyed *a, keyed *b, uint32_t n, keyed **sorted, mr_status *st)
{
	for (int shift = 0; shift < 64; shift += 8)
	{
		uint32_t	at[257] = {0};
		keyed	   *swap;

		if (mr_interrupted(env))
			return qlt_canceled(st);
		for (uint32_t i = 0; i < n; i++)
			at[(a[i].value >> shift & 255) + 1]++;
		if (n == 0 || at[(a[0].value >> shift & 255) + 1] == n)
			continue;
		for (int i = 1; i < 256; i++)
			at[i] += at[i - 1];
		for (uint32_t i = 0; i < n; i++)
			b[at[a[i].value >> shift & 255]++] = a[i];
		swap = a, a = b, b = swap;
	}
	*sorted = a;
	return MR_OK;
}

void
qlt_values_free(const mr_env *env, qlt_values *v)
{
	mr_free(env, v->value);
	mr_free(env, v->start);
	mr_free(env, v->entry);
	mr_free(env, v->heads);
	memset(v, 0, sizeof(*v));
}

mr_code
qlt_values_make(const mr_env *env, const uint64_t *hashes, uint32_t from, uint32_t count, int turns, qlt_values *v, mr_status *st)
{
	keyed	   *a = mr_alloc(env, ((size_t) count + 1) * sizeof(keyed)),
			   *b = mr_alloc(env, ((size_t) count + 1) * sizeof(keyed)),
			   *sorted = a;
	uint32_t	different = 0,
				filled = 0;
	mr_code		code = MR_OK;

	memset(v, 0, sizeof(*v));
	if (a == NULL || b == NULL)
		code = qlt_no_memory(st);
	for (uint32_t i = 0; code == MR_OK && i < count; i++)
		a[i] = (keyed) {hashes[from + i], from + i};
	if (code == MR_OK)
		code = sort_keyed(env, a, b, count, &sorted, st);
	if (code == MR_OK)
	{
		for (uint32_t i = 0; i < count; i++)
			different += i == 0 || sorted[i].value != sorted[i - 1].value;
		v->value = mr_alloc(env, ((size_t) different + QLT_PAD) * sizeof(uint64_t));
		v->start = mr_alloc(env, ((size_t) different + 1) * sizeof(uint32_t));
		v->entry = mr_alloc(env, ((size_t) count + 1) * sizeof(uint32_t));
		if (v->value == NULL || v->start == NULL || v->entry == NULL)
			code = qlt_no_memory(st);
	}
	if (code == MR_OK)
	{
		for (uint32_t i = 0; i < count; i++)
		{
			if (i == 0 || sorted[i].value != sorted[i - 1].value)
			{
				v->value[v->n] = sorted[i].value;
				v->start[v->n++] = filled;
			}
			else if (sorted[i].entry / (uint32_t) turns == v->entry[filled - 1] / (uint32_t) turns)
				continue;
			v->entry[filled++] = sorted[i].entry;
		}
		v->start[v->n] = filled;
		memset(v->value + v->n, 0, QLT_PAD * sizeof(uint64_t));
	}
	mr_free(env, a);
	mr_free(env, b);
	return code;
}

/*
 * Of equal items that are of one set, and all old or all new, the first ones are as good as any: one more than
 * per_item of them, since an item is not near itself.
 */
mr_code
qlt_values_heads(const mr_env *env, qlt_values *v, int turns, const qlt_pair_options *o, mr_status *st)
{
	uint32_t	most = (uint32_t) o->per_item + 1,
				largest = 0;
	uint32_t   *rest;

	for (uint32_t u = 0; u < v->n; u++)
		largest = v->start[u + 1] - v->start[u] > largest ? v->start[u + 1] - v->start[u] : largest;
	v->heads = mr_alloc(env, ((size_t) v->n + 1) * sizeof(uint32_t));
	rest = mr_alloc(env, ((size_t) largest + 1) * sizeof(uint32_t));
	if (v->heads == NULL || rest == NULL)
	{
		mr_free(env, rest);
		return qlt_no_memory(st);
	}
	for (uint32_t u = 0; u < v->n; u++)
	{
		uint32_t   *entry = v->entry + v->start[u],
					n = v->start[u + 1] - v->start[u],
					heads = n,
					others = 0;

		if (n > most)
		{
			uint32_t	seen[2][256] = {{0}};

			heads = 0;
			for (uint32_t i = 0; i < n; i++)
			{
				uint32_t	item = entry[i] / (uint32_t) turns;

				if (seen[item >= o->first][o->sets ? o->sets[item] : 0]++ < most)
					entry[heads++] = entry[i];
				else
					rest[others++] = entry[i];
			}
			memcpy(entry + heads, rest, (size_t) others * sizeof(uint32_t));
		}
		v->heads[u] = heads;
	}
	mr_free(env, rest);
	return MR_OK;
}
