/*
 * owner.h
 *	  Our own fixed statements by SPI, as the extension's owner.
 */
#ifndef MILLRACE_STREAM_OWNER_H
#define MILLRACE_STREAM_OWNER_H

#include "core/owner_pg.h"
#include "executor/spi.h"

typedef mr_owner_save kfk_owner;

static inline void
kfk_owner_begin(kfk_owner *save)
{
	mr_owner_begin(save);
	SPI_connect();
}

static inline void
kfk_owner_end(const kfk_owner *save)
{
	SPI_finish();
	mr_owner_end(save);
}

/* Prepare once, in *plan, which is static.  Within SPI. */
static inline void
kfk_prepare(SPIPlanPtr *plan, const char *sql, int n, const Oid *types)
{
	if (*plan != NULL)
		return;
	*plan = SPI_prepare(sql, n, unconstify(Oid *, types));
	if (*plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(*plan);
}

#endif							/* MILLRACE_STREAM_OWNER_H */
