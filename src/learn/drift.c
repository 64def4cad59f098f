/*
 * drift.c
 *	  How far apart two sketches are, and whether chance explains it.
 *
 * Numbers are put into bins by quantiles of the reference; a value that alone
 * has more than half a bin's share gets a bin of its own, so that constant and
 * discrete columns are compared value by value.  Categories are bins; those
 * with an expected count below 5 on either side, or with a count that is not
 * known well enough, are one bin together.
 *
 * PSI = sum (c - r) ln (c / r) over shares of bins; a bin that is empty on one
 * side counts half a row there.  Tests are made cautious by the sketches'
 * error: the Kolmogorov-Smirnov statistic is taken 3 standard errors smaller
 * for its p, and the error joins the variance of the Mann-Whitney test.
 */
#include "learn/sketch_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_EXPECTED	5		/* the usual rule for chi-squared tests (Cochran, 1954) */
#define SURE_COUNT		20		/* times the error: counts that are known well enough */
#define MOST_SHIFT		8

/* ---- bins: PSI, Jensen-Shannon, chi-squared ---- */

/* counts of n bins in two samples; bins empty in both do not count. */
static void
compare_bins(const double *r, const double *c, int n, lrn_drift *out)
{
	double		sum_r = 0,
				sum_c = 0,
				psi = 0,
				js = 0,
				chi2 = 0;
	int			bins = 0;

	for (int i = 0; i < n; i++)
	{
		sum_r += r[i];
		sum_c += c[i];
	}
	for (int i = 0; i < n; i++)
	{
		double		p = r[i] / sum_r,
					q = c[i] / sum_c,
					m = (p + q) / 2,
					p1 = fmax(r[i], 0.5) / sum_r,
					q1 = fmax(c[i], 0.5) / sum_c,
					share = (r[i] + c[i]) / (sum_r + sum_c);

		if (r[i] + c[i] == 0)
			continue;
		bins++;
		psi += (q1 - p1) * log(q1 / p1);
		js += (p > 0 ? p * log2(p / m) / 2 : 0) + (q > 0 ? q * log2(q / m) / 2 : 0);
		chi2 += (r[i] - sum_r * share) * (r[i] - sum_r * share) / (sum_r * share) +
			(c[i] - sum_c * share) * (c[i] - sum_c * share) / (sum_c * share);
	}
	out->bins = bins;
	out->psi = psi;
	out->js = sqrt(fmin(fmax(js, 0), 1));
	out->chi2 = chi2;
	out->chi2_df = bins - 1;
	out->chi2_p = bins > 1 ? lrn_chi2_tail(chi2, bins - 1) : NAN;
}

/* ---- numbers ---- */

/* Weight of values <= x. */
static double
rank_of(const sketch_view *v, double x)
{
	int			lo = 0,
				hi = v->n;

	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;

		if (v->x[mid] <= x)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo == 0 ? 0 : v->upto[lo - 1];
}

static void
bin_numbers(const sketch_view *r, const sketch_view *c, int bins, lrn_drift *out)
{
	double		edge[2 * LRN_MAX_BINS];
	double		count_r[2 * LRN_MAX_BINS + 1],
				count_c[2 * LRN_MAX_BINS + 1];
	double		before_r = 0,
				before_c = 0;
	int			n = 0,
				i = 0;

	for (int b = 1; b < bins; b++)
	{
		double		own;

		while (r->upto[i] < r->total * b / bins)
			i++;
		own = r->upto[i] - (i > 0 ? r->upto[i - 1] : 0);
		if (n > 0 && edge[n - 1] == r->x[i])
			continue;
		if (own * 2 * bins > r->total)
			edge[n++] = nextafter(r->x[i], -INFINITY);
		edge[n++] = r->x[i];
	}
	for (int b = 0; b <= n; b++)
	{
		double		upto_r = b < n ? rank_of(r, edge[b]) : r->total,
					upto_c = b < n ? rank_of(c, edge[b]) : c->total;

		count_r[b] = upto_r - before_r;
		count_c[b] = upto_c - before_c;
		before_r = upto_r;
		before_c = upto_c;
	}
	compare_bins(count_r, count_c, n + 1, out);
}

/*
 * One walk up both samples: the largest distance of the distribution
 * functions, and the chance that a value of c is above one of r (ties half).
 * error: standard error of a rank on both sides together.
 */
