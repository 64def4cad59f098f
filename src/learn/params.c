/*
 * params.c
 *	  Parameters by scikit-learn's names, as each algorithm's list declares them.
 *
 * A name that is not in the list is refused, because a misspelt parameter that
 * is silently ignored costs its user a wrong model.
 */
#include "learn/learner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const lrn_choice lrn_task_choices[] =
{
	{"classification", LRN_CLASSIFY},
	{"regression", LRN_REGRESS},
	{.name = NULL}
};

const lrn_choice lrn_calibration_choices[] =
{
	{"sigmoid", LRN_CALIBRATION_SIGMOID},
	{"isotonic", LRN_CALIBRATION_ISOTONIC},
	{.name = NULL}
};

static const lrn_choice max_features_choices[] =
{
	{"sqrt", LRN_FEATURES_SQRT},
	{"log2", LRN_FEATURES_LOG2},
	{.name = NULL}
};

static const lrn_choice class_weight_choices[] =
{
	{"balanced", LRN_WEIGHT_BALANCED},
	{"balanced_subsample", LRN_WEIGHT_BALANCED_SUBSAMPLE},
	{.name = NULL}
};

/* The field of p that a parameter is kept in, as a pointer to its type. */
#define FIELD(p, d, type) ((type *) ((char *) (p) + (d)->offset))

