/*
 * policy_load_pg.c
 *	  millrace.retry_policies as policy.h has it.  Both libraries contain this file.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "core/spi_pg.h"
#include "task/policy_load_pg.h"

/* Copy a text[] into n rooms of size bytes; ERROR unless each fits the shape that one of them has. */
static void
copy_patterns(const char *class, const char *column, Datum array, char *to, size_t size, bool (*fits) (const char *))
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n > TSK_MAX_PATTERNS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("class \"%s\" of millrace.retry_policies has more than %d %s", class, TSK_MAX_PATTERNS, column)));
	for (int i = 0; i < n; i++)
	{
		const char *pattern = nulls[i] ? "NULL" : TextDatumGetCString(elements[i]);

		if (nulls[i] || !fits(pattern))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("class \"%s\" of millrace.retry_policies has invalid %s \"%s\"", class, column, pattern),
					 errhint("Statuses are like 429 or 5xx, SQLSTATEs or their beginnings like 40001 or 53.")));
		strlcpy(to + i * size, pattern, size);
	}
}

static bool
fits_status(const char *pattern)
{
	return strlen(pattern) == 3 && pattern[0] >= '1' && pattern[0] <= '9' &&
		(strcmp(pattern + 1, "xx") == 0 || strspn(pattern + 1, "0123456789") == 2);
}

static bool
fits_sqlstate(const char *pattern)
{
	return strlen(pattern) >= 2 && strlen(pattern) <= 5 && strspn(pattern, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(pattern);
}

void
tsk_load_policies(tsk_policies *policies)
{
	static SPIPlanPtr plan = NULL;
	TupleDesc	row;

	mr_prepare(&plan, "SELECT class, statuses, sqlstates, retries, backoff = 'exponential', base_s, jitter, max_s, slow_down, pause "
				   "FROM millrace.retry_policies ORDER BY position, class", 0, NULL);
	SPI_execute_plan(plan, NULL, NULL, false, 0);
	if (SPI_processed == 0 || SPI_processed > TSK_MAX_POLICIES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("millrace.retry_policies must have 1 to %d rows", TSK_MAX_POLICIES)));
	memset(policies, 0, sizeof(*policies));
	policies->n = (int) SPI_processed;
	row = SPI_tuptable->tupdesc;
	for (int i = 0; i < policies->n; i++)
	{
		tsk_policy *p = &policies->policy[i];
		Datum		values[10];
		bool		nulls[10];

		heap_deform_tuple(SPI_tuptable->vals[i], row, values, nulls);	/* no column may be null */
		if (VARSIZE_ANY_EXHDR(DatumGetPointer(values[0])) >= sizeof(p->name))
			ereport(ERROR,
					(errcode(ERRCODE_NAME_TOO_LONG),
					 errmsg("class \"%s\" of millrace.retry_policies has more than %d bytes", TextDatumGetCString(values[0]), TSK_CLASS_SIZE - 1)));
		text_to_cstring_buffer(DatumGetTextPP(values[0]), p->name, sizeof(p->name));
		copy_patterns(p->name, "statuses", values[1], p->statuses[0], sizeof(p->statuses[0]), fits_status);
		copy_patterns(p->name, "sqlstates", values[2], p->sqlstates[0], sizeof(p->sqlstates[0]), fits_sqlstate);
		p->retries = DatumGetInt32(values[3]);
		p->exponential = DatumGetBool(values[4]);
		p->base_s = DatumGetFloat8(values[5]);
		p->jitter = DatumGetFloat8(values[6]);
		p->max_s = DatumGetFloat8(values[7]);
		p->slow_down = DatumGetBool(values[8]);
		p->pause = DatumGetBool(values[9]);
	}
	SPI_freetuptable(SPI_tuptable);
}