static void
walk(const sketch_view *r, const sketch_view *c, double error, lrn_drift *out)
{
	double		n = r->total,
				m = c->total,
				all = n + m,
				d = 0,
				above = 0,
				ties = 0,
				at_r = 0,
				at_c = 0,
				auc,
				variance;

	for (int i = 0, j = 0; i < r->n || j < c->n;)
	{
		double		x = j >= c->n || (i < r->n && r->x[i] < c->x[j]) ? r->x[i] : c->x[j];
		double		to_r = at_r,
					to_c = at_c,
					t;

		if (i < r->n && r->x[i] == x)
			to_r = r->upto[i++];
		if (j < c->n && c->x[j] == x)
			to_c = c->upto[j++];
		above += (to_c - at_c) / m * ((at_r + to_r) / (2 * n));
		t = to_r - at_r + to_c - at_c;
		ties += (t * t * t - t) / (all * fmax(all - 1, 1));
		at_r = to_r;
		at_c = to_c;
		d = fmax(d, fabs(at_r / n - at_c / m));
	}
	out->ks = d;
	out->shift = 0;
	/* One value everywhere: nothing to test. */
	if (r->n == 1 && c->n == 1 && r->x[0] == c->x[0])
		return;
	out->ks_p = lrn_kolmogorov_tail(fmax(d - 3 * error, 0), n * m / all);
	auc = above;
	variance = fmax((all + 1 - ties) / (12 * n * m), 0) + error * error;
	out->shift_p = lrn_normal_two_sided((auc - 0.5) / sqrt(variance));
	if (fabs(auc - 0.5) >= 1e-12)
		out->shift = fmin(fmax(M_SQRT2 * lrn_normal_quantile(fmin(fmax(auc, 0), 1)), -MOST_SHIFT), MOST_SHIFT);
}

static mr_code
compare_numbers(const mr_env *env, const lrn_sketch *r, const lrn_sketch *c, int bins, lrn_drift *out)
{
	sketch_view vr,
				vc = {0};
	lrn_sketch_info ir,
				ic;
	mr_code		rc = lrn_sketch_view(env, r, &vr);

	if (rc == MR_OK)
		rc = lrn_sketch_view(env, c, &vc);
	if (rc == MR_OK)
	{
		lrn_sketch_describe(r, &ir);
		lrn_sketch_describe(c, &ic);
		bin_numbers(&vr, &vc, bins, out);
		walk(&vr, &vc, hypot(ir.rank_error, ic.rank_error), out);
		if (ir.sd > 0)
		{
			out->mean_shift = (ic.mean - ir.mean) / ir.sd;
			out->sd_ratio = ic.sd / ir.sd;
		}
		else if (ir.mean == ic.mean)
			out->mean_shift = 0;
	}
	lrn_sketch_view_free(env, &vr);
	lrn_sketch_view_free(env, &vc);
	return rc;
}

/* ---- categories ---- */

static bool
is_sure(const sketch_categories *c, double count)
{
	return c->error == 0 || count >= (double) SURE_COUNT * (double) c->error;
}

bool
lrn_drift_is_new(const lrn_sketch *reference, const char *text, int len)
{
	const sketch_categories *r = reference->categories;

	return r != NULL && r->error == 0 && lrn_categories_find(r, text, (uint32_t) len) == NULL;
}

/*
 * Rows of categories that the reference lacks, against what it makes likely.
 * The share of categories not seen yet is about that of those seen once (Good
 * and Turing, 1953): with once of them in n rows a gamma variable of shape
 * once + 1 and rate n, so that their number in m rows is negative binomial.
 */
static void
compare_new(const lrn_sketch *reference, const lrn_sketch *current, lrn_drift *out)
{
	const sketch_categories *r = reference->categories,
			   *c = current->categories;
	double		once = 0,
				fresh = 0,
				rows = (double) reference->count;

	if (r->error > 0)
		return;
	for (int i = 0; i < r->n; i++)
		once += r->entry[i].count == 1;
	for (int i = 0; i < c->n; i++)
		if (lrn_drift_is_new(reference, c->text + c->entry[i].offset, (int) c->entry[i].len))
			fresh += (double) c->entry[i].count;
	out->new_share = fresh / (double) current->count;
	out->new_p = fresh > 0 ? lrn_beta_i(fresh, once + 1, (double) current->count / (rows + (double) current->count)) : 1;
}

/* One category into the table, or into the pool, its bin 0. */
static void
put_bin(double *r, double *c, int *n, bool sure, double in_r, double in_c, double rows_r, double rows_c)
{
	double		least = (in_r + in_c) * fmin(rows_r, rows_c) / (rows_r + rows_c);
	int			bin = sure && least >= LEAST_EXPECTED ? (*n)++ : 0;

	r[bin] += in_r;
	c[bin] += in_c;
}

