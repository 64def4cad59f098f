/*
 * test_learn_sketch.c
 *	  Sketches of columns: exact while small, within their error beyond, equal
 *	  through bytes and merging, and no trust in bytes.  Figures between two
 *	  sketches: expected values by scipy 1.17.
 */
#include "learn/learn_int.h"
#include "learn/sketch.h"
#include "unit.h"

#include <math.h>

static const mr_env *const env = &mr_env_malloc;
static mr_status st;

static bool
near(double a, double b, double tolerance)
{
	return fabs(a - b) <= tolerance;
}

static lrn_sketch *
numbers(const double *x, int64_t n)
{
	lrn_sketch *s = lrn_sketch_create(env, LRN_SKETCH_NUMBER);

	lrn_sketch_add(s, x, n);
	return s;
}

static double
quantile(const lrn_sketch *s, double q)
{
	double		v;

	lrn_sketch_quantile(s, q, &v);
	return v;
}

/* Largest error of a rank over 999 quantiles of the values 0 .. n-1. */
static double
worst_rank(const lrn_sketch *s, double n)
{
	double		worst = 0;

	for (int i = 1; i < 1000; i++)
		worst = fmax(worst, fabs(quantile(s, i / 1000.0) - (i / 1000.0 * n)) / n);
	return worst;
}

/* 0 .. n-1 ascending, descending or shuffled. */
static double *
range(int64_t n, int order)
{
	double	   *x = malloc((size_t) n * sizeof(double));
	lrn_rng		rng;

	for (int64_t i = 0; i < n; i++)
		x[i] = (double) (order == 1 ? n - 1 - i : i);
	lrn_rng_seed(&rng, 1, 0);
	for (int64_t i = n - 1; order == 2 && i > 0; i--)
	{
		int64_t		j = lrn_rng_below(&rng, (uint32_t) i + 1);
		double		v = x[i];

		x[i] = x[j];
		x[j] = v;
	}
	return x;
}

static void
test_numbers(void)
{
	static const double few[] = {3, NAN, 1, INFINITY, 2, -INFINITY, NAN, 5, 4};
	static const char *const name[] = {"ascending", "descending", "shuffled"};
	lrn_sketch *s = numbers(few, 9);
	lrn_sketch_info f;

	lrn_sketch_describe(s, &f);
	ok(f.count == 7 && f.missing == 2 && f.infinite == 2, "counts of values, missing and infinite");
	ok(f.min == -INFINITY && f.max == INFINITY && f.mean == 3 && near(f.sd, sqrt(2.5), 1e-12), "moments of finite values");
	ok(quantile(s, 0.5) == 3 && quantile(s, 0) == -INFINITY && quantile(s, 0.3) == 2, "quantiles of few values");
	lrn_sketch_free(s);
	s = numbers(few, 0);
	lrn_sketch_describe(s, &f);
	ok(f.count == 0 && isnan(f.mean) && isnan(f.min) && isnan(quantile(s, 0.5)), "an empty sketch");
	lrn_sketch_free(s);
	for (int order = 0; order < 3; order++)
		for (int64_t n = 1000; n <= 1000000; n *= 10)
		{
			double	   *x = range(n, order);
			double		worst;

			s = numbers(x, n);
			lrn_sketch_describe(s, &f);
			worst = worst_rank(s, (double) n);
			ok(worst <= 3 * f.rank_error + 1.0 / (double) n && f.rank_error < 0.003 && f.exact == (n == 1000),
			   "%lld %s values: rank error %.5f, standard error at most %.5f", (long long) n, name[order], worst, f.rank_error);
			ok(near(f.mean, ((double) n - 1) / 2, 1e-6) && near(f.sd / sqrt((double) n * ((double) n + 1) / 12), 1, 1e-12) &&
			   f.min == 0 && f.max == (double) n - 1, "moments of them");
			lrn_sketch_free(s);
			free(x);
		}
}

