/*
 * test_learn_metrics.c
 *	  Figures of labels, probabilities, scores and values; expected numbers by
 *	  scikit-learn 1.9.
 */
#include "learn/metrics.h"
#include "learn/sort.h"
#include "unit.h"

#include <math.h>

static bool
near(double a, double b)
{
	return fabs(a - b) < 1e-9;
}

/* The figures of a dense matrix. */
static void
figures_of(const int64_t *m, int n, lrn_metrics *f, lrn_class_metrics *c)
{
	lrn_confusion table = {.env = &mr_env_malloc};

	for (int t = 0; t < n; t++)
		for (int p = 0; p < n; p++)
			(void) lrn_confusion_add(&table, (uint32_t) t, (uint32_t) p, m[t * n + p], NULL);
	lrn_metrics_of(&table, n, f, c);
	lrn_confusion_free(&table);
}

static void
test_labels(void)
{
	/* y_true = a a a a b b b c c c, y_pred = a a b c b b a c c d */
	static const int64_t m[16] = {2, 1, 1, 0,
		1, 2, 0, 0,
		0, 0, 2, 1,
	0, 0, 0, 0};
	static const int64_t none[4] = {0};
	static const int64_t one_sided[4] = {3, 0, 2, 0};
	lrn_metrics f;
	lrn_class_metrics c[4];

	figures_of(m, 4, &f, c);
	ok(f.rows == 10 && near(f.accuracy, 0.6), "accuracy");
	ok(near(f.balanced_accuracy, (0.5 + 2 / 3.0 + 2 / 3.0) / 3), "balanced accuracy leaves out classes without rows");
	ok(near(f.precision_macro, (2 / 3.0 + 2 / 3.0 + 2 / 3.0 + 0) / 4), "macro precision counts classes only predicted");
	ok(near(f.recall_macro, (0.5 + 2 / 3.0 + 2 / 3.0 + 0) / 4), "macro recall too");
	ok(near(f.f1_macro, (4 / 7.0 + 2 / 3.0 + 2 / 3.0 + 0) / 4), "macro F1");
	ok(near(f.f1_weighted, (4 * 4 / 7.0 + 3 * 2 / 3.0 + 3 * 2 / 3.0) / 10), "weighted F1");
	ok(near(f.kappa, 0.4285714285714286) && near(f.mcc, 0.4351941398892446), "Cohen's kappa and Matthews' correlation");
	ok(c[0].support == 4 && c[0].predicted == 3 && near(c[0].precision, 2 / 3.0) && near(c[0].recall, 0.5), "per class");
	ok(c[3].support == 0 && c[3].predicted == 1 && c[3].precision == 0 && c[3].recall == 0, "a class without rows");
	figures_of(one_sided, 2, &f, c);
	ok(near(f.accuracy, 0.6) && near(f.balanced_accuracy, 0.5) && near(f.precision_macro, 0.3), "one class never predicted");
	figures_of(none, 2, &f, c);
	ok(f.rows == 0 && f.accuracy == 0 && f.f1_macro == 0, "no rows give zeros, not NaN");
}

/* A thousand classes: the table grows, and holds what was put in. */
static void
test_many(void)
{
	lrn_confusion table = {.env = &mr_env_malloc,.limit = 6000};
	static lrn_class_metrics c[1000];
	lrn_metrics f;
	mr_status	st = {0};
	mr_code		code = MR_OK;

	for (int i = 0; i < 100000 && code == MR_OK; i++)
		code = lrn_confusion_add(&table, (uint32_t) i % 1000, (uint32_t) (i % 7 ? i : i + 1) % 1000, 1, &st);
	lrn_metrics_of(&table, 1000, &f, c);
	ok(code == MR_OK && table.used == 2000 && f.rows == 100000 && near(f.accuracy, 1 - 14286 / 100000.0), "2,000 pairs of 1,000 labels");
	for (uint32_t i = 0; i < 100000 && code == MR_OK; i++)
		code = lrn_confusion_add(&table, i, i, 1, &st);
	ok(code == MR_LIMIT, "more pairs than allowed");
	lrn_confusion_free(&table);
}

#define N 12

