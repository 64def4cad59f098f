/*
 * train_onehot_pg.c
 *	  Categories as columns of 0 and 1, for learners that take numbers only.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "registry/train.h"
#include "utils/memutils.h"

/* One vector of codes as values->n vectors. */
static void
spread(const train_data *d, const train_column *c, const float *code, float **col, const char **name)
{
	int64		rows = d->matrix.rows;

	for (int k = 0; k < c->values->n; k++)
	{
		CHECK_FOR_INTERRUPTS();
		col[k] = MemoryContextAllocHuge(d->cxt, Max(rows, 1) * sizeof(float));
		for (int64 r = 0; r < rows; r++)
			col[k][r] = code[r] == (float) k ? 1 : 0;
		name[k] = psprintf("%s=%s", c->name, c->values->text[k]);
	}
}

void
train_one_hot(train_data *d, Size limit)
{
	MemoryContext old = MemoryContextSwitchTo(d->cxt);
	int64		n = 0;
	int64		added = 0;
	float	  **col;
	const char **name;

	for (int i = 0; i < d->n_columns; i++)
		if (train_is_feature(&d->column[i]))
		{
			const train_column *c = &d->column[i];

			added += c->source == TRAIN_CATEGORY ? c->values->n : 0;
			n += c->source == TRAIN_CATEGORY ? c->values->n : c->width;
		}
	if (n > LRN_MAX_FEATURES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("query has more than %d features with \"one_hot\"", LRN_MAX_FEATURES),
				 errhint("Group rare values of the text columns.")));
	if ((double) d->memory + (double) added * (double) d->matrix.rows * sizeof(float) > (double) limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("training data exceed millrace.train_memory"),
				 errdetail("Option \"one_hot\" makes " INT64_FORMAT " columns of " INT64_FORMAT " rows; the limit is %zu MB.",
						   added, (int64) d->matrix.rows, limit >> 20),
				 errhint("Raise millrace.train_memory, or group rare values of the text columns.")));
	col = palloc(n * sizeof(float *));
	name = palloc(n * sizeof(char *));
	n = 0;
	for (int i = 0; i < d->n_columns; i++)
	{
		train_column *c = &d->column[i];
		int			first = c->first;

		if (!train_is_feature(c))
			continue;
		c->first = (int) n;
		if (c->source == TRAIN_CATEGORY)
		{
			spread(d, c, d->matrix.col[first], col + n, name + n);
			pfree(d->matrix.col[first]);
			c->one_hot = true;
			c->width = c->values->n;
		}
		else
			for (int f = 0; f < c->width; f++)
			{
				col[n + f] = d->matrix.col[first + f];
				name[n + f] = d->matrix.name[first + f];
			}
		n += c->width;
	}
	d->matrix.cols = (int) n;
	d->matrix.col = col;
	d->matrix.name = name;
	d->matrix.n_categories = NULL;
	d->memory += added * d->matrix.rows * sizeof(float);
	MemoryContextSwitchTo(old);
}
