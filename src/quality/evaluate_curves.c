/*
 * evaluate_curves.c
 *	  A class's guesses in the order of their confidence: precision, recall and
 *	  F1 along them, and the means of all classes.  See evaluate_int.h.
 */
#include "quality/evaluate_int.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* As numpy.linspace() makes them: rounded otherwise, a recall of just that value would fall on the other side. */
static inline double
recall_of(int i)
{
	return i == QLT_RECALLS - 1 ? 1 : i * 0.01;
}

void
qlt_accumulate(const qlt_seen *s, int64_t n, int64_t n_truth, int area, int k, qlt_precision *out, double *precision, double *recall)
{
	uint16_t	bit = 1 << k;
	int64_t		tp = 0,
				fp = 0,
				rows = 0;
	int			next;
	double		sum = 0,
				above = 0;

	for (int64_t i = 0; i < n; i++)
		if (!(s[i].ignored[area] & bit))
		{
			if (s[i].matched[area] & bit)
				tp++;
			else
				fp++;
			precision[rows] = (double) tp / (fp + tp + DBL_EPSILON);
			recall[rows++] = (double) tp / n_truth;
		}
	out->recall[k] = (double) tp / n_truth;
	if (k == 0)
		out->n_guess = rows;
	for (int64_t i = rows - 1; i > 0; i--)
		if (precision[i] > precision[i - 1])
			precision[i - 1] = precision[i];
	next = 0;
	for (int64_t i = 0; i < rows && next < QLT_RECALLS; i++)
		while (next < QLT_RECALLS && recall[i] >= recall_of(next))
		{
			above = precision[i];
			sum += above;
			if (k == 0)
				out->curve[next] = above;
			next++;
		}
	out->ap[k] = sum / QLT_RECALLS;
}

void
qlt_best_point(const qlt_seen *s, int64_t n, int64_t n_truth, int area, qlt_precision *out)
{
	int64_t		tp = 0,
				fp = 0;
	int			next = 0;

	for (int64_t i = 0; i < n; i++)
	{
		double		p,
					r,
					f1;

		if (!(s[i].ignored[area] & 1))
		{
			if (s[i].matched[area] & 1)
				tp++;
			else
				fp++;
		}
		r = (double) tp / n_truth;
		while (next < QLT_RECALLS && r >= recall_of(next))
			out->curve_score[next++] = s[i].score;
		if (tp == 0 || (i + 1 < n && s[i + 1].score == s[i].score))
			continue;			/* a threshold takes equal ones together */
		p = (double) tp / (tp + fp);
		f1 = 2 * p * r / (p + r);
		if (f1 > out->f1)
		{
			out->f1 = f1;
			out->f1_precision = p;
			out->f1_recall = r;
			out->threshold = s[i].score;
		}
	}
}

double
qlt_recall_of_few(const qlt_seen *s, int64_t n, int64_t n_truth, int area, int few)
{
	double		sum = 0;

	for (int k = 0; k < QLT_IOUS; k++)
	{
		int64_t		tp = 0;

		for (int64_t i = 0; i < n; i++)
			tp += s[i].rank < few && ((s[i].matched[area] & ~s[i].ignored[area]) >> k & 1);
		sum += (double) tp / n_truth;
	}
	return sum / QLT_IOUS;
}

void
qlt_add_to_grid(const qlt_seen *s, int64_t n, int64_t n_truth, qlt_grid *sum)
{
	int64_t		tp = 0,
				fp = 0,
				i = 0;

	for (int at = QLT_GRID; at >= 0; at--)
	{
		double		p,
					r;

		for (; i < n && s[i].score >= (float) at / QLT_GRID; i++)
			if (!(s[i].ignored[0] & 1))
			{
				if (s[i].matched[0] & 1)
					tp++;
				else
					fp++;
			}
		if (tp == 0)
			continue;
		p = (double) tp / (tp + fp);
		r = (double) tp / n_truth;
		sum[at].precision += p;
		sum[at].recall += r;
		sum[at].f1 += 2 * p * r / (p + r);
	}
}

void
qlt_average(qlt_evaluation *e, const qlt_grid *sum)
{
	for (int area = 0; area < QLT_AREAS; area++)
	{
		qlt_precision *m = &e->mean[area];
		int			n = 0;

		memset(m, 0, sizeof(*m));
		for (int c = 0; c < e->n_classes; c++)
		{
			const qlt_precision *p = &e->at[c * QLT_AREAS + area];

			m->n_guess += p->n_guess;
			if (p->n_truth == 0)
				continue;
			n++;
			m->n_truth += p->n_truth;
			for (int k = 0; k < QLT_IOUS; k++)
			{
				m->ap[k] += p->ap[k];
				m->recall[k] += p->recall[k];
			}
			m->recall_1 += p->recall_1;
			m->recall_10 += p->recall_10;
			for (int r = 0; r < QLT_RECALLS; r++)
				m->curve[r] += p->curve[r];
		}
		for (int k = 0; k < QLT_IOUS; k++)
		{
			m->ap[k] /= n;		/* NaN where n is 0 */
			m->recall[k] /= n;
		}
		m->recall_1 /= n;
		m->recall_10 /= n;
		for (int r = 0; r < QLT_RECALLS; r++)
		{
			m->curve[r] /= n;
			m->curve_score[r] = NAN;	/* another one in each class */
		}
		m->f1 = m->f1_precision = m->f1_recall = m->threshold = NAN;
		if (area != 0 || n == 0)
			continue;
		for (int at = 0; at <= QLT_GRID; at++)
			if (!(sum[at].f1 / n <= m->f1))
			{
				m->f1 = sum[at].f1 / n;
				m->f1_precision = sum[at].precision / n;
				m->f1_recall = sum[at].recall / n;
				m->threshold = (double) at / QLT_GRID;
			}
	}
}
