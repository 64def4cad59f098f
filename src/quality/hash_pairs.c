/*
 * hash_pairs.c
 *	  Items whose hashes are near: equal hashes are one value, values are joined, and what is near is
 *	  told of the items that have them.
 *
 * Memory: of the values (28 bytes an entry while they are made), the join and the lists of pairs_out.c.
 */
#include "quality/pairs_int.h"

typedef struct hash_job
{
	const mr_env *env;
	const qlt_pair_options *o;
	const uint64_t *hashes;
	uint32_t	turns;
	int			max_distance;
	bool		same;			/* one hash an item, and all are new: y is x */
	qlt_values	x,				/* of the items' first hashes */
				y;				/* of all hashes of the new items: entry item * turns + turn */
	qlt_out		out;
	uint32_t   *group;
	int64_t		work;
} hash_job;

/* The pair of item a's first hash with turn t of b: is it the nearest of b's turns, and the first such? */
static bool
best_turn(const hash_job *j, uint32_t a, uint32_t b, uint32_t turn, int distance)
{
	uint64_t	hash = j->hashes[(size_t) a * j->turns];

	for (uint32_t t = 0; t < j->turns; t++)
	{
		int			d = __builtin_popcountll(hash ^ j->hashes[(size_t) b * j->turns + t]);

		if (d < distance || (d == distance && t < turn))
			return false;
	}
	return true;
}

/* Everything that has value u of x with everything that has v of y. */
static mr_code
all_pairs(hash_job *j, uint32_t u, uint32_t v, int distance, mr_status *st)
{
	const qlt_values *y = j->same ? &j->x : &j->y;

	for (uint32_t i = j->x.start[u]; i < j->x.start[u + 1]; i++)
	{
		if ((j->work += y->start[v + 1] - y->start[v]) > 100000)
		{
			j->work = 0;
			if (mr_interrupted(j->env))
				return qlt_canceled(st);
		}
		for (uint32_t k = y->start[v]; k < y->start[v + 1]; k++)
		{
			uint32_t	a = j->x.entry[i],
						b = y->entry[k];
			mr_code		code;

			if (!j->same)
			{
				uint32_t	turn = b % j->turns;

				b /= j->turns;
				if (a >= b || (j->turns > 1 && !best_turn(j, a, b, turn, distance)))
					continue;
			}
			if ((code = qlt_out_pair(&j->out, a, b, (float) distance, st)) != MR_OK)
				return code;
		}
	}
	return MR_OK;
}

/* Tell the items that have a value (of x, or of y's entries by turns) of the first ones that have another. */
static mr_code
tell(hash_job *j, const qlt_values *to, uint32_t u, uint32_t to_turns, const qlt_values *of, uint32_t v, uint32_t of_turns,
	 int distance, mr_status *st)
{
	for (uint32_t i = to->start[u]; i < to->start[u + 1]; i++)
	{
		uint32_t	a = to->entry[i] / to_turns;

		if ((j->work += of->heads[v]) > 100000)
		{
			j->work = 0;
			if (mr_interrupted(j->env))
				return qlt_canceled(st);
		}
		for (uint32_t k = of->start[v]; k < of->start[v] + of->heads[v]; k++)
		{
			uint32_t	b = of->entry[k] / of_turns;

			if (a != b && (a >= j->o->first || b >= j->o->first))
				qlt_out_near(&j->out, a, b, (float) distance);
		}
	}
	return MR_OK;
}

static mr_code
near_values(void *arg, uint32_t u, uint32_t v, int distance, mr_status *st)
{
	hash_job   *j = arg;
	const qlt_values *y = j->same ? &j->x : &j->y;
	uint32_t	y_turns = j->same ? 1 : j->turns;
	mr_code		code;

	if (j->group)
	{
		qlt_group_join(j->group, j->x.entry[j->x.start[u]], j->x.entry[j->x.start[v]]);
		return MR_OK;
	}
	if (j->o->per_item <= 0)
		return all_pairs(j, u, v, distance, st);
	code = tell(j, &j->x, u, 1, y, v, y_turns, distance, st);
	return code != MR_OK ? code : tell(j, y, v, y_turns, &j->x, u, 1, distance, st);
}

/* Items of one value: of `same` alone, where the join does not compare a value with itself. */
static mr_code
equal_items(hash_job *j, mr_status *st)
{
	mr_code		code = MR_OK;

	for (uint32_t u = 0; u < j->x.n && code == MR_OK; u++)
	{
		uint32_t	first = j->x.start[u],
					end = j->x.start[u + 1];

		if ((j->work += end - first) > 100000)
		{
			j->work = 0;
			if (mr_interrupted(j->env))
				return qlt_canceled(st);
		}
		if (j->group)
			for (uint32_t i = first + 1; i < end; i++)
				qlt_group_join(j->group, j->x.entry[first], j->x.entry[i]);
		else if (j->o->per_item > 0 && end - first > 1)
			code = tell(j, &j->x, u, 1, &j->x, u, 1, 0, st);
		else
			for (uint32_t i = first; i < end && code == MR_OK; i++)
				for (uint32_t k = i + 1; k < end && code == MR_OK; k++)
					code = qlt_out_pair(&j->out, j->x.entry[i], j->x.entry[k], 0, st);
	}
	return code;
}

