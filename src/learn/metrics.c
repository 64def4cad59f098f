/*
 * metrics.c
 *	  Figures of a confusion matrix, as scikit-learn defines them.
 */
#include "learn/learn.h"

#include <string.h>

static double
ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

void
lrn_metrics_of(const int64_t *confusion, int n, lrn_metrics *out, lrn_class_metrics *per_class)
{
	int64_t		right = 0;
	int			with_rows = 0,
				seen = 0;

	memset(out, 0, sizeof(*out));
	for (int c = 0; c < n; c++)
	{
		lrn_class_metrics *m = &per_class[c];
		int64_t		hit = confusion[(size_t) c * (size_t) n + (size_t) c];

		m->support = m->predicted = 0;
		for (int o = 0; o < n; o++)
		{
			m->support += confusion[(size_t) c * (size_t) n + (size_t) o];
			m->predicted += confusion[(size_t) o * (size_t) n + (size_t) c];
		}
		m->precision = ratio((double) hit, (double) m->predicted);
		m->recall = ratio((double) hit, (double) m->support);
		m->f1 = ratio(2 * (double) hit, (double) (m->support + m->predicted));
		out->rows += m->support;
		right += hit;
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
			out->f1_weighted += m->f1 * (double) m->support;
		}
	}
	out->accuracy = ratio((double) right, (double) out->rows);
	out->balanced_accuracy = ratio(out->balanced_accuracy, with_rows);
	out->precision_macro = ratio(out->precision_macro, seen);
	out->recall_macro = ratio(out->recall_macro, seen);
	out->f1_macro = ratio(out->f1_macro, seen);
	out->f1_weighted = ratio(out->f1_weighted, (double) out->rows);
}
