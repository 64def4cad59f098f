/*
 * hint_pg.c
 *	  What rejected messages had in common: a value in a column (NULL, -1,
 *	  'n/a', a key that is missing elsewhere) that their neighbours did not have.
 *
 * A value that two rejects had and no message around them is telling: whoever
 * has it is suspected, and pieces_pg.c tries it alone, so that it takes nothing
 * down with it.  One that goes well is innocent, and so is its value.  Only a
 * hint: nobody is rejected for it, and a hash that stands for another value
 * costs a statement.
 *
 * Memory: static.  All is forgotten when the target changes.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "common/hashfn.h"

#define NEIGHBOURS 32			/* messages on either side that must not have the value */
#define ONCE 1024				/* values of one reject that are remembered */
#define TELLING 32				/* values of two */
#define LONGEST 64				/* bytes of a value that is looked at */

typedef struct telling_value
{
	int			column;
	uint64		hash;
} telling_value;

static uint64 once[ONCE];		/* by hash; 0: none */
static telling_value telling[TELLING];
static int	n_telling = 0;
static int	oldest = 0;			/* is replaced next, when all are taken */
static uint64 version = 0;		/* of the target that all this is about */

/* Of a column's value; 0: it is not looked at. */
static uint64
hash_of(const kfk_shape *shape, const kfk_row *row, int column)
{
	Form_pg_attribute att = TupleDescAttr(shape->desc, column);
	Datum		value = row->values[column];
	const void *data;
	size_t		len;
	uint64		seed = (uint64) column + 1;

	if (row->nulls[column])
		return seed;
	if (att->attbyval)
	{
		uint64		h = ((uint64) value ^ (seed * UINT64CONST(0x9E3779B97F4A7C15))) * UINT64CONST(0xBF58476D1CE4E5B9);

		return (h ^ (h >> 31)) | 1;
	}
	if (att->attlen > 0)
	{
		data = DatumGetPointer(value);
		len = (size_t) att->attlen;
	}
	else if (att->attlen == -1)
	{
		data = VARDATA_ANY(DatumGetPointer(value));
		len = VARSIZE_ANY_EXHDR(DatumGetPointer(value));
	}
	else
		return 0;
	return len <= LONGEST ? hash_bytes_extended(data, (int) len, seed) | 1 : 0;
}

static void
look_at_target(const kfk_target *target)
{
	if (version == target->version)
		return;
	memset(once, 0, sizeof(once));
	n_telling = oldest = 0;
	version = target->version;
}

/* Has a message around items[at] this value, too? */
static bool
is_common(const kfk_shape *shape, const kfk_item *items, int n, int at, int column, uint64 hash)
{
	for (int i = Max(at - NEIGHBOURS, 0); i < Min(at + NEIGHBOURS, n); i++)
		if (i != at && items[i].sqlstate == NULL && items[i].rows != NULL && hash_of(shape, items[i].rows, column) == hash)
			return true;
	return false;
}

/* items[at] of n was rejected. */
void
kfk_learn_reject(const kfk_target *target, const kfk_item *items, int n, int at)
{
	const kfk_shape *shape = &target->in;

	look_at_target(target);
	if (items[at].rows == NULL || items[at].deletes)
		return;
	for (int c = 0; c < shape->n_columns; c++)
	{
		uint64		hash = shape->columns[c].property == KFK_NO_PROPERTY ? hash_of(shape, items[at].rows, c) : 0;
		bool		known = hash == 0;

		for (int i = 0; i < n_telling && !known; i++)
			known = telling[i].column == c && telling[i].hash == hash;
		if (known || is_common(shape, items, n, at, c, hash))
			continue;
		if (once[hash % ONCE] != hash)
			once[hash % ONCE] = hash;
		else
		{
			telling[oldest] = (telling_value) {c, hash};
			oldest = (oldest + 1) % TELLING;
			n_telling = Max(n_telling, oldest == 0 ? TELLING : oldest);
			once[hash % ONCE] = 0;
		}
	}
}

/* Has the item a telling value?  Forgetting it, if it went well. */
bool
kfk_is_suspect(const kfk_target *target, const kfk_item *item, bool went_well)
{
	bool		suspect = false;

	look_at_target(target);
	if (n_telling == 0 || item->sqlstate != NULL || item->rows == NULL || item->deletes)
		return false;
	for (int i = 0; i < n_telling; i++)
		if (telling[i].hash != 0 && hash_of(&target->in, item->rows, telling[i].column) == telling[i].hash)
		{
			suspect = true;
			if (went_well)
				telling[i].hash = 0;
		}
	return suspect;
}
