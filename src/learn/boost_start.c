/*
 * boost_start.c
 *	  What gradient boosting settles before its first round: weights, rows held
 *	  out, starting scores, units of the sums.
 */
#include "learn/boost.h"

#include <math.h>
#include <string.h>

#define BLOCK	1024			/* rows between interrupts in cheap loops */

void
boost_free(boost_builder *b, void *ptr, size_t count, size_t size)
{
	if (ptr)
		b->memory -= count * size;
	mr_free(b->env, ptr);
}

/* ln x for x > 0 by a series: the C library's may differ by machine. */
static double
log_of(double x)
{
	int			n;
	double		m = frexp(x, &n),
				f,
				p = 0;

	if (m < 0.70710678118654752)
	{
		m *= 2;
		n--;
	}
	f = (m - 1) / (m + 1);
	for (int i = 23; i > 0; i -= 2)
		p = p * f * f + 2.0 / i;
	return p * f + n * 0.69314718055994531;
}

double
boost_scale(double x, double limit)
{
	int			n;

	if (!(x > 0))
		return 1;
	(void) frexp(limit / x, &n);
	n--;
	return ldexp(1, n > 120 ? 120 : n < -120 ? -120 : n);
}

/* Sample weight x class weight, where there is either. */
mr_code
boost_find_weights(boost_builder *b, mr_status *st)
{
	const lrn_target *t = b->t;
	const lrn_params *p = b->p;
	bool		by_class = p->task == LRN_CLASSIFY && p->class_weight != LRN_WEIGHT_NONE;
	double	   *count,
			   *weight;
	double		total = 0;
	mr_code		code = MR_OK;

	if (t->weight == NULL && !by_class)
		return MR_OK;
	b->weight = boost_alloc(b, b->padded, sizeof(float), st);
	if (b->weight == NULL)
		return st->code;
	memset(b->weight, 0, b->padded * sizeof(float));
	for (uint32_t i = 0; i < b->rows; i++)
		b->weight[i] = t->weight ? t->weight[i] : 1;
	if (!by_class)
		return boost_work(b, (int64_t) b->rows * 4, st);
	count = boost_alloc(b, (size_t) t->n_classes * 2, sizeof(double), st);
	if (count == NULL)
		return st->code;
	weight = count + t->n_classes;
	memset(count, 0, (size_t) t->n_classes * sizeof(double));
	for (uint32_t i = 0; i < b->rows && code == MR_OK; i++)
	{
		count[t->class_id[i]] += b->weight[i];
		total += b->weight[i];
		if (i % BLOCK == 0)
			code = boost_work(b, BLOCK * 4, st);
	}
	lrn_class_weights(p, p->class_weight, count, total, t->n_classes, weight);
	for (uint32_t i = 0; i < b->rows && code == MR_OK; i++)
	{
		b->weight[i] = fminf(b->weight[i] * (float) weight[t->class_id[i]], 3e38f);
		if (i % BLOCK == 0)
			code = boost_work(b, BLOCK * 4, st);
	}
	boost_free(b, count, (size_t) t->n_classes * 2, sizeof(double));
	return code;
}

/* Selection sampling (Knuth, The Art of Computer Programming, 3.4.2, algorithm S). */
mr_code
boost_choose(boost_builder *b, lrn_rng *rng, const uint32_t *from, uint32_t have, uint32_t want,
	   uint32_t *to, mr_status *st)
{
	uint32_t	chosen = 0,
				other = want;

	for (uint32_t i = 0; i < have; i++)
	{
		uint32_t	row = from[i];

		if (lrn_rng_below(rng, have - i) < want - chosen)
			to[chosen++] = row;
		else
			to[other++] = row;
		if (i % BLOCK == 0 && boost_work(b, BLOCK * 4, st))
			return MR_CANCELED;
	}
	return MR_OK;
}

