/*
 * pairs_out.c
 *	  Where pairs go: straight to the caller, or into the lists of each item's nearest.
 *
 * Memory of the lists: 16 per_item bytes an item, and 4.
 */
#include "quality/pairs_int.h"

#include <inttypes.h>
#include <string.h>

mr_code
qlt_no_memory(mr_status *st)
{
	return mr_fail(st, MR_NOMEM, "out of memory");
}

mr_code
qlt_canceled(mr_status *st)
{
	return mr_fail(st, MR_CANCELED, "canceled");
}

mr_code
qlt_pairs_fit(const qlt_pair_options *o, size_t need, const char *what, mr_status *st)
{
	if (need <= o->max_memory)
		return MR_OK;
	mr_fail(st, MR_LIMIT, "%s would take %zu MB of memory", what, need >> 20);
	mr_detail(st, "The limit is %zu MB.", o->max_memory >> 20);
	mr_hint(st, "Compare fewer at a time, or raise millrace.max_model_memory.");
	return MR_LIMIT;
}

size_t
qlt_out_memory(const qlt_pair_options *o, uint32_t n)
{
	return o->per_item > 0 ? (size_t) n * (2 * (size_t) o->per_item * sizeof(qlt_near) + 2 * sizeof(uint16_t)) : 0;
}

mr_code
qlt_out_begin(qlt_out *out, const mr_env *env, const qlt_pair_options *o, uint32_t n, bool similar, mr_status *st)
{
	*out = (qlt_out) {.env = env, .o = o, .similar = similar, .n = n};
	if (o->per_item <= 0)
		return MR_OK;
	out->nearest = mr_alloc(env, 2 * (size_t) n * (size_t) o->per_item * sizeof(qlt_near) + 1);
	out->filled = mr_alloc(env, 2 * (size_t) n * sizeof(uint16_t) + 1);
	if (out->nearest == NULL || out->filled == NULL)
	{
		qlt_out_free(out);
		return qlt_no_memory(st);
	}
	memset(out->filled, 0, 2 * (size_t) n * sizeof(uint16_t));
	return MR_OK;
}

static size_t
list_of(const qlt_out *out, uint32_t a, uint32_t b)
{
	return 2 * (size_t) a + (out->o->sets && out->o->sets[a] != out->o->sets[b]);
}

static inline bool
nearer(qlt_near x, qlt_near y)
{
	return x.key < y.key || (x.key == y.key && x.item < y.item);
}

void
qlt_out_near(qlt_out *out, uint32_t a, uint32_t b, float measure)
{
	size_t		list = list_of(out, a, b);
	qlt_near   *near = out->nearest + list * (size_t) out->o->per_item,
				one = {out->similar ? -measure : measure, b};
	int			n = out->filled[list],
				i = n,
				at;

	if (n == out->o->per_item && !nearer(one, near[n - 1]))
		return;
	/* Known already, at another turn: there once, at its least distance. */
	for (at = 0; at < n && near[at].item != b; at++)
		;
	if (at < n)
	{
		if (near[at].key <= one.key)
			return;
		i = at;
	}
	else if (n == out->o->per_item)
		i = n - 1;
	else
		out->filled[list]++;
	for (; i > 0 && nearer(one, near[i - 1]); i--)
		near[i] = near[i - 1];
	near[i] = one;
}

static bool
wants(const qlt_out *out, uint32_t a, uint32_t b, float key)
{
	size_t		list = list_of(out, a, b);
	int			n = out->filled[list];

	return n < out->o->per_item || key <= out->nearest[list * (size_t) out->o->per_item + (size_t) n - 1].key;
}

bool
qlt_out_wants(const qlt_out *out, uint32_t a, uint32_t b, float measure)
{
	float		key = out->similar ? -measure : measure;

	return out->nearest == NULL || wants(out, a, b, key) || wants(out, b, a, key);
}

static mr_code
give(qlt_out *out, uint32_t a, uint32_t b, float measure, mr_status *st)
{
	if (out->o->max_pairs && ++out->count > out->o->max_pairs)
	{
		mr_fail(st, MR_LIMIT, "there are more than %" PRIu64 " pairs", out->o->max_pairs);
		mr_detail(st, "Many of the items are nearly equal to each other.");
		mr_hint(st, "Ask for the nearest of each item (per_item), for groups (millrace.hash_groups()), or raise max_pairs.");
		return MR_LIMIT;
	}
	if ((out->count & 1023) == 0 && mr_interrupted(out->env))
		return qlt_canceled(st);
	return out->o->sink(out->o->arg, a, b, measure, st);
}

mr_code
qlt_out_pair(qlt_out *out, uint32_t a, uint32_t b, float measure, mr_status *st)
{
	if (out->nearest == NULL)
		return give(out, a < b ? a : b, a < b ? b : a, measure, st);
	qlt_out_near(out, a, b, measure);
	qlt_out_near(out, b, a, measure);
	return MR_OK;
}

mr_code
qlt_out_match(qlt_out *out, uint32_t a, uint32_t b, float measure, mr_status *st)
{
	return give(out, a, b, measure, st);
}

/* Is b in one of a's lists? */
static bool
listed(const qlt_out *out, uint32_t a, uint32_t b)
{
	size_t		list = list_of(out, a, b);
	const qlt_near *near = out->nearest + list * (size_t) out->o->per_item;

	for (int i = 0; i < out->filled[list]; i++)
		if (near[i].item == b)
			return true;
	return false;
}

/* Pairs of the lists, each once. */
mr_code
qlt_out_end(qlt_out *out, mr_status *st)
{
	mr_code		code = MR_OK;

	if (out->nearest == NULL)
		return MR_OK;
	for (uint32_t a = 0; a < out->n && code == MR_OK; a++)
		for (size_t list = 2 * (size_t) a; list < 2 * (size_t) a + 2; list++)
			for (int i = 0; i < out->filled[list] && code == MR_OK; i++)
			{
				qlt_near	one = out->nearest[list * (size_t) out->o->per_item + (size_t) i];

				if (a > one.item && listed(out, one.item, a))
					continue;
				code = give(out, a < one.item ? a : one.item, a < one.item ? one.item : a, out->similar ? -one.key : one.key, st);
			}
	qlt_out_free(out);
	return code;
}

void
qlt_out_free(qlt_out *out)
{
	mr_free(out->env, out->nearest);
	mr_free(out->env, out->filled);
	out->nearest = NULL;
	out->filled = NULL;
}

/* ---- groups: union by the first item, paths halved ---- */

uint32_t
qlt_group_of(uint32_t *group, uint32_t item)
{
	while (group[item] != item)
		item = group[item] = group[group[item]];
	return item;
}

void
qlt_group_join(uint32_t *group, uint32_t a, uint32_t b)
{
	a = qlt_group_of(group, a);
	b = qlt_group_of(group, b);
	group[a > b ? a : b] = a > b ? b : a;
}
