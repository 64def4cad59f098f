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

#endif							/* MILLRACE_STREAM_OWNER_H */
