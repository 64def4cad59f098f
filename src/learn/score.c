/*
 * score.c
 *	  Scores of predictions; McNemar's test and the paired bootstrap.
 *
 * The figures are scikit-learn's (metrics.c has those of a confusion matrix).
 */
#include "learn/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learn/learn_int.h"

#define LEAST_PROBABILITY 2.220446049250313e-16

static const struct
{
	const char *name;
	bool		regression;
	int			sign;
}			scores[] = {
	[LRN_SCORE_ACCURACY] = {"accuracy", false, 1},
	[LRN_SCORE_BALANCED_ACCURACY] = {"balanced_accuracy", false, 1},
	[LRN_SCORE_F1_MACRO] = {"f1_macro", false, 1},
	[LRN_SCORE_F1_WEIGHTED] = {"f1_weighted", false, 1},
	[LRN_SCORE_LOG_LOSS] = {"log_loss", false, -1},
	[LRN_SCORE_BRIER] = {"brier", false, -1},
	[LRN_SCORE_ROC_AUC] = {"roc_auc", false, 1},
	[LRN_SCORE_RMSE] = {"rmse", true, -1},
	[LRN_SCORE_MAE] = {"mae", true, -1},
	[LRN_SCORE_R2] = {"r2", true, 1},
};

#define N_SCORES ((int) (sizeof(scores) / sizeof(scores[0])))

mr_code
lrn_score_find(const char *name, bool regression, lrn_score_kind *out, mr_status *st)
{
	char		known[200] = "";

	for (int k = 0; k < N_SCORES; k++)
	{
		if (scores[k].regression != regression)
			continue;
		if (strcmp(name, scores[k].name) == 0)
		{
			*out = (lrn_score_kind) k;
			return MR_OK;
		}
		strcat(known, known[0] ? ", " : "");
		strcat(known, scores[k].name);
	}
	mr_fail(st, MR_INVALID, "\"%s\" is no metric of %s", name, regression ? "a regression" : "a classifier");
	mr_hint(st, "Known metrics: %s.", known);
	return MR_INVALID;
}

const char *
lrn_score_name(lrn_score_kind kind)
{
	return scores[kind].name;
}

int
lrn_score_sign(lrn_score_kind kind)
{
	return scores[kind].sign;
}

static double
class_loss(lrn_score_kind kind, const float *p, int k, int truth)
{
	double		loss = truth < k ? 0 : 1;	/* nothing was given to a class the model lacks */

	if (kind == LRN_SCORE_LOG_LOSS)
		return -log(fmax(truth < k ? p[truth] : 0, LEAST_PROBABILITY));
	for (int c = 0; c < k; c++)
	{
		double		miss = (double) p[c] - (c == truth);

		loss += miss * miss;
	}
	return loss;
}

void
lrn_score_enter(lrn_score_kind kind, const lrn_scored *s, int64_t first, int64_t n, const float *out)
{
	int			k = s->n_classes;

	for (int64_t i = 0; i < n; i++)
	{
		const float *p = out + i * k;
		int			best = 0;

		if (k == 0)
		{
			double		miss = (double) out[i] - (double) s->value[first + i];

			s->loss[first + i] = kind == LRN_SCORE_MAE ? fabs(miss) : miss * miss;
			continue;
		}
		for (int c = 1; c < k; c++)
			if (p[c] > p[best])
				best = c;
		s->predicted[first + i] = best;
		if (kind == LRN_SCORE_LOG_LOSS || kind == LRN_SCORE_BRIER)
			s->loss[first + i] = class_loss(kind, p, k, s->truth[first + i]);
	}
	if (s->proba)
		memcpy(s->proba + first * k, out, (size_t) n * (size_t) k * sizeof(float));
}

/* Classes that rows or predictions have: the model's and unknown ones behind. */
static int
class_bound(const lrn_scored *s)
{
	int			n = s->n_classes;

	for (int64_t i = 0; i < s->rows; i++)
		n = s->truth[i] >= n ? s->truth[i] + 1 : n;
	return n;
}

