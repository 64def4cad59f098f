/*
 * sketch.c
 *	  Sketches of both kinds: life, bytes, quantiles.
 *
 * Bytes: magic "MRSK", version, kind, two flags; counts; the body; a checksum
 * of all before it.  Nothing in them is trusted: weights must sum to the
 * count, levels must ascend, categories must differ.
 */
#include "learn/sketch_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC		0x4B53524Du /* "MRSK" */
#define VERSION		1
#define FLAG_FLOAT4	1			/* all values fit in float4 without loss */
#define SUM_SEED	0x736B65746368u
#define MOST_ROWS	((int64_t) 1 << 52)

/* ---- life ---- */

lrn_sketch *
lrn_sketch_create(const mr_env *env, lrn_sketch_kind kind)
{
	lrn_sketch *s = mr_alloc(env, sizeof(lrn_sketch));
	size_t		size = kind == LRN_SKETCH_NUMBER ? sizeof(sketch_numbers) : sizeof(sketch_categories);
	void	   *body = s ? mr_alloc(env, size) : NULL;

	if (body == NULL)
	{
		mr_free(env, s);
		return NULL;
	}
	memset(s, 0, sizeof(*s));
	memset(body, 0, size);
	s->env = *env;
	s->kind = kind;
	if (kind == LRN_SKETCH_NUMBER)
	{
		s->numbers = body;
		s->numbers->min = INFINITY;
		s->numbers->max = -INFINITY;
		s->numbers->n_levels = 1;
	}
	else
		s->categories = body;
	return s;
}

void
lrn_sketch_free(lrn_sketch *s)
{
	if (s == NULL)
		return;
	if (s->numbers)
		for (int i = 0; i < SKETCH_LEVELS; i++)
			mr_free(&s->env, s->numbers->level[i].x);
	if (s->categories)
	{
		mr_free(&s->env, s->categories->entry);
		mr_free(&s->env, s->categories->slot);
		mr_free(&s->env, s->categories->text);
	}
	mr_free(&s->env, s->numbers);
	mr_free(&s->env, s->categories);
	mr_free(&s->env, s);
}

mr_code
lrn_sketch_add(lrn_sketch *s, const double *x, int64_t n)
{
	return s->kind == LRN_SKETCH_NUMBER ? lrn_numbers_add(s, x, n) : MR_INVALID;
}

mr_code
lrn_sketch_merge(lrn_sketch *into, const lrn_sketch *other)
{
	if (into->kind != other->kind)
		return MR_INVALID;
	return into->kind == LRN_SKETCH_NUMBER ? lrn_numbers_merge(into, other) : lrn_categories_merge(into, other);
}

lrn_sketch_kind
lrn_sketch_kind_of(const lrn_sketch *s)
{
	return s->kind;
}

void
lrn_sketch_describe(const lrn_sketch *s, lrn_sketch_info *info)
{
	memset(info, 0, sizeof(*info));
	info->count = s->count;
	info->missing = s->missing;
	info->min = info->max = info->mean = info->sd = NAN;
	if (s->kind == LRN_SKETCH_NUMBER)
	{
		const sketch_numbers *d = s->numbers;
		double		finite = (double) (s->count - d->infinite);

		info->infinite = d->infinite;
		if (s->count > 0)
		{
			info->min = d->min;
			info->max = d->max;
			info->rank_error = sqrt(d->error2) / (double) s->count;
		}
		if (finite > 0)
			info->mean = d->mean;
		if (finite > 1)
			info->sd = sqrt(d->m2 / (finite - 1));
		info->exact = d->error2 == 0;
	}
	else
	{
		info->distinct = s->categories->n;
		info->exact = s->categories->error == 0;
		info->count_error = s->categories->error;
	}
}

/* ---- quantiles ---- */

typedef struct weighted
{
	double		x;
	double		weight;
} weighted;

