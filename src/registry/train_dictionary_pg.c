/*
 * train_dictionary_pg.c
 *	  Texts of a query's columns as numbers: labels of a target, categories.
 */
#include "postgres.h"

#include "registry/train_data.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define MAX_LABEL		256		/* bytes of a label or category */

typedef struct dictionary_entry
{
	char		text[MAX_LABEL];	/* key, zero-padded */
	int			id;
} dictionary_entry;

train_dictionary *
train_dictionary_create(const char *what, int limit)
{
	train_dictionary *d = palloc0(sizeof(train_dictionary));
	HASHCTL		ctl = {0};

	ctl.keysize = MAX_LABEL;
	ctl.entrysize = sizeof(dictionary_entry);
	ctl.hcxt = CurrentMemoryContext;
	d->table = hash_create("millrace labels", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	d->what = what;
	d->limit = limit;
	d->size = 64;
	d->text = palloc(d->size * sizeof(char *));
	return d;
}

/* Number of a text, new ones at the end; in the dictionary's own memory. */
int
train_dictionary_id(train_dictionary *d, const char *text)
{
	dictionary_entry *entry;
	bool		found;

	if (strlen(text) >= MAX_LABEL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("value of %s is too long", d->what),
				 errdetail("It has %zu bytes; labels and categories may have %d.", strlen(text), MAX_LABEL - 1)));
	entry = hash_search(d->table, text, HASH_ENTER, &found);
	if (found)
		return entry->id;
	if (d->n == d->limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s has more than %d different values", d->what, d->limit),
				 errhint("Leave it out of the query, or group its values.")));
	if (d->n == d->size)
	{
		d->size *= 2;
		d->text = repalloc_huge(d->text, d->size * sizeof(char *));
	}
	d->text[d->n] = entry->text;
	return entry->id = d->n++;
}

typedef struct order_key
{
	const char *text;
	double		number;
	int			old;
} order_key;

static int
order_by_text(const void *a, const void *b)
{
	return strcmp(((const order_key *) a)->text, ((const order_key *) b)->text);
}

static int
order_by_number(const void *a, const void *b)
{
	double		x = ((const order_key *) a)->number,
				y = ((const order_key *) b)->number;

	return x < y ? -1 : x > y ? 1 : order_by_text(a, b);
}

/* Sort the texts; returns new id by old id, so that row order decides nothing. */
int32 *
train_dictionary_sort(train_dictionary *d, bool as_numbers)
{
	order_key  *key = palloc(Max(d->n, 1) * sizeof(order_key));
	int32	   *map = palloc(Max(d->n, 1) * sizeof(int32));

	for (int i = 0; i < d->n; i++)
		key[i] = (order_key) {d->text[i], as_numbers ? strtod(d->text[i], NULL) : 0, i};
	qsort(key, d->n, sizeof(order_key), as_numbers ? order_by_number : order_by_text);
	for (int i = 0; i < d->n; i++)
	{
		map[key[i].old] = i;
		d->text[i] = unconstify(char *, key[i].text);
	}
	pfree(key);
	return map;
}