/* 1,000,003 values in parts of odd sizes: merged as good as at once. */
static void
test_merge(void)
{
	const int64_t n = 1000003;
	double	   *x = range(n, 2);
	lrn_sketch *all = numbers(x, 0),
			   *tree[40];
	lrn_sketch_info f;
	int			parts = 0;

	for (int64_t i = 0, size; i < n; i += size)
	{
		size = (parts * 7919 + 13) % 60000;
		size = size < n - i ? size : n - i;
		tree[parts] = numbers(x + i, size);
		parts = parts < 39 ? parts + 1 : parts;
		if (parts == 39)
		{
			lrn_sketch_merge(all, tree[38]);
			lrn_sketch_free(tree[--parts]);
		}
	}
	for (int i = 0; i < parts; i++)
	{
		ok(lrn_sketch_merge(all, tree[i]) == MR_OK, "part %d merges", i);
		lrn_sketch_free(tree[i]);
	}
	lrn_sketch_describe(all, &f);
	ok(f.count == n && near(f.mean, ((double) n - 1) / 2, 1e-6) && near(f.sd / sqrt((double) n * ((double) n + 1) / 12), 1, 1e-12),
	   "moments of what was merged");
	ok(worst_rank(all, (double) n) <= 3 * f.rank_error && f.rank_error < 0.004, "ranks: %.5f, standard error at most %.5f",
	   worst_rank(all, (double) n), f.rank_error);
	lrn_sketch_free(all);
	free(x);
}

static lrn_sketch *
reread(lrn_sketch *s, size_t *len)
{
	uint8_t    *bytes;
	lrn_sketch *copy = NULL;

	if (lrn_sketch_write(s, env, &bytes, len) != MR_OK || lrn_sketch_read(env, bytes, *len, &copy, &st) != MR_OK)
		return NULL;
	mr_free(env, bytes);
	return copy;
}

/* A sketch read from bytes goes on as the one that was written. */
static void
test_bytes(void)
{
	double	   *x = range(500000, 2);
	lrn_sketch *s = numbers(x, 300000),
			   *copy;
	uint8_t    *a,
			   *b;
	size_t		len,
				len_b;
	bool		equal,
				refused = true;
	int			mutants = 0;

	copy = reread(s, &len);
	ok(copy != NULL && len < 16000, "whole numbers: %zu bytes", len);
	lrn_sketch_add(s, x + 300000, 200000);
	lrn_sketch_add(copy, x + 300000, 200000);
	lrn_sketch_write(s, env, &a, &len);
	lrn_sketch_write(copy, env, &b, &len_b);
	equal = len == len_b && memcmp(a, b, len) == 0;
	ok(equal, "written, read and continued: equal bytes");
	lrn_sketch_free(copy);
	for (size_t i = 0; i < len; i += 1 + len / 997)
	{
		a[i] ^= 0x10;
		refused = refused && lrn_sketch_read(env, a, len, &copy, &st) == MR_CORRUPT;
		a[i] ^= 0x10;
	}
	ok(refused, "a changed byte is found");
	for (size_t i = 0; i < len; i += 1 + len / 97)
		refused = refused && lrn_sketch_read(env, a, i, &copy, &st) == MR_CORRUPT;
	ok(refused, "so is a missing end");
	/* With a right checksum only the checks of the contents are left: no crash, no leak. */
	for (size_t i = 8; i + 8 < 200 && i + 8 < len; i++)
		for (int bit = 0; bit < 8; bit++)
		{
			uint64_t	sum;

			memcpy(b, a, len);
			b[i] ^= (uint8_t) (1 << bit);
			sum = lrn_checksum(0x736B65746368u, b, len - 8);
			for (int k = 0; k < 8; k++)
				b[len - 8 + (size_t) k] = (uint8_t) (sum >> 8 * k);
			if (lrn_sketch_read(env, b, len, &copy, &st) == MR_OK)
			{
				lrn_drift	d;

				lrn_sketch_add(copy, x, 5000);
				lrn_drift_compare(env, s, copy, 10, &d, &st);
				lrn_sketch_free(copy);
			}
			mutants++;
		}
	ok(mutants > 1000, "%d mutants with right checksums are read or refused", mutants);
	mr_free(env, a);
	mr_free(env, b);
	lrn_sketch_free(s);
	free(x);
}

