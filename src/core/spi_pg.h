/*
 * spi_pg.h
 *	  Our own fixed statements by SPI, as the extension's owner.
 */
#ifndef MILLRACE_SPI_PG_H
#define MILLRACE_SPI_PG_H

#include "core/owner_pg.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static inline void
mr_spi_begin(mr_owner_save *save)
{
	mr_owner_begin(save);
	SPI_connect();
}

static inline void
mr_spi_end(const mr_owner_save *save)
{
	SPI_finish();
	mr_owner_end(save);
}

/* Prepare once, in *plan, which is static.  Within SPI. */
static inline void
mr_prepare(SPIPlanPtr *plan, const char *sql, int n, const Oid *types)
{
	if (*plan != NULL)
		return;
	*plan = SPI_prepare(sql, n, unconstify(Oid *, types));
	if (*plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(*plan);
}

/* A text as an argument of mr_run(); NULL where there is none. */
static inline Datum
mr_text(const char *text)
{
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/*
 * Prepare once, run, and tell how many rows were found or changed.  An argument
 * of a type that is passed by reference is NULL where it is 0.
 */
static inline uint64
mr_run(SPIPlanPtr *plan, const char *sql, int n, const Oid *types, Datum *args)
{
	char		nulls[FUNC_MAX_ARGS];

	mr_prepare(plan, sql, n, types);
	for (int i = 0; i < n; i++)
		nulls[i] = args[i] == (Datum) 0 && !get_typbyval(types[i]) ? 'n' : ' ';
	SPI_execute_plan(*plan, args, nulls, false, 0);
	return SPI_processed;
}

#endif							/* MILLRACE_SPI_PG_H */
