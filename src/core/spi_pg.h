/*
 * spi_pg.h
 *	  Our own fixed statements by SPI, as the extension's owner.
 */
#ifndef MILLRACE_SPI_PG_H
#define MILLRACE_SPI_PG_H

#include "core/owner_pg.h"
#include "executor/spi.h"

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

#endif							/* MILLRACE_SPI_PG_H */
