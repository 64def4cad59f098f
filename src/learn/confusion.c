/*
 * confusion.c
 *	  Counts of (true, predicted) pairs in an open-addressing table, and the
 *	  figures of such counts.
 */
#include "learn/metrics.h"

#include <math.h>
#include <string.h>

#include "learn/learn_int.h"

#define FIRST_SIZE 64

/* Where the pair is, or would be. */
static lrn_cell *
find(lrn_cell *cell, size_t size, uint32_t truth, uint32_t predicted)
{
	uint64_t	h = ((uint64_t) truth << 32 | predicted) * UINT64_C(0x9E3779B97F4A7C15);
	size_t		at = (size_t) (h >> 32) & (size - 1);

	while (cell[at].count > 0 && (cell[at].truth != truth || cell[at].predicted != predicted))
		at = (at + 1) & (size - 1);
	return &cell[at];
}

static mr_code
grow(lrn_confusion *c, mr_status *st)
{
	size_t		size = c->size ? c->size * 2 : FIRST_SIZE;
	lrn_cell   *cell;

	if (c->limit && c->used >= c->limit)
		return mr_fail(st, MR_LIMIT, "more than %zu different pairs of labels", c->limit);
	cell = mr_alloc(c->env, size * sizeof(*cell));
	if (cell == NULL)
		return lrn_out_of_memory(st);
	memset(cell, 0, size * sizeof(*cell));
	for (size_t i = 0; i < c->size; i++)
		if (c->cell[i].count > 0)
			*find(cell, size, c->cell[i].truth, c->cell[i].predicted) = c->cell[i];
	mr_free(c->env, c->cell);
	c->cell = cell;
	c->size = size;
	return MR_OK;
}

mr_code
lrn_confusion_add(lrn_confusion *c, uint32_t truth, uint32_t predicted, int64_t count, mr_status *st)
{
	lrn_cell   *cell;

	if (count <= 0)
		return MR_OK;
	/* Three quarters full at most. */
	if (c->used * 4 >= c->size * 3)
	{
		mr_code		code = grow(c, st);

		if (code)
			return code;
	}
	cell = find(c->cell, c->size, truth, predicted);
	if (cell->count == 0)
	{
		cell->truth = truth;
		cell->predicted = predicted;
		c->used++;
	}
	cell->count += count;
	return MR_OK;
}

void
lrn_confusion_free(lrn_confusion *c)
{
	mr_free(c->env, c->cell);
	c->cell = NULL;
	c->size = c->used = 0;
}

static double
ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

/* Chance-corrected agreement: n rows, right of them right, and the sums over
 * the classes of support x predicted, support squared, predicted squared. */
static void
agreement(double n, double right, double both, double support, double predicted, lrn_metrics *out)
{
	double		spread = (n * n - predicted) * (n * n - support);

	out->kappa = n * n > both ? (right * n - both) / (n * n - both) : NAN;
	out->mcc = spread > 0 ? (right * n - both) / sqrt(spread) : 0;
}

void
lrn_metrics_of(const lrn_confusion *c, int n_classes, lrn_metrics *out, lrn_class_metrics *per_class)
{
	double		right = 0,
				both = 0,
				support = 0,
				predicted = 0;
	int			with_rows = 0,
				seen = 0;

	memset(out, 0, sizeof(*out));
	memset(per_class, 0, (size_t) n_classes * sizeof(*per_class));
	for (size_t i = 0; i < c->size; i++)
	{
		const lrn_cell *cell = &c->cell[i];

		if (cell->count == 0)
			continue;
		per_class[cell->truth].support += cell->count;
		per_class[cell->predicted].predicted += cell->count;
		if (cell->truth == cell->predicted)
			per_class[cell->truth].right += cell->count;
	}
	for (int k = 0; k < n_classes; k++)
	{
		lrn_class_metrics *m = &per_class[k];
		double		s = (double) m->support,
					p = (double) m->predicted;

		m->precision = ratio((double) m->right, p);
		m->recall = ratio((double) m->right, s);
		m->f1 = ratio(2 * (double) m->right, s + p);
		out->rows += m->support;
		right += (double) m->right;
		both += s * p;
		support += s * s;
		predicted += p * p;
		if (m->support > 0)
		{
			with_rows++;
			out->balanced_accuracy += m->recall;
		}
		if (m->support + m->predicted > 0)
		{
			seen++;
			out->precision_macro += m->precision;
			out->recall_macro += m->recall;
			out->f1_macro += m->f1;
			out->precision_weighted += m->precision * s;
			out->recall_weighted += m->recall * s;
			out->f1_weighted += m->f1 * s;
		}
	}
	out->accuracy = ratio(right, (double) out->rows);
	out->balanced_accuracy = ratio(out->balanced_accuracy, with_rows);
	out->precision_macro = ratio(out->precision_macro, seen);
	out->recall_macro = ratio(out->recall_macro, seen);
	out->f1_macro = ratio(out->f1_macro, seen);
	out->precision_weighted = ratio(out->precision_weighted, (double) out->rows);
	out->recall_weighted = ratio(out->recall_weighted, (double) out->rows);
	out->f1_weighted = ratio(out->f1_weighted, (double) out->rows);
	agreement((double) out->rows, right, both, support, predicted, out);
}