static void
test_scores(void)
{
	/* y = 1 1 0 1 0 1 0 0 1 0 0 1, score = .9 .8 .8 .7 .6 .55 .5 .4 .4 .3 .2 .1 */
	static const double positive[] = {0.1, 0.4, 0.55, 0.7, 0.8, 0.9},
				negative[] = {0.2, 0.3, 0.4, 0.5, 0.6, 0.8};
	uint64_t	p[6],
				n[6];
	lrn_ranking r = {&mr_env_malloc, p, n, 6, 6},
				one = {&mr_env_malloc, p, n, 6, 0};
	lrn_curve_point point[N + 1];

	for (int i = 0; i < 6; i++)
	{
		p[i] = lrn_key_of(positive[i]);
		n[i] = lrn_key_of(negative[i]);
	}
	ok(near(lrn_roc_auc(&r), 0.6388888888888888), "ROC AUC with ties");
	ok(near(lrn_average_precision(&r), 0.6898148148148148), "average precision");
	ok(isnan(lrn_roc_auc(&one)) && lrn_curve_of(&one, LRN_ROC, 100, point) == 0, "one class has no ROC");
	ok(lrn_curve_of(&r, LRN_ROC, 100, NULL) == lrn_curve_of(&r, LRN_ROC, 100, point), "points counted and made");
	ok(isinf(point[0].threshold) && point[0].x == 0 && point[0].y == 0 && near(point[1].threshold, 0.9) &&
	   near(point[2].x, 1 / 6.0) && near(point[2].y, 2 / 6.0), "a ROC begins in its corner");
	ok(lrn_curve_of(&r, LRN_ROC, 5, point) <= 5 && point[0].x == 0, "fewer points when asked");
	{
		int64_t		k = lrn_curve_of(&r, LRN_PR, 100, point);

		ok(near(point[k - 1].threshold, 0.1) && point[k - 1].x == 1 && near(point[k - 1].y, 0.5) && point[0].y == 1,
		   "precision over recall from one end to the other");
	}
}

static void
test_probabilities(void)
{
	lrn_bin		bin[2] = {{3, 0.6, 1}, {1, 0.9, 1}};
	bool		right = true;

	ok(lrn_bin_of(0, 10) == 0 && lrn_bin_of(0.1, 10) == 0 && lrn_bin_of(0.3, 10) == 2 && lrn_bin_of(nextafter(3 * 0.1, 1), 10) == 3 &&
	   lrn_bin_of(1, 10) == 9, "bins are closed above");
	for (int n = 1; n < 200; n++)
		for (int e = 1; e <= n; e++)
			right &= lrn_bin_of(e * (1.0 / n), n) == e - 1;
	ok(right, "every edge belongs to the bin below");
	ok(near(lrn_calibration_error(bin, 2), (0.4 + 0.1) / 4), "calibration error");
	ok(near(lrn_log_loss(0.25), 1.3862943611198906) && near(lrn_log_loss(0), 36.04365338911715), "log-loss, clipped at 0");
}

static void
test_values(void)
{
	static const double truth[] = {3, -0.5, 2, 7, 1e6},
				predicted[] = {2.5, 0, 2, 8, 1e6 - 3};
	lrn_residuals all = {0},
				a = {0},
				b = {0},
				constant = {0};

	for (int i = 0; i < 5; i++)
	{
		lrn_residuals_add(&all, truth[i], predicted[i]);
		lrn_residuals_add(i < 2 ? &a : &b, truth[i], predicted[i]);
		lrn_residuals_add(&constant, 1, 1);
	}
	lrn_residuals_merge(&a, &b);
	ok(near(all.absolute / 5, 1) && near(all.square / 5, 2.1), "mean absolute and squared error");
	ok(near(lrn_r2(&all), 1 - 10.5 / all.spread) && near(all.spread / 799995400035.8, 1), "R2");
	ok(a.n == 5 && near(a.spread / all.spread, 1) && near(a.mean, all.mean), "sums added together");
	ok(lrn_r2(&constant) == 1 && isnan(lrn_r2(&(lrn_residuals) {.n = 1})), "constant truth, one row");
}

int
main(void)
{
	test_labels();
	test_many();
	test_scores();
	test_probabilities();
	test_values();
	return done_testing();
}