static void
add_words(lrn_sketch *s, int from, int to, int64_t each)
{
	char		word[32];

	for (int i = from; i < to; i++)
	{
		snprintf(word, sizeof(word), "word %d", i);
		lrn_sketch_add_text(s, word, strlen(word), each);
	}
}

static int64_t
count_of(const lrn_sketch *s, const char *word)
{
	const char *text;
	int			len;
	int64_t		count;

	for (int i = 0; lrn_sketch_category(s, i, &text, &len, &count); i++)
		if (len == (int) strlen(word) && memcmp(text, word, strlen(word)) == 0)
			return count;
	return 0;
}

static void
test_categories(void)
{
	lrn_sketch *s = lrn_sketch_create(env, LRN_SKETCH_CATEGORY),
			   *t = lrn_sketch_create(env, LRN_SKETCH_CATEGORY),
			   *copy;
	lrn_sketch_info f;
	lrn_drift	d;
	size_t		len;
	char		big[1000];

	add_words(s, 0, 1000, 3);
	lrn_sketch_add_text(s, NULL, 0, 5);
	lrn_sketch_add_text(s, "", 0, 7);
	lrn_sketch_describe(s, &f);
	ok(f.count == 3007 && f.missing == 5 && f.distinct == 1001 && f.exact && count_of(s, "word 77") == 3 &&
	   count_of(s, "") == 7, "a thousand categories are exact, the empty one among them");
	memset(big, 'x', sizeof(big));
	lrn_sketch_add_text(s, big, 255, 1);
	lrn_sketch_add_text(s, big, 1000, 1);
	lrn_sketch_describe(s, &f);
	ok(f.distinct == 1002, "texts are told apart by 255 bytes");
	/* Two frequent words among 100,000 that come once. */
	for (int i = 0; i < 100; i++)
	{
		add_words(t, 1000 + i * 1000, 2000 + i * 1000, 1);
		add_words(t, 0, 2, 200);
	}
	lrn_sketch_describe(t, &f);
	ok(f.count == 140000 && !f.exact && f.distinct <= 2048 && f.count_error <= 140000 / 1024, "many categories: counts within %lld",
	   (long long) f.count_error);
	ok(count_of(t, "word 1") <= 20000 && count_of(t, "word 1") >= 20000 - f.count_error, "a frequent one within that");
	copy = reread(t, &len);
	ok(copy != NULL && count_of(copy, "word 0") == count_of(t, "word 0"), "bytes of it: %zu", len);
	ok(lrn_sketch_merge(copy, s) == MR_OK && lrn_sketch_merge(copy, t) == MR_OK, "merges");
	lrn_sketch_describe(copy, &f);
	ok(f.count == 283009 && f.missing == 5, "counts of what was merged");
	lrn_drift_compare(env, t, copy, 10, &d, &st);
	ok(isnan(d.new_p) && d.psi < 0.1, "a reference that is not exact knows of no new categories (PSI %.3f)", d.psi);
	lrn_sketch_free(copy);
	lrn_sketch_free(s);
	lrn_sketch_free(t);
}

static void
test_probability(void)
{
	ok(near(lrn_chi2_tail(12.3, 4), 0.015254394655769615, 1e-12) && near(lrn_chi2_tail(0.5, 7), 0.999446481390425, 1e-12) &&
	   near(lrn_chi2_tail(250, 200), 0.009379131668826098, 1e-12), "chi-squared");
	ok(near(lrn_normal_two_sided(3) / 0.002699796063260, 1, 1e-12) && near(lrn_normal_quantile(0.975), 1.959963984540054, 1e-9),
	   "normal");
	ok(near(lrn_beta_i(5, 1, 0.2) / 3.2e-4, 1, 1e-12) && near(lrn_beta_i(30, 41, 0.4), 0.35470099735192573, 1e-12) &&
	   near(lrn_beta_i(0.5, 2, 0.9), 0.9961174629530394, 1e-12) && lrn_beta_i(3, 4, 0) == 0 && lrn_beta_i(3, 4, 1) == 1, "beta");
	ok(near(lrn_kolmogorov_tail(0.1, 100), 0.2526927570063874, 0.01) && lrn_kolmogorov_tail(0, 10) == 1, "Kolmogorov");
}