void
lrn_params_init(lrn_params *p, lrn_algorithm a)
{
	const lrn_learner *l = lrn_learner_of(a);

	memset(p, 0, sizeof(*p));
	p->algorithm = a;
	p->task = lrn_first_task(a);
	if (l == NULL)
		return;
	for (const lrn_param *d = l->params; d->name; d++)
		switch (d->type)
		{
			case LRN_PARAM_BOOL:
				*FIELD(p, d, bool) = d->init != 0;
				break;
			case LRN_PARAM_INT:
			case LRN_PARAM_CHOICE:
			case LRN_PARAM_MAYBE:
				*FIELD(p, d, int) = (int) d->init;
				break;
			case LRN_PARAM_SEED:
				*FIELD(p, d, uint64_t) = (uint64_t) d->init;
				break;
			case LRN_PARAM_REAL:
			case LRN_PARAM_POSITIVE:
			case LRN_PARAM_COUNT_OR_SHARE:
			case LRN_PARAM_CHOICE_OR_POSITIVE:
				*FIELD(p, d, double) = d->init;
				break;
			case LRN_PARAM_MAX_FEATURES:
			case LRN_PARAM_CLASS_WEIGHT:
				break;
		}
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

static const lrn_choice *
find_choice(const lrn_choice *list, const lrn_value *v)
{
	if (v->kind != LRN_TEXT)
		return NULL;
	for (; list->name; list++)
		if (strcmp(list->name, v->text) == 0)
			return list;
	return NULL;
}

static const char *
choice_name(const lrn_choice *list, int value)
{
	for (; list->name; list++)
		if (list->value == value)
			return list->name;
	return "";
}

static bool
is_forest(const lrn_params *p)
{
	return p->algorithm == LRN_RANDOM_FOREST || p->algorithm == LRN_EXTRA_TREES;
}

/* balanced_subsample is a forest's alone. */
static bool
weight_is_known(const lrn_params *p, const lrn_choice *c)
{
	return c->value != LRN_WEIGHT_BALANCED_SUBSAMPLE || is_forest(p);
}

/* "must be ...", in words. */
static mr_code
bad_value(const lrn_params *p, const lrn_param *d, mr_status *st)
{
	char		wanted[256];
	size_t		used = 0;
	const char *null = d->nullable ? "null or " : "";

	switch (d->type)
	{
		case LRN_PARAM_BOOL:
		case LRN_PARAM_MAYBE:
			snprintf(wanted, sizeof(wanted), "%strue or false", null);
			break;
		case LRN_PARAM_SEED:
			snprintf(wanted, sizeof(wanted), "an integer from 0 to 4294967295");
			break;
		case LRN_PARAM_INT:
			if (d->high > 0)
				snprintf(wanted, sizeof(wanted), "%san integer from %.0f to %.0f", null, d->low, d->high);
			else
				snprintf(wanted, sizeof(wanted), "%san integer of at least %.0f", null, d->low);
			break;
		case LRN_PARAM_REAL:
			if (d->high > 0)
				snprintf(wanted, sizeof(wanted), "%sa number from %g to %g", null, d->low, d->high);
			else
				snprintf(wanted, sizeof(wanted), "%sa number of at least %g", null, d->low);
			break;
		case LRN_PARAM_POSITIVE:
			snprintf(wanted, sizeof(wanted), "%sa number above 0", null);
			break;
		case LRN_PARAM_COUNT_OR_SHARE:
			snprintf(wanted, sizeof(wanted), "%san integer of at least %.0f or a share between 0 and 1",
					 d->nullable ? "null, " : "", d->low);
			break;
		case LRN_PARAM_CHOICE:
			for (const lrn_choice *c = d->choices; c->name && used < sizeof(wanted); c++)
				used += (size_t) snprintf(wanted + used, sizeof(wanted) - used, "%s\"%s\"",
										  c == d->choices ? null : c[1].name ? ", " : " or ", c->name);
			break;
		case LRN_PARAM_CHOICE_OR_POSITIVE:
			for (const lrn_choice *c = d->choices; c->name && used < sizeof(wanted); c++)
				used += (size_t) snprintf(wanted + used, sizeof(wanted) - used, "\"%s\"%s", c->name,
										  c[1].name ? ", " : " or a number above 0");
			break;
		case LRN_PARAM_MAX_FEATURES:
			snprintf(wanted, sizeof(wanted), "null, \"sqrt\", \"log2\", an integer of at least 1 or a share between 0 and 1");
			break;
		case LRN_PARAM_CLASS_WEIGHT:
			snprintf(wanted, sizeof(wanted), is_forest(p) ?
					 "null, \"balanced\", \"balanced_subsample\" or an object of weights by label" :
					 "null, \"balanced\" or an object of weights by label");
			break;
	}
	return mr_fail(st, MR_INVALID, "parameter \"%s\" must be %s", d->name, wanted);
}

/* max_features: a rule by name, all for null, a count or a share. */
static bool
set_max_features(lrn_params *p, const lrn_value *v)
{
	const lrn_choice *c = find_choice(max_features_choices, v);

	p->max_features = 0;
	if (v->kind == LRN_NULL)
		p->max_features_kind = LRN_FEATURES_ALL;
	else if (c)
		p->max_features_kind = (lrn_max_features) c->value;
	else if (is_count_or_share(v, 1))
	{
		p->max_features_kind = v->number < 1 ? LRN_FEATURES_FRACTION : LRN_FEATURES_COUNT;
		p->max_features = v->number;
	}
	else
		return false;
	return true;
}

static bool
set_class_weight(lrn_params *p, const lrn_value *v)
{
	const lrn_choice *c = find_choice(class_weight_choices, v);

	if (v->kind == LRN_NULL)
		p->class_weight = LRN_WEIGHT_NONE;
	else if (c && weight_is_known(p, c))
		p->class_weight = (lrn_class_weight) c->value;
	else
		return false;
	return true;
}

static bool
set_number(lrn_params *p, const lrn_param *d, const lrn_value *v)
{
	const lrn_choice *c;
	double		high = d->high > 0 ? d->high : 1e9;

	if (v->kind == LRN_NULL && d->nullable)
	{
		if (d->type == LRN_PARAM_INT || d->type == LRN_PARAM_CHOICE)
			*FIELD(p, d, int) = 0;
		else
			*FIELD(p, d, double) = 0;
		return true;
	}
	switch (d->type)
	{
		case LRN_PARAM_BOOL:
			*FIELD(p, d, bool) = v->number != 0;
			return v->kind == LRN_BOOL;
		case LRN_PARAM_MAYBE:
			*FIELD(p, d, int) = v->number != 0;
			return v->kind == LRN_BOOL;
		case LRN_PARAM_SEED:
			if (!is_integer(v, 0, 4294967295.0))
				return false;
			*FIELD(p, d, uint64_t) = (uint64_t) v->number;
			return true;
		case LRN_PARAM_INT:
			if (!is_integer(v, d->low, high))
				return false;
			*FIELD(p, d, int) = (int) v->number;
			return true;
		case LRN_PARAM_REAL:
			if (v->kind != LRN_NUMBER || !(v->number >= d->low) || isinf(v->number) ||
				(d->high > 0 && v->number > d->high))
				return false;
			*FIELD(p, d, double) = v->number;
			return true;
		case LRN_PARAM_POSITIVE:
			if (v->kind != LRN_NUMBER || !(v->number > 0) || isinf(v->number))
				return false;
			*FIELD(p, d, double) = v->number;
			return true;
		case LRN_PARAM_COUNT_OR_SHARE:
			if (!is_count_or_share(v, d->low))
				return false;
			*FIELD(p, d, double) = v->number;
			return true;
		case LRN_PARAM_CHOICE:
			c = find_choice(d->choices, v);
			if (c == NULL)
				return false;
			*FIELD(p, d, int) = c->value;
			return true;
		case LRN_PARAM_CHOICE_OR_POSITIVE:
			c = find_choice(d->choices, v);
			if (c == NULL && (v->kind != LRN_NUMBER || !(v->number > 0) || isinf(v->number)))
				return false;
			*FIELD(p, d, double) = c ? c->value : v->number;
			return true;
		default:
			return false;
	}
}

mr_code
lrn_params_set(lrn_params *p, const char *name, const lrn_value *value, mr_status *st)
{
	const lrn_learner *l = lrn_learner_of(p->algorithm);
	char		known[512];
	size_t		used = 0;
	bool		good;

	for (const lrn_param *d = l->params; d->name; d++)
	{
		if (strcmp(d->name, name) != 0)
			continue;
		if (d->type == LRN_PARAM_MAX_FEATURES)
			good = set_max_features(p, value);
		else if (d->type == LRN_PARAM_CLASS_WEIGHT)
			good = set_class_weight(p, value);
		else
			good = set_number(p, d, value);
		return good ? MR_OK : bad_value(p, d, st);
	}
	known[0] = '\0';
	for (const lrn_param *d = l->params; d->name && used < sizeof(known); d++)
		used += (size_t) snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "", d->name);
	mr_fail(st, MR_INVALID, "algorithm \"%s\" has no parameter \"%s\"", l->name, name);
	mr_hint(st, "Known parameters: %.480s.", known);
	return MR_INVALID;
}