typedef struct class_counts
{
	int64_t		hits;
	int64_t		support;
	int64_t		predicted;
} class_counts;

typedef struct ranked
{
	float		p;
	int32_t		row;
} ranked;

size_t
lrn_score_work(lrn_score_kind kind, const lrn_scored *s)
{
	switch (kind)
	{
		case LRN_SCORE_BALANCED_ACCURACY:
		case LRN_SCORE_F1_MACRO:
		case LRN_SCORE_F1_WEIGHTED:
			return (size_t) class_bound(s) * sizeof(class_counts);
		case LRN_SCORE_ROC_AUC:
			return (size_t) s->rows * sizeof(ranked);
		default:
			return 0;
	}
}

static double
by_class(lrn_score_kind kind, const lrn_scored *s, const int32_t *count, class_counts *c)
{
	int			n = class_bound(s),
				classes = 0;
	double		sum = 0,
				rows = 0;

	memset(c, 0, (size_t) n * sizeof(*c));
	for (int64_t i = 0; i < s->rows; i++)
	{
		int			times = count ? count[i] : 1;

		c[s->truth[i]].support += times;
		c[s->predicted[i]].predicted += times;
		c[s->truth[i]].hits += s->truth[i] == s->predicted[i] ? times : 0;
	}
	for (int k = 0; k < n; k++)
	{
		double		all = (double) (c[k].support + c[k].predicted),
					f1 = all > 0 ? 2 * (double) c[k].hits / all : 0;

		rows += (double) c[k].support;
		if (kind == LRN_SCORE_F1_WEIGHTED)
			sum += f1 * (double) c[k].support;
		else if (kind == LRN_SCORE_F1_MACRO && all > 0)
		{
			sum += f1;
			classes++;
		}
		else if (kind == LRN_SCORE_BALANCED_ACCURACY && c[k].support > 0)
		{
			sum += (double) c[k].hits / (double) c[k].support;
			classes++;
		}
	}
	return sum / (kind == LRN_SCORE_F1_WEIGHTED ? rows : classes);
}

static int
descending(const void *a, const void *b)
{
	const ranked *x = a,
			   *y = b;

	return x->p > y->p ? -1 : x->p < y->p ? 1 : x->row < y->row ? -1 : 1;
}

/*
 * Area under the ROC curve of one class against the rest: how often a row of
 * the class has the greater probability than one of the rest, ties half (Mann
 * and Whitney).  NaN when either has no row.
 */
static double
auc_of_class(const lrn_scored *s, int class, ranked *r)
{
	double		inside = 0,
				outside = 0,
				wins = 0;

	for (int64_t i = 0; i < s->rows; i++)
		r[i] = (ranked) {s->proba[i * s->n_classes + class], (int32_t) i};
	qsort(r, (size_t) s->rows, sizeof(ranked), descending);
	for (int64_t i = 0; i < s->rows;)
	{
		double		in = 0,
					out = 0;
		float		p = r[i].p;

		for (; i < s->rows && r[i].p == p; i++)
			*(s->truth[r[i].row] == class ? &in : &out) += 1;
		wins += out * (inside + in / 2);
		inside += in;
		outside += out;
	}
	return inside > 0 && outside > 0 ? wins / (inside * outside) : NAN;
}

/* Two classes: the second's; more: the mean over those that have rows. */
static double
roc_auc(const lrn_scored *s, ranked *r)
{
	double		sum = 0;
	int			classes = 0;

	if (s->n_classes == 2)
		return auc_of_class(s, 1, r);
	for (int c = 0; c < s->n_classes; c++)
	{
		double		area = auc_of_class(s, c, r);

		if (!isnan(area))
		{
			sum += area;
			classes++;
		}
	}
	return classes ? sum / classes : NAN;
}