static int
by_value(const void *a, const void *b)
{
	double		x = ((const weighted *) a)->x,
				y = ((const weighted *) b)->x;

	return x < y ? -1 : x > y;
}

mr_code
lrn_sketch_view(const mr_env *env, const lrn_sketch *s, sketch_view *v)
{
	const sketch_numbers *d = s->numbers;
	int			n = 1;
	weighted   *all;
	double	   *values;
	int			k = 0;

	memset(v, 0, sizeof(*v));
	for (int i = 0; i < d->n_levels; i++)
		n += d->level[i].n;
	all = mr_alloc(env, (size_t) n * sizeof(weighted));
	values = mr_alloc(env, (size_t) n * 2 * sizeof(double));
	if (all == NULL || values == NULL)
	{
		mr_free(env, all);
		mr_free(env, values);
		return MR_NOMEM;
	}
	for (int i = 0; i < d->n_levels; i++)
		for (int j = 0; j < d->level[i].n; j++)
			all[k++] = (weighted) {d->level[i].x[j], ldexp(1, d->shift + i)};
	if (d->seen > 0)
		all[k++] = (weighted) {d->held, (double) d->seen};
	qsort(all, (size_t) k, sizeof(weighted), by_value);
	v->x = values;
	v->upto = values + n;
	for (int i = 0; i < k; i++)
	{
		v->total += all[i].weight;
		if (v->n == 0 || v->x[v->n - 1] < all[i].x)
			v->x[v->n++] = all[i].x;
		v->upto[v->n - 1] = v->total;
	}
	mr_free(env, all);
	return MR_OK;
}

void
lrn_sketch_view_free(const mr_env *env, sketch_view *v)
{
	mr_free(env, v->x);
}

mr_code
lrn_sketch_quantile(const lrn_sketch *s, double q, double *value)
{
	sketch_view v;
	int			lo = 0,
				hi;

	*value = NAN;
	if (s->kind != LRN_SKETCH_NUMBER)
		return MR_INVALID;
	if (s->count == 0 || !(q >= 0 && q <= 1))
		return MR_OK;
	/* The ends are known exactly. */
	if (q == 0 || q == 1)
	{
		*value = q == 0 ? s->numbers->min : s->numbers->max;
		return MR_OK;
	}
	if (lrn_sketch_view(&s->env, s, &v) != MR_OK)
		return MR_NOMEM;
	for (hi = v.n - 1; lo < hi;)
	{
		int			mid = (lo + hi) / 2;

		if (v.upto[mid] < q * v.total)
			lo = mid + 1;
		else
			hi = mid;
	}
	*value = v.x[lo];
	lrn_sketch_view_free(&s->env, &v);
	return MR_OK;
}

/* ---- bytes ---- */

static bool
fits_float4(const sketch_numbers *d)
{
	for (int i = 0; i < d->n_levels; i++)
		for (int j = 0; j < d->level[i].n; j++)
			if ((double) (float) d->level[i].x[j] != d->level[i].x[j])
				return false;
	return true;
}

static void
write_numbers(lrn_writer *w, lrn_sketch *s, bool float4)
{
	sketch_numbers *d = s->numbers;
	double		scratch[2 * LRN_SKETCH_K + 2];

	lrn_sort_doubles(d->level[0].x, scratch, d->level[0].n);
	lrn_put_varint(w, (uint64_t) d->infinite);
	lrn_put_f64(w, d->min);
	lrn_put_f64(w, d->max);
	lrn_put_f64(w, d->mean);
	lrn_put_f64(w, d->m2);
	lrn_put_f64(w, d->error2);
	lrn_put_u64(w, d->random);
	lrn_put_varint(w, (uint64_t) d->shift);
	lrn_put_varint(w, d->seen);
	if (d->seen > 0)
	{
		lrn_put_varint(w, d->pick);
		lrn_put_f64(w, d->held);
	}
	lrn_put_varint(w, (uint64_t) d->n_levels);
	for (int i = 0; i < d->n_levels; i++)
	{
		lrn_put_varint(w, (uint64_t) d->level[i].n);
		for (int j = 0; j < d->level[i].n; j++)
			if (float4)
				lrn_put_f32(w, (float) d->level[i].x[j]);
			else
				lrn_put_f64(w, d->level[i].x[j]);
	}
}