static mr_code
compare_categories(const mr_env *env, const lrn_sketch *reference, const lrn_sketch *current, lrn_drift *out)
{
	const sketch_categories *r = reference->categories,
			   *c = current->categories;
	double		rows_r = (double) reference->count,
				rows_c = (double) current->count;
	size_t		most = (size_t) r->n + (size_t) c->n + 1;
	double	   *count_r = mr_alloc(env, most * 2 * sizeof(double)),
			   *count_c = count_r + most;
	int			n = 1,
				least = 1;

	if (count_r == NULL)
		return MR_NOMEM;
	memset(count_r, 0, most * 2 * sizeof(double));
	count_r[0] = (double) r->other;
	count_c[0] = (double) c->other;
	for (int i = 0; i < r->n; i++)
	{
		const sketch_entry *e = lrn_categories_find(c, r->text + r->entry[i].offset, r->entry[i].len);
		double		in_r = (double) r->entry[i].count,
					in_c = e ? (double) e->count : 0;

		put_bin(count_r, count_c, &n, is_sure(r, in_r) && is_sure(c, in_c), in_r, in_c, rows_r, rows_c);
	}
	for (int i = 0; i < c->n; i++)
		if (lrn_categories_find(r, c->text + c->entry[i].offset, c->entry[i].len) == NULL)
			put_bin(count_r, count_c, &n, is_sure(r, 0) && is_sure(c, (double) c->entry[i].count),
					0, (double) c->entry[i].count, rows_r, rows_c);
	/* A pool too small for the test joins the smallest bin. */
	if (n > 1 && count_r[0] + count_c[0] > 0 &&
		(count_r[0] + count_c[0]) * fmin(rows_r, rows_c) / (rows_r + rows_c) < LEAST_EXPECTED)
	{
		for (int i = 1; i < n; i++)
			least = count_r[i] + count_c[i] < count_r[least] + count_c[least] ? i : least;
		count_r[least] += count_r[0];
		count_c[least] += count_c[0];
		count_r[0] = count_c[0] = 0;
	}
	compare_bins(count_r, count_c, n, out);
	compare_new(reference, current, out);
	mr_free(env, count_r);
	return MR_OK;
}

/* ---- both ---- */

/* Two proportions with a common variance. */
static void
compare_missing(lrn_drift *out)
{
	double		n = (double) out->rows[0],
				m = (double) out->rows[1],
				p = (out->missing[0] * n + out->missing[1] * m) / (n + m);

	/* Where nothing or all is missing there is nothing to test. */
	if (n > 0 && m > 0 && p > 0 && p < 1)
		out->missing_p = lrn_normal_two_sided((out->missing[1] - out->missing[0]) / sqrt(p * (1 - p) * (1 / n + 1 / m)));
}

mr_code
lrn_drift_compare(const mr_env *env, const lrn_sketch *reference, const lrn_sketch *current,
				  int bins, lrn_drift *out, mr_status *st)
{
	const lrn_sketch *side[2] = {reference, current};
	mr_code		rc = MR_OK;

	*out = (lrn_drift) {
		.psi = NAN, .js = NAN, .ks = NAN, .ks_p = NAN, .chi2 = NAN, .chi2_p = NAN, .shift = NAN, .shift_p = NAN,
		.mean_shift = NAN, .sd_ratio = NAN, .missing_p = NAN, .new_share = NAN, .new_p = NAN
	};
	if (bins < 2 || bins > LRN_MAX_BINS)
		return mr_fail(st, MR_INVALID, "number of bins must be 2 to %d", LRN_MAX_BINS);
	if (reference->kind != current->kind)
		return mr_fail(st, MR_INVALID, "sketches of numbers and of categories cannot be compared");
	for (int i = 0; i < 2; i++)
	{
		out->rows[i] = side[i]->count + side[i]->missing;
		out->missing[i] = out->rows[i] ? (double) side[i]->missing / (double) out->rows[i] : NAN;
	}
	compare_missing(out);
	if (reference->count > 0 && current->count > 0)
		rc = reference->kind == LRN_SKETCH_NUMBER ? compare_numbers(env, reference, current, bins, out) :
			compare_categories(env, reference, current, out);
	return rc == MR_OK ? MR_OK : lrn_out_of_memory(st);
}

/* ---- many tests ---- */

typedef struct ranked
{
	double		p;
	int			i;
} ranked;

static int
by_p(const void *a, const void *b)
{
	const ranked *x = a,
			   *y = b;

	return x->p < y->p ? -1 : x->p > y->p ? 1 : x->i - y->i;
}

/* Holm (1979) steps down from the smallest p, Benjamini and Hochberg (1995) up
 * from the largest. */
mr_code
lrn_adjust_p(const mr_env *env, lrn_correction method, const double *p, int n, double *adjusted)
{
	ranked	   *order = mr_alloc(env, (size_t) (n > 0 ? n : 1) * sizeof(ranked));
	int			tests = 0;
	double		bound;

	if (order == NULL)
		return MR_NOMEM;
	for (int i = 0; i < n; i++)
	{
		adjusted[i] = p[i];
		if (!isnan(p[i]))
			order[tests++] = (ranked) {p[i], i};
	}
	qsort(order, (size_t) tests, sizeof(ranked), by_p);
	bound = method == LRN_CORRECT_HOLM ? 0 : 1;
	for (int k = 0; k < tests && method == LRN_CORRECT_HOLM; k++)
	{
		bound = fmin(fmax(bound, order[k].p * (tests - k)), 1);
		adjusted[order[k].i] = bound;
	}
	for (int k = tests - 1; k >= 0 && method == LRN_CORRECT_BH; k--)
	{
		bound = fmin(bound, order[k].p * tests / (k + 1));
		adjusted[order[k].i] = bound;
	}
	mr_free(env, order);
	return MR_OK;
}
