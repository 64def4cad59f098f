/*
 * ranking.c
 *	  What the order of scores tells: ROC and precision-recall curves and the
 *	  areas under them, from the sorted scores of both classes.
 */
#include "learn/metrics.h"

#include <math.h>

#include "learn/sort.h"

/* Thresholds downwards: one step takes in all rows of one score. */
typedef struct walk
{
	const lrn_ranking *r;
	int64_t		tp;				/* rows of the score and above */
	int64_t		fp;
	uint64_t	key;			/* of the score */
	int			steps;
} walk;

static bool
next(walk *w)
{
	const lrn_ranking *r = w->r;
	int64_t		p = r->n_positive - w->tp,
				n = r->n_negative - w->fp;

	if (p == 0 && n == 0)
		return false;
	if (++w->steps % 65536 == 0 && mr_interrupted(r->env))
		return false;
	w->key = p == 0 ? r->negative[n - 1] : n == 0 ? r->positive[p - 1] :
		r->positive[p - 1] > r->negative[n - 1] ? r->positive[p - 1] : r->negative[n - 1];
	while (p > 0 && r->positive[p - 1] == w->key)
		p--;
	while (n > 0 && r->negative[n - 1] == w->key)
		n--;
	w->tp = r->n_positive - p;
	w->fp = r->n_negative - n;
	return true;
}

double
lrn_roc_auc(const lrn_ranking *r)
{
	walk		w = {.r = r};
	double		area = 0;
	int64_t		tp = 0,
				fp = 0;

	if (r->n_positive == 0 || r->n_negative == 0)
		return NAN;
	while (next(&w))
	{
		/* In half rows, so that sums stay integers. */
		area += (double) (w.fp - fp) * (double) (w.tp + tp);
		tp = w.tp;
		fp = w.fp;
	}
	return area / 2 / ((double) r->n_positive * (double) r->n_negative);
}

double
lrn_average_precision(const lrn_ranking *r)
{
	walk		w = {.r = r};
	double		area = 0;
	int64_t		tp = 0;

	if (r->n_positive == 0)
		return NAN;
	while (next(&w))
	{
		area += (double) (w.tp - tp) * ((double) w.tp / (double) (w.tp + w.fp));
		tp = w.tp;
	}
	return area / (double) r->n_positive;
}

/* A point as counts, so that what lies on a line is told exactly. */
typedef struct step
{
	int64_t		tp;
	int64_t		fp;
	double		threshold;
} step;

/* Whether b lies on the curve's straight way from a to c. */
static bool
between(lrn_curve kind, const step *a, const step *b, const step *c)
{
	if (kind == LRN_PR)
		return a->tp == b->tp && b->tp == c->tp;
	return (b->tp - a->tp) * (c->fp - b->fp) == (c->tp - b->tp) * (b->fp - a->fp);
}

/* Where points go: all of them, or those that pass the next mark of an even scale. */
typedef struct sink
{
	const lrn_ranking *r;
	lrn_curve	kind;
	int64_t		n;
	lrn_curve_point *points;
	double		gap;			/* 0: all */
	double		mark;
} sink;

static void
put(sink *s, const step *p, bool last)
{
	double		tp = (double) p->tp,
				fp = (double) p->fp,
				x = s->kind == LRN_ROC ? fp / (double) s->r->n_negative : tp / (double) s->r->n_positive,
				y = s->kind == LRN_ROC ? tp / (double) s->r->n_positive : tp + fp > 0 ? tp / (tp + fp) : 1,
				way = s->kind == LRN_ROC ? x + y : x;

	if (s->gap > 0 && !last && way < s->mark)
		return;
	if (s->gap > 0)
		s->mark = way + s->gap;
	if (s->points)
		s->points[s->n] = (lrn_curve_point) {p->threshold, x, y};
	s->n++;
}

static int64_t
run(sink *s)
{
	walk		w = {.r = s->r};
	step		a = {0, 0, INFINITY},
				b,
				c;

	put(s, &a, false);
	if (!next(&w))
		return s->n;
	b = (step) {w.tp, w.fp, lrn_number_of(w.key)};
	while (next(&w))
	{
		c = (step) {w.tp, w.fp, lrn_number_of(w.key)};
		if (!between(s->kind, &a, &b, &c))
			put(s, &b, false);
		a = b;
		b = c;
	}
	put(s, &b, true);
	return s->n;
}

int64_t
lrn_curve_of(const lrn_ranking *r, lrn_curve kind, int64_t max, lrn_curve_point *points)
{
	sink		count = {.r = r,.kind = kind},
				s = {.r = r,.kind = kind,.points = points};

	if (r->n_positive == 0 || (kind == LRN_ROC && r->n_negative == 0))
		return 0;
	/* First and last point are always there; a way of 2 (ROC) or 1. */
	if (run(&count) > max)
		s.gap = (kind == LRN_ROC ? 2.0 : 1.0) / (double) (max - 2);
	return points || s.gap > 0 ? run(&s) : count.n;
}
