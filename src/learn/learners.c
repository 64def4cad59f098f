/*
 * learners.c
 *	  Which algorithms there are.
 */
#include "learn/learner.h"

#include <stdio.h>
#include <string.h>

static const lrn_learner *const learners[] =
{
	&lrn_random_forest,
	&lrn_logistic_regression,
	&lrn_pca,
	&lrn_gradient_boosting,
	&lrn_knn,
	&lrn_extra_trees,
	&lrn_kmeans,
	&lrn_ridge,
	&lrn_linear_svm,
	&lrn_rbf_svm,
};

#define N_LEARNERS ((int) (sizeof(learners) / sizeof(learners[0])))

const lrn_learner *
lrn_learner_of(lrn_algorithm a)
{
	for (int i = 0; i < N_LEARNERS; i++)
		if (learners[i]->algorithm == a)
			return learners[i];
	return NULL;
}

const char *
lrn_algorithm_name(lrn_algorithm a)
{
	const lrn_learner *l = lrn_learner_of(a);

	return l ? l->name : "unknown";
}

mr_code
lrn_algorithm_find(const char *name, lrn_algorithm *out, mr_status *st)
{
	char		known[256];
	size_t		used = 0;

	for (int i = 0; i < N_LEARNERS; i++)
	{
		if (strcmp(learners[i]->name, name) == 0)
		{
			*out = learners[i]->algorithm;
			return MR_OK;
		}
		if (used < sizeof(known))
			used += (size_t) snprintf(known + used, sizeof(known) - used, "%s%s",
									  i ? ", " : "", learners[i]->name);
	}
	mr_fail(st, MR_INVALID, "algorithm \"%s\" does not exist", name);
	mr_hint(st, "Known algorithms: %s.", known);
	return MR_INVALID;
}

lrn_task
lrn_first_task(lrn_algorithm a)
{
	const lrn_learner *l = lrn_learner_of(a);

	return l ? (lrn_task) __builtin_ctz(l->tasks) : LRN_CLASSIFY;
}

bool
lrn_takes(lrn_algorithm a, unsigned what)
{
	const lrn_learner *l = lrn_learner_of(a);

	return l && (l->takes & what) == what;
}