static void
test_drift(void)
{
	/* scipy.stats.mannwhitneyu(c, r, use_continuity=False, method='asymptotic') and ks_2samp */
	double		r[200],
				c[120],
				same[200];
	lrn_sketch *a,
			   *b;
	lrn_drift	d;
	double		p[] = {0.01, 0.04, NAN, 0.03, 0.005},
				adjusted[5];

	for (int i = 0; i < 200; i++)
	{
		r[i] = (i * 37 % 200) / 10.0;
		same[i] = 4;
	}
	for (int i = 0; i < 120; i++)
		c[i] = (i * 53 % 120) / 6.0 + 2;
	a = numbers(r, 200);
	b = numbers(c, 120);
	lrn_drift_compare(env, a, b, 10, &d, &st);
	ok(near(d.ks, 0.10333333333333, 1e-12) && near(d.ks_p, 0.37418768605982, 0.01), "Kolmogorov-Smirnov: %.9f, p %.4f", d.ks, d.ks_p);
	ok(near(d.shift, 0.33454299700423, 1e-9) && near(d.shift_p, 0.00510019067756, 1e-9), "Mann-Whitney: %.9f, p %.9f", d.shift, d.shift_p);
	ok(near(d.psi, 0.37387821013101, 1e-9) && near(d.js, 0.24951077109381, 1e-9), "PSI %.9f, Jensen-Shannon %.9f", d.psi, d.js);
	ok(near(d.chi2, 17.4545454545455, 1e-9) && near(d.chi2_p, 0.04205578897822, 1e-9) && d.chi2_df == 9, "chi-squared %.9f", d.chi2);
	lrn_drift_compare(env, a, a, 10, &d, &st);
	ok(d.psi == 0 && d.ks == 0 && d.ks_p == 1 && d.js == 0 && d.shift == 0 && d.shift_p > 0.999 && d.mean_shift == 0,
	   "nothing differs from itself");
	lrn_sketch_free(b);
	b = numbers(same, 200);
	lrn_drift_compare(env, b, b, 10, &d, &st);
	ok(d.psi == 0 && d.ks == 0 && d.shift == 0 && isnan(d.shift_p) && isnan(d.ks_p) && d.bins == 1 && isnan(d.chi2_p), "a constant");
	same[0] = 3;
	lrn_drift_compare(env, b, a, 10, &d, &st);
	ok(d.ks > 0.7 && d.psi > 1 && isnan(d.mean_shift) && d.bins == 3, "a constant no more");
	lrn_sketch_free(b);
	b = numbers(same, 0);
	lrn_drift_compare(env, a, b, 10, &d, &st);
	ok(isnan(d.psi) && isnan(d.ks_p) && isnan(d.missing_p), "nothing to compare");
	ok(lrn_drift_compare(env, a, b, 1, &d, &st) == MR_INVALID, "one bin is refused");
	lrn_sketch_free(a);
	lrn_sketch_free(b);
	lrn_adjust_p(env, LRN_CORRECT_HOLM, p, 5, adjusted);
	ok(near(adjusted[0], 0.03, 1e-12) && near(adjusted[1], 0.06, 1e-12) && isnan(adjusted[2]) && near(adjusted[3], 0.06, 1e-12) &&
	   near(adjusted[4], 0.02, 1e-12), "Holm");
	lrn_adjust_p(env, LRN_CORRECT_BH, p, 5, adjusted);
	ok(near(adjusted[0], 0.02, 1e-12) && near(adjusted[1], 0.04, 1e-12) && near(adjusted[3], 0.04, 1e-12) &&
	   near(adjusted[4], 0.02, 1e-12), "Benjamini-Hochberg");
}

int
main(void)
{
	test_numbers();
	test_merge();
	test_bytes();
	test_categories();
	test_probability();
	test_drift();
	return done_testing();
}