double
lrn_score(lrn_score_kind kind, const lrn_scored *s, const int32_t *count, void *work)
{
	double		sum = 0,
				rows = 0,
				mean = 0,
				spread = 0;

	switch (kind)
	{
		case LRN_SCORE_BALANCED_ACCURACY:
		case LRN_SCORE_F1_MACRO:
		case LRN_SCORE_F1_WEIGHTED:
			return by_class(kind, s, count, work);
		case LRN_SCORE_ROC_AUC:
			return roc_auc(s, work);
		default:
			break;
	}
	for (int64_t i = 0; i < s->rows; i++)
	{
		double		times = count ? count[i] : 1;

		rows += times;
		sum += times * (kind == LRN_SCORE_ACCURACY ? s->predicted[i] == s->truth[i] : s->loss[i]);
		if (kind == LRN_SCORE_R2)
			mean += times * (double) s->value[i];
	}
	if (kind != LRN_SCORE_R2)
		return kind == LRN_SCORE_RMSE ? sqrt(sum / rows) : sum / rows;
	mean /= rows;
	for (int64_t i = 0; i < s->rows; i++)
		spread += (count ? count[i] : 1) * ((double) s->value[i] - mean) * ((double) s->value[i] - mean);
	return spread > 0 ? 1 - sum / spread : NAN;
}

double
lrn_mcnemar(int64_t only_a, int64_t only_b, bool mid_p)
{
	double		n = (double) (only_a + only_b),
				k = (double) (only_a < only_b ? only_a : only_b),
				point = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2)),
				sum = 0,
				term = point;

	if (only_a == only_b)
		return 1;
	/* P(X <= k) from its largest term down. */
	for (double i = k; i >= 0 && term > sum * 1e-17; i--)
	{
		sum += term;
		term *= i / (n - i + 1);
	}
	return fmin(1, mid_p ? 2 * sum - point : 2 * sum);
}

static int
ascending(const void *a, const void *b)
{
	double		x = *(const double *) a,
				y = *(const double *) b;

	return (x > y) - (x < y);
}

/* Linear between the neighbours, as numpy's default. */
static double
quantile(const double *sorted, int n, double q)
{
	double		at = q * (n - 1);
	int			low = (int) floor(at);

	return low + 1 < n ? sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]) : sorted[n - 1];
}

mr_code
lrn_paired_bootstrap(const mr_env *env, lrn_score_kind kind, const lrn_scored *a, const lrn_scored *b,
					 int resamples, double alpha, uint64_t seed, lrn_interval *out, mr_status *st)
{
	size_t		work_a = lrn_score_work(kind, a),
				work_b = lrn_score_work(kind, b);
	int32_t    *count = mr_alloc(env, (size_t) a->rows * sizeof(int32_t));
	double	   *gain = mr_alloc(env, (size_t) resamples * sizeof(double));
	void	   *work = mr_alloc(env, (work_a > work_b ? work_a : work_b) + 1);
	int			n = 0,
				below = 0,
				above = 0;
	mr_code		code = MR_OK;
	lrn_rng		rng;

	if (count == NULL || gain == NULL || work == NULL)
		code = lrn_out_of_memory(st);
	lrn_rng_seed(&rng, seed, 0x7061697265640000);
	for (int r = 0; r < resamples && code == MR_OK; r++)
	{
		double		g;

		memset(count, 0, (size_t) a->rows * sizeof(int32_t));
		for (int64_t i = 0; i < a->rows; i++)
		{
			if ((i & 0xffff) == 0 && mr_interrupted(env))
			{
				code = lrn_canceled(st);
				break;
			}
			count[lrn_rng_below(&rng, (uint32_t) a->rows)]++;
		}
		g = lrn_score_sign(kind) * (lrn_score(kind, b, count, work) - lrn_score(kind, a, count, work));
		if (isnan(g))			/* not defined on this resample */
			continue;
		gain[n++] = g;
		below += g <= 0;
		above += g >= 0;
	}
	if (code == MR_OK)
	{
		qsort(gain, (size_t) n, sizeof(double), ascending);
		out->low = n ? quantile(gain, n, alpha / 2) : NAN;
		out->high = n ? quantile(gain, n, 1 - alpha / 2) : NAN;
		out->p = n ? fmin(1, 2.0 * (1 + (below < above ? below : above)) / (n + 1)) : NAN;
	}
	mr_free(env, count);
	mr_free(env, gain);
	mr_free(env, work);
	return code;
}