/* Categories stand in the order of their first row, or of the bytes merged. */
static void
write_categories(lrn_writer *w, const sketch_categories *c)
{
	lrn_put_varint(w, (uint64_t) c->other);
	lrn_put_varint(w, (uint64_t) c->error);
	lrn_put_varint(w, (uint64_t) c->n);
	for (int i = 0; i < c->n; i++)
	{
		lrn_put_varint(w, (uint64_t) c->entry[i].count);
		lrn_put_varint(w, c->entry[i].len);
		lrn_put(w, c->text + c->entry[i].offset, c->entry[i].len);
	}
}

mr_code
lrn_sketch_write(lrn_sketch *s, const mr_env *env, uint8_t **bytes, size_t *len)
{
	lrn_writer	w = {.env = env};
	bool		float4 = s->kind == LRN_SKETCH_NUMBER && fits_float4(s->numbers);

	lrn_put_u32(&w, MAGIC);
	lrn_put_u32(&w, (uint32_t) VERSION | (uint32_t) s->kind << 16 | (float4 ? (uint32_t) FLAG_FLOAT4 << 24 : 0));
	lrn_put_varint(&w, (uint64_t) s->count);
	lrn_put_varint(&w, (uint64_t) s->missing);
	if (s->kind == LRN_SKETCH_NUMBER)
		write_numbers(&w, s, float4);
	else
		write_categories(&w, s->categories);
	lrn_put_u64(&w, w.failed ? 0 : lrn_checksum(SUM_SEED, w.data, w.len));
	if (w.failed)
	{
		mr_free(env, w.data);
		return w.failed;
	}
	*bytes = w.data;
	*len = w.len;
	return MR_OK;
}

/* A count that the sums below cannot overflow; else the reader is bad. */
static int64_t
get_count(lrn_reader *r)
{
	uint64_t	n = lrn_get_varint(r);

	if (n > (uint64_t) MOST_ROWS)
	{
		r->bad = true;
		return 0;
	}
	return (int64_t) n;
}

static mr_code
read_level(lrn_sketch *s, lrn_reader *r, int level, bool float4)
{
	int64_t		n = get_count(r);
	double		before = -INFINITY;
	sketch_level *l = &s->numbers->level[level];
	mr_code		rc;

	if (r->bad || n > 2 * LRN_SKETCH_K)
	{
		r->bad = true;
		return MR_OK;
	}
	if ((rc = lrn_numbers_room(s, level, (int) n)) != MR_OK)
		return rc;
	for (int j = 0; j < (int) n; j++)
	{
		double		x = float4 ? lrn_get_f32(r) : lrn_get_f64(r);

		r->bad = r->bad || !(x >= before);	/* NaN too */
		l->x[j] = before = x;
	}
	l->n = (int) n;
	return MR_OK;
}

