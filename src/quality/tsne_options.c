/*
 * tsne_options.c
 *	  t-SNE's options, by scikit-learn's names.
 */
#include "quality/latent_int.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct number
{
	const char *name;
	size_t		at;				/* in qlt_tsne_options */
	bool		whole;
	double		least,
				most;
} number;

static const number numbers[] = {
	{"perplexity", offsetof(qlt_tsne_options, perplexity), false, 1, 1000},
	{"early_exaggeration", offsetof(qlt_tsne_options, early_exaggeration), false, 1, 1000},
	{"learning_rate", offsetof(qlt_tsne_options, learning_rate), false, 1e-3, 1e6},
	{"min_grad_norm", offsetof(qlt_tsne_options, min_grad_norm), false, 0, 1},
	{"max_iter", offsetof(qlt_tsne_options, max_iter), true, 0, 100000},
	{"n_iter", offsetof(qlt_tsne_options, max_iter), true, 0, 100000},
	{"n_components", offsetof(qlt_tsne_options, n_components), true, 2, 3},
};

void
qlt_tsne_init(qlt_tsne_options *o)
{
	*o = (qlt_tsne_options) {.perplexity = 30,.early_exaggeration = 12,.min_grad_norm = 1e-7,.max_iter = 1000,.n_components = 2};
}

static mr_code
refuse(mr_status *st, const char *name, const char *value, const char *expected)
{
	mr_fail(st, MR_INVALID, "invalid value for option \"%s\": \"%.100s\"", name, value);
	mr_hint(st, "It must be %s.", expected);
	return MR_INVALID;
}

mr_code
qlt_tsne_set(qlt_tsne_options *o, const char *name, const char *value, mr_status *st)
{
	char		expected[100];
	char	   *end;
	double		v;

	if (strcmp(name, "init") == 0)
	{
		if (strcmp(value, "pca") != 0 && strcmp(value, "random") != 0)
			return refuse(st, name, value, "pca or random");
		o->init = value[0] == 'p' ? QLT_INIT_PCA : QLT_INIT_RANDOM;
		return MR_OK;
	}
	if (strcmp(name, "learning_rate") == 0 && strcmp(value, "auto") == 0)
	{
		o->learning_rate = 0;
		return MR_OK;
	}
	if (strcmp(name, "random_state") == 0)
	{
		errno = 0;
		o->random_state = strtoull(value, &end, 10);
		if (end == value || *end || errno || value[0] == '-')
			return refuse(st, name, value, "a whole number of at least 0");
		return MR_OK;
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
	{
		const number *n = &numbers[i];

		if (strcmp(name, n->name) != 0)
			continue;
		v = strtod(value, &end);
		if (end == value || *end || !(v >= n->least && v <= n->most) || (n->whole && v != floor(v)))
		{
			snprintf(expected, sizeof(expected), "a %s from %g to %g%s", n->whole ? "whole number" : "number", n->least, n->most,
					 strcmp(name, "learning_rate") == 0 ? ", or auto" : "");
			return refuse(st, name, value, expected);
		}
		if (n->whole)
			*(int *) ((char *) o + n->at) = (int) v;
		else
			*(double *) ((char *) o + n->at) = v;
		return MR_OK;
	}
	mr_fail(st, MR_INVALID, "unknown option \"%s\" of t-SNE", name);
	mr_hint(st, "Options are perplexity, max_iter, early_exaggeration, learning_rate, init, random_state, n_components and min_grad_norm.");
	return MR_INVALID;
}
