/*
 * test_learn_metrics.c
 *	  Figures of confusion matrices; expected values by scikit-learn 1.9.
 */
#include "learn/learn.h"
#include "unit.h"

#include <math.h>

static bool
near(double a, double b)
{
	return fabs(a - b) < 1e-9;
}

int
main(void)
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

	lrn_metrics_of(m, 4, &f, c);
	ok(f.rows == 10 && near(f.accuracy, 0.6), "accuracy");
	ok(near(f.balanced_accuracy, (0.5 + 2 / 3.0 + 2 / 3.0) / 3), "balanced accuracy leaves out classes without rows");
	ok(near(f.precision_macro, (2 / 3.0 + 2 / 3.0 + 2 / 3.0 + 0) / 4), "macro precision counts classes only predicted");
	ok(near(f.recall_macro, (0.5 + 2 / 3.0 + 2 / 3.0 + 0) / 4), "macro recall too");
	ok(near(f.f1_macro, (4 / 7.0 + 2 / 3.0 + 2 / 3.0 + 0) / 4), "macro F1");
	ok(near(f.f1_weighted, (4 * 4 / 7.0 + 3 * 2 / 3.0 + 3 * 2 / 3.0) / 10), "weighted F1");
	ok(c[0].support == 4 && c[0].predicted == 3 && near(c[0].precision, 2 / 3.0) && near(c[0].recall, 0.5), "per class");
	ok(c[3].support == 0 && c[3].predicted == 1 && c[3].precision == 0 && c[3].recall == 0, "a class without rows");
	lrn_metrics_of(one_sided, 2, &f, c);
	ok(near(f.accuracy, 0.6) && near(f.balanced_accuracy, 0.5) && near(f.precision_macro, 0.3), "one class never predicted");
	lrn_metrics_of(none, 2, &f, c);
	ok(f.rows == 0 && f.accuracy == 0 && f.f1_macro == 0, "no rows give zeros, not NaN");
	return done_testing();
}