static mr_code
read_numbers(lrn_sketch *s, lrn_reader *r, bool float4)
{
	sketch_numbers *d = s->numbers;
	int64_t		n_levels,
				shift,
				weight = 0;
	mr_code		rc;

	d->infinite = get_count(r);
	d->min = lrn_get_f64(r);
	d->max = lrn_get_f64(r);
	d->mean = lrn_get_f64(r);
	d->m2 = lrn_get_f64(r);
	d->error2 = lrn_get_f64(r);
	d->random = lrn_get_u64(r);
	shift = get_count(r);
	d->seen = lrn_get_varint(r);
	if (d->seen > 0)
	{
		d->pick = lrn_get_varint(r);
		d->held = lrn_get_f64(r);
	}
	n_levels = get_count(r);
	if (r->bad || shift > 40 || n_levels < 1 || n_levels > SKETCH_LEVELS || d->infinite > s->count ||
		d->seen >> shift || d->pick >> shift || isnan(d->held) || !(d->error2 >= 0) ||
		(s->count > 0 && !(d->min <= d->max)))
	{
		r->bad = true;
		return MR_OK;
	}
	d->shift = (int) shift;
	d->n_levels = (int) n_levels;
	weight = (int64_t) d->seen;
	for (int i = 0; i < d->n_levels && !r->bad; i++)
	{
		if ((rc = read_level(s, r, i, float4)) != MR_OK)
			return rc;
		weight += (int64_t) d->level[i].n << (d->shift + i);
	}
	r->bad = r->bad || weight != s->count;
	return MR_OK;
}

static mr_code
read_categories(lrn_sketch *s, lrn_reader *r)
{
	sketch_categories *c = s->categories;
	int64_t		sum,
				n;

	c->other = get_count(r);
	c->error = get_count(r);
	n = get_count(r);
	sum = c->other;
	if (n > 2 * LRN_SKETCH_CATEGORIES)
		r->bad = true;
	for (int i = 0; i < n && !r->bad; i++)
	{
		int64_t		count = get_count(r);
		uint64_t	len = lrn_get_varint(r);
		int64_t		rows = s->count;
		mr_code		rc;

		if (r->bad || count == 0 || len > LRN_SKETCH_TEXT || len > (uint64_t) (r->end - r->p))
		{
			r->bad = true;
			break;
		}
		if ((rc = lrn_sketch_add_text(s, (const char *) r->p, len, count)) != MR_OK)
			return rc;
		s->count = rows;
		r->p += len;
		sum += count;
		r->bad = c->n != i + 1; /* given twice */
	}
	r->bad = r->bad || sum != s->count;
	return MR_OK;
}

mr_code
lrn_sketch_read(const mr_env *env, const uint8_t *bytes, size_t len, lrn_sketch **out, mr_status *st)
{
	lrn_reader	r = {bytes, bytes + len, false};
	uint32_t	magic = lrn_get_u32(&r),
				head = lrn_get_u32(&r);
	uint32_t	kind = head >> 16 & 0xFF,
				flags = head >> 24;
	lrn_reader	sum = {bytes + (len < 8 ? 0 : len - 8), bytes + len, false};
	lrn_sketch *s;
	mr_code		rc;

	if (r.bad || len < 20 || magic != MAGIC)
		return mr_fail(st, MR_CORRUPT, "bytes are not a sketch");
	if ((head & 0xFFFF) != VERSION || (kind != LRN_SKETCH_NUMBER && kind != LRN_SKETCH_CATEGORY) || flags > FLAG_FLOAT4)
		return mr_fail(st, MR_CORRUPT, "sketch has version %u, known is %d", head & 0xFFFF, VERSION);
	if (lrn_get_u64(&sum) != lrn_checksum(SUM_SEED, bytes, len - 8))
		return mr_fail(st, MR_CORRUPT, "sketch is damaged: its checksum is wrong");
	r.end -= 8;
	s = lrn_sketch_create(env, (lrn_sketch_kind) kind);
	if (s == NULL)
		return lrn_out_of_memory(st);
	s->count = get_count(&r);
	s->missing = get_count(&r);
	rc = kind == LRN_SKETCH_NUMBER ? read_numbers(s, &r, flags & FLAG_FLOAT4) : read_categories(s, &r);
	if (rc == MR_OK && (r.bad || r.p != r.end))
		rc = mr_fail(st, MR_CORRUPT, "sketch is damaged");
	else if (rc != MR_OK)
		rc = lrn_out_of_memory(st);
	if (rc != MR_OK)
		lrn_sketch_free(s);
	else
		*out = s;
	return rc;
}
