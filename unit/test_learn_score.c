/*
 * test_learn_score.c
 *	  Scores, McNemar's test and the paired bootstrap; expected values by
 *	  scikit-learn 1.9, scipy 1.16 and arithmetic.
 */
#include "learn/score.h"
#include "unit.h"

#include <math.h>

#define ROWS 10

static const int32_t truth[ROWS] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 2};
static const float proba[ROWS * 3] = {.7f, .2f, .1f, .6f, .3f, .1f, .2f, .5f, .3f, .1f, .2f, .7f, .8f, .1f, .1f,
	.2f, .6f, .2f, .3f, .4f, .3f, .5f, .3f, .2f, .1f, .1f, .8f, .2f, .2f, .6f
};
static int32_t predicted[ROWS];
static double loss[ROWS];
static float kept[ROWS * 3];

static bool
near(double a, double b)
{
	return fabs(a - b) < 1e-7;
}

static double
score_of(lrn_score_kind kind, const int32_t *count)
{
	lrn_scored	s = {ROWS, 3, truth, NULL, predicted, loss, kept};
	void	   *work = malloc(lrn_score_work(kind, &s) + 1);
	double		x;

	lrn_score_enter(kind, &s, 0, 4, proba);
	lrn_score_enter(kind, &s, 4, ROWS - 4, proba + 4 * 3);
	x = lrn_score(kind, &s, count, work);
	free(work);
	return x;
}

static void
test_classes(void)
{
	static const int32_t twice[ROWS] = {2, 2, 0, 0, 0, 0, 0, 1, 1, 1};
	static const int32_t unknown[2] = {0, 3};
	lrn_scored	s = {2, 3, unknown, NULL, predicted, loss, NULL};
	double		work[16];

	ok(near(score_of(LRN_SCORE_ACCURACY, NULL), 0.6), "accuracy");
	ok(near(score_of(LRN_SCORE_BALANCED_ACCURACY, NULL), 0.611111111), "balanced accuracy");
	ok(near(score_of(LRN_SCORE_F1_MACRO, NULL), 0.611111111), "macro F1");
	ok(near(score_of(LRN_SCORE_F1_WEIGHTED, NULL), 0.6), "weighted F1");
	ok(near(score_of(LRN_SCORE_LOG_LOSS, NULL), 1.0852632522583), "log-loss");
	ok(near(score_of(LRN_SCORE_BRIER, NULL), 0.6239999969), "Brier");
	ok(near(score_of(LRN_SCORE_ROC_AUC, NULL), 0.6498015873), "ROC AUC, one against the rest");
	ok(near(score_of(LRN_SCORE_ACCURACY, twice), 6 / 7.0), "rows may count more than once, or not at all");
	lrn_score_enter(LRN_SCORE_BRIER, &s, 0, 2, proba);
	ok(near(lrn_score(LRN_SCORE_BRIER, &s, NULL, work), (.14 + 1.46) / 2), "a class the model lacks was given nothing");
	ok(near(lrn_score(LRN_SCORE_F1_MACRO, &s, NULL, work), (2 / 3.0 + 0) / 2), "and counts as a class");
}

static void
test_regression(void)
{
	static const float value[4] = {1, 2, 3, 4.5f};
	static const float answer[4] = {1.5f, 2, 2, 5};
	lrn_scored	s = {4, 0, NULL, value, NULL, loss, NULL};
	lrn_score_kind kind;
	mr_status	st;

	lrn_score_enter(LRN_SCORE_RMSE, &s, 0, 4, answer);
	ok(near(lrn_score(LRN_SCORE_RMSE, &s, NULL, NULL), 0.6123724356957945), "RMSE");
	ok(near(lrn_score(LRN_SCORE_R2, &s, NULL, NULL), 0.7757009345794392), "R2");
	lrn_score_enter(LRN_SCORE_MAE, &s, 0, 4, answer);
	ok(near(lrn_score(LRN_SCORE_MAE, &s, NULL, NULL), 0.5), "mean absolute error");
	ok(lrn_score_find("rmse", true, &kind, &st) == MR_OK && kind == LRN_SCORE_RMSE && lrn_score_sign(kind) == -1, "by name");
	ok(lrn_score_find("accuracy", true, &kind, &st) == MR_INVALID && strstr(st.hint, "rmse, mae, r2"),
	   "accuracy is none of a regression: %s", st.hint);
}

static void
test_mcnemar(void)
{
	static const struct
	{
		int64_t		a,
					b;
		double		exact,
					mid;
	}			known[] = {
		{10, 2, 0.03857421875, 0.0224609375},
		{3, 1, 0.625, 0.375},
		{0, 5, 0.0625, 0.03125},
		{700, 600, 0.0060157938610449395, 0.005543558709501235},
		{250000, 248000, 0.004615851762335189, 0.004595473392483336},
		{0, 0, 1, 1},
		{7, 7, 1, 1},
	};

	for (int i = 0; i < (int) (sizeof(known) / sizeof(known[0])); i++)
		ok(near(lrn_mcnemar(known[i].a, known[i].b, false), known[i].exact) &&
		   near(lrn_mcnemar(known[i].b, known[i].a, true), known[i].mid),
		   "McNemar, %lld and %lld", (long long) known[i].a, (long long) known[i].b);
}

/* Of many rows the bootstrap interval of a mean difference is its normal one. */
static void
test_bootstrap(void)
{
	enum
	{
		rows = 4000
	};
	static int32_t class[rows],
				right[rows],
				half[rows];
	lrn_scored	a = {rows, 2, class, NULL, half, NULL, NULL},
				b = {rows, 2, class, NULL, right, NULL, NULL};
	double		d = 0.05,
				sd = sqrt(d * (1 - d) / rows);
	lrn_interval i,
				again,
				same;
	mr_status	st;

	for (int r = 0; r < rows; r++)
		half[r] = r % 20 == 0;	/* wrong in one of twenty */
	if (lrn_paired_bootstrap(&mr_env_malloc, LRN_SCORE_ACCURACY, &a, &b, 2000, 0.05, 1, &i, &st) != MR_OK)
		i = (lrn_interval) {NAN, NAN, NAN};
	ok(fabs(i.low - (d - 1.96 * sd)) < sd / 5 && fabs(i.high - (d + 1.96 * sd)) < sd / 5,
	   "interval %.4f to %.4f, normal %.4f to %.4f", i.low, i.high, d - 1.96 * sd, d + 1.96 * sd);
	ok(i.p < 0.001, "p %.4f", i.p);
	lrn_paired_bootstrap(&mr_env_malloc, LRN_SCORE_ACCURACY, &a, &b, 2000, 0.05, 1, &again, &st);
	ok(i.low == again.low && i.high == again.high, "the same seed gives the same interval");
	lrn_paired_bootstrap(&mr_env_malloc, LRN_SCORE_F1_MACRO, &b, &b, 100, 0.05, 1, &same, &st);
	ok(same.low == 0 && same.high == 0 && same.p == 1, "a model is no better than itself");
}

int
main(void)
{
	test_classes();
	test_regression();
	test_mcnemar();
	test_bootstrap();
	return done_testing();
}
