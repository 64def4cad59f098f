/*
 * boost_view.c
 *	  The trees of a boosting model as tree_view.h shows them.
 */
#include "learn/boost_file.h"
#include "learn/tree_view.h"

#include <string.h>

/* Categories of the features, one allocation: these, then the codes. */
typedef struct features
{
	uint32_t	n_categories;
	uint32_t	n_own;
	uint32_t	own;			/* index of the first code behind the last feature */
} features;

/* Codes of all features, counted or also stored; r passes them. */
static size_t
read_features(lrn_reader *r, int n, features *f)
{
	uint32_t   *codes = (uint32_t *) (f + n);
	uint32_t	own[BOOST_MOST_OWN];
	size_t		total = 0;

	for (int c = 0; c < n; c++)
	{
		features	one = {.own = (uint32_t) total};

		(void) boost_read_codes(r, &one.n_categories, &one.n_own, own);
		if (f)
		{
			f[c] = one;
			memcpy(codes + total, own, one.n_own * sizeof(uint32_t));
		}
		total += one.n_own;
	}
	return total;
}

static mr_code
begin(lrn_trees *v, mr_status *st)
{
	lrn_reader	again;
	double	   *base;
	size_t		n = (size_t) v->info.n_features,
				codes;

	v->n_margins = boost_margins(&v->info);
	v->link = v->info.task == LRN_REGRESS ? LRN_LINK_NONE : v->n_margins == 1 ? LRN_LINK_SIGMOID : LRN_LINK_SOFTMAX;
	base = lrn_trees_base(v, st);
	if (base == NULL)
		return st->code;
	for (int k = 0; k < v->n_margins; k++)
		base[k] = lrn_get_f64(&v->reader);
	again = v->reader;
	codes = read_features(&again, v->info.n_features, NULL);
	v->own = mr_alloc(v->env, n * sizeof(features) + codes * sizeof(uint32_t));
	if (v->own == NULL)
		return lrn_out_of_memory(st);
	(void) read_features(&v->reader, v->info.n_features, v->own);
	v->n_trees = lrn_get_u32(&v->reader) * (uint32_t) v->n_margins;
	return MR_OK;
}

static bool
has(const boost_raw *raw, uint32_t number)
{
	return raw->set[number / 32] >> (number % 32) & 1;
}

/* Numbers of categories become their codes. */
static mr_code
put_set(lrn_trees *v, lrn_tree_node *node, const boost_raw *raw, mr_status *st)
{
	const features *all = v->own;
	const features *f = &all[raw->feature];
	const uint32_t *own = (const uint32_t *) (all + v->info.n_features) + f->own;
	size_t		words = ((size_t) f->n_categories + 31) / 32;
	uint32_t   *set = lrn_tree_add_set(v, words + 1, st);

	if (set == NULL)
		return st->code;
	node->set = (uint32_t) (v->n_sets - words);
	node->missing_left = has(raw, f->n_own + 1);
	*set++ = (uint32_t) words;
	/* All codes as those without a number go, then those with one. */
	if (has(raw, f->n_own))
		for (uint32_t code = 0; code < f->n_categories; code++)
			set[code / 32] |= (uint32_t) 1 << (code % 32);
	for (uint32_t i = 0; i < f->n_own; i++)
		if (has(raw, i))
			set[own[i] / 32] |= (uint32_t) 1 << (own[i] % 32);
		else
			set[own[i] / 32] &= ~((uint32_t) 1 << (own[i] % 32));
	return MR_OK;
}

static mr_code
next(lrn_trees *v, mr_status *st)
{
	uint64_t	n = lrn_get_varint(&v->reader);

	v->tree.margin = (int) (v->done % (uint32_t) v->n_margins);
	for (uint64_t i = 0; i < n; i++)
	{
		lrn_tree_node *node = lrn_tree_add(v, st);
		boost_raw	raw;

		if (node == NULL)
			return st->code;
		if (!boost_read_node(&v->reader, &v->info, &raw))
			return lrn_corrupt(st, "A tree has a node that cannot be");
		node->cover = raw.cover;
		node->gain = raw.gain;
		node->feature = raw.leaf ? -1 : (int32_t) raw.feature;
		node->threshold = raw.threshold;
		node->missing_left = raw.missing_left;
		if (raw.leaf)
		{
			double	   *value = lrn_tree_add_values(v, 1, st);

			if (value == NULL)
				return st->code;
			*value = raw.value;
			node->value = (uint32_t) (v->n_values - 1);
		}
		else if (raw.category && put_set(v, node, &raw, st))
			return st->code;
	}
	return MR_OK;
}

const lrn_tree_format lrn_boost_trees = {begin, next};
