/*
 * params.c
 *	  Algorithms and their parameters by scikit-learn's names.
 *
 * One table says which names exist for which algorithm, their types and
 * ranges; a name not in it is refused, because a misspelt parameter that is
 * silently ignored costs its user a wrong model.
 */
#include "learn/learn_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FOREST	(1u << LRN_RANDOM_FOREST)
#define LOGIST	(1u << LRN_LOGISTIC_REGRESSION)
#define PCA		(1u << LRN_PCA)

static const struct
{
	lrn_algorithm algorithm;
	const char *name;
}			algorithms[] =
{
	{LRN_RANDOM_FOREST, "random_forest"},
	{LRN_LOGISTIC_REGRESSION, "logistic_regression"},
	{LRN_PCA, "pca"},
};

typedef enum param_id
{
	P_RANDOM_STATE, P_N_ESTIMATORS, P_CRITERION, P_MAX_DEPTH, P_MIN_SAMPLES_SPLIT,
	P_MIN_SAMPLES_LEAF, P_MIN_IMPURITY_DECREASE, P_MAX_FEATURES, P_BOOTSTRAP,
	P_MAX_SAMPLES, P_OOB_SCORE, P_CLASS_WEIGHT, P_C, P_TOL, P_MAX_ITER,
	P_FIT_INTERCEPT, P_STANDARDIZE, P_N_COMPONENTS, P_WHITEN
} param_id;

static const struct
{
	param_id	id;
	const char *name;
	unsigned	of;				/* algorithms that take it */
}			params[] =
{
	{P_RANDOM_STATE, "random_state", FOREST | LOGIST | PCA},
	{P_N_ESTIMATORS, "n_estimators", FOREST},
	{P_CRITERION, "criterion", FOREST},
	{P_MAX_DEPTH, "max_depth", FOREST},
	{P_MIN_SAMPLES_SPLIT, "min_samples_split", FOREST},
	{P_MIN_SAMPLES_LEAF, "min_samples_leaf", FOREST},
	{P_MIN_IMPURITY_DECREASE, "min_impurity_decrease", FOREST},
	{P_MAX_FEATURES, "max_features", FOREST},
	{P_BOOTSTRAP, "bootstrap", FOREST},
	{P_MAX_SAMPLES, "max_samples", FOREST},
	{P_OOB_SCORE, "oob_score", FOREST},
	{P_CLASS_WEIGHT, "class_weight", FOREST | LOGIST},
	{P_C, "C", LOGIST},
	{P_TOL, "tol", LOGIST},
	{P_MAX_ITER, "max_iter", LOGIST},
	{P_FIT_INTERCEPT, "fit_intercept", LOGIST},
	{P_STANDARDIZE, "standardize", LOGIST},
	{P_N_COMPONENTS, "n_components", PCA},
	{P_WHITEN, "whiten", PCA},
};

#define N_OF(a) ((int) (sizeof(a) / sizeof((a)[0])))

const char *
lrn_algorithm_name(lrn_algorithm a)
{
	for (int i = 0; i < N_OF(algorithms); i++)
		if (algorithms[i].algorithm == a)
			return algorithms[i].name;
	return "unknown";
}

mr_code
lrn_algorithm_find(const char *name, lrn_algorithm *out, mr_status *st)
{
	char		known[128];
	size_t		used = 0;

	for (int i = 0; i < N_OF(algorithms); i++)
	{
		if (strcmp(algorithms[i].name, name) == 0)
		{
			*out = algorithms[i].algorithm;
			return MR_OK;
		}
		used += (size_t) snprintf(known + used, sizeof(known) - used, "%s%s",
								  i ? ", " : "", algorithms[i].name);
	}
	mr_fail(st, MR_INVALID, "algorithm \"%s\" does not exist", name);
	mr_hint(st, "Known algorithms: %s.", known);
	return MR_INVALID;
}

bool
lrn_is_classifier(lrn_algorithm a)
{
	return a == LRN_RANDOM_FOREST || a == LRN_LOGISTIC_REGRESSION;
}

void
lrn_params_init(lrn_params *p, lrn_algorithm a)
{
	memset(p, 0, sizeof(*p));
	p->algorithm = a;
	p->n_estimators = 100;
	p->criterion = LRN_GINI;
	p->min_samples_split = 2;
	p->min_samples_leaf = 1;
	p->max_features_kind = LRN_FEATURES_SQRT;
	p->bootstrap = true;
	p->oob_score = -1;
	p->class_weight = LRN_WEIGHT_NONE;
	p->C = 1;
	p->tol = 1e-4;
	p->max_iter = 100;
	p->fit_intercept = true;
}

static mr_code
bad_value(mr_status *st, const char *name, const char *wanted)
{
	return mr_fail(st, MR_INVALID, "parameter \"%s\" must be %s", name, wanted);
}

static bool
is_integer(const lrn_value *v, double low, double high)
{
	return v->kind == LRN_NUMBER && v->number == floor(v->number) &&
		v->number >= low && v->number <= high;
}

