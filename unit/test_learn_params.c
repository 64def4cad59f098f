/*
 * test_learn_params.c
 *	  Parameters by name: ranges, choices, what is refused.
 */
#include "learn/learn_int.h"
#include "unit.h"

#include <math.h>

static mr_code
set(lrn_params *p, const char *name, lrn_value_kind kind, double number, const char *text, mr_status *st)
{
	lrn_value	v = {kind, number, text};

	return lrn_params_set(p, name, &v, st);
}

static void
test_params(void)
{
	lrn_params	p;
	lrn_algorithm a;
	mr_status	st = {0};
	char		json[1024];

	ok(lrn_algorithm_find("pca", &a, &st) == MR_OK && a == LRN_PCA, "an algorithm by name");
	ok(lrn_algorithm_find("forest", &a, &st) == MR_INVALID && strstr(st.hint, "random_forest"),
	   "an unknown one: %s; %s", st.message, st.hint);
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	ok(set(&p, "n_estimators", LRN_NUMBER, 250, NULL, &st) == MR_OK && p.n_estimators == 250, "n_estimators");
	ok(set(&p, "max_depth", LRN_NULL, 0, NULL, &st) == MR_OK && p.max_depth == 0, "max_depth null");
	ok(set(&p, "max_features", LRN_NUMBER, 0.5, NULL, &st) == MR_OK &&
	   p.max_features_kind == LRN_FEATURES_FRACTION, "max_features as a share");
	ok(set(&p, "class_weight", LRN_TEXT, 0, "balanced_subsample", &st) == MR_OK, "class_weight by name");
	ok(set(&p, "n_estimators", LRN_NUMBER, 2.5, NULL, &st) == MR_INVALID, "a fraction: %s", st.message);
	ok(set(&p, "n_estimators", LRN_TEXT, 0, "10", &st) == MR_INVALID, "a text for a number");
	ok(set(&p, "min_samples_leaf", LRN_NUMBER, NAN, NULL, &st) == MR_INVALID, "NaN");
	ok(set(&p, "criterion", LRN_TEXT, 0, "mse", &st) == MR_INVALID, "an unknown criterion");
	ok(set(&p, "bootstrap", LRN_NUMBER, 1, NULL, &st) == MR_INVALID, "a number for a boolean");
	ok(set(&p, "C", LRN_NUMBER, 1, NULL, &st) == MR_INVALID && strstr(st.message, "\"C\"") &&
	   strstr(st.hint, "n_estimators"), "a parameter of another algorithm: %s", st.message);
	ok(set(&p, "n_estimator", LRN_NUMBER, 1, NULL, &st) == MR_INVALID, "a misspelt one: %s", st.message);
	ok(lrn_params_json(&p, json, sizeof(json)) < sizeof(json) && strstr(json, "\"n_estimators\": 250"), "as JSON");
	ok(lrn_params_json(&p, json, 10) > 10 && strlen(json) < 10, "JSON is cut, not overrun");
	lrn_params_init(&p, LRN_LOGISTIC_REGRESSION);
	ok(set(&p, "C", LRN_NUMBER, 0, NULL, &st) == MR_INVALID, "C must be above 0");
	ok(set(&p, "class_weight", LRN_TEXT, 0, "balanced_subsample", &st) == MR_INVALID, "balanced_subsample is for forests");
}

int
main(void)
{
	test_params();
	return done_testing();
}