static mr_code
no_hash_pairs(int max_distance, mr_status *st)
{
	return mr_fail(st, MR_INVALID, "max_distance must be between 0 and 63, not %d", max_distance);
}

static mr_code
run(hash_job *j, uint32_t n, mr_status *st)
{
	uint32_t	ny = j->same ? n : (n - (j->o->first < n ? j->o->first : n)) * j->turns;
	size_t		need = 8 * (size_t) n + (size_t) n * 40 + (j->same ? 0 : (size_t) ny * 40) + qlt_hash_join_memory(n, ny, j->same);
	uint64_t   *firsts = NULL;
	mr_code		code;

	if (!j->group)
		need += qlt_out_memory(j->o, n);
	if ((code = qlt_pairs_fit(j->o, need, "comparing these hashes", st)) != MR_OK)
		return code;
	if (j->turns > 1)
	{
		firsts = mr_alloc(j->env, (size_t) n * sizeof(uint64_t) + 1);
		if (firsts == NULL)
			return qlt_no_memory(st);
		for (uint32_t i = 0; i < n; i++)
			firsts[i] = j->hashes[(size_t) i * j->turns];
	}
	code = qlt_values_make(j->env, firsts ? firsts : j->hashes, 0, n, 1, &j->x, st);
	mr_free(j->env, firsts);
	if (code == MR_OK && !j->same)
		code = qlt_values_make(j->env, j->hashes, n * j->turns - ny, ny, (int) j->turns, &j->y, st);
	if (code == MR_OK && !j->group)
		code = qlt_out_begin(&j->out, j->env, j->o, n, false, st);
	if (code == MR_OK && !j->group && j->o->per_item > 0)
	{
		code = qlt_values_heads(j->env, &j->x, 1, j->o, st);
		if (code == MR_OK && !j->same)
			code = qlt_values_heads(j->env, &j->y, (int) j->turns, j->o, st);
	}
	if (code == MR_OK && j->same)
		code = equal_items(j, st);
	if (code == MR_OK)
		code = j->same ?
			qlt_hash_join(j->env, j->o->isa, j->x.value, j->x.n, j->x.value, j->x.n, true, j->max_distance, near_values, j, st) :
			qlt_hash_join(j->env, j->o->isa, j->x.value, j->x.n, j->y.value, j->y.n, false, j->max_distance, near_values, j, st);
	qlt_values_free(j->env, &j->x);
	qlt_values_free(j->env, &j->y);
	if (code == MR_OK && !j->group)
		code = qlt_out_end(&j->out, st);
	else if (!j->group)
		qlt_out_free(&j->out);
	return code;
}

mr_code
qlt_hash_pairs(const mr_env *env, const uint64_t *hashes, uint32_t n, int turns, int max_distance,
			   const qlt_pair_options *o, mr_status *st)
{
	hash_job	j = {.env = env, .o = o, .hashes = hashes, .turns = (uint32_t) turns, .max_distance = max_distance, .same = turns == 1 && o->first == 0};

	if (max_distance < 0 || max_distance > 63)
		return no_hash_pairs(max_distance, st);
	if (turns < 1 || (uint64_t) n * (uint64_t) turns > UINT32_MAX)
		return mr_fail(st, MR_LIMIT, "there are too many hashes");
	return run(&j, n, st);
}

mr_code
qlt_hash_groups(const mr_env *env, const uint64_t *hashes, uint32_t n, int max_distance,
				const qlt_pair_options *o, uint32_t *group, mr_status *st)
{
	hash_job	j = {.env = env, .o = o, .hashes = hashes, .turns = 1, .max_distance = max_distance, .same = true, .group = group};
	mr_code		code;

	if (max_distance < 0 || max_distance > 63)
		return no_hash_pairs(max_distance, st);
	for (uint32_t i = 0; i < n; i++)
		group[i] = i;
	code = run(&j, n, st);
	for (uint32_t i = 0; i < n; i++)
		group[i] = qlt_group_of(group, i);
	return code;
}

/* ---- other hashes ---- */

static mr_code
give_match(void *arg, uint32_t x, uint32_t y, int distance, mr_status *st)
{
	qlt_out    *out = arg;

	return qlt_out_match(out, x, y, (float) distance, st);
}

mr_code
qlt_hash_matches(const mr_env *env, const uint64_t *hashes, uint32_t n, const uint64_t *queries, uint32_t n_queries,
				 int max_distance, const qlt_pair_options *o, mr_status *st)
{
	qlt_out		out = {.env = env, .o = o};
	mr_code		code;

	if (max_distance < 0 || max_distance > 63)
		return no_hash_pairs(max_distance, st);
	if ((code = qlt_pairs_fit(o, qlt_hash_join_memory(n, n_queries, false), "comparing these hashes", st)) != MR_OK)
		return code;
	return qlt_hash_join(env, o->isa, hashes, n, queries, n_queries, false, max_distance, give_match, &out, st);
}