/* An integer of at least low, or a share in (0, 1). */
static bool
is_count_or_share(const lrn_value *v, double low)
{
	return is_integer(v, low, 1e9) ||
		(v->kind == LRN_NUMBER && v->number > 0 && v->number < 1);
}

static bool
is_text(const lrn_value *v, const char *text)
{
	return v->kind == LRN_TEXT && strcmp(v->text, text) == 0;
}

static mr_code
set_forest(lrn_params *p, param_id id, const char *name, const lrn_value *v, mr_status *st)
{
	switch (id)
	{
		case P_N_ESTIMATORS:
			if (!is_integer(v, 1, 100000))
				return bad_value(st, name, "an integer from 1 to 100000");
			p->n_estimators = (int) v->number;
			return MR_OK;
		case P_CRITERION:
			if (is_text(v, "gini"))
				p->criterion = LRN_GINI;
			else if (is_text(v, "entropy") || is_text(v, "log_loss"))
				p->criterion = LRN_ENTROPY;
			else
				return bad_value(st, name, "\"gini\", \"entropy\" or \"log_loss\"");
			return MR_OK;
		case P_MAX_DEPTH:
			if (v->kind == LRN_NULL)
				p->max_depth = 0;
			else if (is_integer(v, 1, 1000000))
				p->max_depth = (int) v->number;
			else
				return bad_value(st, name, "null or an integer of at least 1");
			return MR_OK;
		case P_MIN_SAMPLES_SPLIT:
			if (!is_count_or_share(v, 2))
				return bad_value(st, name, "an integer of at least 2 or a share between 0 and 1");
			p->min_samples_split = v->number;
			return MR_OK;
		case P_MIN_SAMPLES_LEAF:
			if (!is_count_or_share(v, 1))
				return bad_value(st, name, "an integer of at least 1 or a share between 0 and 1");
			p->min_samples_leaf = v->number;
			return MR_OK;
		case P_MIN_IMPURITY_DECREASE:
			if (v->kind != LRN_NUMBER || !(v->number >= 0) || isinf(v->number))
				return bad_value(st, name, "a number of at least 0");
			p->min_impurity_decrease = v->number;
			return MR_OK;
		case P_MAX_FEATURES:
			p->max_features = 0;
			if (v->kind == LRN_NULL)
				p->max_features_kind = LRN_FEATURES_ALL;
			else if (is_text(v, "sqrt"))
				p->max_features_kind = LRN_FEATURES_SQRT;
			else if (is_text(v, "log2"))
				p->max_features_kind = LRN_FEATURES_LOG2;
			else if (is_count_or_share(v, 1))
			{
				p->max_features_kind = v->number < 1 ? LRN_FEATURES_FRACTION : LRN_FEATURES_COUNT;
				p->max_features = v->number;
			}
			else
				return bad_value(st, name, "null, \"sqrt\", \"log2\", an integer of at least 1 or a share between 0 and 1");
			return MR_OK;
		case P_BOOTSTRAP:
			if (v->kind != LRN_BOOL)
				return bad_value(st, name, "true or false");
			p->bootstrap = v->number != 0;
			return MR_OK;
		case P_MAX_SAMPLES:
			if (v->kind == LRN_NULL)
				p->max_samples = 0;
			else if (is_count_or_share(v, 1))
				p->max_samples = v->number;
			else
				return bad_value(st, name, "null, an integer of at least 1 or a share between 0 and 1");
			return MR_OK;
		case P_OOB_SCORE:
			if (v->kind != LRN_BOOL)
				return bad_value(st, name, "true or false");
			p->oob_score = v->number != 0;
			return MR_OK;
		default:
			return mr_fail(st, MR_INTERNAL, "parameter \"%s\" has no setter", name);
	}
}

static mr_code
set_other(lrn_params *p, param_id id, const char *name, const lrn_value *v, mr_status *st)
{
	switch (id)
	{
		case P_RANDOM_STATE:
			if (!is_integer(v, 0, 4294967295.0))
				return bad_value(st, name, "an integer from 0 to 4294967295");
			p->random_state = (uint64_t) v->number;
			return MR_OK;
		case P_CLASS_WEIGHT:
			if (v->kind == LRN_NULL)
				p->class_weight = LRN_WEIGHT_NONE;
			else if (is_text(v, "balanced"))
				p->class_weight = LRN_WEIGHT_BALANCED;
			else if (is_text(v, "balanced_subsample") && p->algorithm == LRN_RANDOM_FOREST)
				p->class_weight = LRN_WEIGHT_BALANCED_SUBSAMPLE;
			else
				return bad_value(st, name, p->algorithm == LRN_RANDOM_FOREST ?
								 "null, \"balanced\", \"balanced_subsample\" or an object of weights by label" :
								 "null, \"balanced\" or an object of weights by label");
			return MR_OK;
		case P_C:
			if (v->kind != LRN_NUMBER || !(v->number > 0) || isinf(v->number))
				return bad_value(st, name, "a number above 0");
			p->C = v->number;
			return MR_OK;
		case P_TOL:
			if (v->kind != LRN_NUMBER || !(v->number > 0) || isinf(v->number))
				return bad_value(st, name, "a number above 0");
			p->tol = v->number;
			return MR_OK;
		case P_MAX_ITER:
			if (!is_integer(v, 1, 1000000))
				return bad_value(st, name, "an integer from 1 to 1000000");
			p->max_iter = (int) v->number;
			return MR_OK;
		case P_FIT_INTERCEPT:
		case P_STANDARDIZE:
		case P_WHITEN:
			if (v->kind != LRN_BOOL)
				return bad_value(st, name, "true or false");
			if (id == P_FIT_INTERCEPT)
				p->fit_intercept = v->number != 0;
			else if (id == P_STANDARDIZE)
				p->standardize = v->number != 0;
			else
				p->whiten = v->number != 0;
			return MR_OK;
		case P_N_COMPONENTS:
			if (v->kind == LRN_NULL)
				p->n_components = 0;
			else if (is_count_or_share(v, 1))
				p->n_components = v->number;
			else
				return bad_value(st, name, "null, an integer of at least 1 or a share of the variance between 0 and 1");
			return MR_OK;
		default:
			return set_forest(p, id, name, v, st);
	}
}

