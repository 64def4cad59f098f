/*
 * split.c
 *	  Rows into training and test parts.  See split.h.
 *
 * Without groups, rows are shuffled, put in order of their class, and dealt to
 * the folds like cards: every fold gets every class within one row of its share,
 * and the folds' sizes differ by at most one.  Groups are dealt from the largest
 * to the smallest, each to the fold that has least of its classes (as
 * scikit-learn's StratifiedGroupKFold does by another measure).  By time, the
 * rows in order are cut as scikit-learn's TimeSeriesSplit cuts them.
 */
#include "learn/split.h"

#include <math.h>

#include "learn/learn_int.h"
#include "learn/sort.h"

#define SLICE	16384			/* rows between two interrupt checks */
#define SPLIT_STREAM	0x73706c6974	/* of the seed */

/* Whether card i of a row of cards belongs to the test share: of the first n
 * it takes n * share, rounded up, whatever n is. */
static bool
dealt_to_test(int64_t i, double share)
{
	return ceil((double) (i + 1) * share - 1e-9) > ceil((double) i * share - 1e-9);
}

/* The finaliser of splitmix64: all bits of the result depend on all of h. */
static uint64_t
mix(uint64_t h)
{
	h = (h ^ (h >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	h = (h ^ (h >> 27)) * UINT64_C(0x94D049BB133111EB);
	return h ^ (h >> 31);
}

mr_code
lrn_shuffle(const mr_env *env, uint32_t *row, int64_t n, uint64_t seed, uint64_t stream, mr_status *st)
{
	lrn_rng		rng;

	for (int64_t i = 0; i < n; i++)
		row[i] = (uint32_t) i;
	lrn_rng_seed(&rng, seed, stream);
	for (int64_t i = n - 1; i > 0; i--)
	{
		int64_t		j = lrn_rng_below(&rng, (uint32_t) (i + 1));
		uint32_t	r = row[i];

		row[i] = row[j];
		row[j] = r;
		if (i % SLICE == 0 && mr_interrupted(env))
			return lrn_canceled(st);
	}
	return MR_OK;
}

static mr_code
deal_rows(const mr_env *env, const lrn_split *s, int64_t rows, int32_t *part, mr_status *st)
{
	uint32_t   *row = mr_alloc(env, (size_t) rows * sizeof(*row));
	int			k = s->class_id ? s->n_classes : 1;
	int64_t    *next = mr_alloc(env, (size_t) k * sizeof(*next));
	int64_t		sum = 0;
	mr_code		code = row && next ? MR_OK : lrn_out_of_memory(st);

	if (code == MR_OK)
	{
		memset(next, 0, (size_t) k * sizeof(*next));
		for (int64_t i = 0; i < rows; i++)
			next[s->class_id ? s->class_id[i] : 0]++;
		for (int c = 0; c < k; c++)
		{
			int64_t		n = next[c];

			next[c] = sum;
			sum += n;
		}
		code = lrn_shuffle(env, row, rows, s->seed, SPLIT_STREAM, st);
	}
	/* next[c] is the place among all cards of the class's next one. */
	for (int64_t i = 0; i < rows && code == MR_OK; i++)
	{
		int64_t		card = next[s->class_id ? s->class_id[row[i]] : 0]++;

		part[row[i]] = s->folds > 1 ? (int32_t) (card % s->folds) : !dealt_to_test(card, s->test_share);
		if (i % SLICE == 0 && mr_interrupted(env))
			code = lrn_canceled(st);
	}
	mr_free(env, row);
	mr_free(env, next);
	return code;
}

/* Groups: what each fold has of each class while they are dealt. */
typedef struct table
{
	int			folds;
	int			n_classes;
	const int32_t *class_id;
	double	   *weight;			/* of a row of the class: 1 / rows of the class */
	double	   *share;			/* of the rows that a fold should get */
	int64_t    *have;			/* folds x n_classes */
	int64_t    *own;			/* of the group at hand, zero between groups */
	int64_t    *rows;			/* of each fold */
	double		row_weight;		/* 1 / all rows */
} table;

/* The fold that would be least full, of the group's classes and of rows, with it. */
static int
best_fold(table *t, const uint32_t *row, int64_t n)
{
	int			best = 0;
	double		least = INFINITY;

	for (int64_t i = 0; i < n; i++)
		t->own[t->class_id ? t->class_id[row[i]] : 0]++;
	for (int f = 0; f < t->folds; f++)
	{
		const int64_t *have = t->have + (size_t) f * (size_t) t->n_classes;
		double		load = (double) n * (double) (t->rows[f] + n) * t->row_weight;

		for (int64_t i = 0; i < n; i++)
		{
			int			c = t->class_id ? t->class_id[row[i]] : 0;

			load += (double) (have[c] + t->own[c]) * t->weight[c];
		}
		load /= t->share[f];
		if (load < least)
		{
			least = load;
			best = f;
		}
	}
	for (int64_t i = 0; i < n; i++)
	{
		int			c = t->class_id ? t->class_id[row[i]] : 0;

		t->own[c] = 0;
		t->have[(size_t) best * (size_t) t->n_classes + (size_t) c]++;
	}
	t->rows[best] += n;
	return best;
}

/* Rows in order of their group; begin of each group and its place in the deal. */
typedef struct groups
{
	uint64_t   *key;			/* rows: hashes, then n: keys of the deal */
	uint32_t   *row;			/* rows, by group */
	uint32_t   *begin;			/* n + 1 */
	uint32_t   *turn;			/* n: the group dealt i-th */
	int64_t		n;
} groups;

/* Largest first; among equals the seed decides. */
static mr_code
order_groups(const mr_env *env, const lrn_split *s, int64_t rows, groups *g, mr_status *st)
{
	mr_code		code;

	for (int64_t i = 0; i < rows; i++)
	{
		g->key[i] = s->group[i];
		g->row[i] = (uint32_t) i;
	}
	code = lrn_sort_keys(env, g->key, g->row, (size_t) rows, st);
	if (code)
		return code;
	for (int64_t i = 0; i < rows; i++)
		if (i == 0 || g->key[i] != g->key[i - 1])
			g->begin[g->n++] = (uint32_t) i;
	g->begin[g->n] = (uint32_t) rows;
	for (int64_t i = 0; i < g->n; i++)
	{
		uint64_t	chance = mix(g->key[g->begin[i]] ^ mix(s->seed));
		uint32_t	size = g->begin[i + 1] - g->begin[i];

		/* i <= begin[i]: what is overwritten has been read. */
		g->key[i] = (uint64_t) (UINT32_MAX - size) << 32 | chance >> 32;
		g->turn[i] = (uint32_t) i;
	}
	return lrn_sort_keys(env, g->key, g->turn, (size_t) g->n, st);
}

static mr_code
deal_groups(const mr_env *env, const lrn_split *s, int64_t rows, int32_t *part, mr_status *st)
{
	int			folds = s->folds > 1 ? s->folds : 2;
	int			k = s->class_id ? s->n_classes : 1;
	table		t = {.folds = folds,.n_classes = k,.class_id = s->class_id,
	.row_weight = 1 / (double) rows};
	groups		g = {0};
	int64_t		done = 0;
	mr_code		code = MR_OK;

	g.key = mr_alloc(env, (size_t) rows * sizeof(*g.key));
	g.row = mr_alloc(env, (size_t) rows * sizeof(*g.row));
	g.begin = mr_alloc(env, ((size_t) rows + 1) * sizeof(*g.begin));
	g.turn = mr_alloc(env, (size_t) rows * sizeof(*g.turn));
	t.weight = mr_alloc(env, (size_t) k * sizeof(*t.weight));
	t.share = mr_alloc(env, (size_t) folds * sizeof(*t.share));
	t.have = mr_alloc(env, (size_t) folds * (size_t) k * sizeof(*t.have));
	t.own = mr_alloc(env, (size_t) k * sizeof(*t.own));
	t.rows = mr_alloc(env, (size_t) folds * sizeof(*t.rows));
	if (!t.rows || !g.key || !g.row || !g.begin || !g.turn || !t.weight || !t.share || !t.have || !t.own)
		code = lrn_out_of_memory(st);
	if (code == MR_OK)
		code = order_groups(env, s, rows, &g, st);
	if (code == MR_OK)
	{
		memset(t.have, 0, (size_t) folds * (size_t) k * sizeof(*t.have));
		memset(t.own, 0, (size_t) k * sizeof(*t.own));
		memset(t.rows, 0, (size_t) folds * sizeof(*t.rows));
		for (int64_t i = 0; i < rows; i++)
			t.own[s->class_id ? s->class_id[i] : 0]++;
		for (int c = 0; c < k; c++)
		{
			t.weight[c] = 1 / (double) (t.own[c] ? t.own[c] : 1);
			t.own[c] = 0;
		}
		for (int f = 0; f < folds; f++)
			t.share[f] = s->folds > 1 ? 1.0 / folds : f == 0 ? s->test_share : 1 - s->test_share;
	}
	for (int64_t i = 0; i < g.n && code == MR_OK; i++)
	{
		uint32_t	group = g.turn[i];
		const uint32_t *row = g.row + g.begin[group];
		int64_t		n = g.begin[group + 1] - g.begin[group];
		int			fold = best_fold(&t, row, n);

		for (int64_t r = 0; r < n; r++)
			part[row[r]] = fold;
		done += n * folds;
		if (done >= SLICE)
		{
			done = 0;
			if (mr_interrupted(env))
				code = lrn_canceled(st);
		}
	}
	mr_free(env, g.key);
	mr_free(env, g.row);
	mr_free(env, g.begin);
	mr_free(env, g.turn);
	mr_free(env, t.weight);
	mr_free(env, t.share);
	mr_free(env, t.have);
	mr_free(env, t.own);
	mr_free(env, t.rows);
	return code;
}

static mr_code
cut_by_time(const mr_env *env, const lrn_split *s, int64_t rows, int32_t *part, mr_status *st)
{
	uint64_t   *key = mr_alloc(env, (size_t) rows * sizeof(*key));
	uint32_t   *row = mr_alloc(env, (size_t) rows * sizeof(*row));
	int64_t		test = s->folds > 1 ? rows / (s->folds + 1) : (int64_t) ceil((double) rows * s->test_share - 1e-9);
	int64_t		i = 0;
	mr_code		code = key && row ? MR_OK : lrn_out_of_memory(st);

	for (int64_t r = 0; r < rows && code == MR_OK; r++)
	{
		if (isnan(s->order[r]))
			code = mr_fail(st, MR_INVALID, "the order of row %lld is not a number", (long long) r + 1);
		key[r] = lrn_key_of(s->order[r]);
		row[r] = (uint32_t) r;
	}
	if (code == MR_OK)
		code = lrn_sort_keys(env, key, row, (size_t) rows, st);
	for (int f = 0; f <= s->folds && code == MR_OK; f++)
	{
		int64_t		end = rows - (int64_t) (s->folds - f) * test;

		for (; i < rows && (i < end || (i > 0 && key[i] == key[i - 1])); i++)
			part[row[i]] = f;
	}
	mr_free(env, key);
	mr_free(env, row);
	return code;
}

/* Every fold must have something to train on and something to test. */
static mr_code
check_parts(const mr_env *env, const lrn_split *s, int64_t rows, const int32_t *part, mr_status *st)
{
	int			parts = s->order || s->folds == 1 ? s->folds + 1 : s->folds;
	bool	   *seen = mr_alloc(env, (size_t) parts);
	int			empty = 0;

	if (seen == NULL)
		return lrn_out_of_memory(st);
	memset(seen, 0, (size_t) parts);
	for (int64_t i = 0; i < rows; i++)
		seen[part[i]] = true;
	for (int p = 0; p < parts; p++)
		empty += !seen[p];
	mr_free(env, seen);
	if (empty == 0)
		return MR_OK;
	mr_fail(st, MR_INVALID, "the rows cannot be split so");
	mr_detail(st, "%d of %d parts of %lld rows would be empty.", empty, parts, (long long) rows);
	mr_hint(st, s->group ? "There are too few groups, or one is too large: make fewer folds." :
			s->order ? "Too many rows have the same time: make fewer folds." : "Read more rows, or make fewer folds.");
	return MR_INVALID;
}

mr_code
lrn_split_rows(const mr_env *env, const lrn_split *s, int64_t rows, int32_t *part, mr_status *st)
{
	mr_code		code;

	if (s->folds < 1)
		return mr_fail(st, MR_INVALID, "there must be at least one fold");
	if (s->folds == 1 && !(s->test_share > 0 && s->test_share < 1))
		return mr_fail(st, MR_INVALID, "the share of test rows must lie between 0 and 1");
	if (s->order && s->group)
		return mr_fail(st, MR_INVALID, "rows cannot be split by group and by time at once");
	if (rows > INT32_MAX)
		return mr_fail(st, MR_LIMIT, "%lld rows are too many", (long long) rows);
	if (rows < (s->folds > 2 ? s->folds : 2) + (s->order != NULL && s->folds > 1))
	{
		mr_fail(st, MR_INVALID, "%lld rows are too few to be split", (long long) rows);
		mr_hint(st, "Read more rows, or make fewer folds.");
		return MR_INVALID;
	}
	code = s->order ? cut_by_time(env, s, rows, part, st) :
		s->group ? deal_groups(env, s, rows, part, st) : deal_rows(env, s, rows, part, st);
	return code ? code : check_parts(env, s, rows, part, st);
}

/* FNV-1a, mixed at its end. */
uint64_t
lrn_hash(const void *bytes, size_t n, uint64_t seed)
{
	const uint8_t *p = bytes;
	uint64_t	h = UINT64_C(0xcbf29ce484222325) ^ (seed * UINT64_C(0x9E3779B97F4A7C15));

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return mix(h);
}

int
lrn_split_of(uint64_t hash, const double *shares, int n)
{
	double		u = (double) (hash >> 11) * 0x1p-53,
				end = 0;

	for (int i = 0; i < n; i++)
	{
		end += shares[i];
		/* Shares that add up to 1 must leave nothing out by rounding. */
		if (u < end || (i == n - 1 && end > 1 - 1e-9))
			return i;
	}
	return -1;
}