/* One value as JSON. */
static void
value_json(const lrn_params *p, const lrn_param *d, char *out, size_t size)
{
	static const char *const weight[] = {"null", "\"balanced\"", "\"balanced_subsample\"", "\"given\""};
	double		number = 0;

	switch (d->type)
	{
		case LRN_PARAM_BOOL:
			snprintf(out, size, "%s", *FIELD(p, d, const bool) ? "true" : "false");
			return;
		case LRN_PARAM_MAYBE:
			snprintf(out, size, "%s", *FIELD(p, d, const int) != 0 ? "true" : "false");
			return;
		case LRN_PARAM_CHOICE:
			number = *FIELD(p, d, const int);
			if (d->offset == offsetof(lrn_params, criterion) && number == LRN_CRITERION_BY_TASK)
				number = p->task == LRN_REGRESS ? LRN_SQUARED_ERROR : LRN_GINI;
			if (d->nullable && number == 0)
				snprintf(out, size, "null");
			else
				snprintf(out, size, "\"%s\"", choice_name(d->choices, (int) number));
			return;
		case LRN_PARAM_CLASS_WEIGHT:
			snprintf(out, size, "%s", weight[p->class_weight]);
			return;
		case LRN_PARAM_MAX_FEATURES:
			if (p->max_features_kind == LRN_FEATURES_SQRT || p->max_features_kind == LRN_FEATURES_LOG2)
				snprintf(out, size, "\"%s\"", choice_name(max_features_choices, p->max_features_kind));
			else if (p->max_features_kind == LRN_FEATURES_BY_TASK && p->task != LRN_REGRESS)
				snprintf(out, size, "\"sqrt\"");
			else if (p->max_features > 0)
				snprintf(out, size, "%.17g", p->max_features);
			else
				snprintf(out, size, "null");
			return;
		case LRN_PARAM_CHOICE_OR_POSITIVE:
			number = *FIELD(p, d, const double);
			if (number > 0)
				break;
			snprintf(out, size, "\"%s\"", choice_name(d->choices, (int) number));
			return;
		case LRN_PARAM_INT:
			number = *FIELD(p, d, const int);
			break;
		case LRN_PARAM_SEED:
			number = (double) *FIELD(p, d, const uint64_t);
			break;
		case LRN_PARAM_REAL:
		case LRN_PARAM_POSITIVE:
		case LRN_PARAM_COUNT_OR_SHARE:
			number = *FIELD(p, d, const double);
			break;
	}
	if (d->nullable && number == 0)
		snprintf(out, size, "null");
	else
		snprintf(out, size, "%.17g", number);
}

size_t
lrn_params_json(const lrn_params *p, char *out, size_t size)
{
	size_t		used = (size_t) snprintf(out, size, "{");

	for (const lrn_param *d = lrn_learner_of(p->algorithm)->params; d->name; d++)
	{
		char		value[64];

		value_json(p, d, value, sizeof(value));
		used += (size_t) snprintf(out + (used < size ? used : size), used < size ? size - used : 0,
								  "%s\"%s\": %s", used > 1 ? ", " : "", d->name, value);
	}
	used += (size_t) snprintf(out + (used < size ? used : size), used < size ? size - used : 0, "}");
	return used;
}