mr_code
lrn_params_set(lrn_params *p, const char *name, const lrn_value *value, mr_status *st)
{
	char		known[256];
	size_t		used = 0;

	for (int i = 0; i < N_OF(params); i++)
		if ((params[i].of & (1u << p->algorithm)) && strcmp(params[i].name, name) == 0)
			return set_other(p, params[i].id, name, value, st);

	known[0] = '\0';
	for (int i = 0; i < N_OF(params); i++)
		if ((params[i].of & (1u << p->algorithm)) && used < sizeof(known))
			used += (size_t) snprintf(known + used, sizeof(known) - used, "%s%s",
									  used ? ", " : "", params[i].name);
	mr_fail(st, MR_INVALID, "algorithm \"%s\" has no parameter \"%s\"",
			lrn_algorithm_name(p->algorithm), name);
	mr_hint(st, "Known parameters: %.230s.", known);
	return MR_INVALID;
}

/* One value as JSON. */
static int
value_json(const lrn_params *p, param_id id, char *out, size_t size)
{
	static const char *const weight[] = {"null", "\"balanced\"", "\"balanced_subsample\"", "\"given\""};

#define BOOL(x) snprintf(out, size, "%s", (x) ? "true" : "false")
#define NUMBER(x) snprintf(out, size, "%.17g", (double) (x))
#define OR_NULL(x) ((x) > 0 ? NUMBER(x) : snprintf(out, size, "null"))
	switch (id)
	{
		case P_RANDOM_STATE:
			return NUMBER(p->random_state);
		case P_N_ESTIMATORS:
			return NUMBER(p->n_estimators);
		case P_CRITERION:
			return snprintf(out, size, "\"%s\"", p->criterion == LRN_GINI ? "gini" : "entropy");
		case P_MAX_DEPTH:
			return OR_NULL(p->max_depth);
		case P_MIN_SAMPLES_SPLIT:
			return NUMBER(p->min_samples_split);
		case P_MIN_SAMPLES_LEAF:
			return NUMBER(p->min_samples_leaf);
		case P_MIN_IMPURITY_DECREASE:
			return NUMBER(p->min_impurity_decrease);
		case P_MAX_FEATURES:
			if (p->max_features_kind == LRN_FEATURES_SQRT)
				return snprintf(out, size, "\"sqrt\"");
			if (p->max_features_kind == LRN_FEATURES_LOG2)
				return snprintf(out, size, "\"log2\"");
			return OR_NULL(p->max_features);
		case P_BOOTSTRAP:
			return BOOL(p->bootstrap);
		case P_MAX_SAMPLES:
			return OR_NULL(p->max_samples);
		case P_OOB_SCORE:
			return BOOL(p->oob_score != 0);
		case P_CLASS_WEIGHT:
			return snprintf(out, size, "%s", weight[p->class_weight]);
		case P_C:
			return NUMBER(p->C);
		case P_TOL:
			return NUMBER(p->tol);
		case P_MAX_ITER:
			return NUMBER(p->max_iter);
		case P_FIT_INTERCEPT:
			return BOOL(p->fit_intercept);
		case P_STANDARDIZE:
			return BOOL(p->standardize);
		case P_N_COMPONENTS:
			return OR_NULL(p->n_components);
		case P_WHITEN:
			return BOOL(p->whiten);
	}
	return 0;
}

size_t
lrn_params_json(const lrn_params *p, char *out, size_t size)
{
	size_t		used = (size_t) snprintf(out, size, "{");
	const char *comma = "";

	for (int i = 0; i < N_OF(params); i++)
	{
		char		value[64];

		if (!(params[i].of & (1u << p->algorithm)))
			continue;
		value_json(p, params[i].id, value, sizeof(value));
		used += (size_t) snprintf(out + (used < size ? used : size), used < size ? size - used : 0,
								  "%s\"%s\": %s", comma, params[i].name, value);
		comma = ", ";
	}
	used += (size_t) snprintf(out + (used < size ? used : size), used < size ? size - used : 0, "}");
	return used;
}