/* All rows, or with early stopping a share of each class apart. */
mr_code
boost_hold_out(boost_builder *b, mr_status *st)
{
	int			strata = b->p->task == LRN_CLASSIFY ? b->t->n_classes : 1;
	uint32_t   *left;			/* rows of the class still to come */
	uint32_t   *need;			/* of those to be held out */
	lrn_rng		rng;
	uint32_t	n_out = 0;

	b->base_row = boost_alloc(b, b->rows, sizeof(uint32_t), st);
	if (b->base_row == NULL)
		return st->code;
	b->n_train = b->rows;
	for (uint32_t i = 0; i < b->rows; i++)
		b->base_row[i] = i;
	if (!b->p->early_stopping)
		return boost_work(b, (int64_t) b->rows * 2, st);

	left = boost_alloc(b, (size_t) strata * 2, sizeof(uint32_t), st);
	b->valid_weight = left ? boost_alloc(b, b->padded, sizeof(float), st) : NULL;
	if (b->valid_weight == NULL)
		return st->code;
	need = left + strata;
	memset(left, 0, (size_t) strata * sizeof(uint32_t));
	memset(b->valid_weight, 0, b->padded * sizeof(float));
	for (uint32_t i = 0; i < b->rows; i++)
		left[strata > 1 ? b->t->class_id[i] : 0]++;
	for (int c = 0; c < strata; c++)
		need[c] = (uint32_t) (left[c] * b->p->validation_fraction + 0.5);
	lrn_rng_seed(&rng, b->p->random_state, 2);
	b->n_train = 0;
	for (uint32_t i = 0; i < b->rows; i++)
	{
		int			c = strata > 1 ? b->t->class_id[i] : 0;

		if (lrn_rng_below(&rng, left[c]--) < need[c])
		{
			need[c]--;
			b->valid_weight[i] = b->weight ? b->weight[i] : 1;
			b->row[n_out++] = i;	/* for a moment */
		}
		else
			b->base_row[b->n_train++] = i;
		if (i % BLOCK == 0 && boost_work(b, BLOCK * 16, st))
		{
			boost_free(b, left, (size_t) strata * 2, sizeof(uint32_t));
			return MR_CANCELED;
		}
	}
	memcpy(b->base_row + b->n_train, b->row, n_out * sizeof(uint32_t));
	boost_free(b, left, (size_t) strata * 2, sizeof(uint32_t));
	if (n_out == 0 || b->n_train == 0)
	{
		mr_fail(st, MR_INVALID, "early stopping has too few rows: %u to learn from, %u held out", b->n_train, n_out);
		mr_hint(st, "Switch early_stopping off, change validation_fraction, or give more rows.");
		return MR_INVALID;
	}
	return MR_OK;
}

/* Where the margins start: priors of the classes, or the mean. */
mr_code
boost_find_base(boost_builder *b, mr_status *st)
{
	double		total = 0;

	memset(b->base, 0, (size_t) b->n_margins * sizeof(double));
	for (uint32_t i = 0; i < b->n_train; i++)
	{
		uint32_t	r = b->base_row[i];
		double		w = b->weight ? b->weight[r] : 1;

		total += w;
		if (b->loss == BOOST_SQUARED)
			b->base[0] += w * b->t->value[r];
		else if (b->loss == BOOST_SOFTMAX)
			b->base[b->t->class_id[r]] += w;
		else
			b->base[0] += w * b->t->class_id[r];
		if (i % BLOCK == 0 && boost_work(b, BLOCK * 8, st))
			return MR_CANCELED;
	}
	if (!(total > 0))
		return mr_fail(st, MR_INVALID, "no row to learn from has a positive weight");
	for (int k = 0; k < b->n_margins; k++)
	{
		double		share = b->base[k] / total;

		if (b->loss == BOOST_SQUARED)
			b->base[k] = share;
		else if (b->loss == BOOST_SOFTMAX)
			b->base[k] = log_of(fmax(share, 1e-15));
		else
			b->base[k] = log_of(fmax(share, 1e-15)) - log_of(fmax(1 - share, 1e-15));
	}
	if (b->loss == BOOST_SQUARED)
		for (uint32_t i = 0; i < b->rows; i++)
			b->target[i] = (float) (b->t->value[i] - b->base[0]);
	return boost_work(b, (int64_t) b->rows * 2, st);
}

/* Units of this training: as fine as sums of all rows can be without overflow. */
void
boost_find_units(boost_builder *b)
{
	float		most = b->weight ? 0 : 1;
	double		h_most;
	int			h_bits;

	for (uint32_t i = 0; i < b->rows && b->weight; i++)
		most = fmaxf(most, b->weight[i]);
	b->row_bits = 1;
	while (b->rows >> b->row_bits)
		b->row_bits++;
	h_bits = 63 - 2 * b->row_bits;
	h_bits = h_bits > 30 ? 30 : h_bits;
	h_most = most * (b->loss == BOOST_SQUARED ? 1 : 0.25 * b->h_factor);
	b->h_unit = 1 / boost_scale(h_most, ldexp(1, h_bits));
	b->g_unit = 1 / boost_scale(most, 1 << 30);
}

