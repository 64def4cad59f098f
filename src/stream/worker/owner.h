/*
 * owner.h
 *	  Statements on millrace's own tables, from a worker that is an ordinary
 *	  role: run as the extension's owner, as referential integrity runs its
 *	  own, with search_path pinned.  Only fixed, fully qualified statements may
 *	  stand between begin and end; an error between them undoes both at the
 *	  end of the transaction.
 */
#ifndef MILLRACE_STREAM_OWNER_H
#define MILLRACE_STREAM_OWNER_H

#include "postgres.h"

typedef struct kfk_owner
{
	Oid			user;
	int			context;
	int			guc_level;
} kfk_owner;

/* Also SPI_connect() and SPI_finish(). */
extern void kfk_owner_begin(kfk_owner *save);
extern void kfk_owner_end(kfk_owner *save);

#endif							/* MILLRACE_STREAM_OWNER_H */
